//! TideCast, the program: command line, configuration, commands, dashboard and reports.
//!
//! Everything below is in the crates `tidecast-core`, `tidecast-train`, `tidecast-stream`, `tidecast-tables` and
//! `tidecast-kafka`. ARCHITECTURE.md is the map.
//!
//! - [`cli`] defines the commands and flags, [`commands`] runs them.
//! - [`config`] reads a pipeline file and composes the settings of the crates.
//! - [`dataset`] reads Parquet history.
//! - [`serve`] is the dashboard and the metrics of a running pipeline.
//! - [`report`] renders results as text, HTML and SVG.
//! - [`logging`], [`terminal`] and [`shutdown`] are the program's log, output and signals.

pub mod cli;
pub mod commands;
pub mod config;
pub mod dataset;
pub mod logging;
pub mod report;
pub mod serve;
pub mod shutdown;
pub mod terminal;
#[cfg(feature = "traces")]
mod traces;
