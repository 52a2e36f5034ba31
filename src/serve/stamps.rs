//! When the records were stamped that are written and not durable: how long each took is known once it is. Runs of equal
//! milliseconds, which are short to keep where rows are many.

use std::collections::{BTreeMap, VecDeque};

use tidecast_stream::{Partition, Positions, Record};

/// Runs of a partition, whose file may take long to fill: what comes then is counted with the latest of them.
const RUNS_MOST: usize = 100_000;

#[derive(Debug, Default)]
pub struct Stamps(BTreeMap<Partition, Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// Behind the last record that was added: the message of a candidate that is decided on comes a second time.
    next: i64,
    runs: VecDeque<Run>,
}

#[derive(Debug)]
struct Run {
    /// Behind its last record.
    next: i64,
    stamp: Option<i64>,
    rows: u64,
}

/// What a commit made durable.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Milliseconds since the epoch, and of how many rows.
    pub stamps: Vec<(i64, u64)>,
    pub rows: u64,
}

impl Stamps {
    /// Records that are written, in the order of their offsets.
    pub fn add(&mut self, partition: &Partition, records: &[Record]) {
        if records.is_empty() {
            return;
        }
        let waiting = match self.0.get_mut(partition) {
            Some(waiting) => waiting,
            None => self.0.entry(partition.clone()).or_default(),
        };
        let new = records.partition_point(|record| record.offset < waiting.next);
        for record in &records[new..] {
            waiting.next = record.offset + 1;
            let is_full = waiting.runs.len() == RUNS_MOST;
            match waiting.runs.back_mut() {
                Some(run) if run.stamp == record.timestamp || is_full => {
                    (run.next, run.rows) = (waiting.next, run.rows + 1);
                }
                _ => {
                    let run = Run { next: waiting.next, stamp: record.timestamp, rows: 1 };
                    waiting.runs.push_back(run);
                }
            }
        }
    }

    /// Those below the positions that are durable now.
    pub fn take(&mut self, durable: &Positions) -> Done {
        let mut done = Done::default();
        for (partition, position) in durable {
            let Some(waiting) = self.0.get_mut(partition) else { continue };
            let durable = waiting.runs.partition_point(|run| run.next <= position.0);
            for run in waiting.runs.drain(..durable) {
                done.rows += run.rows;
                done.stamps.extend(run.stamp.map(|stamp| (stamp, run.rows)));
            }
        }
        done
    }

    /// Their next owner writes them.
    pub fn forget(&mut self, partitions: &[Partition]) {
        self.0.retain(|partition, _| !partitions.contains(partition));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidecast_stream::Position;

    #[test]
    fn each_record_is_done_once_and_when_it_is_durable() {
        let partition = Partition { topic: "t".into(), number: 0 };
        let record = |offset, stamp| Record { offset, timestamp: stamp, ..Record::default() };
        let at = |position| Positions::from([(partition.clone(), Position(position))]);
        let mut stamps = Stamps::default();
        stamps.add(&partition, &[record(5, Some(70)), record(6, Some(70)), record(7, None)]);
        // That of a candidate which has been decided on.
        stamps.add(&partition, &[record(6, Some(70)), record(8, Some(90))]);
        assert_eq!(stamps.take(&at(6)), Done::default(), "the rest of its file is not there");
        assert_eq!(stamps.take(&at(8)), Done { stamps: vec![(70, 2)], rows: 3 });
        assert_eq!(stamps.take(&at(9)), Done { stamps: vec![(90, 1)], rows: 1 });
        stamps.forget(std::slice::from_ref(&partition));
        stamps.add(&partition, &[record(5, Some(70))]);
        assert_eq!(stamps.take(&at(9)).rows, 1, "it came back, and is read again");
    }
}
