//! Prediction intervals: quantiles of validation errors, and their online calibration per series.
//!
//! The bound for probability p starts at b_p + (1 + β v) Q_p. The base b_p is a learned quantile, moved by
//! [`ConformalOffsets`], or the point forecast, with the empirical error distribution [`ErrorQuantiles`] (Hyndman and
//! Athanasopoulos, "Forecasting: Principles and Practice", 5.5). Q_p is the p-quantile of actual - b_p on validation data, per
//! step of the horizon and in scaled units; v is the recent volatility of the series. From there, [`OnlineCalibrator`] moves
//! the bounds of each series according to the outcomes of its own forecasts, and scores them.
//!
//! Pure numbers: no network, no schema, no clock.

mod apply;
mod bounds;
mod calibrator;
mod drift;
mod layout;
mod quantiles;
mod score_accumulator;
mod tracker;

pub use apply::{CalibratedForecast, ScaledForecast};
pub use bounds::{
    Base, Bound, Bounds, ModelOutput, VOLATILITY_STEPS, bound_indices, probabilities, rearrange, volatility,
    volatility_scale,
};
pub use calibrator::{CalibrationMode, IssuedForecast, OnlineCalibrator, SeriesScores, saturating_f32};
pub use drift::DriftDetector;
pub use layout::{CalibrationLayout, ScoreMode, TRACKED_HORIZONS_MAX};
pub use quantiles::{
    ConformalOffsets, ErrorQuantiles, LEVEL_MAX, POOLED_PROBABILITIES, SERIES_ERRORS_MIN,
    SERIES_PROBABILITIES, choose_volatility_gain,
};
pub use score_accumulator::{HorizonScores, SCORE_WINDOW};
