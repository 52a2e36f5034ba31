//! A pipeline ready for use, loaded from its file.

use std::io::Read;
use std::path::{Path, PathBuf};

use tidecast_core::schema::Columns;
use tidecast_core::series::{Refusal, StepConfig};
use tidecast_core::time::TimeUnit;
use tidecast_kafka::settings::{Brokers, KafkaSinkConfig, KafkaSourceConfig};
use tidecast_stream::settings::{Delivery, Limits, OnChange, StateConfig};
use tidecast_tables::settings::{Order, ParquetSinkConfig, ParquetSourceConfig};
use tidecast_train::{TrainConfig, TrainingSpec};

use super::checks::Checks;
use super::file::{self, PipelineFile};
use super::parse::parse;
use super::problems::{Lines, Problems};
use super::train::RecipeContext;
use super::variables::{Env, Variables};
use super::{ConfigError, ScoreSinkConfig, ServeConfig, read_error};

/// Maximum size of a pipeline file in bytes: a data file given by mistake is not read whole.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Characters of a name, which is part of the consumer group and of file names.
const NAME_CHARS_MAX: usize = 100;

/// A pipeline: every value checked, every default filled in.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// The pipeline file; relative paths in it are relative to its folder.
    pub file: PathBuf,
    pub name: String,
    pub columns: Columns,
    pub time_unit: TimeUnit,
    pub delivery: Delivery,
    pub step_config: StepConfig,
    pub forecast: Forecast,
    /// Set if forecasts are scored against their actuals.
    pub scores: Option<Scores>,
    pub kafka_source: Option<KafkaSourceConfig>,
    pub parquet_source: Option<ParquetSourceConfig>,
    pub kafka_sink: Option<KafkaSinkConfig>,
    pub parquet_sink: Option<ParquetSinkConfig>,
    pub score_sink: Option<ScoreSinkConfig>,
    pub state: Option<StateConfig>,
    pub limits: Limits,
    /// Set if `run` serves the dashboard and metrics.
    pub serve: Option<ServeConfig>,
    pub train: TrainConfig,
    /// The lines of the keys.
    lines: Lines,
}

#[derive(Clone, Debug)]
pub struct Forecast {
    pub model: PathBuf,
    /// A forecast is issued at every step whose number is a multiple of this.
    pub every: u32,
    /// Interval levels, ascending, each in (0, 1).
    pub levels: Vec<f64>,
}

impl Forecast {
    pub(super) const DEFAULT_LEVELS: [f64; 2] = [0.8, 0.95];
}

/// Which forecasts are scored. A missing value depends on the model's horizon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scores {
    /// Steps ahead, ascending.
    pub horizons: Option<Vec<usize>>,
    /// Steps of a scoring period.
    pub every: Option<u32>,
}

impl Pipeline {
    /// Loads a pipeline file with the variables of this process.
    pub fn open(file: &Path) -> Result<Self, ConfigError> {
        Self::load(file, &|name| std::env::var(name).ok())
    }

