//! A pipeline ready for use: every value checked, every default filled in, nothing left to parse.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::series::Rules;
use crate::table::Columns;

#[derive(Clone, Debug)]
pub struct Pipeline {
    /// The file it came from; relative paths are relative to its folder.
    pub file: PathBuf,
    pub name: String,
    pub columns: Columns,
    pub time_unit: TimeUnit,
    pub rules: Rules,
    pub forecast: Forecast,
    pub kafka_source: Option<KafkaSource>,
    pub parquet_source: Option<ParquetSource>,
    pub kafka_sink: Option<KafkaSink>,
    pub parquet_sink: Option<ParquetSink>,
    pub state: Option<StateStore>,
    pub limits: Limits,
    pub train: Train,
}

/// What an integer in the time column counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
pub enum TimeUnit {
    #[serde(rename = "s")]
    Seconds,
    #[serde(rename = "ms")]
    #[default]
    Milliseconds,
    #[serde(rename = "us")]
    Microseconds,
    #[serde(rename = "ns")]
    Nanoseconds,
}

#[derive(Clone, Debug)]
pub struct Forecast {
    pub model: PathBuf,
    /// A forecast is issued at every step whose number is a multiple of this.
    pub every: u32,
    /// Interval levels, ascending, each in (0, 1).
    pub levels: Vec<f64>,
}

#[derive(Clone, Debug)]
pub struct KafkaSource {
    pub brokers: Brokers,
    pub topic: String,
    pub group: String,
    pub format: Format,
    /// Where to start when the group has never committed.
    pub start: Start,
    /// librdkafka properties, as given.
    pub client: BTreeMap<String, String>,
    pub commit: Commit,
}

/// When written output and positions are made durable.
#[derive(Clone, Copy, Debug)]
pub struct Commit {
    pub every: Duration,
    /// Rows since the last commit that force one earlier.
    pub rows: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Brokers {
    /// `host:port[,host:port...]`
    At(String),
    /// A broker inside this process.
    Embedded,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    #[default]
    Json,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    #[default]
    Earliest,
    Latest,
    Fail,
}

#[derive(Clone, Debug)]
pub struct ParquetSource {
    /// File, folder, glob or hive-partitioned folder, made absolute against the pipeline's folder.
    pub path: PathBuf,
    pub order: Order,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Files by name, rows as they lie.
    #[default]
    File,
    /// A stable sort by time, in bounded memory.
    Time,
}

#[derive(Clone, Debug)]
pub struct KafkaSink {
    /// The source's brokers unless given.
    pub brokers: Brokers,
    pub topic: String,
    /// Refused messages go here, raw.
    pub rejects: Option<String>,
    /// Which refusals go to the rejects topic; the others are only counted.
    pub rejected: Vec<crate::series::Refusal>,
    pub client: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
pub struct ParquetSink {
    pub path: PathBuf,
    pub layout: Layout,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// One row a forecast, the values in lists.
    #[default]
    Lists,
    /// One row a step of a forecast.
    Long,
}

#[derive(Clone, Debug)]
pub struct StateStore {
    /// Folder of the snapshots.
    pub path: PathBuf,
    pub every: Duration,
}

#[derive(Clone, Debug)]
pub struct Limits {
    /// Series a partition may hold.
    pub series: usize,
    /// Bytes of a message; a longer one is malformed.
    pub message_bytes: usize,
    /// Bytes of a series id; a longer one makes its row malformed.
    pub id_bytes: usize,
}

/// The recipe of training.
#[derive(Clone, Debug)]
pub struct Train {
    pub cell: crate::network::CellKind,
    pub hidden: usize,
    pub layers: usize,
    pub lookback: usize,
    pub horizon: usize,
    pub decoder: crate::network::Decoder,
    pub scaling: crate::series::Scaling,
    pub calendar: Vec<crate::series::Calendar>,
    pub loss: crate::network::Loss,
    pub epochs: usize,
    pub batch: usize,
    pub learning_rate: f64,
    pub weight_decay: f64,
    pub clip: f64,
    /// Epochs without a better validation loss after which training stops.
    pub patience: usize,
    /// Share of the history, in time, that trains; then comes the validation part; what is left is never seen.
    pub train_part: f64,
    pub validation_part: f64,
    pub seed: u64,
}
