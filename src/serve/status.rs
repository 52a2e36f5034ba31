//! The status of a pipeline: its partitions, recent events, counters, samples of refused messages. Bounded in memory.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::Serialize;

use tidecast_core::series::{Refusal, RowCounters};
use tidecast_kafka::PartitionLag;
use tidecast_stream::driver::Progress;
use tidecast_stream::{Output, Partition, Positions, Record};

/// Retained events: more than fit on a screen.
const EVENTS_MAX: usize = 100;
/// Retained samples per refusal reason: enough to see a pattern.
const SAMPLES_MAX: usize = 10;
/// Samples taken from one batch and reason: bounds the cost when every row of a batch is refused.
const SAMPLES_PER_BATCH: usize = 2;
/// Bytes of a sampled key or value.
const SAMPLE_BYTES: usize = 400;

#[derive(Debug, Default)]
pub struct PipelineStatus {
    pub partitions: BTreeMap<Partition, PartitionStatus>,
    pub events: VecDeque<PipelineEvent>,
    pub samples: BTreeMap<Refusal, VecDeque<RefusedSample>>,
    pub rows: RowCounters,
    pub series: usize,
    pub assignments: u64,
    pub revocations: u64,
    /// Refused messages handed to the sink.
    pub rejects: BTreeMap<Refusal, u64>,
    /// Arrival of the latest batch.
    pub last_batch: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PartitionPhase {
    /// The state is being restored, and no row is read yet.
    Recovering,
    /// Rows are read. During a replay only the lag keeps the pipeline from being ready.
    Running,
}

/// An assigned partition.
#[derive(Debug)]
pub struct PartitionStatus {
    pub assigned_at: SystemTime,
    pub phase: PartitionPhase,
    /// The next row to push.
    pub position: Option<i64>,
    /// The committed position at assignment. Rows below it are replayed to rebuild state.
    pub resumed_from: Option<i64>,
    /// All output of the rows below this position is durable.
    pub committed: Option<i64>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    Assigned,
    Running,
    Revoked,
    SnapshotFailed,
}

#[derive(Clone, Debug, Serialize)]
pub struct PipelineEvent {
    pub at_ms: u64,
    pub kind: EventKind,
    pub topic: String,
    pub partition: i32,
    pub detail: String,
}

/// A refused message. Its text is untrusted.
#[derive(Clone, Debug, Serialize)]
pub struct RefusedSample {
    pub at_ms: u64,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub detail: String,
    pub key: Option<String>,
    pub value: Option<String>,
}

/// Why `/readyz` answers 503.
#[derive(Clone, Debug, Serialize)]
pub struct NotReady {
    pub reason: NotReadyReason,
    pub text: String,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NotReadyReason {
    NoPartition,
    Recovering,
    EndOffsetsUnknown,
    Lag,
}

impl PipelineStatus {
    pub fn on_assigned(&mut self, partition: &Partition, committed: Option<i64>) {
        self.assignments += 1;
        let status = PartitionStatus {
            assigned_at: SystemTime::now(),
            phase: PartitionPhase::Recovering,
            position: None,
            resumed_from: committed,
            committed,
        };
        self.partitions.insert(partition.clone(), status);
        self.push_event(EventKind::Assigned, partition, committed_text(committed));
    }

    /// The source reads the partition from `position`: its snapshot is restored. Rows may still be replayed.
    pub fn on_reading_started(&mut self, partition: &Partition, position: i64) {
        if let Some(status) = self.partitions.get_mut(partition) {
            (status.phase, status.position) = (PartitionPhase::Running, Some(position));
            let seconds = status.assigned_at.elapsed().unwrap_or_default().as_secs_f64();
            self.push_event(EventKind::Running, partition, format!("recovered in {seconds:.1} s"));
        }
    }

    pub fn on_revoked(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            self.revocations += 1;
            if let Some(status) = self.partitions.remove(partition) {
                self.push_event(EventKind::Revoked, partition, committed_text(status.committed));
            }
        }
    }

    pub fn push_event(&mut self, kind: EventKind, partition: &Partition, detail: String) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        let (topic, partition) = (partition.topic.to_string(), partition.number);
        self.events.push_back(PipelineEvent { at_ms: now_ms(), kind, topic, partition, detail });
    }

