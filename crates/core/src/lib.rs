//! The engine of TideCast: from rows to forecasts, pure and synchronous.
//!
//! ```text
//! RecordBatch -> Observations -> steps -> windows, scales -> inputs -> model -> intervals -> RecordBatch
//!   schema         schema        series        series      forecaster  model    intervals     schema
//! ```
//!
//! [`forecaster::Forecaster::push`] runs the whole line for one partition. Training runs its first half, up to the inputs,
//! and then fits a [`model::Model`].
//!
//! The code calls the state of one id a series ([`forecaster::SeriesState`]), and so do limits and metrics that count series:
//! it covers all targets of the id. The documentation for users calls one target of one id a series.
//!
//! # Modules
//!
//! | module | content |
//! |---|---|
//! | [`schema`] | Arrow schemas of observations, forecasts and scores: views in, builders out |
//! | [`series`] | state of one series: grid, steps, gaps, windows, scales |
//! | [`network`] | recurrent cells and their gradients, the linear recurrence, the optimiser |
//! | [`model`] | a trained model with its manifest, as a value and as a file |
//! | [`intervals`] | prediction intervals, calibrated and scored online |
//! | [`metrics`] | error and interval metrics |
//! | [`forecaster`] | all series of one partition: the only place where series meet the network |
//! | [`time`] | units of time, durations as text |
//! | `simd`, `prefetch` | vector instructions with the same bits on every processor; software prefetch |
//!
//! # Invariants
//!
//! - Nothing here knows a runtime, broker, file or clock, and nothing fails on data: bad rows are refused and counted.
//! - Every row is accepted, pending as the candidate of its series, or refused. A refused row changes nothing else.
//! - A step closes once, in order. A forecast is a function of its series' rows up to the one that closed its step.
//! - A column of a batch goes through the network with the same bits, whatever the other columns are.
//! - No result depends on hash order, thread order or the cut into batches.
//! - Weights are immutable and shared; states of many series are stored side by side; no allocation per observation.

pub mod forecaster;
pub mod intervals;
pub mod metrics;
pub mod model;
mod named_enum;
pub mod network;
mod prefetch;
pub mod schema;
pub mod series;
mod simd;
pub mod time;
