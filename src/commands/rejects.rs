//! `rejects`: lists or replays the messages in the rejects topic.

mod map;

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use tidecast_core::series::Refusal;
use tidecast_kafka::settings::{Brokers, KafkaSinkConfig, KafkaSourceConfig};
use tidecast_kafka::{
    Cluster, REPLAYS_MAX, RejectedMessage, RejectsQuery, RejectsReader, RejectsReplayer, RejectsScope,
};

use super::load;
use crate::cli;
use crate::config::Pipeline;
use crate::terminal::{print, progress_bar};
use crate::{shutdown, user_info};

/// Example messages of each reason in a listing.
const EXAMPLES: usize = 3;
/// Characters of an example.
const EXAMPLE_CHARS: usize = 120;
/// Messages, and their bytes, in one transaction: a second of work, far below the transaction timeout.
const BATCH_MESSAGES: usize = 1_000;
const BATCH_BYTES: usize = 16 << 20;

pub async fn rejects(arguments: cli::Rejects, quiet: bool) -> Result<()> {
    let stop = shutdown::on_signal("committing the sent messages")?;
    // The clients block.
    tokio::task::spawn_blocking(move || {
        let rejects = Rejects::new(&arguments)?;
        if arguments.replay { rejects.replay(&arguments, quiet, &stop) } else { rejects.list(&arguments) }
    })
    .await
    .context("reading the rejects panicked")?
}

/// The rejects topic of a pipeline.
struct Rejects {
    source: KafkaSourceConfig,
    sink: KafkaSinkConfig,
    topic: String,
    reasons: Vec<Refusal>,
}

impl Rejects {
    fn new(arguments: &cli::Rejects) -> Result<Self> {
        let pipeline = Pipeline::open(&arguments.pipeline)?;
        let file = pipeline.file.display();
        let source = load::kafka_source(&pipeline)?.clone();
        let sink = pipeline.kafka_sink.clone();
        let Some((sink, topic)) = sink.and_then(|sink| sink.rejects_topic.clone().map(|topic| (sink, topic)))
        else {
            bail!("{file}: there is no rejects topic; set rejects_topic in [sink.kafka]");
        };
        if arguments.replay && source.brokers != sink.brokers {
            bail!(
                "{file}: the rejects are in another cluster than the source, so a replay would not be exactly once; copy the \
                 topic to {} first",
                brokers_text(&source.brokers)
            );
        }
        let mut reasons = Vec::new();
        for name in &arguments.reason {
            let reason = Refusal::from_name(name).with_context(|| {
                format!(
                    "unknown --reason {name}; known reasons are {}",
                    Refusal::ALL.map(Refusal::name).join(", ")
                )
            })?;
            reasons.push(reason);
        }
        if reasons.is_empty() {
            reasons = Refusal::ALL.to_vec();
        }
        Ok(Self { source, sink, topic, reasons })
    }

    fn open(&self, cluster: &Cluster, all: bool) -> Result<RejectsReader> {
        let Self { source, topic, reasons, .. } = self;
        // The broker embedded in another process is not reachable.
        let source_cluster = match &source.brokers {
            Brokers::Embedded => None,
            brokers => Some(Cluster::new(brokers, None, &source.client)?),
        };
        let scope = if all { RejectsScope::All } else { RejectsScope::Pending(reasons) };
        let query = RejectsQuery { topic, source_topic: &source.topic, group: &source.group, scope };
        RejectsReader::open(cluster, source_cluster, query).context("sink.kafka.rejects_topic")
    }

    fn replay(&self, arguments: &cli::Rejects, quiet: bool, stop: &CancellationToken) -> Result<()> {
        let Self { source, sink, topic, reasons } = self;
        let writer = Cluster::new(&sink.brokers, None, &sink.client)?;
        // Opened first: it ends the transaction of an interrupted replay, which determines the progress.
        let mut replayer = match arguments.dry_run {
            true => None,
            false => Some(RejectsReplayer::open(&writer, &source.group, reasons)?),
        };
        let cluster = Cluster::new(&sink.brokers, None, &source.client)?;
        let mut reader = self.open(&cluster, false)?;
        let mut counts = ReplayCounts::default();
        // A dry run prints the messages, which would interfere with a bar.
        let bar = progress_bar(reader.unread_count(), "rejects", quiet || arguments.dry_run);
        while !stop.is_cancelled() {
            let batch = self.read_batch(&mut reader, &mut counts, &bar)?;
            let is_last = batch.is_empty();
            let messages = map::map_rejects(arguments.map.as_deref(), batch, &mut counts)?;
            match &mut replayer {
                Some(replayer) => {
                    let too_large = replayer.send(&mut reader, &messages)?;
                    counts.too_large += too_large;
                    counts.sent += messages.len() - too_large;
                }
                None => {
                    counts.sent += messages.len();
                    for message in &messages {
                        print(&format!("{}\n", json_text(&message.rejected, Some(&message.value))))?;
                    }
                }
            }
            bar.set_position(read_count(&reader, &bar));
            if is_last {
                break;
            }
        }
        // Shows the final position, which the rate limit of the bar may have skipped.
        bar.force_draw();
        bar.finish_and_clear();
        let verb = if arguments.dry_run { "would be sent" } else { "sent" };
        user_info!(
            messages = counts.sent,
            "{} {verb} from {topic} to {}{}",
            counts.sent,
            source.topic,
            counts.skipped_text()
        );
        Ok(())
    }

