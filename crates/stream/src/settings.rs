//! Settings of the driver, the state store and the codecs.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use tidecast_core::series::{Capacity, Full, OPEN_STEPS};

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
pub struct Limits {
    /// Series a partition may hold.
    pub series: usize,
    /// What happens to one series more.
    pub full: Full,
    /// Steps of a series that may be open at once; one more closes the oldest.
    pub open_steps: usize,
    /// Bytes of a message; a longer one is malformed.
    pub message_bytes: usize,
    /// Bytes of a series id; a longer one makes its row malformed.
    pub id_bytes: usize,
    /// Rows read and not yet pushed, and output not yet committed; at it the intake pauses.
    pub queue_rows: usize,
    /// A partition that has gone on for longer past its newest good snapshot stops the pipeline.
    pub snapshot_age: Duration,
    /// More rejects than this stop the pipeline; `None` is as many as come.
    pub rejects: Option<Share>,
    /// Rows of a partition over which rejects are counted.
    pub rejects_over: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            series: 1_000_000,
            full: Full::Refuse,
            open_steps: OPEN_STEPS,
            message_bytes: 1 << 20,
            id_bytes: 256,
            // A second at fifty thousand rows a second: what stalls for less is not felt, and it is some 50 MiB.
            queue_rows: 50_000,
            // Two outages of a store that a person has to mend, and not yet a restart of hours.
            snapshot_age: Duration::from_secs(3600),
            // To stop is an outage of every series for the fault of one producer, and rejects are kept or counted anyway: how
            // many are too many only those know who know the producers.
            rejects: None,
            // Enough that one bad batch of a producer is a small part, few enough that an outage shows within moments.
            rejects_over: 10_000,
        }
    }
}

impl Limits {
    /// What bounds the forecaster of a partition.
    pub fn capacity(&self) -> Capacity {
        Capacity { series: self.series, full: self.full, open_steps: self.open_steps }
    }
}

/// A part of a whole, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(pub u32);

impl Share {
    /// Reads "1%" or "0.25%".
    fn read(text: &str) -> Option<Self> {
        let percent: f64 = text.trim().strip_suffix('%')?.trim_end().parse().ok()?;
        let millionths = percent * 10_000.0;
        let fits = (0.0..=1e6).contains(&millionths) && (millionths - millionths.round()).abs() < 1e-6;
        fits.then_some(Self(millionths.round() as u32))
    }

    /// So many of `rows`, rounded down.
    pub fn of(self, rows: usize) -> usize {
        (rows as u64 * u64::from(self.0) / 1_000_000) as usize
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 10_000.0)
    }
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

