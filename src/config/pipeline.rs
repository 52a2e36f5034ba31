//! A pipeline ready for use: every value checked, every default filled in, nothing left to parse.

use std::path::PathBuf;

use tidecast_core::series::Rules;
use tidecast_core::table::Columns;
use tidecast_core::time::TimeUnit;
use tidecast_kafka::settings::{KafkaSink, KafkaSource};
use tidecast_stream::settings::{Delivery, Limits, StateStore};
use tidecast_tables::settings::{ParquetSink, ParquetSource};
use tidecast_train::{Train, TrainingSpec};

use super::edges::REJECTED;
use super::problems::Lines;
use super::{ScoreSink, Scores, Serve};

#[derive(Clone, Debug)]
pub struct Pipeline {
    /// The file it came from; relative paths are relative to its folder.
    pub file: PathBuf,
    pub name: String,
    pub columns: Columns,
    pub time_unit: TimeUnit,
    pub delivery: Delivery,
    pub rules: Rules,
    pub forecast: Forecast,
    /// Whether forecasts are scored when their actuals have come.
    pub scores: Option<Scores>,
    pub kafka_source: Option<KafkaSource>,
    pub parquet_source: Option<ParquetSource>,
    pub kafka_sink: Option<KafkaSink>,
    pub parquet_sink: Option<ParquetSink>,
    pub score_sink: Option<ScoreSink>,
    pub state: Option<StateStore>,
    pub limits: Limits,
    /// Where it can be looked at while it runs; `None` is nowhere.
    pub serve: Option<Serve>,
    pub train: Train,
    /// Where its keys stand in the file.
    pub(super) lines: Lines,
}

impl Pipeline {
    /// What training needs to know of it.
    pub fn training(&self) -> TrainingSpec {
        TrainingSpec {
            file: self.file.clone(),
            columns: self.columns.clone(),
            rules: self.rules.clone(),
            levels: self.forecast.levels.clone(),
            train: self.train.clone(),
        }
    }

    /// Line of a key such as `grid.every` in the file; that of its table where the key is left out, `None` where that is, too.
    pub fn line_of(&self, key: &str) -> Option<usize> {
        self.lines.of(key)
    }

    /// The refusals that a producer should hear of: those that go to the rejects topic, or would if there were one.
    pub fn rejected(&self) -> Vec<tidecast_core::series::Refusal> {
        self.kafka_sink.as_ref().map_or(REJECTED.to_vec(), |sink| sink.rejected.clone())
    }
}

#[derive(Clone, Debug)]
pub struct Forecast {
    pub model: PathBuf,
    /// A forecast is issued at every step whose number is a multiple of this.
    pub every: u32,
    /// Interval levels, ascending, each in (0, 1).
    pub levels: Vec<f64>,
}