    /// The next pending rejects with all their bytes; none at the end.
    fn read_batch(
        &self,
        reader: &mut RejectsReader,
        counts: &mut ReplayCounts,
        bar: &ProgressBar,
    ) -> Result<Vec<RejectedMessage>> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH_MESSAGES && bytes < BATCH_BYTES {
            let Some(mut rejected) = reader.read()? else { break };
            // Messages of this batch are not sent yet.
            bar.set_position(read_count(reader, bar).saturating_sub(batch.len() as u64 + 1));
            if !self.reasons.contains(&rejected.reason) || reader.is_done(&rejected) {
                continue;
            }
            reader.complete(&mut rejected)?;
            let (source, offset) = (&rejected.source, rejected.source_offset);
            if rejected.replays >= REPLAYS_MAX {
                counts.given_up += 1;
                tracing::warn!("{source}/{offset}: skipped after {REPLAYS_MAX} replays");
            } else if let Some(value) = &rejected.value {
                bytes += value.len();
                batch.push(rejected);
            } else {
                counts.without_bytes += 1;
                tracing::warn!("{source}/{offset}: skipped, its bytes are no longer in any topic");
            }
        }
        Ok(batch)
    }

    fn list(&self, arguments: &cli::Rejects) -> Result<()> {
        let cluster = Cluster::new(&self.sink.brokers, None, &self.source.client)?;
        let mut reader = self.open(&cluster, arguments.all)?;
        let mut groups: BTreeMap<Refusal, RejectGroup> = BTreeMap::new();
        while let Some(mut rejected) = reader.read()? {
            let is_handled = !arguments.all && reader.is_done(&rejected);
            if is_handled || !self.reasons.contains(&rejected.reason) {
                continue;
            }
            if arguments.json {
                reader.complete(&mut rejected)?;
                print(&format!("{}\n", json_text(&rejected, rejected.value.as_deref())))?;
                continue;
            }
            let group = groups.entry(rejected.reason).or_default();
            group.count += 1;
            if group.examples.len() < EXAMPLES {
                reader.complete(&mut rejected)?;
                group.examples.push(rejected);
            }
        }
        if arguments.json {
            return Ok(());
        }
        print(&self.listing(&groups, arguments.all))
    }

    fn listing(&self, groups: &BTreeMap<Refusal, RejectGroup>, all: bool) -> String {
        let total: usize = groups.values().map(|group| group.count).sum();
        let kind = if all { "messages" } else { "pending messages" };
        let mut text = format!("{total} {kind} in {}\n", self.topic);
        for (reason, group) in groups {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{reason}: {}", group.count);
            for RejectedMessage { source, source_offset, detail, value, .. } in &group.examples {
                let value = value.as_deref().map_or("(bytes not available)".to_owned(), |value| {
                    truncate(&String::from_utf8_lossy(value), EXAMPLE_CHARS)
                });
                let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
                let _ = writeln!(text, "  {source} offset {source_offset}{detail}\n    {value}");
            }
        }
        text
    }
}

/// The rejects with one reason.
#[derive(Default)]
struct RejectGroup {
    count: usize,
    examples: Vec<RejectedMessage>,
}

/// Messages read so far, of those that the bar counts.
fn read_count(reader: &RejectsReader, bar: &ProgressBar) -> u64 {
    bar.length().unwrap_or(0).saturating_sub(reader.unread_count())
}

#[derive(Default)]
struct ReplayCounts {
    sent: usize,
    skipped_by_map: usize,
    given_up: usize,
    without_bytes: usize,
    too_large: usize,
}

impl ReplayCounts {
    fn skipped_text(&self) -> String {
        let counts = [
            (self.skipped_by_map, "skipped by --map"),
            (self.given_up, "given up after repeated refusals"),
            (self.without_bytes, "without bytes"),
            (self.too_large, "too large"),
        ];
        counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!(", {count} {what}"))
            .collect()
    }
}

/// A reject as JSON, with its own value or a corrected one.
fn json_text(rejected: &RejectedMessage, value: Option<&[u8]>) -> String {
    let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
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

fn truncate(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

fn brokers_text(brokers: &Brokers) -> &str {
    match brokers {
        Brokers::Addresses(addresses) => addresses,
        Brokers::Embedded => "the embedded broker",
    }
}