    /// Loads a pipeline file; `env` looks up variables.
    pub fn load(file: &Path, env: &Env<'_>) -> Result<Self, ConfigError> {
        let hint = format!(", or create one: tidecast init HISTORY.parquet --out {}", file.display());
        let cannot_read = |error: std::io::Error| {
            ConfigError::whole_file(file, format!("cannot be read: {}", read_error(file, &error, &hint)))
        };
        let mut bytes = Vec::new();
        let opened = std::fs::File::open(file).map_err(cannot_read)?;
        opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(cannot_read)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            let text = format!("is not a pipeline file: it has more than {FILE_BYTES_MAX} bytes");
            return Err(ConfigError::whole_file(file, text));
        }
        match String::from_utf8(bytes) {
            Ok(text) => Self::from_text(file, &text, env),
            Err(_) => {
                Err(ConfigError::whole_file(file, "is not a pipeline file: it is not UTF-8 text".to_owned()))
            }
        }
    }

    /// The pipeline in `text`, as if read from `file`. Opens no file except those that values are taken from.
    pub fn from_text(file: &Path, text: &str, env: &Env<'_>) -> Result<Self, ConfigError> {
        let variables = Variables { env, folder: file.parent().unwrap_or(Path::new("")) };
        match parse(text, &variables) {
            Ok((tables, problems)) => Self::compose(file, tables, problems),
            Err(problems) => Err(problems.into_error(file)),
        }
    }

    /// Checks each table of `file`, and the tables against each other.
    fn compose(file: &Path, tables: PipelineFile, problems: Problems) -> Result<Self, ConfigError> {
        let mut checks = Checks { problems, folder: file.parent().unwrap_or(Path::new("")) };
        let name = checks.name(file, tables.name);
        let time_unit = tables.columns.time_unit.unwrap_or_default();
        let columns = checks.columns(&name, tables.columns);
        let step_config = checks.grid(tables.grid);
        let forecast = checks.forecast(tables.forecast);
        let (source, sink) = (tables.source, tables.sink);
        let mut kafka_source = source.kafka.map(|table| checks.kafka_source(&name, table));
        let parquet_source = source.parquet.map(|table| checks.parquet_source(table));
        let mut kafka_sink = sink.kafka.map(|table| checks.kafka_sink(kafka_source.as_ref(), table));
        let parquet_sink = sink.parquet.map(|table| checks.parquet_sink(parquet_source.as_ref(), table));
        let score_sink = sink.scores.map(|table| {
            let (source, sink) = (kafka_source.as_ref(), kafka_sink.as_ref());
            checks.score_sink(table, source, sink, parquet_source.as_ref(), parquet_sink.as_ref())
        });
        if let (Some(sink), Some(scores)) = (&mut kafka_sink, &score_sink) {
            sink.scores_topic.clone_from(&scores.topic);
        }
        // A sink for scores enables them.
        let scores = tables.scores.or_else(|| score_sink.as_ref().map(|_| file::Scores::default()));
        let scores = scores.map(|table| checks.scores(table));
        // The guarantees of a live pipeline need its state, so it is stored even without [state].
        let is_live = kafka_source.as_ref().is_some_and(|source| source.brokers != Brokers::Embedded);
        let default_state =
            || file::State { store: Some(format!("file:state/{name}")), ..Default::default() };
        let state = tables.state.or_else(|| is_live.then(default_state)).map(|table| checks.state(table));
        let limits = checks.limits(state.as_ref(), tables.limits);
        if let Some(source) = &mut kafka_source {
            source.queue_rows = limits.queue_rows;
            source.track_lag = tables.serve.is_some();
            source.replay_window = state.as_ref().and_then(|state| match state.on_change {
                OnChange::Replay(window) => Some(window),
                _ => None,
            });
        }
        let serve = tables.serve.map(|table| checks.serve(table));
        let delivery = tables.delivery.unwrap_or_default();
        checks.one_cluster(delivery, kafka_source.as_ref(), kafka_sink.as_ref());
        let context =
            RecipeContext { columns: &columns, step_config: &step_config, levels: &forecast.levels };
        let train = checks.train(context, tables.train);
        if !checks.problems.is_empty() {
            return Err(checks.problems.into_error(file));
        }
        Ok(Self {
            file: file.to_path_buf(),
            name,
            columns,
            time_unit,
            delivery,
            step_config,
            forecast,
            scores,
            kafka_source,
            parquet_source,
            kafka_sink,
            parquet_sink,
            score_sink,
            state,
            limits,
            serve,
            train,
            lines: checks.problems.into_lines(),
        })
    }

    /// The parts of the pipeline that training uses.
    pub fn training(&self) -> TrainingSpec {
        TrainingSpec {
            file: self.file.clone(),
            columns: self.columns.clone(),
            step_config: self.step_config.clone(),
            levels: self.forecast.levels.clone(),
            train: self.train.clone(),
        }
    }

    /// The line of a key such as `grid.every`, or of its table if the key is absent; `None` if both are.
    pub fn line_of(&self, key: &str) -> Option<usize> {
        self.lines.of(key)
    }

    /// The order of the rows of Parquet files.
    pub fn parquet_order(&self) -> Order {
        self.parquet_source.as_ref().map_or(Order::File, |source| source.order)
    }

    /// The refusals that count as rejects, even without a rejects topic.
    pub fn reject_reasons(&self) -> Vec<Refusal> {
        let default = || KafkaSinkConfig::DEFAULT_REJECT_REASONS.to_vec();
        self.kafka_sink.as_ref().map_or_else(default, |sink| sink.reject_reasons.clone())
    }
}

impl Checks<'_> {
    fn name(&mut self, file: &Path, given: Option<String>) -> String {
        let stem = || file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let name = given.or_else(stem).unwrap_or_default();
        let is_valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty()
            || name.len() > NAME_CHARS_MAX
            || !name.chars().all(is_valid)
            || name.starts_with('.')
        {
            let text = format!(
                "is `{name}`: a pipeline name has 1 to {NAME_CHARS_MAX} letters, digits, dots, underscores or hyphens \
                 (the default is the file name)"
            );
            self.problems.value("name", text);
        }
        name
    }

    /// A transaction spans a single cluster.
    fn one_cluster(
        &mut self,
        delivery: Delivery,
        source: Option<&KafkaSourceConfig>,
        sink: Option<&KafkaSinkConfig>,
    ) {
        if let (Delivery::ExactlyOnce, Some(source), Some(sink)) = (delivery, source, sink)
            && !source.brokers.is_same_as(&sink.brokers)
        {
            let text = "is another cluster than the source's, which a transaction cannot span; use one cluster, or set \
                        delivery = \"at_least_once\"";
            self.problems.value("sink.kafka.brokers", text);
        }
    }
}
