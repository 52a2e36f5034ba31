//! Settings of the Kafka source and sink.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use tidecast_stream::settings::{Commit, Deleted, Format, Start};

#[derive(Clone)]
pub struct KafkaSource {
    pub brokers: Brokers,
    pub topic: String,
    pub group: String,
    pub format: Format,
    /// Where to start when the group has never committed.
    pub start: Start,
    /// What to do where the topic's retention has deleted rows that are needed.
    pub deleted: Deleted,
    /// Whether the topic may be a compacted one.
    pub compacted: bool,
    /// The name of this process among those of the group, the same at every start.
    pub instance: String,
    /// Whether a restart of this instance takes its partitions back without the others noticing.
    pub static_member: bool,
    /// How much of the topic is read again after a change of the pipeline, where [state] says so.
    pub rewind: Option<Duration>,
    /// Messages that are read ahead at most.
    pub queue_rows: usize,
    /// Whether the ends of the partitions are to be known, so that it can be said how far behind they are.
    pub ends: bool,
    /// librdkafka properties, as given. May hold secrets: print it as [`Masked`] only.
    pub client: BTreeMap<String, String>,
    pub commit: Commit,
}

impl fmt::Debug for KafkaSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { brokers, topic, group, format, start, deleted, instance, static_member, .. } = self;
        let Self { compacted, rewind, queue_rows, ends, client, commit, .. } = self;
        let mut out = f.debug_struct("KafkaSource");
        out.field("brokers", brokers).field("topic", topic).field("group", group).field("format", format);
        out.field("start", start).field("deleted", deleted).field("instance", instance);
        out.field("static_member", static_member)
            .field("compacted", compacted)
            .field("rewind", rewind)
            .field("queue_rows", queue_rows)
            .field("ends", ends)
            .field("client", &Masked(client))
            .field("commit", commit)
            .finish()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Brokers {
    /// `host:port[,host:port...]`
    At(String),
    /// A broker inside this process.
    Embedded,
}

impl Brokers {
    /// Whether these are the same, in whichever order they are named.
    pub fn are(&self, others: &Self) -> bool {
        let sorted = |brokers: &Self| match brokers {
            Self::At(list) => list.split(',').map(str::to_owned).collect::<BTreeSet<_>>(),
            Self::Embedded => BTreeSet::new(),
        };
        sorted(self) == sorted(others)
    }
}

#[derive(Clone)]
pub struct KafkaSink {
    /// The source's brokers unless given.
    pub brokers: Brokers,
    pub topic: String,
    /// Scores go here, as [sink.scores] says.
    pub scores: Option<String>,
    /// Refused messages go here, raw.
    pub rejects: Option<String>,
    /// Which refusals go to the rejects topic; the others are only counted.
    pub rejected: Vec<tidecast_core::series::Refusal>,
    /// librdkafka properties, as given. May hold secrets: print it as [`Masked`] only.
    pub client: BTreeMap<String, String>,
}

impl fmt::Debug for KafkaSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { brokers, topic, scores, rejects, rejected, client } = self;
        let mut out = f.debug_struct("KafkaSink");
        out.field("brokers", brokers).field("topic", topic).field("scores", scores);
        out.field("rejects", rejects);
        out.field("rejected", rejected).field("client", &Masked(client)).finish()
    }
}

