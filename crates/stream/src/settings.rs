//! Settings of the driver, the snapshot store and the codecs.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidecast_core::series::{Capacity, OPEN_STEPS_MAX, OnFull};

/// The delivery guarantee of the output across crashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// No forecast is lost or duplicated.
    #[default]
    ExactlyOnce,
    /// No forecast is lost; some may be duplicated.
    AtLeastOnce,
}

/// The interval between commits of output and positions.
#[derive(Clone, Copy, Debug)]
pub struct Commit {
    pub every: Duration,
    /// A commit starts earlier after this many rows.
    pub rows: usize,
}

impl Default for Commit {
    fn default() -> Self {
        // A transaction costs as much as a few thousand rows; twice this many rows may wait for a commit.
        Self { every: Duration::from_millis(100), rows: 50_000 }
    }
}

/// The format of source messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MessageFormat {
    #[default]
    Json,
}

/// The start of a partition without a committed position, or with a committed position that has neither a snapshot nor
/// TideCast's metadata.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartOffset {
    /// The first position that still exists.
    #[default]
    Earliest,
    /// The end of the partition, or its committed position with cold series.
    Latest,
    /// Stop with an error.
    Fail,
}

/// The policy for rows that a partition still needs but the topic's retention has deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDataLoss {
    /// Stop with an error that names the rows.
    #[default]
    Fail,
    /// Continue with the remaining rows and cold series.
    Cold,
}

/// Bounds of a pipeline's resources, and the conditions that stop it.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Series per partition.
    pub series: usize,
    /// The policy for a series beyond that number.
    pub on_full: OnFull,
    /// Open steps per series; one more closes the oldest.
    pub open_steps: usize,
    /// Bytes per message; a longer one is malformed.
    pub message_bytes: usize,
    /// Bytes per series id; a longer one makes its row malformed.
    pub id_bytes: usize,
    /// Rows read and not yet forecast, and output not yet committed. At this number the pipeline stops reading.
    pub queue_rows: usize,
    /// The pipeline stops if a partition runs for longer than this without a newer snapshot.
    pub snapshot_age: Duration,
    /// The pipeline stops if a larger fraction of rows is rejected; `None` is no limit.
    pub reject_rate: Option<Ratio>,
    /// The number of latest rows of a partition in which rejects are counted.
    pub reject_window: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            series: 1_000_000,
            on_full: OnFull::Refuse,
            open_steps: OPEN_STEPS_MAX,
            message_bytes: 1 << 20,
            id_bytes: 256,
            // One second at fifty thousand rows per second, some 50 MiB: shorter stalls have no effect.
            queue_rows: 50_000,
            // Long enough to repair the store, short enough to keep a restart below an hour of replay.
            snapshot_age: Duration::from_secs(3600),
            // Off by default: otherwise one faulty producer would stop every series, and rejects are stored or counted anyway.
            reject_rate: None,
            // One bad batch of a producer is a small fraction of this window, and an outage still shows within moments.
            reject_window: 10_000,
        }
    }
}

impl Limits {
    /// The bounds of one partition's forecaster.
    pub fn capacity(&self) -> Capacity {
        Capacity { series: self.series, on_full: self.on_full, open_steps: self.open_steps }
    }
}

/// A ratio, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio(pub u32);

impl Ratio {
    /// This ratio of `rows`, rounded down.
    pub fn of(self, rows: usize) -> usize {
        (rows as u64 * u64::from(self.0) / 1_000_000) as usize
    }
}

/// Parses a percentage such as "1%" or "0.25%".
impl FromStr for Ratio {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let percent = text.trim().strip_suffix('%').and_then(|text| text.trim_end().parse::<f64>().ok());
        let millionths = percent.map(|percent| percent * 10_000.0).filter(|millionths| {
            (0.0..=1e6).contains(millionths) && (millionths - millionths.round()).abs() < 1e-6
        });
        match millionths {
            Some(millionths) => Ok(Self(millionths.round() as u32)),
            None => Err(format!("`{text}` is not a percentage such as \"1%\" or \"0.25%\"")),
        }
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 10_000.0)
    }
}

/// The snapshot store of a pipeline.
#[derive(Clone, Debug)]
pub struct StateConfig {
    pub location: StateLocation,
    /// The interval between two snapshots of a partition.
    pub every: Duration,
    /// The maximum write rate of snapshots.
    pub bytes_per_second: u64,
    pub on_change: OnChange,
}

impl StateConfig {
    pub const DEFAULT_EVERY: Duration = Duration::from_secs(30);
    /// Half the write rate of the slowest cloud disks (125 MiB/s), which leaves the rest to other users. A million series of
    /// 2 KB take half a minute.
    pub const DEFAULT_BYTES_PER_SECOND: usize = 64 << 20;
}

/// The location of snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateLocation {
    /// A local folder, resolved against the pipeline file's folder.
    Folder(PathBuf),
    /// `s3://`, `gs://` or `az://` with a bucket and a prefix. The credentials come from the environment.
    Url(String),
}

impl fmt::Display for StateLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::Url(url) => f.write_str(url),
        }
    }
}

/// The policy for stored state after a change of the model or of state-affecting configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OnChange {
    /// Stop with an error that names the changed keys.
    #[default]
    Fail,
    /// Continue from the committed positions with cold series.
    Cold,
    /// Rebuild the state from the rows of this duration before the committed positions, without output.
    Replay(Duration),
    /// Build the state from these Parquet files, without output.
    Bootstrap(PathBuf),
}
