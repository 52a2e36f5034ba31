//! The integration tests, in one binary, which links once.

// Fixtures.
/// A Kafka broker to test against.
mod broker;
/// Fixtures: pipelines, models, rows, and collected output.
mod harness;

// The engine.
/// Covariates.
mod exogenous;
/// Cells against independently computed vectors.
mod golden;
/// Model files.
mod models;
/// Series with gaps, duplicates and disorder from a public benchmark.
mod nab;
/// Invariants for arbitrary rows, batches and restarts.
mod properties;
/// Scores and online calibration.
mod scoring;
/// Rules of grid, steps, gaps and forecasts, one test each.
mod semantics;

// Training and evaluation.
/// Embeddings of series.
mod embedding;
/// Evaluation against baselines.
mod evaluating;
/// Learned quantiles.
mod quantiles;
/// Accuracy, reproducibility and checkpoints of training.
mod training;

// Sources, sinks, state and driver.
/// Delivery guarantees and bounds of the driver.
mod driver;
/// The Kafka source and sinks against a broker.
mod kafka;
/// Limits of series, steps and rejects.
mod limits;
/// Equal forecasts from every source.
mod parity;
/// Parquet input and output.
mod parquet;
/// Snapshots and their store.
mod snapshots;
/// Faults injected into a group of instances.
mod soak;

// The program.
/// The dashboard in a browser.
mod browser;
/// The program as a process.
mod command_line;
/// Pipeline files.
mod config;

// The whole.
/// The documentation.
mod docs;
/// Mutated input of every kind.
mod fuzz;
/// Rules of the source that the compiler does not check.
mod tidy;
