//! `[limits]`: the checks, and the reason of each limit, which the plan prints as a comment.

use std::time::Duration;

use tidecast_core::series::OPEN_STEPS_MAX;
use tidecast_core::time::{DAY, SECOND, duration_text};
use tidecast_stream::settings::{Limits, Ratio, StateConfig};

use super::checks::Checks;
use super::file;
use super::plan_text::{PlanText, micros};

const SERIES: &str = "the state of every series of a partition is in memory";
const ON_FULL: &str =
    "\"refuse\" the rows of a further series, or \"evict\" the series without rows for longest";
const OPEN: &str =
    "every open step keeps the times of its rows in memory; a further step closes the oldest one";
const MESSAGE: &str = "a message is decoded in memory; a longer one is malformed";
const ID: &str = "the id of every series is in memory";
const QUEUE: &str = "rows waiting for their forecast, and output waiting for its commit, are in memory";
const AGE: &str =
    "a partition without a newer snapshot stops the pipeline: its replay after a restart would take too long";
const WINDOW: &str = "recent rows of a partition among which rejects are counted";

/// Snapshot intervals in the default of `snapshot_age`: a store may fail for that long.
const SNAPSHOTS_MISSED_MAX: i64 = 10;

impl Checks<'_> {
    pub fn limits(&mut self, state: Option<&StateConfig>, table: file::Limits) -> Limits {
        let default = Limits::default();
        let every = state.map_or(0, |state| micros(state.every));
        let snapshot_age = micros(default.snapshot_age).max(every.saturating_mul(SNAPSHOTS_MISSED_MAX));
        let reject_rate = table.reject_rate.and_then(|text| {
            let rate: Option<Ratio> = text.parse().ok();
            if rate.is_none() {
                let text =
                    format!("is `{text}`: write a percentage such as \"1%\", with at most four decimals");
                self.problems.value("limits.reject_rate", text);
            }
            rate
        });
        let mut count = |key: &str, value, default, bounds, why| {
            self.integer(&format!("limits.{key}"), value, default, bounds, why)
        };
        let (open_steps, bytes) = (1..=OPEN_STEPS_MAX as i64, 1..=1 << 30);
        Limits {
            series: count("series", table.series, default.series, 1..=100_000_000, SERIES),
            on_full: table.on_full.unwrap_or_default(),
            open_steps: count("open_steps", table.open_steps, default.open_steps, open_steps, OPEN),
            message_bytes: count("message_bytes", table.message_bytes, default.message_bytes, bytes, MESSAGE),
            id_bytes: count("id_bytes", table.id_bytes, default.id_bytes, 1..=1 << 16, ID),
            queue_rows: count("queue_rows", table.queue_rows, default.queue_rows, 1_000..=10_000_000, QUEUE),
            reject_rate,
            reject_window: count(
                "reject_window",
                table.reject_window,
                default.reject_window,
                100..=10_000_000,
                "it counts rows; a percentage of fewer than a hundred is too coarse",
            ),
            snapshot_age: self.duration(
                "limits.snapshot_age",
                table.snapshot_age.as_deref(),
                Duration::from_micros(snapshot_age.unsigned_abs()),
                (2 * every).max(SECOND)..=366 * DAY,
                "a snapshot is due every `state.every`, and one of them may fail",
            ),
        }
    }
}

/// Writes `[limits]` of the plan.
pub(super) fn plan(limits: &Limits, out: &mut PlanText) {
    out.table("limits");
    out.key_with_comment("series", &limits.series, SERIES);
    out.key_with_comment("on_full", &limits.on_full, ON_FULL);
    out.key_with_comment("open_steps", &limits.open_steps, OPEN);
    out.key_with_comment("message_bytes", &limits.message_bytes, MESSAGE);
    out.key_with_comment("id_bytes", &limits.id_bytes, ID);
    out.key_with_comment("queue_rows", &limits.queue_rows, QUEUE);
    out.key_with_comment("snapshot_age", &duration_text(micros(limits.snapshot_age)), AGE);
    match limits.reject_rate {
        Some(rate) => {
            let (count, window) = (rate.of(limits.reject_window), limits.reject_window);
            let comment = format!("more than {count} rejects among {window} rows stop the pipeline");
            out.key_with_comment("reject_rate", &rate.to_string(), &comment);
        }
        None => out.line("# no reject_rate: the pipeline continues at any rate of rejects"),
    }
    out.key_with_comment("reject_window", &limits.reject_window, WINDOW);
}
