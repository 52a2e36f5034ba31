//! What the network reads at each step, written in one way for training and for serving:
//! `[scaled value, change (carried states only), mask (gaps = missing only), covariates, calendar]`.

use serde::{Deserialize, Serialize};

use super::scale::{Moments, Scale};
use super::{CovariateWindow, StepConfig};
use crate::time::{DAY, WEEK};

/// An input computed from the time of the step, as sine and cosine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Calendar {
    HourOfDay,
    DayOfWeek,
}

/// The epoch was a Thursday; weeks start on Monday.
const EPOCH_IN_WEEK: i64 = 3 * DAY;

impl Calendar {
    /// Sine and cosine of 2π times the part of the day or week that has passed (UTC).
    pub fn at(self, time: i64) -> [f32; 2] {
        let (period, shifted) = match self {
            Calendar::HourOfDay => (DAY, time),
            Calendar::DayOfWeek => (WEEK, time.saturating_add(EPOCH_IN_WEEK)),
        };
        let passed = shifted.rem_euclid(period) as f64 / period as f64;
        let (sine, cosine) = (std::f64::consts::TAU * passed).sin_cos();
        [sine as f32, cosine as f32]
    }
}

/// Which inputs there are besides the value, and how covariates are scaled.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// Whether the way from the value before is read, too: a window shows it, a carried state would have to remember it.
    pub change: bool,
    /// Whether a mask says which values were observed.
    pub mask: bool,
    /// Training moments of each covariate.
    pub covariates: Vec<Moments>,
    pub calendar: Vec<Calendar>,
    /// Training moments of each input that is known ahead.
    pub future_covariates: Vec<Moments>,
}

/// A step of a target as the network is to see it, scaled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepInput {
    pub value: f32,
    /// The way from the value before, if there is one.
    pub change: f32,
    pub observed: bool,
}

/// One window as the network is to see it.
pub struct WindowView<'a> {
    /// Values and marks of the lookback, oldest first.
    pub values: &'a [f64],
    pub observed: &'a [bool],
    pub covariates: &'a [CovariateWindow],
    /// Step number of the last value.
    pub origin: i64,
    pub scale: Scale,
}

impl StepInput {
    /// In the unit of `scale`; `before` is the value of the step before.
    pub fn new(scale: Scale, before: Option<f64>, value: f64, observed: bool) -> Self {
        let change = before.map_or(0.0, |before| Scale { center: before, ..scale }.apply(value));
        Self { value: scale.apply(value), change, observed }
    }
}

impl InputSpec {
    /// Inputs of one step.
    pub fn width(&self) -> usize {
        let [change, mask] = [self.change, self.mask].map(usize::from);
        1 + change + mask + self.covariates.len() + 2 * self.calendar.len()
    }

    /// Writes the lookback's inputs of one window: `out` is `[lookback x width]`.
    pub fn write(&self, rules: &StepConfig, view: &WindowView<'_>, out: &mut [f32]) {
        let lookback = view.values.len();
        assert_eq!(out.len(), lookback * self.width(), "one place for each input of each step");
        for (s, out) in out.chunks_exact_mut(self.width()).enumerate() {
            let step = view.origin - (lookback - 1 - s) as i64;
            let before = s.checked_sub(1).map(|before| view.values[before]);
            let reading = StepInput::new(view.scale, before, view.values[s], view.observed[s]);
            self.write_step(rules, step, step, reading, view.covariates, out);
        }
    }

    /// Writes what is known beforehand of the steps after `origin`, `out` being `[steps x width]`: the covariates as
    /// they were at the origin, the calendar as it will be, and 0 in place of the value that the network has yet to say.
    pub fn write_future(
        &self,
        rules: &StepConfig,
        origin: i64,
        covariates: &[CovariateWindow],
        out: &mut [f32],
    ) {
        for (i, out) in out.chunks_exact_mut(self.width()).enumerate() {
            let unsaid = StepInput { value: 0.0, change: 0.0, observed: true };
            self.write_step(rules, origin + i as i64 + 1, origin, unsaid, covariates, out);
        }
    }

    /// Writes the inputs of a single step, with the covariates as they were in it.
    pub fn write_one(
        &self,
        rules: &StepConfig,
        step: i64,
        reading: StepInput,
        covariates: &[CovariateWindow],
        out: &mut [f32],
    ) {
        self.write_step(rules, step, step, reading, covariates, out);
    }

    /// Writes what is known ahead: `ahead` is `[known x horizon]` as the row brought it, `out` `[horizon x known]`.
    /// What is not known is at its mean, which is 0.
    pub fn write_known(&self, ahead: &[f64], out: &mut [f32]) {
        let known = self.future_covariates.len();
        let horizon = out.len().checked_div(known).unwrap_or(0);
        for (place, out) in out.iter_mut().enumerate() {
            let (i, j) = (place / known, place % known);
            let value = ahead.get(j * horizon + i).filter(|value| value.is_finite());
            *out = value.map_or(0.0, |value| Scale::from(self.future_covariates[j]).apply(*value));
        }
    }

    /// Writes the inputs of `step`; the covariates are those of the step `known`.
    fn write_step(
        &self,
        rules: &StepConfig,
        step: i64,
        known: i64,
        reading: StepInput,
        covariates: &[CovariateWindow],
        out: &mut [f32],
    ) {
        out[0] = reading.value;
        let mut next = 1;
        if self.change {
            out[next] = reading.change;
            next += 1;
        }
        if self.mask {
            out[next] = f32::from(u8::from(reading.observed));
            next += 1;
        }
        for (track, moments) in covariates.iter().zip(&self.covariates) {
            // A covariate that is not known is at its mean, which is 0.
            out[next] = track.at(rules, known).map_or(0.0, |value| Scale::from(*moments).apply(value));
            next += 1;
        }
        let time = rules.grid.start_of(step);
        for calendar in &self.calendar {
            out[next..next + 2].copy_from_slice(&calendar.at(time));
            next += 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_starts_at_midnight_and_the_week_on_monday() {
        assert_eq!(Calendar::HourOfDay.at(0), [0.0, 1.0]);
        assert_eq!(Calendar::DayOfWeek.at(4 * DAY), [0.0, 1.0]);
        let [sine, cosine] = Calendar::HourOfDay.at(-DAY / 4);
        assert!((sine + 1.0).abs() < 1e-7 && cosine.abs() < 1e-7);
    }
}
