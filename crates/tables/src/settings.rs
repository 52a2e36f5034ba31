//! Settings of Parquet sources and sinks.

use std::path::PathBuf;

#[derive(Clone, Debug)]
pub struct ParquetSourceConfig {
    /// File, folder, glob or hive-partitioned folder, resolved against the pipeline's folder.
    pub path: PathBuf,
    pub order: Order,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Files by name, rows in file order.
    #[default]
    File,
    /// A stable sort by time, in bounded memory.
    Time,
}

#[derive(Clone, Debug)]
pub struct ParquetSinkConfig {
    pub path: PathBuf,
    pub layout: Layout,
    /// Number of positions of a partition per file of a run.
    pub positions_per_file: usize,
}

impl ParquetSinkConfig {
    pub const DEFAULT_POSITIONS_PER_FILE: usize = 10_000;
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// One row per forecast, with lists of values.
    #[default]
    Lists,
    /// One row per step of a forecast.
    Long,
}
