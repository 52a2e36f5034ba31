//! The limit on rejected rows: the pipeline stops when too many of a partition's latest rows were rejected.
//!
//! The decision is a function of the rows since the start alone, not of their batches or arrival times. It needs no minimum
//! number of rows, because the limit is a count that the first few rows cannot exceed.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use tidecast_core::forecaster::DroppedRow;
use tidecast_core::schema::positions;
use tidecast_core::series::Refusal;

use super::partition_task::BatchResult;
use crate::settings::Ratio;
use crate::{Output, Partition, Reject};

/// Rejects named in an error, so that a common cause is visible.
const EXAMPLES_MAX: usize = 3;

/// A pipeline's limit on rejected rows.
#[derive(Clone, Debug)]
pub struct RejectLimit {
    pub rate: Ratio,
    /// The number of latest rows in which rejects are counted.
    pub window: usize,
    /// The refusals that count as rejects. The others are normal in a stream.
    pub reasons: Vec<Refusal>,
}

/// A reject, as it is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountedReject {
    /// Position of the row that caused the reject: a candidate is rejected by a later row.
    pub decided_at: i64,
    pub offset: i64,
    pub reason: Refusal,
    pub detail: String,
}

impl fmt::Display for CountedReject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offset {} {}", self.offset, self.reason)?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, " ({})", self.detail) }
    }
}

/// Counts the rejects of one partition.
#[derive(Debug)]
pub struct RejectBudget {
    rejects_max: usize,
    window: u64,
    /// Rows so far.
    rows: u64,
    /// The row numbers of the rejects in the window: at most one more than allowed.
    recent: VecDeque<u64>,
    examples: VecDeque<CountedReject>,
}

impl RejectBudget {
    pub fn new(limit: &RejectLimit) -> Self {
        Self {
            rejects_max: limit.rate.of(limit.window),
            window: limit.window as u64,
            rows: 0,
            recent: VecDeque::new(),
            examples: VecDeque::new(),
        }
    }

    /// Counts rows by their ascending positions, and the rejects decided at them in the same order.
    ///
    /// # Errors
    /// At the first row at which the limit is exceeded.
    pub fn add(
        &mut self,
        rows: impl IntoIterator<Item = i64>,
        rejects: impl IntoIterator<Item = CountedReject>,
    ) -> Result<(), BudgetExceeded> {
        let mut rejects = rejects.into_iter().peekable();
        for position in rows {
            self.rows += 1;
            while self.recent.front().is_some_and(|number| number + self.window <= self.rows) {
                self.recent.pop_front();
            }
            while let Some(reject) = rejects.next_if(|reject| reject.decided_at <= position) {
                self.recent.push_back(self.rows);
                if self.examples.len() == EXAMPLES_MAX {
                    self.examples.pop_front();
                }
                self.examples.push_back(reject);
                if self.recent.len() > self.rejects_max {
                    return Err(BudgetExceeded {
                        rejected: self.recent.len(),
                        rows: self.rows.min(self.window),
                        examples: self.examples.iter().cloned().collect(),
                    });
                }
            }
        }
        Ok(())
    }
}

/// More rows were rejected than allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetExceeded {
    pub rejected: usize,
    /// The number of latest rows that contain these rejects.
    pub rows: u64,
    /// The latest rejects; the last one exceeded the limit.
    pub examples: Vec<CountedReject>,
}

/// The reject budgets of all partitions.
#[derive(Debug)]
pub struct RejectBudgets {
    limit: Option<RejectLimit>,
    partitions: BTreeMap<Partition, RejectBudget>,
    error: Option<String>,
}

impl RejectBudgets {
    pub fn new(limit: Option<RejectLimit>) -> Self {
        Self { limit, partitions: BTreeMap::new(), error: None }
    }

    /// Counts the rows of a batch, its malformed messages and the rows that the forecaster refused.
    pub fn count(&mut self, result: &BatchResult) {
        let Some(limit) = &self.limit else { return };
        let BatchResult { output: Output { partition, rejects, .. }, rows, dropped, .. } = result;
        let malformed = || rejects.iter().filter(|reject| reject.reason == Refusal::Malformed);
        let mut positions: Vec<i64> =
            positions(rows).iter().copied().chain(malformed().map(|reject| reject.offset)).collect();
        positions.sort_unstable();
        let malformed = malformed().map(|Reject { offset, reason, detail }| CountedReject {
            decided_at: *offset,
            offset: *offset,
            reason: *reason,
            detail: detail.clone(),
        });
        let dropped = dropped.iter().map(|DroppedRow { position, reason, decided_at }| CountedReject {
            decided_at: *decided_at,
            offset: *position,
            reason: *reason,
            detail: String::new(),
        });
        let mut counted: Vec<CountedReject> =
            malformed.chain(dropped).filter(|reject| limit.reasons.contains(&reject.reason)).collect();
        counted.sort_by_key(|reject| reject.decided_at);
        let budget = self.partitions.entry(partition.clone()).or_insert_with(|| RejectBudget::new(limit));
        if let Err(BudgetExceeded { rejected, rows, examples }) = budget.add(positions, counted) {
            let examples: Vec<String> = examples.iter().map(CountedReject::to_string).collect();
            self.error.get_or_insert(format!(
                "{partition}: {rejected} of the last {rows} rows were rejected, more than limits.reject_rate = \"{}\" of {} \
                 rows allows; the latest: {}; inspect them with `tidecast rejects`, fix the producer and restart; \
                 all rows read so far are committed",
                limit.rate,
                limit.window,
                examples.join(", "),
            ));
        }
    }

    /// Drops the count of a revoked partition; its next owner starts a new one.
    pub fn remove(&mut self, partition: &Partition) {
        self.partitions.remove(partition);
    }

    /// The error of the first exceeded budget.
    pub fn take_error(&mut self) -> Option<String> {
        self.error.take()
    }
}
