//! State of one series: event time on a grid, steps that close in order, gaps, windows and scales.
//!
//! A pure function of the rows and their order. It knows no table, network, clock or file, and never fails on data: it
//! refuses rows and counts them.

mod config;
mod inputs;
mod recent_times;
mod refusal;
mod scale;
mod steps;
mod window;

pub use config::{Aggregate, Capacity, GapFill, Grid, OPEN_STEPS_MAX, OnFull, Retention, StepConfig};
pub use inputs::{Calendar, InputSpec, StepInput, WindowView};
pub use recent_times::{RECENT_TIMES_MAX, RecentTimes};
pub use refusal::{Refusal, RowCounters};
pub use scale::{Moments, RunningStats, Scale, Scaling, moments};
pub use steps::{
    Candidate, ClosedStep, OpenStep, Row, RowOutcome, StepAccumulator, StepBuffer, TIMES_PER_STEP_MAX,
    Verdict,
};
pub use window::{CovariateWindow, Window, WindowUpdate};
