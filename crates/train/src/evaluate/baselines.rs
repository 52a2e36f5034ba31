//! The forecasts that ours is held against, fitted on the training part and nothing else. Where something is chosen, it is
//! chosen on the validation part.

use serde::Serialize;

use super::naive::{Seasons, naive, repeat_last, seasonal};
use super::parts::Parts;
use super::past::Past;
use super::ridge::{Ridge, RidgeSums};
use super::smoothing::{Smoothed, Smoothing};
use tidecast_core::series::{Scale, moments};
use crate::{History, Lane, shards};

/// A forecast that ours is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    RepeatLast,
    SeasonalNaiveDay,
    SeasonalNaiveWeek,
    Ridge,
    ExponentialSmoothing,
}

impl Kind {
    pub fn name(&self) -> &'static str {
        match self {
            Self::RepeatLast => "repeat last",
            Self::SeasonalNaiveDay => "day before",
            Self::SeasonalNaiveWeek => "week before",
            Self::Ridge => "ridge",
            Self::ExponentialSmoothing => "smoothing",
        }
    }
}

/// Values that the ridge reads, at most: two weeks of hours. Its sums grow with the square.
const LOOKBACK_MAX: usize = 336;
/// Without a season, it reads at least this many.
const LOOKBACK_LEAST: usize = 24;
/// Multiplications spent on the sums of the ridge, about: some ten seconds on a core. More rows are thinned out evenly.
const MULTIPLICATIONS: f64 = 1e11;
/// Rows are not thinned out below this number.
const ROWS_LEAST: f64 = 20_000.0;
/// Pieces that the lanes are cut into, whose sums are added in their order: a fixed number, so that no result depends on
/// the number of threads, and a small one, since each holds sums of its own.
const PIECES: usize = 8;
/// Penalties that are tried, as shares of the number of rows; the least is the 1 of the published protocol.
const PENALTIES: [f64; 3] = [0.003, 0.03, 0.3];
/// Residuals of which quantiles are taken, at least: fewer do not reach into the tails.
const RESIDUALS_LEAST: usize = 40;
/// Origins they are taken at, at most, about, evenly over the validation part: enough for the tails, and a horizon of
/// residuals of each has to be held while they are sorted.
const RESIDUALS_MAX: f64 = 4096.0;

/// What is fitted to one series.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// Standard deviation in the training part; none where nothing of it was observed, 0 where it does not vary.
    pub spread: Option<f64>,
    /// Mean absolute error of the naive forecast in the training part, that others are measured by (Hyndman & Koehler
    /// 2006): of the value a season before, or of the last one. None where nothing can be compared, or nothing varies.
    pub scale: Option<f64>,
    pub smoothing: Smoothing,
    /// Of the naive forecast's residuals in the validation part: lower and upper bound less the forecast, `[level][step]`.
    /// None where there are too few.
    pub bounds: Option<Vec<Vec<[f64; 2]>>>,
}

/// All baselines of a history.
#[derive(Debug)]
pub struct Baselines {
    pub kinds: Vec<Kind>,
    pub seasons: Seasons,
    pub ridge: Option<Ridge>,
    pub fitted: Vec<Fitted>,
}

impl Baselines {
    /// Fits them. `levels` are those of the intervals; `lookback` is what the model reads.
    pub fn fit(
        history: &History,
        lanes: &[Lane],
        parts: &Parts,
        every: i64,
        (lookback, horizon): (usize, usize),
        levels: &[f64],
    ) -> Self {
        let seasons = Seasons::of(every, parts.train_end - parts.first);
        let fitted = shards::each(
            lanes.len(),
            || (),
            |(), lane| Fitted::fit(&Past::of(history, &lanes[lane]), parts, every, horizon, levels),
        );
        let lookback = seasons.day.map_or(lookback.max(horizon), |day| 2 * day);
        let lookback = lookback.clamp(LOOKBACK_LEAST, LOOKBACK_MAX);
        let ridge = fit_ridge(history, lanes, parts, every, (lookback, horizon), &fitted);
        let kinds = [
            (Kind::RepeatLast, true),
            (Kind::SeasonalNaiveDay, seasons.day.is_some()),
            (Kind::SeasonalNaiveWeek, seasons.week.is_some()),
            (Kind::Ridge, ridge.is_some()),
            (Kind::ExponentialSmoothing, true),
        ];
        let kinds = kinds.into_iter().filter(|(_, there)| *there).map(|(kind, _)| kind).collect();
        Self { kinds, seasons, ridge, fitted }
    }
}