    /// Records a batch that ends at `next`. Returns the position that the partition was resumed from.
    pub fn on_batch(&mut self, partition: &Partition, next: i64) -> Option<i64> {
        self.last_batch = Some(Instant::now());
        // Files are not assigned: their partition appears with its first batch.
        let status = self.partitions.entry(partition.clone()).or_insert_with(|| PartitionStatus {
            assigned_at: SystemTime::now(),
            phase: PartitionPhase::Running,
            position: None,
            resumed_from: None,
            committed: None,
        });
        status.position = Some(next);
        status.resumed_from
    }

    pub fn on_progress(&mut self, progress: &Progress) {
        self.rows = progress.counters.clone();
        self.series = progress.series;
    }

    pub fn on_committed(&mut self, positions: &Positions) {
        for (partition, position) in positions {
            if let Some(status) = self.partitions.get_mut(partition) {
                status.committed = Some(position.0);
            }
        }
    }

    /// Counts and samples the refused messages of an output. `reject_reasons` are the reasons written to the rejects topic.
    pub fn on_rejects(&mut self, output: &Output, reject_reasons: &[Refusal]) {
        let mut seen = BTreeMap::<Refusal, usize>::new();
        for reject in &output.rejects {
            if reject_reasons.contains(&reject.reason) {
                *self.rejects.entry(reject.reason).or_default() += 1;
            }
            let seen = seen.entry(reject.reason).or_default();
            *seen += 1;
            if *seen > SAMPLES_PER_BATCH {
                continue;
            }
            let record = output.source.get(reject.offset);
            let sample = RefusedSample::new(&output.partition, reject.offset, &reject.detail, record);
            let samples = self.samples.entry(reject.reason).or_default();
            if samples.len() == SAMPLES_MAX {
                samples.pop_front();
            }
            samples.push_back(sample);
        }
    }

    /// Rows that are available and not read, over all partitions; `None` while an end offset is unknown.
    pub fn lag(&self, lags: &BTreeMap<i32, PartitionLag>) -> Option<u64> {
        let rows = self.partitions.iter().map(|(partition, status)| status.lag(lags.get(&partition.number)));
        rows.sum()
    }

    pub fn not_ready(&self, lags: &BTreeMap<i32, PartitionLag>, ready_lag: u64) -> Option<NotReady> {
        let not_ready = |reason, text: String| Some(NotReady { reason, text });
        if self.partitions.is_empty() {
            return not_ready(NotReadyReason::NoPartition, "no partition is assigned".to_owned());
        }
        let mut partitions = self.partitions.iter();
        if let Some((partition, _)) =
            partitions.find(|(_, status)| status.phase == PartitionPhase::Recovering)
        {
            let text = format!("partition {partition} is recovering its state");
            return not_ready(NotReadyReason::Recovering, text);
        }
        match self.lag(lags) {
            None => {
                let text = "the end offsets of the partitions are not known yet".to_owned();
                not_ready(NotReadyReason::EndOffsetsUnknown, text)
            }
            Some(rows) if rows > ready_lag => {
                let text = format!("{rows} rows behind, above serve.ready_lag = {ready_lag}");
                not_ready(NotReadyReason::Lag, text)
            }
            Some(_) => None,
        }
    }
}

impl PartitionStatus {
    pub fn lag(&self, lag: Option<&PartitionLag>) -> Option<u64> {
        Some(lag?.lag(self.position?))
    }
}

impl RefusedSample {
    fn new(partition: &Partition, offset: i64, detail: &str, record: Option<&Record>) -> Self {
        let text = |bytes: &Bytes| {
            let prefix = &bytes[..bytes.len().min(SAMPLE_BYTES)];
            let ellipsis = if bytes.len() > SAMPLE_BYTES { "\u{2026}" } else { "" };
            format!("{}{ellipsis}", String::from_utf8_lossy(prefix))
        };
        Self {
            at_ms: now_ms(),
            topic: partition.topic.to_string(),
            partition: partition.number,
            offset,
            detail: detail.chars().take(SAMPLE_BYTES).collect(),
            key: record.and_then(|record| record.key.as_ref().map(text)),
            value: record.and_then(|record| record.payload.as_ref().map(text)),
        }
    }
}

fn committed_text(committed: Option<i64>) -> String {
    committed.map_or("nothing committed".to_owned(), |position| format!("committed at {position}"))
}

pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
