//! Which snapshots were kept and how long each took, for those who watch.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::{Partition, Position};

/// Nobody may be watching: then the oldest give way. Who watches looks every second.
const REMEMBERED: usize = 1024;

#[derive(Clone, Debug)]
pub struct Kept {
    pub partition: Partition,
    pub position: Position,
    /// From the state's moment to its safety.
    pub took: Duration,
    /// Whether the store has it.
    pub safe: bool,
}

/// What was kept since it was last asked.
#[derive(Debug, Default)]
pub struct Keeping(Mutex<VecDeque<Kept>>);

impl Keeping {
    pub(super) fn note(&self, kept: Kept) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == REMEMBERED {
            all.pop_front();
        }
        all.push_back(kept);
    }

    pub fn take(&self) -> VecDeque<Kept> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
