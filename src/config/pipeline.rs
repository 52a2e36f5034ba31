//! A pipeline ready for use: every value checked, every default filled in, nothing left to parse.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::client::Masked;
use super::edges::REJECTED;
use super::problems::Lines;
use super::{Limits, ScoreSink, Scores, Serve};
use crate::network::StateKind;
use crate::series::Rules;
use crate::table::Columns;

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

/// What a crash may do to the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Nothing: no forecast is lost and none is there twice.
    #[default]
    ExactlyOnce,
    /// No forecast is lost, some may be there twice.
    AtLeastOnce,
}

impl Pipeline {
    /// Line of a key such as `grid.every` in the file; that of its table where the key is left out, `None` where that is, too.
    pub fn line_of(&self, key: &str) -> Option<usize> {
        self.lines.of(key)
    }

    /// The refusals that a producer should hear of: those that go to the rejects topic, or would if there were one.
    pub fn rejected(&self) -> Vec<crate::series::Refusal> {
        self.kafka_sink.as_ref().map_or(REJECTED.to_vec(), |sink| sink.rejected.clone())
    }
}

/// What an integer in the time column counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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

#[derive(Clone)]
pub struct KafkaSource {
    pub brokers: Brokers,
    pub topic: String,
    pub group: String,
    pub format: Format,
    /// Where to start when the group has never committed.
    pub start: Start,
    /// What to do where the topic's retention has deleted rows that are needed.
    pub deleted: Deleted,
    /// Whether the topic may be a compacted one.
    pub compacted: bool,
    /// The name of this process among those of the group, the same at every start.
    pub instance: String,
    /// Whether a restart of this instance takes its partitions back without the others noticing.
    pub static_member: bool,
    /// How much of the topic is read again after a change of the pipeline, where [state] says so.
    pub rewind: Option<Duration>,
    /// Messages that are read ahead at most.
    pub queue_rows: usize,
    /// Whether the ends of the partitions are to be known, so that it can be said how far behind they are.
    pub ends: bool,
    /// librdkafka properties, as given. May hold secrets: print it as [`Masked`] only.
    pub client: BTreeMap<String, String>,
    pub commit: Commit,
}

impl fmt::Debug for KafkaSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { brokers, topic, group, format, start, deleted, instance, static_member, .. } = self;
        let Self { compacted, rewind, queue_rows, ends, client, commit, .. } = self;
        let mut out = f.debug_struct("KafkaSource");
        out.field("brokers", brokers).field("topic", topic).field("group", group).field("format", format);
        out.field("start", start).field("deleted", deleted).field("instance", instance);
        out.field("static_member", static_member)
            .field("compacted", compacted)
            .field("rewind", rewind)
            .field("queue_rows", queue_rows)
            .field("ends", ends)
            .field("client", &Masked(client))
            .field("commit", commit)
            .finish()
    }
}

/// When written output and positions are made durable.
#[derive(Clone, Copy, Debug)]
pub struct Commit {
    pub every: Duration,
    /// Rows since the last commit that force one earlier.
    pub rows: usize,
}

impl Default for Commit {
    fn default() -> Self {
        // A transaction costs as much as some thousand rows; two of these are what may wait for a commit.
        Self { every: Duration::from_millis(100), rows: 50_000 }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Brokers {
    /// `host:port[,host:port...]`
    At(String),
    /// A broker inside this process.
    Embedded,
}

impl Brokers {
    /// Whether these are the same, in whichever order they are named.
    pub fn are(&self, others: &Self) -> bool {
        let sorted = |brokers: &Self| match brokers {
            Self::At(list) => list.split(',').map(str::to_owned).collect::<BTreeSet<_>>(),
            Self::Embedded => BTreeSet::new(),
        };
        sorted(self) == sorted(others)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    #[default]
    Json,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    #[default]
    Earliest,
    Latest,
    Fail,
}

/// What to do where rows that are needed to go on have been deleted by the topic's retention.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deleted {
    /// Stop, and say which.
    #[default]
    Fail,
    /// Go on from what is left, with series that know nothing.
    Cold,
}

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

#[derive(Clone)]
pub struct KafkaSink {
    /// The source's brokers unless given.
    pub brokers: Brokers,
    pub topic: String,
    /// Scores go here, as [sink.scores] says.
    pub scores: Option<String>,
    /// Refused messages go here, raw.
    pub rejects: Option<String>,
    /// Which refusals go to the rejects topic; the others are only counted.
    pub rejected: Vec<crate::series::Refusal>,
    /// librdkafka properties, as given. May hold secrets: print it as [`Masked`] only.
    pub client: BTreeMap<String, String>,
}

impl fmt::Debug for KafkaSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { brokers, topic, scores, rejects, rejected, client } = self;
        let mut out = f.debug_struct("KafkaSink");
        out.field("brokers", brokers).field("topic", topic).field("scores", scores);
        out.field("rejects", rejects);
        out.field("rejected", rejected).field("client", &Masked(client)).finish()
    }
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

#[derive(Clone, Debug)]
pub struct StateStore {
    pub place: Place,
    pub every: Duration,
    /// Snapshots are written no faster than this.
    pub bytes_per_second: u64,
    pub on_change: OnChange,
}

/// Where snapshots lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A folder of this machine, joined to the pipeline's folder.
    Folder(PathBuf),
    /// `s3://`, `gs://` or `az://`, a bucket, and a folder in it. The credentials are the environment's.
    Url(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::Url(url) => f.write_str(url),
        }
    }
}

