//! How good forecasts are, beside forecasts that cost nothing or next to nothing, at the very same origins.
//!
//! - `parts`            which part of a history is scored, and what baselines are fitted and chosen on
//! - `past`             one series along time
//! - `naive`, `ridge`, `smoothing`   the baselines, usable by themselves; `baselines` fits and asks them all
//! - `metrics`          what is measured
//! - `intervals`, `adaptive`, `bands`   intervals along time, beside other ways to correct them
//! - `scorer`           forecasts as they come out of the line, held against what came
//! - `diebold_mariano`  whether a difference is more than luck
//! - `results`          what was found, as values
//!
//! Knows no file, no terminal and no clock; knows threads, but no result depends on them. Forecasts are not made here: they
//! come from the same line that runs live.

mod adaptive;
mod bands;
mod baselines;
mod diebold_mariano;
mod intervals;
mod metrics;
mod naive;
mod parts;
mod past;
mod places;
mod results;
mod ridge;
mod scorer;
mod smoothing;

pub use bands::{Band, Bands, MethodBand, MethodMeans, OverallBand};
pub use baselines::{Along, Baselines, Fitted, Kind};
pub use diebold_mariano::{Comparison, SIGNIFICANT, Verdict, compare};
pub use intervals::{HeldShares, RECENT};
pub use metrics::{Bounds, Errors, LevelMetrics, Metrics, interval_score, pinball, smape};
pub use naive::{Seasons, naive, repeat_last, seasonal};
pub use parts::{Asked, Parts, Told};
pub use past::Past;
pub use results::{
    About, Evaluation, LevelMeans, Means, NaiveIntervals, Overall, Series, Step, Verdicts, results,
};
pub use ridge::{Ridge, RidgeSums};
pub use scorer::{Example, LaneScores, Scorer, Sums, Task};
pub use smoothing::{Smoothed, Smoothing};
