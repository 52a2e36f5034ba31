//! Time ranges of an evaluation: the one that is scored, and those on which baselines are fitted and selected.

use std::ops::Range;

use anyhow::{Result, bail};
use serde::Serialize;

use tidecast_core::model::DataSummary;
use tidecast_core::schema::format_time;
use tidecast_core::series::Grid;

use crate::{History, Split, SplitFractions};

/// Step ranges of a history.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluationSplit {
    /// First step of the history.
    pub first: i64,
    /// Baselines are fitted on the steps before this one.
    pub train_end: i64,
    /// Baselines are selected on the steps from `train_end` to this one.
    pub validation_end: i64,
    /// Origins that are scored.
    pub scored: Range<i64>,
    /// Horizons of scored origins end before this step.
    pub end: i64,
    pub report: SplitReport,
}

/// The split as text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SplitReport {
    /// First scored origin.
    pub scored_from: String,
    /// End of the scored origins, exclusive.
    pub scored_until: String,
    /// Reason for this range.
    pub reason: String,
    pub baselines_fitted_until: String,
    pub baselines_selected_until: String,
}

/// Requested bounds of the scored origins, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeFilter {
    pub since: Option<i64>,
    pub until: Option<i64>,
}

impl EvaluationSplit {
    /// Splits `history` so that a model trained on `data` is scored on steps it has not seen, where there are any.
    /// `fractions` apply where the model's own dates cannot be used.
    ///
    /// # Errors
    /// If the history is empty or no origin is left to score.
    pub fn new(
        history: &History,
        data: &DataSummary,
        grid: Grid,
        horizon: usize,
        fractions: SplitFractions,
        filter: TimeFilter,
    ) -> Result<Self> {
        let split = Split::new(history, fractions)?;
        // The last origin whose horizon ends with the data.
        let last = split.end - 1 - horizon as i64;
        let (train_end, validation_end, from, reason) = unseen_range(&split, data, grid, last);
        let mut reason = reason.to_owned();
        let mut scored = from..last + 1;
        if let Some(since) = filter.since {
            scored.start = ceil_step(grid, since);
            reason = if scored.start < from {
                "requested; the model or the baselines were fitted or selected on some of it".to_owned()
            } else {
                format!("requested; {reason}")
            };
        }
        if let Some(until) = filter.until {
            scored.end = scored.end.min(ceil_step(grid, until));
        }
        let text = |step: i64| format_time(grid.start_of(step));
        if scored.is_empty() {
            bail!(
                "nothing to score: an origin at or after {} needs {horizon} steps of data after it, but the data end at {}; \
                 provide a longer history, or change --since or --until",
                text(scored.start),
                text(split.end)
            );
        }
        let report = SplitReport {
            scored_from: text(scored.start),
            scored_until: text(scored.end),
            reason,
            baselines_fitted_until: text(train_end),
            baselines_selected_until: text(validation_end),
        };
        Ok(Self { first: split.first, train_end, validation_end, scored, end: split.end, report })
    }

    /// Origins of the validation range whose horizon lies in it.
    pub fn validation_origins(&self, horizon: usize) -> Range<i64> {
        self.train_end..(self.validation_end - horizon as i64).max(self.train_end)
    }
}

/// End of the training range, end of the validation range, first scored origin, and the reason for them.
fn unseen_range(split: &Split, data: &DataSummary, grid: Grid, last: i64) -> (i64, i64, i64, &'static str) {
    let step = |text: &str| {
        let time = chrono::DateTime::parse_from_rfc3339(text).ok()?;
        Some(grid.step_of(time.timestamp_micros()))
    };
    let (train_end, validation_end) = (split.train_end, split.validation_end);
    let (scored_from, reason) = match step(&data.train_end).zip(step(&data.validation_end)) {
        None => (
            validation_end,
            "the model does not record its training dates, so all of these data count as new to it; baselines are fitted on \
             the first range and selected on the second, so the last one is scored",
        ),
        Some((trained, validated)) if trained > split.first && validated <= last => {
            let reason = "new to the model: it was trained and validated on earlier data";
            return (trained, validated, validated, reason);
        }
        Some((_, validated)) if validated <= split.first => (
            validation_end,
            "all of these data are newer than the model's training and validation data; baselines are fitted on the first \
             range and selected on the second, so the last one is scored",
        ),
        Some((_, validated)) if validated <= last => (
            validation_end.max(validated),
            "new to the model: it was validated on the beginning of these data and trained on none of them, so the \
             baselines have ranges of their own",
        ),
        Some(_) => (
            validation_end,
            "NOT new to the model: it was trained or validated on all of these data and may be less accurate on new data",
        ),
    };
    (train_end, validation_end, scored_from, reason)
}

/// The first step that starts at or after a time.
fn ceil_step(grid: Grid, time: i64) -> i64 {
    let step = grid.step_of(time);
    if grid.start_of(step) < time { step + 1 } else { step }
}