impl Fitted {
    fn fit(past: &Past<'_>, parts: &Parts, every: i64, horizon: usize, levels: &[f64]) -> Self {
        let seasons = Seasons::of(every, parts.train_end - parts.first);
        let trained: Vec<f64> = past.steps(i64::MIN / 2..parts.train_end).map(|(_, value)| value).collect();
        let spread = (!trained.is_empty()).then(|| Scale::from(moments(&trained)).spread);
        let lag = seasons.first().unwrap_or(1) as i64;
        let way = |(step, value): (i64, f64)| past.observed(step - lag).map(|before| (value - before).abs());
        let ways: Vec<f64> = past.steps(i64::MIN / 2..parts.train_end).filter_map(way).collect();
        let scale = ways.iter().sum::<f64>() / ways.len() as f64;
        Self {
            spread,
            // What does not vary has no scale, nor has what varies by rounding alone.
            scale: (scale > 0.0 && spread > Some(0.0)).then_some(scale),
            smoothing: Smoothing::fit(past, parts.train_end, seasons.day),
            bounds: bounds(past, parts, seasons.first(), every, horizon, levels),
        }
    }
}

fn bounds(
    past: &Past<'_>,
    parts: &Parts,
    season: Option<usize>,
    every: i64,
    horizon: usize,
    levels: &[f64],
) -> Option<Vec<Vec<[f64; 2]>>> {
    let mut residuals = vec![Vec::new(); horizon];
    let mut said = vec![0.0; horizon];
    let origins = parts.validation(horizon);
    let stride = stride((origins.end - origins.start) as usize, RESIDUALS_MAX, every);
    for (origin, _) in past.steps(origins).step_by(stride) {
        naive(past, season, origin, &mut said);
        for (i, said) in said.iter().enumerate() {
            residuals[i].extend(past.observed(origin + 1 + i as i64).map(|came| came - said));
        }
    }
    residuals.iter_mut().for_each(|residuals| residuals.sort_by(f64::total_cmp));
    if residuals.iter().any(|residuals| residuals.len() < RESIDUALS_LEAST) {
        return None;
    }
    let of_level = |level: &f64| {
        let tail = (1.0 - level) / 2.0;
        residuals.iter().map(|sorted| [quantile(sorted, tail), quantile(sorted, 1.0 - tail)]).collect()
    };
    Some(levels.iter().map(of_level).collect())
}

/// The quantile of sorted values, linear between two of them (Hyndman & Fan 1996, type 7).
fn quantile(sorted: &[f64], quantile: f64) -> f64 {
    let place = quantile * (sorted.len() - 1) as f64;
    let (below, share) = (place.floor() as usize, place.fract());
    let above = sorted[(below + 1).min(sorted.len() - 1)];
    sorted[below] + share * (above - sorted[below])
}

