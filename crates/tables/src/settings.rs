//! Settings of tables in files.

use std::path::PathBuf;

#[derive(Clone, Debug)]
pub struct ParquetSource {
    /// File, folder, glob or hive-partitioned folder, joined to the pipeline's folder.
    pub path: PathBuf,
    pub order: Order,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Files by name, rows as they lie.
    #[default]
    File,
    /// A stable sort by time, in bounded memory.
    Time,
}

#[derive(Clone, Debug)]
pub struct ParquetSink {
    pub path: PathBuf,
    pub layout: Layout,
    /// Positions of a partition whose forecasts go into one file of a run.
    pub positions: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// One row a forecast, the values in lists.
    #[default]
    Lists,
    /// One row a step of a forecast.
    Long,
}

