//! Where the line stands: its partitions, what happened to it, samples of what it refused. Bounded, whatever happens.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::Serialize;

use tidecast_stream::driver::Progress;
use tidecast_kafka::Reach;
use tidecast_stream::{Output, Partition, Positions, Record};
use tidecast_core::series::{Refusal, Tally};

/// What happened lately: more than fits a screen.
const HAPPENED_MOST: usize = 100;
/// Samples of each reason: enough to see whether they are alike.
const SAMPLES_MOST: usize = 10;
/// Of one batch: a flood fills the samples at once, and then costs no more than this.
const SAMPLES_OF_BATCH: usize = 2;
/// Bytes of a message that is shown.
const SAMPLE_BYTES: usize = 400;

#[derive(Debug, Default)]
pub struct Line {
    pub partitions: BTreeMap<Partition, Stand>,
    pub happened: VecDeque<Happened>,
    pub samples: BTreeMap<Refusal, VecDeque<Sample>>,
    pub tally: Tally,
    pub series: usize,
    pub assignments: u64,
    pub revocations: u64,
    /// Rejects handed to the sink.
    pub rejects: BTreeMap<Refusal, u64>,
    /// When rows last came.
    pub last_rows: Option<Instant>,
}

/// A partition that is ours.
#[derive(Debug)]
pub struct Stand {
    pub since: SystemTime,
    /// Its state is there, and it is read.
    pub is_reading: bool,
    /// The next row to push, and up to where all is durable.
    pub position: Option<i64>,
    /// Where others had committed it when it came to us.
    pub resumed: Option<i64>,
    pub committed: Option<i64>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Happened {
    pub at_ms: u64,
    pub what: &'static str,
    pub topic: String,
    pub partition: i32,
    pub detail: String,
}

/// A refused message; text of others.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    pub at_ms: u64,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub detail: String,
    pub key: Option<String>,
    pub value: Option<String>,
}

impl Line {
    pub fn assigned(&mut self, partition: &Partition, committed: Option<i64>) {
        self.assignments += 1;
        let stand = Stand {
            since: SystemTime::now(),
            is_reading: false,
            position: None,
            resumed: committed,
            committed,
        };
        self.partitions.insert(partition.clone(), stand);
        let from = committed.map_or("never committed".to_owned(), |at| format!("committed at {at}"));
        self.happen("assigned", partition, from);
    }

    pub fn reading(&mut self, partition: &Partition, from: i64) {
        if let Some(stand) = self.partitions.get_mut(partition) {
            (stand.is_reading, stand.position) = (true, Some(from));
            let seconds = stand.since.elapsed().unwrap_or_default().as_secs_f64();
            self.happen("reading", partition, format!("its state was there after {seconds:.1} s"));
        }
    }

    pub fn revoked(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            self.revocations += 1;
            if let Some(stand) = self.partitions.remove(partition) {
                let at =
                    stand.committed.map_or("nothing committed".to_owned(), |at| format!("committed at {at}"));
                self.happen("given up", partition, at);
            }
        }
    }

    pub fn happen(&mut self, what: &'static str, partition: &Partition, detail: String) {
        if self.happened.len() == HAPPENED_MOST {
            self.happened.pop_front();
        }
        let (topic, partition) = (partition.topic.to_string(), partition.number);
        self.happened.push_back(Happened { at_ms: now_ms(), what, topic, partition, detail });
    }

    /// Rows up to a position are about to be pushed; returns up to where they had been committed before it came to us.
    pub fn rows(&mut self, partition: &Partition, next: i64) -> Option<i64> {
        self.last_rows = Some(Instant::now());
        // An input that is not assigned comes with its first rows.
        let stand = self.partitions.entry(partition.clone()).or_insert_with(|| Stand {
            since: SystemTime::now(),
            is_reading: true,
            position: None,
            resumed: None,
            committed: None,
        });
        stand.position = Some(next);
        stand.resumed
    }

    pub fn progress(&mut self, progress: &Progress) {
        self.tally = progress.tally.clone();
        self.series = progress.series;
    }

    pub fn committed(&mut self, positions: &Positions) {
        for (partition, position) in positions {
            if let Some(stand) = self.partitions.get_mut(partition) {
                stand.committed = Some(position.0);
            }
        }
    }

    /// What was refused, of which those with some reasons go to the rejects.
    pub fn output(&mut self, output: &Output, rejected: &[Refusal]) {
        let mut taken = BTreeMap::<Refusal, usize>::new();
        for reject in &output.rejects {
            if rejected.contains(&reject.reason) {
                *self.rejects.entry(reject.reason).or_default() += 1;
            }
            let taken = taken.entry(reject.reason).or_default();
            *taken += 1;
            if *taken > SAMPLES_OF_BATCH {
                continue;
            }
            let record = output.origins.at(reject.offset);
            let sample = Sample::of(&output.partition, reject.offset, &reject.detail, record);
            let samples = self.samples.entry(reject.reason).or_default();
            if samples.len() == SAMPLES_MOST {
                samples.pop_front();
            }
            samples.push_back(sample);
        }
    }

    /// Rows that are there and not read, by the ends of the partitions; `None` where those are not known.
    pub fn lag(&self, ends: &BTreeMap<i32, Reach>) -> Option<u64> {
        let lags = self.partitions.iter().map(|(partition, stand)| stand.lag(ends.get(&partition.number)));
        lags.sum()
    }
}

impl Stand {
    pub fn lag(&self, reach: Option<&Reach>) -> Option<u64> {
        Some(reach?.lag(self.position?))
    }
}

impl Sample {
    fn of(partition: &Partition, offset: i64, detail: &str, record: Option<&Record>) -> Self {
        let text = |bytes: &Bytes| {
            let shown = &bytes[..bytes.len().min(SAMPLE_BYTES)];
            let more = if bytes.len() > SAMPLE_BYTES { "\u{2026}" } else { "" };
            format!("{}{more}", String::from_utf8_lossy(shown))
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

pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
