//! Forecasts that cost nothing: the last value, and the value a season before.

use super::past::Past;

const DAY: i64 = 86_400_000_000;

/// The seasons that a history is long enough for, in steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seasons {
    /// Two days at least: one to repeat, one to see that it recurs.
    pub day: Option<usize>,
    /// Three weeks at least: in two, one holiday is half of what is known.
    pub week: Option<usize>,
}

impl Seasons {
    /// Of a grid with steps of `every` microseconds and a training part of so many steps.
    pub fn of(every: i64, steps: i64) -> Self {
        let season = |period: i64, cycles: i64| {
            let season = period / every;
            let fits = period % every == 0 && season >= 2 && steps >= cycles * season;
            fits.then_some(season as usize)
        };
        Self { day: season(DAY, 2), week: season(7 * DAY, 3) }
    }

    /// The shortest one.
    pub fn first(&self) -> Option<usize> {
        self.day.or(self.week)
    }
}

/// ŷ(t + h) = y(t)
pub fn repeat_last(past: &Past<'_>, origin: i64, out: &mut [f64]) {
    out.fill(past.held(origin).unwrap_or(0.0));
}

/// ŷ(t + h) = y(t + h - s ⌈h / s⌉); where that step is not held, the last value.
pub fn seasonal(past: &Past<'_>, season: usize, origin: i64, out: &mut [f64]) {
    let last = past.held(origin).unwrap_or(0.0);
    for (i, out) in out.iter_mut().enumerate() {
        let ahead = i + 1;
        let before = origin + ahead as i64 - (season * ahead.div_ceil(season)) as i64;
        *out = past.held(before).unwrap_or(last);
    }
}

/// The seasonal forecast, or the last value where no season fits.
pub fn naive(past: &Past<'_>, season: Option<usize>, origin: i64, out: &mut [f64]) {
    match season {
        Some(season) => seasonal(past, season, origin, out),
        None => repeat_last(past, origin, out),
    }
}
