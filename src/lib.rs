//! Streaming forecasts on Kafka and Parquet.
//!
//! # The line
//!
//! ```text
//! bytes -> RecordBatch -> Observations -> Series (grid, window, scale) -> Inputs -> Network -> Forecasts -> RecordBatch -> bytes
//! `-------- io --------'  `--------------- forecaster: pure, synchronous, no clock ----------------'  `-------- io --------'
//! ```
//!
//! Live, replay and backfill run the whole line and differ only in its ends; training runs the first half and then learns.
//! So the same rows of a series, in the same order, give the same forecasts, bit for bit, from Kafka or Parquet, in
//! batches of any size, on any number of threads, and after any restart.
//!
//! # The map
//!
//! | part | what it is | knows |
//! |---|---|---|
//! | [`series`] | one id's history: grid, steps, windows, scales | near, simd |
//! | [`network`] | cells, layers, head, their gradients, the optimiser | near, simd, nalgebra |
//! | `near` | asking for memory before it is needed | std |
//! | `simd` | many numbers at once, the same bits on every processor | std |
//! | [`intervals`] | bounds around a forecast, corrected and scored as actuals arrive | near, simd |
//! | [`model`] | a trained network with its description, as a value and as a file | series, network, intervals |
//! | [`table`] | schemas and column names: typed views in, builders out | arrow, intervals |
//! | [`forecaster`] | rows to forecasts for one partition; the only place where series meet network | the above |
//! | [`io`] | Kafka, Parquet, codecs, memory | table, tokio, rdkafka, polars |
//! | [`state`] | snapshots, in a folder or a bucket | io, config, arrow, object_store |
//! | [`drive`] | the only loop: pull, push, write, commit, stop | io, forecaster, state |
//! | [`serve`] | a running pipeline to look at: dashboard, metrics, health | drive, io, state, config, forecaster, intervals, axum |
//! | [`train`] | learning from history | forecaster, model, config, threads |
//! | [`evaluate`] | forecasts against what came, beside baselines | train, table, series, network, model, threads |
//! | [`dataset`] | history from Parquet | io, forecaster, train |
//! | [`config`] | a pipeline file as usable values | serde |
//! | [`report`] | pages of text, tables and charts that need no network | plotters |
//! | [`study`] | what the cells can and cannot do: tasks, protocols, findings | network, report, threads |
//! | [`cli`], [`commands`] | the words of the command line, and the wiring of each verb | everything |
//!
//! # Invariants
//!
//! - `table`, `series`, `network`, `intervals`, `model` and `forecaster` know no runtime, no broker, no file and no clock, and
//!   never fail on data: they return results and a tally of refusals. Waiting and failure live at the edge.
//! - Every row is used, held as the one candidate of its id, or refused and counted by reason; a refused row changes nothing.
//! - A step closes once, in order; what is forecast at its closing is a function of the id's rows up to the one that
//!   closed it.
//! - A column of a batch goes through the network with the same bits whatever stands beside it.
//! - A position is the next row to read. It is committed only after everything that came of the rows below it is durable.
//! - Nothing that a result depends on is walked in hash order or summed in the order of threads.
//! - Every queue, cache, retry and number of series has a bound, with its reason beside it.
//!
//! A test reads the imports and holds the parts to this map.

pub mod cli;
pub mod commands;
pub mod config;
pub mod dataset;
pub mod drive;
pub mod evaluate;
pub mod forecaster;
pub mod intervals;
pub mod io;
pub mod model;
mod near;
pub mod network;
pub mod report;
pub mod series;
pub mod serve;
mod simd;
pub mod state;
pub mod study;
pub mod table;
pub mod train;
