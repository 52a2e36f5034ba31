//! What a pipeline may take up, and when it is to stop: every limit with its default, its bounds and its reason, which
//! the plan prints beside it.

use std::time::Duration;

use super::checks::{Checks, DAY, SECOND};
use super::plan::{Text, micros};
use super::{StateStore, spec};
use tidecast_core::series::{Capacity, Full, OPEN_STEPS};

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
