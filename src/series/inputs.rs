//! What the network reads at each step, written in one way for training and for serving:
//! `[scaled value, mask (gaps = missing only), covariates, calendar]`.

use serde::{Deserialize, Serialize};

use super::scale::{Moments, Scale};
use super::{Grid, Window};

/// An input computed from the time of the step, as sine and cosine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Calendar {
    HourOfDay,
    DayOfWeek,
}

const DAY: i64 = 86_400_000_000;
/// The epoch was a Thursday; weeks start on Monday.
const EPOCH_IN_WEEK: i64 = 3 * DAY;

impl Calendar {
    /// Sine and cosine of 2π times the part of the day or week that has passed (UTC).
    pub fn at(self, time: i64) -> [f32; 2] {
        let (period, shifted) = match self {
            Calendar::HourOfDay => (DAY, time),
            Calendar::DayOfWeek => (7 * DAY, time.saturating_add(EPOCH_IN_WEEK)),
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
    /// Whether a mask says which values were observed.
    pub mask: bool,
    /// Training moments of each covariate.
    pub covariates: Vec<Moments>,
    pub calendar: Vec<Calendar>,
    /// Training moments of each input that is known ahead.
    pub known_ahead: Vec<Moments>,
}

/// One window as the network is to see it.
pub struct WindowView<'a> {
    /// Values and marks of the lookback, oldest first.
    pub values: &'a [f64],
    pub observed: &'a [bool],
    /// Each covariate's history; it ends at the origin as the values do.
    pub covariates: &'a [Window],
    /// Step number of the last value.
    pub origin: i64,
    pub scale: Scale,
}

impl InputSpec {
    /// Inputs of one step.
    pub fn width(&self) -> usize {
        1 + usize::from(self.mask) + self.covariates.len() + 2 * self.calendar.len()
    }

    /// Writes the lookback's inputs of one window: step s of it goes to `put(s)`, a slice of [`InputSpec::width`].
    pub fn write<'o>(&self, grid: &Grid, view: &WindowView<'_>, mut put: impl FnMut(usize) -> &'o mut [f32]) {
        let lookback = view.values.len();
        for s in 0..lookback {
            let step = view.origin - (lookback - 1 - s) as i64;
            let value = view.scale.apply(view.values[s]);
            self.write_step(grid, step, value, view.observed[s], view.covariates, put(s));
        }
    }

    /// Writes what is known beforehand of step `origin + i + 1`, i in `0..count`: the covariates as they were at the
    /// origin, the calendar as it will be, and 0 in place of the value that the network has yet to say.
    pub fn write_future<'o>(
        &self,
        grid: &Grid,
        origin: i64,
        covariates: &[Window],
        count: usize,
        mut put: impl FnMut(usize) -> &'o mut [f32],
    ) {
        for i in 0..count {
            let out = put(i);
            self.write_step(grid, origin + i as i64 + 1, 0.0, true, &[], out);
            let place = 1 + usize::from(self.mask);
            for (j, moments) in self.covariates.iter().enumerate() {
                out[place + j] = scaled_covariate(covariates.get(j), origin, *moments);
            }
        }
    }

    fn write_step(
        &self,
        grid: &Grid,
        step: i64,
        value: f32,
        observed: bool,
        covariates: &[Window],
        out: &mut [f32],
    ) {
        assert_eq!(out.len(), self.width(), "one place for each input");
        out[0] = value;
        let mut next = 1;
        if self.mask {
            out[next] = f32::from(u8::from(observed));
            next += 1;
        }
        for (j, moments) in self.covariates.iter().enumerate() {
            out[next] = scaled_covariate(covariates.get(j), step, *moments);
            next += 1;
        }
        let time = grid.start_of(step);
        for calendar in &self.calendar {
            out[next..next + 2].copy_from_slice(&calendar.at(time));
            next += 2;
        }
    }
}

/// A covariate that is not known is at its mean, which is 0.
fn scaled_covariate(history: Option<&Window>, step: i64, moments: Moments) -> f32 {
    let value = history.and_then(|history| history.at(step));
    value.map_or(0.0, |value| Scale::new(moments.mean, moments.sd).apply(value))
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
