//! Which part of a history is scored, and on which the baselines are fitted and chosen.

use std::ops::Range;

use anyhow::{Result, bail};
use serde::Serialize;

use tidecast_core::model::DataSummary;
use tidecast_core::series::Grid;
use tidecast_core::table::time_text;
use crate::{History, Split};

/// Parts of a history, as step numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Parts {
    /// First step of all.
    pub first: i64,
    /// Baselines are fitted on what lies before this.
    pub train_end: i64,
    /// And chosen on what lies between that and this.
    pub validation_end: i64,
    /// Origins that are scored.
    pub scored: Range<i64>,
    /// Horizons of the scored part end before this.
    pub end: i64,
    pub told: Told,
}

/// The parts in words.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Told {
    /// Origins at or after `scored_from` and before `scored_until`.
    pub scored_from: String,
    pub scored_until: String,
    /// Why these.
    pub why: String,
    pub baselines_fitted_until: String,
    pub baselines_chosen_until: String,
}

/// What was asked for, microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub since: Option<i64>,
    pub until: Option<i64>,
}

impl Parts {
    /// The parts of `history` for a model that learned from `data`. `shares` are the shares of a history that the recipe
    /// trains and validates on.
    ///
    /// # Errors
    /// If the history is empty, or nothing is left to score.
    pub fn of(
        history: &History,
        data: &DataSummary,
        grid: Grid,
        horizon: usize,
        shares: (f64, f64),
        asked: Asked,
    ) -> Result<Self> {
        let own = Split::of(history, shares.0, shares.1)?;
        let step = |text: &str| {
            let time = chrono::DateTime::parse_from_rfc3339(text).ok()?;
            Some(grid.step_of(time.timestamp_micros()))
        };
        let dates = step(&data.trained_until).zip(step(&data.validated_until));
        // The last origin whose horizon is over by the end.
        let last = own.end - 1 - horizon as i64;
        let (train_end, validation_end, from, why) = match dates {
            None => {
                let why = "the model does not say until when it learned: all of these data are taken to be new to it; the \
                           baselines are fitted on their first part and chosen on their second, so the last is scored";
                (own.train_end, own.validation_end, own.validation_end, why)
            }
            Some((trained, validated)) if trained > own.first && validated <= last => {
                let why =
                    "the model was trained and validated on what lies before: this part it has never seen";
                (trained, validated, validated, why)
            }
            Some((_, validated)) if validated <= own.first => {
                let why = "all of these data are newer than what the model was trained and validated on; the baselines are \
                           fitted on their first part and chosen on their second, so the last is scored";
                (own.train_end, own.validation_end, own.validation_end, why)
            }
            Some((_, validated)) if validated <= last => {
                let why = "the model was validated on the first of these data and has never seen the part that is scored; \
                           they hold nothing of what it was trained on, so the baselines have parts of their own";
                (own.train_end, own.validation_end, own.validation_end.max(validated), why)
            }
            Some(_) => {
                let why = "the model was trained or validated on all of these data: this part is NOT new to it, and it may be \
                           worse on what is";
                (own.train_end, own.validation_end, own.validation_end, why)
            }
        };
        let mut why = why.to_owned();
        let mut scored = from..last + 1;
        if let Some(since) = asked.since {
            scored.start = ceil_step(grid, since);
            if scored.start < from {
                why =
                    "asked for; the model, or the baselines, were fitted or chosen on some of it".to_owned();
            } else {
                why = format!("asked for; {why}");
            }
        }
        if let Some(until) = asked.until {
            scored.end = scored.end.min(ceil_step(grid, until));
        }
        if scored.is_empty() {
            bail!(
                "nothing to score: an origin at or after {} needs the {horizon} steps of its horizon before {}, where the \
                 data end; give more history, or say another --since or --until",
                time_text(grid.start_of(scored.start)),
                time_text(grid.start_of(own.end))
            );
        }
        let text = |step: i64| time_text(grid.start_of(step));
        let told = Told {
            scored_from: text(scored.start),
            scored_until: text(scored.end),
            why,
            baselines_fitted_until: text(train_end),
            baselines_chosen_until: text(validation_end),
        };
        Ok(Self { first: own.first, train_end, validation_end, scored, end: own.end, told })
    }

    /// Origins of the validation part whose horizon lies in it.
    pub fn validation(&self, horizon: usize) -> Range<i64> {
        self.train_end..(self.validation_end - horizon as i64).max(self.train_end)
    }
}

/// The first step that starts at or after a time.
fn ceil_step(grid: Grid, time: i64) -> i64 {
    let step = grid.step_of(time);
    if grid.start_of(step) < time { step + 1 } else { step }
}