/// What to do with the state when the model, or the configuration that shaped it, is another one than before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OnChange {
    /// Stop and name the key that differs.
    #[default]
    Fail,
    /// Go on from the committed positions without any history.
    Cold,
    /// Read again what came in this time up to the committed positions, silently.
    Replay(Duration),
    /// Learn the past from these Parquet files, silently.
    Warm(PathBuf),
}

/// The recipe of training.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Train {
    /// Whether there is a memory: a linear recurrence over the whole past, read out by ridge regression.
    pub memory: bool,
    /// Steps after which the memory forgets altogether; without it, it fades.
    pub context: Option<usize>,
    /// The cells that learn what the memory leaves over, or everything without one.
    pub cell: Option<crate::network::CellKind>,
    pub hidden: usize,
    pub layers: usize,
    /// Steps of the past that a window reads. With a carried state: after so many it is taken to be as if carried all along.
    pub lookback: usize,
    /// Steps of the lookback that the cells read at once.
    pub segment: usize,
    pub horizon: usize,
    pub decoder: crate::network::Decoder,
    pub state: crate::network::StateKind,
    pub scaling: crate::series::Scaling,
    pub calendar: Vec<crate::series::Calendar>,
    pub loss: crate::network::Loss,
    /// Whether the cells learn the quantiles that bound `forecast.levels`.
    pub quantiles: bool,
    /// Learned numbers of each known series that the cells read at every step; 0 is without.
    pub embedding: usize,
    pub epochs: usize,
    pub batch: usize,
    pub learning_rate: f64,
    /// Share of all minibatches over which the learning rate rises before it falls.
    pub warmup: f64,
    pub weight_decay: f64,
    pub clip: f64,
    /// How much of the running mean of the weights is kept each minibatch; the mean is what serves. 0 is without.
    pub average: f64,
    /// The chance of a hidden value to be left out of what the head reads, while it learns.
    pub dropout: f64,
    /// Epochs without a better validation loss after which training stops.
    pub patience: usize,
    /// Share of the history, in time, that trains; then comes the validation part; what is left is never seen.
    pub train_part: f64,
    pub validation_part: f64,
    pub seed: u64,
}

/// Steps of the recurrence in a window, at most, where the recipe is silent: what training costs grows with them, and
/// gradients fade over more.
const RECURRENCES_MOST: usize = 48;
/// At least: with fewer there is little left to be recurrent.
const RECURRENCES_LEAST: usize = 12;

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;
const WEEK: i64 = 7 * DAY;

impl Train {
    /// The recipe for a grid of steps of `every` microseconds where the file says nothing.
    pub fn for_grid(every: i64) -> Self {
        Self {
            memory: true,
            context: None,
            cell: Some(Default::default()),
            hidden: 32,
            layers: 1,
            lookback: Self::lookback_for(every, Default::default()),
            segment: Self::segment_for(Self::lookback_for(every, Default::default())),
            horizon: 24,
            decoder: Default::default(),
            state: Default::default(),
            scaling: Default::default(),
            calendar: Self::calendar_for(every),
            loss: Default::default(),
            quantiles: false,
            embedding: 0,
            epochs: 20,
            batch: 256,
            learning_rate: Self::learning_rate_for(Default::default()),
            warmup: 0.05,
            weight_decay: 0.0,
            clip: 1.0,
            average: 0.98,
            dropout: 0.1,
            patience: 4,
            train_part: 0.7,
            validation_part: 0.1,
            seed: 1,
        }
    }

    /// A day of steps: the shortest history that shows a day's shape. At least 24 steps, for there has to be a history at
    /// all; at most 168 (a week of hours), past which training slows and little is gained. A carried state has four times
    /// as many at least, since only training pays for them.
    pub fn lookback_for(every: i64, state: StateKind) -> usize {
        let least = match state {
            StateKind::Window => 24,
            StateKind::Carried => 96,
        };
        (DAY / every.max(1)).clamp(least, 168) as usize
    }

    /// Along a sequence many forecasts are learned from at once, so that steps are few and may be long.
    pub fn learning_rate_for(state: StateKind) -> f64 {
        match state {
            StateKind::Window => 0.002,
            StateKind::Carried => 0.01,
        }
    }

    /// The shortest segment that cuts a lookback into a moderate number of steps; single steps where none does. Segments
    /// are what Lin et al. read long windows by, "SegRNN: segment recurrent neural network for long-term time series
    /// forecasting", 2023.
    pub fn segment_for(lookback: usize) -> usize {
        let cuts = |segment: &usize| {
            lookback.is_multiple_of(*segment)
                && (RECURRENCES_LEAST..=RECURRENCES_MOST).contains(&(lookback / segment))
        };
        (1..=lookback / RECURRENCES_LEAST).find(cuts).unwrap_or(1)
    }

    /// The calendar inputs that differ from one step to the next.
    fn calendar_for(every: i64) -> Vec<crate::series::Calendar> {
        use crate::series::Calendar::{DayOfWeek, HourOfDay};
        match every {
            ..DAY => vec![HourOfDay, DayOfWeek],
            DAY..WEEK => vec![DayOfWeek],
            WEEK.. => vec![],
        }
    }
}

impl Default for Train {
    fn default() -> Self {
        Self::for_grid(HOUR)
    }
}
