//! The pipeline file as written: its tables and keys, all optional, with their types. Defaults are in the settings of the
//! crates; valid values are checked in the modules of the tables.

use std::collections::BTreeMap;

use serde::Deserialize;

use tidecast_core::network::{CellKind, Decoder, Loss, StateKind};
use tidecast_core::series::{Aggregate, Calendar, GapFill, OnFull, Refusal, Scaling};
use tidecast_core::time::TimeUnit;
use tidecast_stream::settings::{Delivery, MessageFormat, OnDataLoss, StartOffset};
use tidecast_tables::settings::{Layout, Order};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PipelineFile {
    pub name: Option<String>,
    pub delivery: Option<Delivery>,
    pub columns: Columns,
    pub grid: Grid,
    pub forecast: Forecast,
    pub scores: Option<Scores>,
    pub source: Source,
    pub sink: Sink,
    pub state: Option<State>,
    pub limits: Limits,
    pub serve: Option<Serve>,
    pub train: Train,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Columns {
    pub series: Option<String>,
    pub time: Option<String>,
    pub time_unit: Option<TimeUnit>,
    pub targets: Option<Vec<String>>,
    pub covariates: Option<Vec<String>>,
    pub future_covariates: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Grid {
    pub every: Option<String>,
    pub offset: Option<String>,
    pub aggregate: Option<Aggregate>,
    pub complete_after: Option<i64>,
    pub lateness: Option<String>,
    pub gap_fill: Option<GapFill>,
    pub max_gap: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Forecast {
    pub model: Option<String>,
    pub every: Option<i64>,
    pub levels: Option<Vec<f64>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Source {
    pub kafka: Option<KafkaSource>,
    pub parquet: Option<ParquetSource>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct KafkaSource {
    pub brokers: Option<String>,
    pub topic: Option<String>,
    pub group: Option<String>,
    pub format: Option<MessageFormat>,
    pub start: Option<StartOffset>,
    pub on_data_loss: Option<OnDataLoss>,
    pub allow_compacted: Option<bool>,
    pub instance: Option<String>,
    pub static_membership: Option<bool>,
    pub client: Client,
    pub commit: Commit,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Commit {
    pub every: Option<String>,
    pub rows: Option<i64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ParquetSource {
    pub path: Option<String>,
    pub order: Option<Order>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Sink {
    pub kafka: Option<KafkaSink>,
    pub parquet: Option<ParquetSink>,
    pub scores: Option<ScoreSink>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ScoreSink {
    pub topic: Option<String>,
    pub path: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Scores {
    pub horizons: Option<Vec<i64>>,
    pub every: Option<i64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct KafkaSink {
    pub brokers: Option<String>,
    pub topic: Option<String>,
    pub rejects_topic: Option<String>,
    pub reject_reasons: Option<Vec<Refusal>>,
    pub client: Client,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ParquetSink {
    pub path: Option<String>,
    pub layout: Option<Layout>,
    pub positions_per_file: Option<i64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct State {
    pub store: Option<String>,
    pub every: Option<String>,
    pub bytes_per_second: Option<i64>,
    pub on_change: Option<OnChange>,
    pub replay: Option<String>,
    pub bootstrap: Option<String>,
}

/// The policy for a lineage mismatch. `replay` and `bootstrap` have a parameter, in the key of the same name.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum OnChange {
    Fail,
    Cold,
    Replay,
    Bootstrap,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    pub series: Option<i64>,
    pub message_bytes: Option<i64>,
    pub id_bytes: Option<i64>,
    pub on_full: Option<OnFull>,
    pub open_steps: Option<i64>,
    pub queue_rows: Option<i64>,
    pub snapshot_age: Option<String>,
    pub reject_rate: Option<String>,
    pub reject_window: Option<i64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Serve {
    pub address: Option<String>,
    pub ready_lag: Option<i64>,
    pub units: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Train {
    pub recurrence: Option<bool>,
    pub recurrence_window: Option<i64>,
    pub cell: Option<Cell>,
    pub hidden: Option<i64>,
    pub layers: Option<i64>,
    pub lookback: Option<i64>,
    pub segment: Option<i64>,
    pub horizon: Option<i64>,
    pub decoder: Option<Decoder>,
    pub state: Option<StateKind>,
    pub scaling: Option<Scaling>,
    pub calendar: Option<Vec<Calendar>>,
    pub loss: Option<Loss>,
    pub quantiles: Option<bool>,
    pub embedding: Option<i64>,
    pub epochs: Option<i64>,
    pub batch_size: Option<i64>,
    pub learning_rate: Option<f64>,
    pub warmup: Option<f64>,
    pub weight_decay: Option<f64>,
    pub gradient_clip: Option<f64>,
    pub weight_ema: Option<f64>,
    pub dropout: Option<f64>,
    pub patience: Option<i64>,
    pub train_fraction: Option<f64>,
    pub validation_fraction: Option<f64>,
    pub seed: Option<i64>,
}

/// The cell of a recipe, or `none`.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Cell {
    None,
    Rnn,
    Lstm,
    LstmPeephole,
    LstmCoupled,
    LstmPeepholeCoupled,
    Gru,
}

impl Cell {
    pub fn kind(self) -> Option<CellKind> {
        match self {
            Cell::None => None,
            Cell::Rnn => Some(CellKind::Rnn),
            Cell::Lstm => Some(CellKind::Lstm),
            Cell::LstmPeephole => Some(CellKind::LstmPeephole),
            Cell::LstmCoupled => Some(CellKind::LstmCoupled),
            Cell::LstmPeepholeCoupled => Some(CellKind::LstmPeepholeCoupled),
            Cell::Gru => Some(CellKind::Gru),
        }
    }
}

/// Properties of librdkafka. TOML reads `sasl.mechanism = "PLAIN"` without quotes around the key as nested tables, which are
/// flattened.
pub(super) type Client = toml::Table;
