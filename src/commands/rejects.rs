//! `rejects`: what lies in the rejects topic, and how it is sent through again.

mod map;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use serde_json::json;

use super::log::say;
use super::{ends, report, stop};
use crate::cli;
use crate::config::{Brokers, KafkaSink, KafkaSource, Pipeline};
use tidecast_kafka::{
    Cluster, REPLAYS_MAX, RejectedMessage, RejectsQuery, RejectsReader, RejectsReplayer, RejectsScope, Replay,
};
use tidecast_core::series::Refusal;

/// Messages of each reason that a listing shows.
const SAMPLES: usize = 3;
/// Characters of a message that a listing shows.
const SHOWN: usize = 120;
/// Messages, and bytes of them, that are sent in one transaction: a second of work, and far below its timeout.
const AT_ONCE: usize = 1_000;
const BYTES_AT_ONCE: usize = 16 << 20;

pub async fn rejects(arguments: cli::Rejects, quiet: bool) -> Result<()> {
    let stopped = stop::flag("what was sent is being committed")?;
    // The clients wait by blocking.
    tokio::task::spawn_blocking(move || Work::new(&arguments)?.run(&arguments, quiet, &stopped))
        .await
        .context("reading the rejects")?
}

struct Work {
    source: KafkaSource,
    sink: KafkaSink,
    topic: String,
    reasons: Vec<Refusal>,
}

impl Work {
    fn new(arguments: &cli::Rejects) -> Result<Self> {
        let pipeline = Pipeline::open(&arguments.pipeline)?;
        let file = pipeline.file.display();
        let source = ends::kafka_source(&pipeline)?.clone();
        let Some((sink, topic)) =
            pipeline.kafka_sink.clone().and_then(|sink| sink.rejects.clone().map(|topic| (sink, topic)))
        else {
            bail!(
                "{file}: there is no rejects topic: refused messages are only counted; name one in [sink.kafka]"
            );
        };
        if arguments.replay && source.brokers != sink.brokers {
            bail!(
                "{file}: the rejects are on another cluster than the source: a replay could not be exactly once; copy the \
                 topic to {} first",
                brokers(&source.brokers)
            );
        }
        let mut reasons = Vec::new();
        for name in &arguments.reason {
            let known = Refusal::ALL.map(Refusal::name).join(", ");
            reasons.push(
                Refusal::from_name(name).with_context(|| format!("--reason {name}: it is one of {known}"))?,
            );
        }
        if reasons.is_empty() {
            reasons = Refusal::ALL.to_vec();
        }
        Ok(Self { source, sink, topic, reasons })
    }

    fn run(&self, arguments: &cli::Rejects, quiet: bool, stopped: &AtomicBool) -> Result<()> {
        let Self { source, sink, topic, reasons } = self;
        let reader = Cluster::new(&sink.brokers, None, &source.client)?;
        if !arguments.replay {
            let mut rejects = self.open(&reader, arguments.all)?;
            return self.list(&mut rejects, arguments);
        }
        let writer = Cluster::new(&sink.brokers, None, &sink.client)?;
        // First: what an earlier one left unfinished is settled before the positions are read.
        let mut replayer = match arguments.dry_run {
            true => None,
            false => Some(RejectsReplayer::open(&writer, &source.group, reasons)?),
        };
        let mut rejects = self.open(&reader, false)?;
        let mut counts = Counts::default();
        // A dry run's lines are to be seen, and say themselves how far it is.
        let bar = report::bar(rejects.unread_count(), "rejects", quiet || arguments.dry_run);
        while !stopped.load(Ordering::Relaxed) {
            let some = self.some(&mut rejects, &mut counts, &bar)?;
            let is_last = some.is_empty();
            let messages = map::corrected(arguments.map.as_deref(), some, &mut counts)?;
            match &mut replayer {
                Some(replayer) => {
                    let passed_over = replayer.send(&mut rejects, &messages)?;
                    counts.too_large += passed_over;
                    counts.sent += messages.len() - passed_over;
                }
                None => {
                    counts.sent += messages.len();
                    for Replay { rejected, value } in &messages {
                        super::print(&format!("{}\n", line(rejected, Some(value), usize::MAX)))?;
                    }
                }
            }
            bar.set_position(read(&rejects, &bar));
            if is_last {
                break;
            }
        }
        // However soon after the drawing before it: whoever watches sees it come to its end.
        bar.force_draw();
        bar.finish_and_clear();
        let verb = if arguments.dry_run { "would be sent" } else { "sent" };
        say!(
            messages = counts.sent,
            "{} {verb} from {topic} to {}{}",
            counts.sent,
            source.topic,
            counts.rest()
        );
        Ok(())
    }