/// One ridge for all series, with the penalty that errs least on the validation part.
fn fit_ridge(
    history: &History,
    lanes: &[Lane],
    parts: &Parts,
    every: i64,
    (lookback, horizon): (usize, usize),
    fitted: &[Fitted],
) -> Option<Ridge> {
    let steps: usize = history.segments.iter().map(|segment| segment.values.len()).sum();
    let cost = (lookback * (lookback + horizon)) as f64;
    let stride = stride(steps, (MULTIPLICATIONS / cost).max(ROWS_LEAST), every);
    let sums = |range: std::ops::Range<i64>| {
        let size = lanes.len().div_ceil(PIECES).max(1);
        let pieces = shards::each(
            lanes.len().div_ceil(size),
            || (),
            |(), piece| {
                let mut sums = RidgeSums::new(lookback, horizon);
                let mut number = 0usize;
                for lane in piece * size..((piece + 1) * size).min(lanes.len()) {
                    let spread = fitted[lane].spread.unwrap_or(0.0);
                    for (segment, place) in Past::of(history, &lanes[lane]).whole(range.clone(), horizon) {
                        number += 1;
                        // A window that is not whole would teach what it is filled up with.
                        if number.is_multiple_of(stride) && place + 1 >= lookback {
                            let window = &segment.values[place + 1 - lookback..=place];
                            sums.add(window, &segment.values[place + 1..=place + horizon], spread);
                        }
                    }
                }
                sums
            },
        );
        pieces.into_iter().reduce(|mut sum, piece| {
            sum.plus(piece);
            sum
        })
    };
    let mut train = sums(i64::MIN / 2..parts.train_end)?;
    let rows = train.rows();
    if rows < lookback as u64 {
        return None;
    }
    let mut validation = sums(parts.train_end..parts.validation_end)?;
    let penalties = std::iter::once(1.0).chain(PENALTIES.map(|share| share * rows as f64));
    let ridges: Vec<Ridge> = penalties.filter_map(|penalty| train.fit(penalty)).collect();
    if validation.rows() == 0 {
        // The middle of the shares.
        return ridges.into_iter().nth(2);
    }
    let scored = ridges.into_iter().map(|ridge| (validation.squared_error(&ridge), ridge));
    scored.min_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, ridge)| ridge)
}

/// Every how many steps a row is taken: with no factor in common with a day, or some of its hours would never be seen.
fn stride(steps: usize, most: f64, every: i64) -> usize {
    fn common_factor(a: i64, b: i64) -> i64 {
        if b == 0 { a } else { common_factor(b, a % b) }
    }
    let day = 86_400_000_000 / every.max(1);
    let mut stride = (steps as f64 / most).ceil().max(1.0) as usize;
    while stride > 1 && common_factor(stride as i64, day) > 1 {
        stride += 1;
    }
    stride
}

/// Baselines along one series: origins have to come in the order of time.
#[derive(Debug)]
pub struct Along<'a> {
    baselines: &'a Baselines,
    pub past: Past<'a>,
    pub lane: usize,
    smoothed: Smoothed,
    /// Steps below were taken by the smoothing.
    done: i64,
    sums: Vec<f32>,
}

impl<'a> Along<'a> {
    pub fn new(baselines: &'a Baselines, past: Past<'a>, lane: usize) -> Self {
        let smoothed = baselines.fitted[lane].smoothing.start();
        Self { baselines, past, lane, smoothed, done: i64::MIN / 2, sums: Vec::new() }
    }

    /// What a baseline says at an origin.
    pub fn forecast(&mut self, kind: Kind, origin: i64, out: &mut [f64]) {
        let Baselines { seasons, ridge, fitted, .. } = self.baselines;
        let fitted = &fitted[self.lane];
        match kind {
            Kind::RepeatLast => repeat_last(&self.past, origin, out),
            Kind::SeasonalNaiveDay => seasonal(&self.past, seasons.day.unwrap_or(1), origin, out),
            Kind::SeasonalNaiveWeek => seasonal(&self.past, seasons.week.unwrap_or(1), origin, out),
            Kind::Ridge => {
                let Some(ridge) = ridge else { return repeat_last(&self.past, origin, out) };
                let window = self.past.window(origin, ridge.lookback());
                // A series that is new after the training part is measured by what there is of it.
                let spread = fitted.spread.unwrap_or_else(|| Scale::from(moments(window)).spread);
                ridge.forecast(window, spread, &mut self.sums, out);
            }
            Kind::ExponentialSmoothing => {
                for (step, value) in self.past.steps(self.done..origin + 1) {
                    fitted.smoothing.step(&mut self.smoothed, step, value);
                }
                self.done = self.done.max(origin + 1);
                fitted.smoothing.forecast(&self.smoothed, origin, out);
            }
        }
    }

    /// The naive forecast with the quantiles of its residuals around it, `[level][step]`: the baseline of intervals.
    pub fn naive(&self, origin: i64, out: &mut [f64]) -> Option<&'a [Vec<[f64; 2]>]> {
        naive(&self.past, self.baselines.seasons.first(), origin, out);
        self.baselines.fitted[self.lane].bounds.as_deref()
    }
}
