//! Evaluation of forecasts against observed values and against baselines at the same origins.
//!
//! - `split`: the range that is scored, and those on which baselines are fitted and selected
//! - `timeline`: values of one channel by step
//! - `baselines`, `ridge`, `smoothing`: reference forecasts
//! - `scorer`: errors of the model and of every baseline
//! - `intervals`: coverage over time, next to reference conformal methods
//! - `diebold_mariano`: significance of a difference in error
//! - `report`: results as serialisable values
//!
//! Forecasts are an input: the pipeline that also runs live computes them. No result depends on the number of threads.

mod baselines;
mod diebold_mariano;
mod intervals;
mod report;
mod ridge;
mod scorer;
mod smoothing;
mod split;
mod timeline;

pub use baselines::{Baseline, BaselineOptions, BaselineRunner, Baselines, ChannelFit};
pub use diebold_mariano::{Comparison, SIGNIFICANCE_LEVEL, Verdict, compare};
pub use intervals::{
    COVERAGE_WINDOW, IntervalReport, IntervalResults, IntervalStats, LevelIntervals, MethodIntervalMeans,
    MethodIntervals,
};
pub use report::{
    EvaluationReport, LevelMeans, LevelMetrics, MethodMetrics, MethodReport, NaiveIntervalReport,
    OverallReport, RunInfo, SeriesReport, StepReport, VerdictCounts, report,
};
pub use ridge::{Ridge, RidgeSums};
pub use scorer::{ChannelScores, ComparedForecast, EvaluationTask, Scorer, SplitSums};
pub use smoothing::{ExponentialSmoothing, SmoothingState};
pub use split::{EvaluationSplit, SplitReport, TimeFilter};
pub use timeline::SeriesTimeline;
