//! One id's history: event time on a grid, steps that close in order, gaps, windows, scales. Pure: a function of rows
//! and their order. Knows no table, no network, no clock, no file; never fails on data, but counts what it refuses.

mod candidate;
mod capacity;
mod cell;
mod grid;
mod inputs;
mod keep;
mod refusal;
mod scale;
mod steps;
mod times;
mod track;
mod window;

pub use candidate::Candidate;
pub use capacity::{Capacity, Full, OPEN_STEPS};
pub use cell::Cell;
pub use grid::Grid;
pub use inputs::{Calendar, InputSpec, Reading, WindowView};
pub use keep::Keep;
pub use refusal::{Refusal, Tally};
pub use scale::{Moments, Running, Scale, Scaling, moments};
pub use steps::{ClosedStep, OpenStep, Outcome, Row, Steps, TIMES_PER_STEP, Verdict};
pub use times::{REMEMBERED_TIMES, Times};
pub use track::Track;
pub use window::Window;

use serde::{Deserialize, Serialize};

/// How the rows of a step become its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Aggregate {
    #[default]
    Mean,
    /// The value with the latest time.
    Last,
    Sum,
    Min,
    Max,
}

/// What stands in a step that was not observed, when the gap is short enough to go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gaps {
    /// The last observed value.
    #[default]
    Hold,
    /// A straight line to the next observed value.
    Linear,
    /// The last observed value, with a mask input of 0 instead of 1.
    Missing,
}

/// The rules by which rows of an id become steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    pub grid: Grid,
    pub aggregate: Aggregate,
    /// Rows after which a step is complete; `None` waits for the next step's rows.
    pub complete_after: Option<u32>,
    /// How long after its end a step stays open for late rows, microseconds.
    pub lateness: i64,
    pub gaps: Gaps,
    /// Longest gap that is filled, and farthest a row may be ahead of its id, microseconds.
    pub max_gap: i64,
}
