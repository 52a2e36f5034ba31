//! The state of all ids as it is at one moment, taken over many: ids that nobody has touched since are taken from where
//! they are, piece by piece between pushes; one that a push is about to change is first copied aside. So what is taken is a
//! function of the rows below the moment, however it is cut, and a push waits for the copies of its own ids only.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;

use super::snapshot::{IdState, Rows};
use super::{Beside, SeriesStore, SeriesState};
use crate::series::Retention;

/// Ids of a batch. A fixed number, so that equal states make equal files; this many are some megabytes, which is what
/// writing and reading hold at a time.
pub const BATCH_IDS: usize = 2048;

/// Bytes of the copies aside from which on a capture has to go on before rows do. As much as a busy tenth of a second
/// touches, and small beside the state of a million ids.
pub const ASIDE_BYTES: usize = 16 << 20;

/// What came of a step of a capture.
#[derive(Debug)]
pub enum SnapshotProgress {
    /// The batch at hand is not full yet.
    More,
    /// The next ids, [`BATCH_IDS`] of them except in the last batch. There is one even if there are no ids.
    Batch(RecordBatch),
    /// All ids were given.
    Done,
}

/// A capture under way.
pub struct Capture {
    /// Ids at its moment, and how many of them are taken.
    count: usize,
    taken: usize,
    /// Those not yet taken that have changed since, as they were.
    aside: BTreeMap<usize, IdState>,
    aside_bytes: usize,
    aside_max: usize,
    rows: Rows,
    given: bool,
    scratch: IdState,
}

impl Capture {
    /// Of this moment; copies aside take about `aside_max` bytes.
    pub fn new(histories: &SeriesStore, aside_max: usize) -> Self {
        Self {
            count: histories.all().len(),
            taken: 0,
            aside: BTreeMap::new(),
            aside_bytes: 0,
            aside_max,
            rows: Rows::default(),
            given: false,
            scratch: IdState::default(),
        }
    }

    /// An id is about to change.
    pub fn touch(&mut self, index: usize, history: &SeriesState, keep: Retention, beside: Beside<'_>) {
        if (self.taken..self.count).contains(&index) && !self.aside.contains_key(&index) {
            self.scratch.fill(history, keep, index, beside);
            // A copy has no room to spare.
            let copy = self.scratch.clone();
            self.aside_bytes += copy.bytes();
            self.aside.insert(index, copy);
        }
    }

    pub fn is_full(&self) -> bool {
        self.aside_bytes >= self.aside_max
    }

    /// Takes up to `ids` more.
    pub fn take(&mut self, ids: usize, histories: &SeriesStore, beside: Beside<'_>) -> SnapshotProgress {
        for index in self.taken..self.count.min(self.taken.saturating_add(ids)) {
            match self.aside.remove(&index) {
                Some(copy) => {
                    self.aside_bytes -= copy.bytes();
                    self.rows.add(&copy);
                }
                None => {
                    self.scratch.fill(&histories.all()[index], histories.keep(), index, beside);
                    self.rows.add(&self.scratch);
                }
            }
            self.taken += 1;
            if self.rows.len() == BATCH_IDS {
                return self.batch();
            }
        }
        match self.taken < self.count {
            true => SnapshotProgress::More,
            false if self.rows.len() > 0 || !self.given => self.batch(),
            false => SnapshotProgress::Done,
        }
    }

    fn batch(&mut self) -> SnapshotProgress {
        self.given = true;
        SnapshotProgress::Batch(self.rows.finish())
    }
}