    fn open(&self, cluster: &Cluster, all: bool) -> Result<RejectsReader> {
        let Self { source, topic, reasons, .. } = self;
        // A broker inside the process of a run cannot be asked by another.
        let origin = match &source.brokers {
            Brokers::Embedded => None,
            brokers => Some(Cluster::new(brokers, None, &source.client)?),
        };
        let scope = if all { RejectsScope::All } else { RejectsScope::Pending(reasons) };
        let query = RejectsQuery { topic, source_topic: &source.topic, group: &source.group, scope };
        RejectsReader::open(cluster, origin, query)
            .context("sink.kafka.rejects")
    }

    /// Some rejects to send, with all their bytes; none at the end.
    fn some(&self, rejects: &mut RejectsReader, counts: &mut Counts, bar: &ProgressBar) -> Result<Vec<RejectedMessage>> {
        let (mut some, mut bytes) = (Vec::new(), 0);
        while some.len() < AT_ONCE && bytes < BYTES_AT_ONCE {
            let Some(mut rejected) = rejects.read()? else { break };
            // What is still to be sent is not done.
            bar.set_position(read(rejects, bar).saturating_sub(some.len() as u64 + 1));
            if !self.reasons.contains(&rejected.reason) || rejects.is_done(&rejected) {
                continue;
            }
            rejects.complete(&mut rejected)?;
            if rejected.replays >= REPLAYS_MAX {
                counts.given_up += 1;
                tracing::warn!(
                    "{}/{}: sent through {REPLAYS_MAX} times, given up",
                    rejected.source,
                    rejected.source_offset
                );
            } else if let Some(value) = &rejected.value {
                bytes += value.len();
                some.push(rejected);
            } else {
                counts.gone += 1;
                tracing::warn!(
                    "{}/{}: there are no bytes of it any more",
                    rejected.source,
                    rejected.source_offset
                );
            }
        }
        Ok(some)
    }

    fn list(&self, rejects: &mut RejectsReader, arguments: &cli::Rejects) -> Result<()> {
        let mut found: BTreeMap<Refusal, (usize, Vec<RejectedMessage>)> = BTreeMap::new();
        while let Some(mut rejected) = rejects.read()? {
            let is_over = !arguments.all && rejects.is_done(&rejected);
            if is_over || !self.reasons.contains(&rejected.reason) {
                continue;
            }
            if arguments.json {
                rejects.complete(&mut rejected)?;
                super::print(&format!("{}\n", line(&rejected, rejected.value.as_deref(), usize::MAX)))?;
                continue;
            }
            let (count, samples) = found.entry(rejected.reason).or_default();
            *count += 1;
            if samples.len() < SAMPLES {
                rejects.complete(&mut rejected)?;
                samples.push(rejected);
            }
        }
        if arguments.json {
            return Ok(());
        }
        let total: usize = found.values().map(|(count, _)| count).sum();
        let mut text = match arguments.all {
            true => format!("{total} messages in {}\n", self.topic),
            false => format!("{total} messages wait in {}\n", self.topic),
        };
        for (reason, (count, samples)) in &found {
            let _ = writeln!(text, "{reason}: {count}");
            for rejected in samples {
                let RejectedMessage { source, source_offset, detail, value, .. } = rejected;
                let shown = value
                    .as_deref()
                    .map_or("(its bytes are gone)".to_string(), |value| beginning(value, SHOWN));
                let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
                let _ = writeln!(text, "  {source} offset {source_offset}{detail}\n    {shown}");
            }
        }
        super::print(&text)
    }
}

/// How many were read, of those that the bar is over.
fn read(rejects: &RejectsReader, bar: &ProgressBar) -> u64 {
    bar.length().unwrap_or(0).saturating_sub(rejects.unread_count())
}

/// What became of the rejects.
#[derive(Default)]
struct Counts {
    sent: usize,
    left_out: usize,
    given_up: usize,
    gone: usize,
    too_large: usize,
}

impl Counts {
    fn rest(&self) -> String {
        let parts = [
            (self.left_out, "left out by the program"),
            (self.given_up, "given up, refused again and again"),
            (self.gone, "without bytes"),
            (self.too_large, "too large to be sent"),
        ];
        parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!(", {count} {what}"))
            .collect()
    }
}

/// A reject as a line of JSON, its message or another one in its place.
fn line(rejected: &RejectedMessage, value: Option<&[u8]>, most: usize) -> String {
    let text = |bytes: Option<&[u8]>| bytes.map(|bytes| beginning(bytes, most));
    let RejectedMessage { reason, detail, source, source_offset, key, .. } = rejected;
    json!({
        "reason": reason.name(),
        "detail": detail,
        "topic": *source.topic,
        "partition": source.number,
        "offset": source_offset,
        "key": text(key.as_deref()),
        "value": text(value),
    })
    .to_string()
}

/// Bytes as text, at most so many characters.
fn beginning(bytes: &[u8], most: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.into_owned(),
    }
}

fn brokers(brokers: &Brokers) -> &str {
    match brokers {
        Brokers::At(address) => address,
        Brokers::Embedded => "the broker inside the process",
    }
}
