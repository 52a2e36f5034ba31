//! What a pipeline may take up, and when it is to stop: every limit with its default, its bounds and its reason, which
//! the plan prints beside it.

use std::time::Duration;

use super::checks::{Checks, DAY, SECOND};
use super::plan::{Text, micros};
use super::{StateStore, spec};
use crate::series::{Capacity, Full, OPEN_STEPS};

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

const SERIES: &str = "every series of a partition has its state in memory";
const FULL: &str =
    "\"refuse\" the rows of one series more, or \"evict\" the series that has been silent longest";
const OPEN: &str = "each open step of a series keeps its rows' times in memory; one more closes the oldest";
const MESSAGE: &str = "a message is read whole";
const ID: &str = "every series keeps its id in memory";
const QUEUE: &str = "rows read and not yet forecast, and output not yet committed, are in memory";
const AGE: &str =
    "without a newer snapshot of a partition it stops: a restart would read back all since then";
const OVER: &str = "rows of a partition over which rejects are counted";

/// What a restart reads back may grow to so many times the usual before it is an error: a store that fails now and then is none.
const SNAPSHOTS_MISSED: i64 = 10;

impl Checks<'_> {
    pub(super) fn limits(&mut self, state: Option<&StateStore>, spec: spec::Limits) -> Limits {
        let default = Limits::default();
        let every = state.map_or(0, |state| micros(state.every));
        let patient = micros(default.snapshot_age).max(every.saturating_mul(SNAPSHOTS_MISSED));
        let rejects = spec.rejects.and_then(|text| {
            let share = Share::read(&text);
            if share.is_none() {
                let what = "it is a part of the rows, such as \"1%\", with at most four decimals";
                self.problems.value("limits.rejects", format!("is `{text}`: {what}"));
            }
            share
        });
        Limits {
            series: self.whole("limits.series", spec.series, default.series, 1..=100_000_000, SERIES),
            full: spec.full.unwrap_or_default(),
            open_steps: self.whole(
                "limits.open_steps",
                spec.open_steps,
                default.open_steps,
                1..=OPEN_STEPS as i64,
                OPEN,
            ),
            message_bytes: self.whole(
                "limits.message_bytes",
                spec.message_bytes,
                default.message_bytes,
                1..=1 << 30,
                MESSAGE,
            ),
            id_bytes: self.whole("limits.id_bytes", spec.id_bytes, default.id_bytes, 1..=1 << 16, ID),
            queue_rows: self.whole(
                "limits.queue_rows",
                spec.queue_rows,
                default.queue_rows,
                1_000..=10_000_000,
                QUEUE,
            ),
            snapshot_age: self.duration(
                "limits.snapshot_age",
                spec.snapshot_age.as_deref(),
                Duration::from_micros(patient.unsigned_abs()),
                (2 * every).max(SECOND)..=366 * DAY,
                "between two snapshots lies `state.every`, and one of them may fail",
            ),
            rejects,
            rejects_over: self.whole(
                "limits.rejects_over",
                spec.rejects_over,
                default.rejects_over,
                100..=10_000_000,
                "it counts rows; over fewer than a hundred a percentage says little",
            ),
        }
    }
}

impl Limits {
    pub(super) fn plan(&self, out: &mut Text) {
        out.table("limits");
        out.because("series", &self.series, SERIES);
        out.because("full", &self.full, FULL);
        out.because("open_steps", &self.open_steps, OPEN);
        out.because("message_bytes", &self.message_bytes, MESSAGE);
        out.because("id_bytes", &self.id_bytes, ID);
        out.because("queue_rows", &self.queue_rows, QUEUE);
        out.because("snapshot_age", &super::duration_text(micros(self.snapshot_age)), AGE);
        match self.rejects {
            Some(share) => out.because(
                "rejects",
                &share.to_string(),
                &format!(
                    "more than {} of {} rows stop the pipeline",
                    share.of(self.rejects_over),
                    self.rejects_over
                ),
            ),
            None => {
                out.line("# no rejects: however many rows are rejected, the pipeline goes on".to_string())
            }
        }
        out.because("rejects_over", &self.rejects_over, OVER);
    }
}
