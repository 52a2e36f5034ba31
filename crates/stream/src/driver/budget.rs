//! How many rows of a partition may be rejected before the pipeline stops: so many of the last so many. A function of the
//! rows since the start and of nothing else: neither of how they are cut into batches nor of when they come.
//!
//! There is no least number of rows before the first verdict, and none is needed: what is allowed is a number, and a
//! handful of rows cannot hold it.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use super::lane::Done;
use crate::config::{Pipeline, Share};
use tidecast_core::forecaster::Refused;
use crate::{Output, Partition, Reject};
use tidecast_core::series::Refusal;
use tidecast_core::table::positions;

/// Rejects that an error shows: enough to see whether they are alike.
const SHOWN: usize = 3;

/// What a pipeline allows.
#[derive(Clone, Debug)]
pub struct Allowance {
    pub share: Share,
    /// Rows over which rejects are counted.
    pub over: usize,
    /// The refusals that count as rejects. The others are ordinary in a stream.
    pub reasons: Vec<Refusal>,
}

impl Allowance {
    /// Of a pipeline that has any.
    pub fn of(pipeline: &Pipeline) -> Option<Self> {
        let (over, reasons) = (pipeline.limits.rejects_over, pipeline.rejected());
        pipeline.limits.rejects.map(|share| Self { share, over, reasons })
    }
}

/// A reject as it is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Position of the row that decided it: a candidate is rejected by a later row.
    pub decided: i64,
    pub offset: i64,
    pub reason: Refusal,
    pub detail: String,
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offset {} {}", self.offset, self.reason)?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, " ({})", self.detail) }
    }
}

/// The count of one partition.
#[derive(Debug)]
pub struct Budget {
    most: usize,
    over: u64,
    /// Rows so far.
    rows: u64,
    /// The numbers of the rows that decided the rejects among the last `over` rows: at most one more than is allowed.
    recent: VecDeque<u64>,
    last: VecDeque<Counted>,
}

impl Budget {
    pub fn new(allowance: &Allowance) -> Self {
        Self {
            most: allowance.share.of(allowance.over),
            over: allowance.over as u64,
            rows: 0,
            recent: VecDeque::new(),
            last: VecDeque::new(),
        }
    }

    /// Counts rows, by their ascending positions, and the rejects that were decided at them, in that order.
    ///
    /// # Errors
    /// At the first row at which more are rejected than is allowed.
    pub fn add(
        &mut self,
        rows: impl IntoIterator<Item = i64>,
        rejects: impl IntoIterator<Item = Counted>,
    ) -> Result<(), Overrun> {
        let mut rejects = rejects.into_iter().peekable();
        for position in rows {
            self.rows += 1;
            while self.recent.front().is_some_and(|number| number + self.over <= self.rows) {
                self.recent.pop_front();
            }
            while let Some(reject) = rejects.next_if(|reject| reject.decided <= position) {
                self.recent.push_back(self.rows);
                if self.last.len() == SHOWN {
                    self.last.pop_front();
                }
                self.last.push_back(reject);
                if self.recent.len() > self.most {
                    let (rejected, last) = (self.recent.len(), self.last.iter().cloned().collect());
                    return Err(Overrun { rejected, rows: self.rows.min(self.over), last });
                }
            }
        }
        Ok(())
    }
}

/// More were rejected than is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overrun {
    pub rejected: usize,
    /// Rows among which they were.
    pub rows: u64,
    /// The latest of them, the offender at the end.
    pub last: Vec<Counted>,
}

/// The counts of all partitions of a pipeline.
#[derive(Debug)]
pub struct Budgets {
    allowance: Option<Allowance>,
    partitions: BTreeMap<Partition, Budget>,
    overrun: Option<String>,
}

impl Budgets {
    pub fn new(allowance: Option<Allowance>) -> Self {
        Self { allowance, partitions: BTreeMap::new(), overrun: None }
    }

    /// Counts what was pushed at once: its rows, its rejects (messages that are no rows among them), and what the forecaster
    /// refused.
    pub fn count(&mut self, done: &Done) {
        let Some(allowance) = &self.allowance else { return };
        let Done { output: Output { partition, rejects, .. }, refused, .. } = done;
        let rows = positions(&done.rows);
        let malformed = || rejects.iter().filter(|reject| reject.reason == Refusal::Malformed);
        let mut positions: Vec<i64> =
            rows.iter().copied().chain(malformed().map(|reject| reject.offset)).collect();
        positions.sort_unstable();
        let decided = malformed().map(|Reject { offset, reason, detail }| Counted {
            decided: *offset,
            offset: *offset,
            reason: *reason,
            detail: detail.clone(),
        });
        let mut counted: Vec<Counted> = decided
            .chain(refused.iter().map(|Refused { position, reason, decided }| Counted {
                decided: *decided,
                offset: *position,
                reason: *reason,
                detail: String::new(),
            }))
            .filter(|counted| allowance.reasons.contains(&counted.reason))
            .collect();
        counted.sort_by_key(|counted| counted.decided);
        let budget = self.partitions.entry(partition.clone()).or_insert_with(|| Budget::new(allowance));
        if let Err(Overrun { rejected, rows, last }) = budget.add(positions, counted) {
            let last: Vec<String> = last.iter().map(Counted::to_string).collect();
            self.overrun.get_or_insert(format!(
                "{partition}: {rejected} of the last {rows} rows were rejected, more than limits.rejects = \"{}\" of {} \
                 allows; the latest: {}; see them with `tidecast rejects`, correct what sends them, and start again: \
                 all that was read is committed",
                allowance.share,
                allowance.over,
                last.join(", "),
            ));
        }
    }

    /// A partition is no longer ours: who has it now counts anew.
    pub fn forget(&mut self, partition: &Partition) {
        self.partitions.remove(partition);
    }

    /// What is to stop the pipeline, once all that was pushed is committed.
    pub fn overrun(&mut self) -> Option<String> {
        self.overrun.take()
    }
}
