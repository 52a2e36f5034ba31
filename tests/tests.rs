//! One binary for all integration tests, so that it links once.

mod broker;
mod browser;
mod command_line;
mod config;
mod docs;
mod driver;
mod embedding;
mod evaluating;
mod exogenous;
mod fuzz;
mod golden;
mod harness;
mod kafka;
mod limits;
mod models;
mod nab;
mod parity;
mod parquet;
mod properties;
mod quantiles;
mod scoring;
mod semantics;
mod snapshots;
mod soak;
mod tidy;
mod training;
