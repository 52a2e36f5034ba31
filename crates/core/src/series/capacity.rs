//! How much may be held of one partition, and what gives way where it is full. Functions of the partition's rows, like
//! all else here.

use serde::{Deserialize, Serialize};

/// What happens when an id would be one more than there is room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Full {
    /// Its rows are refused: those that are there stay. Safe against a flood of ids that mean nothing.
    #[default]
    Refuse,
    /// It takes the place of the id that has been silent longest, whose history is forgotten.
    Evict,
}

/// Steps of an id that may be open at once. As many as `lateness` may span: each keeps its rows' times in memory.
pub const OPEN_STEPS: usize = 10_000;

/// How much there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Ids of a partition.
    pub series: usize,
    pub full: Full,
    /// Open steps of an id, at least 1; one more closes the oldest before its time, so that no row is lost but those that
    /// come for it later.
    pub open_steps: usize,
}

impl From<usize> for Capacity {
    /// Room for so many ids, one more of which is refused.
    fn from(series: usize) -> Self {
        Self { series, full: Full::Refuse, open_steps: OPEN_STEPS }
    }
}
