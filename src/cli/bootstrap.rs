//! The words of `bootstrap`.

use std::path::PathBuf;

use clap::Args;

use super::Time;

/// Let a pipeline go live warm: learn the past from files, and begin to read its topic where they end
///
/// Runs the history before --at through the pipeline without writing anything, keeps the state of every partition of the
/// topic (each series where the topic's producer places it) and commits where `run` begins to read. Only for a group that
/// has committed nothing yet, and has no members.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  tidecast bootstrap pipelines/sensors.toml --from 'history/*.parquet' --at 2026-01-01"
)]
pub struct Bootstrap {
    /// Pipeline file
    pub pipeline: PathBuf,
    /// Readings of the past: a file, folder or pattern
    #[arg(long, value_name = "PATH")]
    pub from: PathBuf,
    /// The history up to here is learned from files, all from here on is read from the topic (RFC 3339 or a date)
    #[arg(long, value_name = "TIME")]
    pub at: Time,
}
