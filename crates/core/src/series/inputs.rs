//! Network inputs of a step, written by the same code in training and serving:
//! `[scaled value, change (carried state only), mask (gap_fill = missing only), covariates, calendar]`.

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
    /// Sine and cosine of 2π times the elapsed fraction of the day or week (UTC).
    pub fn at(self, time: i64) -> [f32; 2] {
        let (period, shifted) = match self {
            Calendar::HourOfDay => (DAY, time),
            Calendar::DayOfWeek => (WEEK, time.saturating_add(EPOCH_IN_WEEK)),
        };
        let elapsed = shifted.rem_euclid(period) as f64 / period as f64;
        let (sine, cosine) = (std::f64::consts::TAU * elapsed).sin_cos();
        [sine as f32, cosine as f32]
    }
}

/// The inputs of a step besides the value, and the scales of covariates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    /// Includes the change from the previous value: a window contains it, a carried state would have to remember it.
    pub change: bool,
    /// Includes a mask of observed values.
    pub mask: bool,
    /// Training moments of each covariate.
    pub covariates: Vec<Moments>,
    pub calendar: Vec<Calendar>,
    /// Training moments of each future covariate.
    pub future_covariates: Vec<Moments>,
}

/// The scaled target of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepInput {
    pub value: f32,
    /// Change from the previous value; 0 without one.
    pub change: f32,
    pub observed: bool,
}

impl StepInput {
    pub fn new(scale: Scale, previous: Option<f64>, value: f64, observed: bool) -> Self {
        let change = previous.map_or(0.0, |previous| Scale { center: previous, ..scale }.apply(value));
        Self { value: scale.apply(value), change, observed }
    }
}

/// The window of one origin.
pub struct WindowView<'a> {
    /// Values and observed flags of the lookback, oldest first.
    pub values: &'a [f64],
    pub observed: &'a [bool],
    pub covariates: &'a [CovariateWindow],
    /// Step of the last value.
    pub origin: i64,
    pub scale: Scale,
}

impl InputSpec {
    /// Number of inputs of one step.
    pub fn width(&self) -> usize {
        let [change, mask] = [self.change, self.mask].map(usize::from);
        1 + change + mask + self.covariates.len() + 2 * self.calendar.len()
    }

    /// Writes the inputs of a window, `[lookback x width]`.
    pub fn write_window(&self, config: &StepConfig, view: &WindowView<'_>, out: &mut [f32]) {
        let lookback = view.values.len();
        assert_eq!(out.len(), lookback * self.width(), "one number for each input of each step");
        for (i, out) in out.chunks_exact_mut(self.width()).enumerate() {
            let step = view.origin - (lookback - 1 - i) as i64;
            let previous = i.checked_sub(1).map(|previous| view.values[previous]);
            let input = StepInput::new(view.scale, previous, view.values[i], view.observed[i]);
            self.write_step(config, step, input, view.covariates, out);
        }
    }

    /// Writes the known inputs of the steps after `origin` for a recursive decoder, `[step x width]`: covariates as of the
    /// origin, the calendar of each step, and 0 in place of the value that the network feeds back.
    pub fn write_decoder(
        &self,
        config: &StepConfig,
        origin: i64,
        covariates: &[CovariateWindow],
        out: &mut [f32],
    ) {
        for (i, out) in out.chunks_exact_mut(self.width()).enumerate() {
            let placeholder = StepInput { value: 0.0, change: 0.0, observed: true };
            let covariates = Covariates { windows: covariates, step: origin };
            self.write(config, origin + i as i64 + 1, placeholder, covariates, out);
        }
    }

    /// Writes the inputs of one step, with its own covariates.
    pub fn write_step(
        &self,
        config: &StepConfig,
        step: i64,
        input: StepInput,
        covariates: &[CovariateWindow],
        out: &mut [f32],
    ) {
        self.write(config, step, input, Covariates { windows: covariates, step }, out);
    }

    /// Writes future covariates: from `[covariate x horizon]` to `[horizon x covariate]`, scaled. An unknown value is at
    /// its mean, 0.
    pub fn write_future(&self, future: &[f64], out: &mut [f32]) {
        let count = self.future_covariates.len();
        let horizon = out.len().checked_div(count).unwrap_or(0);
        for (index, out) in out.iter_mut().enumerate() {
            let (i, covariate) = (index / count, index % count);
            let value = future.get(covariate * horizon + i).filter(|value| value.is_finite());
            *out = value.map_or(0.0, |value| Scale::from(self.future_covariates[covariate]).apply(*value));
        }
    }

    fn write(
        &self,
        config: &StepConfig,
        step: i64,
        input: StepInput,
        covariates: Covariates<'_>,
        out: &mut [f32],
    ) {
        out[0] = input.value;
        let mut next = 1;
        if self.change {
            out[next] = input.change;
            next += 1;
        }
        if self.mask {
            out[next] = f32::from(u8::from(input.observed));
            next += 1;
        }
        for (window, moments) in covariates.windows.iter().zip(&self.covariates) {
            // An unknown value is at its mean, 0.
            let value = window.at(config, covariates.step);
            out[next] = value.map_or(0.0, |value| Scale::from(*moments).apply(value));
            next += 1;
        }
        let time = config.grid.start_of(step);
        for calendar in &self.calendar {
            out[next..next + 2].copy_from_slice(&calendar.at(time));
            next += 2;
        }
    }
}

/// Covariates as of a step.
#[derive(Clone, Copy)]
struct Covariates<'a> {
    windows: &'a [CovariateWindow],
    step: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_start_at_midnight_and_weeks_on_monday() {
        assert_eq!(Calendar::HourOfDay.at(0), [0.0, 1.0]);
        assert_eq!(Calendar::DayOfWeek.at(4 * DAY), [0.0, 1.0]);
        let [sine, cosine] = Calendar::HourOfDay.at(-DAY / 4);
        assert!((sine + 1.0).abs() < 1e-7 && cosine.abs() < 1e-7);
    }
}
