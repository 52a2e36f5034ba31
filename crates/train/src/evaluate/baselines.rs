//! Reference forecasts. All are fitted on the training range and, where there is a choice, selected on the validation range.

use std::ops::Range;

use rayon::prelude::*;

use super::ridge::{Ridge, RidgeSums};
use super::smoothing::{ExponentialSmoothing, SmoothingState};
use super::split::EvaluationSplit;
use super::timeline::SeriesTimeline;
use crate::{Channel, History, Seasons};
use tidecast_core::metrics::Mean;
use tidecast_core::series::{Scale, moments};
use tidecast_core::time::stride_coprime_to_day;

/// A reference forecast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Baseline {
    Naive,
    DailyNaive,
    WeeklyNaive,
    Ridge,
    ExponentialSmoothing,
}

impl Baseline {
    pub fn name(self) -> &'static str {
        match self {
            Self::Naive => "naive",
            Self::DailyNaive => "daily naive",
            Self::WeeklyNaive => "weekly naive",
            Self::Ridge => "ridge",
            Self::ExponentialSmoothing => "ETS",
        }
    }
}

/// Largest window of the ridge, two weeks of hours: the size of its sums is quadratic in the window.
const RIDGE_LOOKBACK_MAX: usize = 336;
/// Smallest window of the ridge.
const RIDGE_LOOKBACK_MIN: usize = 24;
/// Approximate multiplications for the sums of the ridge, about ten seconds on a core. Longer histories are subsampled.
const RIDGE_MULTIPLICATIONS: f64 = 1e11;
/// Subsampling keeps at least this many rows.
const RIDGE_ROWS_MIN: f64 = 20_000.0;
/// Chunks of channels whose sums are added in order. A fixed number, so that no result depends on the number of threads; a
/// small one, since each chunk has sums of its own.
const RIDGE_CHUNKS: usize = 8;
/// Candidate penalties per row. The smallest candidate is a penalty of 1, as in the published protocol.
const RIDGE_PENALTIES: [f64; 3] = [0.003, 0.03, 0.3];
/// Smallest sample of residuals that has usable tail quantiles.
const RESIDUALS_MIN: usize = 40;
/// Approximate number of origins whose residuals are sampled: enough for the tails.
const RESIDUALS_MAX: f64 = 4096.0;

/// Parameters of all baselines.
#[derive(Clone, Copy, Debug)]
pub struct BaselineOptions<'a> {
    /// Length of a step in microseconds.
    pub every: i64,
    /// Window of the model, in steps.
    pub lookback: usize,
    pub horizon: usize,
    /// Interval levels.
    pub levels: &'a [f64],
}

/// Baselines of one channel.
#[derive(Clone, Debug)]
pub struct ChannelFit {
    /// Standard deviation in the training range: none without observations, 0 where values are constant.
    pub spread: Option<f64>,
    /// Mean absolute error of the naive forecast in the training range, the unit of MASE (Hyndman and Koehler 2006). None
    /// for constant values and without a pair to compare.
    pub naive_mae: Option<f64>,
    pub smoothing: ExponentialSmoothing,
    /// Quantiles of the naive forecast's residuals in the validation range, lower and upper, `[level][step]`. None where the
    /// residuals are too few, and without levels.
    pub residual_bounds: Option<Vec<Vec<[f64; 2]>>>,
}

/// Fitted baselines of a history.
#[derive(Debug)]
pub struct Baselines {
    pub kinds: Vec<Baseline>,
    pub seasons: Seasons,
    pub ridge: Option<Ridge>,
    pub channels: Vec<ChannelFit>,
}

impl Baselines {
    pub fn fit(
        history: &History,
        channels: &[Channel],
        split: &EvaluationSplit,
        options: BaselineOptions<'_>,
    ) -> Self {
        let seasons = Seasons::new(options.every, split.train_end - split.first);
        let fits: Vec<ChannelFit> = channels
            .par_iter()
            .map(|channel| ChannelFit::new(&SeriesTimeline::new(history, channel), split, seasons, options))
            .collect();
        let lookback = seasons.day.map_or(options.lookback.max(options.horizon), |day| 2 * day);
        let lookback = lookback.clamp(RIDGE_LOOKBACK_MIN, RIDGE_LOOKBACK_MAX);
        let ridge = fit_ridge(history, channels, split, BaselineOptions { lookback, ..options }, &fits);
        let kinds = [
            Some(Baseline::Naive),
            seasons.day.map(|_| Baseline::DailyNaive),
            seasons.week.map(|_| Baseline::WeeklyNaive),
            ridge.as_ref().map(|_| Baseline::Ridge),
            Some(Baseline::ExponentialSmoothing),
        ];
        Self { kinds: kinds.into_iter().flatten().collect(), seasons, ridge, channels: fits }
    }
}

impl ChannelFit {
    fn new(
        timeline: &SeriesTimeline<'_>,
        split: &EvaluationSplit,
        seasons: Seasons,
        options: BaselineOptions<'_>,
    ) -> Self {
        let training = || timeline.observations(i64::MIN / 2..split.train_end);
        let values: Vec<f64> = training().map(|(_, value)| value).collect();
        let spread = (!values.is_empty()).then(|| Scale::from(moments(&values)).spread);
        let lag = seasons.shortest().unwrap_or(1) as i64;
        let errors =
            training().filter_map(|(step, value)| Some((value - timeline.observed(step - lag)?).abs()));
        let naive_mae = errors.collect::<Mean>().value();
        Self {
            spread,
            // A spread of 0 rules out values that differ by rounding errors alone.
            naive_mae: naive_mae.filter(|mae| *mae > 0.0 && spread > Some(0.0)),
            smoothing: ExponentialSmoothing::fit(timeline, split.train_end, seasons.day),
            residual_bounds: residual_bounds(timeline, split, seasons.shortest(), options),
        }
    }
}

fn residual_bounds(
    timeline: &SeriesTimeline<'_>,
    split: &EvaluationSplit,
    season: Option<usize>,
    options: BaselineOptions<'_>,
) -> Option<Vec<Vec<[f64; 2]>>> {
    let BaselineOptions { every, horizon, levels, .. } = options;
    let mut residuals = vec![Vec::new(); horizon];
    let mut forecast = vec![0.0; horizon];
    let origins = split.validation_origins(horizon);
    let stride = stride_coprime_to_day((origins.end - origins.start) as f64 / RESIDUALS_MAX, every);
    for (origin, _) in timeline.observations(origins).step_by(stride) {
        timeline.naive_forecast(season, origin, &mut forecast);
        for (i, forecast) in forecast.iter().enumerate() {
            residuals[i].extend(timeline.observed(origin + 1 + i as i64).map(|actual| actual - forecast));
        }
    }
    residuals.iter_mut().for_each(|residuals| residuals.sort_by(f64::total_cmp));
    if levels.is_empty() || residuals.iter().any(|residuals| residuals.len() < RESIDUALS_MIN) {
        return None;
    }
    let of_level = |level: &f64| {
        let tail = (1.0 - level) / 2.0;
        residuals.iter().map(|sorted| [quantile(sorted, tail), quantile(sorted, 1.0 - tail)]).collect()
    };
    Some(levels.iter().map(of_level).collect())
}

/// Quantile of sorted values by linear interpolation (Hyndman and Fan 1996, type 7).
fn quantile(sorted: &[f64], probability: f64) -> f64 {
    let rank = probability * (sorted.len() - 1) as f64;
    let (below, fraction) = (rank.floor() as usize, rank.fract());
    let above = sorted[(below + 1).min(sorted.len() - 1)];
    sorted[below] + fraction * (above - sorted[below])
}

/// One ridge for all channels, with the penalty of the least error on the validation range.
fn fit_ridge(
    history: &History,
    channels: &[Channel],
    split: &EvaluationSplit,
    options: BaselineOptions<'_>,
    fits: &[ChannelFit],
) -> Option<Ridge> {
    let BaselineOptions { every, lookback, horizon, .. } = options;
    let cost = (lookback * (lookback + horizon)) as f64;
    let rows_max = (RIDGE_MULTIPLICATIONS / cost).max(RIDGE_ROWS_MIN);
    let stride = stride_coprime_to_day(history.steps() as f64 / rows_max, every);
    let chunk_sums = |channels: &[Channel], fits: &[ChannelFit], range: &Range<i64>| {
        let mut sums = RidgeSums::new(lookback, horizon);
        let mut count = 0usize;
        for (channel, fit) in channels.iter().zip(fits) {
            let timeline = SeriesTimeline::new(history, channel);
            for (segment, index) in timeline.complete_origins(range.clone(), horizon) {
                count += 1;
                // A padded window would teach the padding.
                if count.is_multiple_of(stride) && index + 1 >= lookback {
                    let window = &segment.values[index + 1 - lookback..=index];
                    let future = &segment.values[index + 1..=index + horizon];
                    sums.add(window, future, fit.spread.unwrap_or(0.0));
                }
            }
        }
        sums
    };
    let sums = |range: Range<i64>| {
        let size = channels.len().div_ceil(RIDGE_CHUNKS).max(1);
        let chunks = channels.par_chunks(size).zip(fits.par_chunks(size));
        let sums: Vec<RidgeSums> =
            chunks.map(|(channels, fits)| chunk_sums(channels, fits, &range)).collect();
        sums.into_iter().reduce(|mut sum, chunk| {
            sum.merge(chunk);
            sum
        })
    };
    let mut training = sums(i64::MIN / 2..split.train_end)?;
    let rows = training.rows();
    if rows < lookback as u64 {
        return None;
    }
    let mut validation = sums(split.train_end..split.validation_end)?;
    let penalties = std::iter::once(1.0).chain(RIDGE_PENALTIES.map(|per_row| per_row * rows as f64));
    let ridges: Vec<Ridge> = penalties.filter_map(|penalty| training.fit(penalty)).collect();
    if validation.rows() == 0 {
        // The middle one of the penalties per row.
        return ridges.into_iter().nth(2);
    }
    let scored = ridges.into_iter().map(|ridge| (validation.squared_error(&ridge), ridge));
    scored.min_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, ridge)| ridge)
}

/// Baselines along one channel; origins must ascend.
#[derive(Debug)]
pub struct BaselineRunner<'a> {
    pub timeline: SeriesTimeline<'a>,
    baselines: &'a Baselines,
    fit: &'a ChannelFit,
    smoothing: SmoothingState,
    /// First step that the smoothing has not processed.
    next_step: i64,
    ridge_sums: Vec<f32>,
}

impl<'a> BaselineRunner<'a> {
    /// `channel` is an index into [`Baselines::channels`].
    pub fn new(baselines: &'a Baselines, timeline: SeriesTimeline<'a>, channel: usize) -> Self {
        let fit = &baselines.channels[channel];
        let smoothing = fit.smoothing.initial_state();
        Self { timeline, baselines, fit, smoothing, next_step: i64::MIN / 2, ridge_sums: Vec::new() }
    }

    /// Writes the forecast of a baseline at an origin.
    pub fn forecast(&mut self, baseline: Baseline, origin: i64, out: &mut [f64]) {
        let Baselines { seasons, ridge, .. } = self.baselines;
        match (baseline, ridge) {
            (Baseline::Naive, _) | (Baseline::Ridge, None) => {
                self.timeline.naive_forecast(None, origin, out);
            }
            (Baseline::DailyNaive, _) => self.timeline.naive_forecast(seasons.day, origin, out),
            (Baseline::WeeklyNaive, _) => self.timeline.naive_forecast(seasons.week, origin, out),
            (Baseline::Ridge, Some(ridge)) => {
                let window = self.timeline.window(origin, ridge.lookback());
                // A series that starts after the training range is scaled by its window.
                let spread = self.fit.spread.unwrap_or_else(|| Scale::from(moments(window)).spread);
                ridge.forecast(window, spread, &mut self.ridge_sums, out);
            }
            (Baseline::ExponentialSmoothing, _) => {
                for (step, value) in self.timeline.observations(self.next_step..origin + 1) {
                    self.fit.smoothing.update(&mut self.smoothing, step, value);
                }
                self.next_step = self.next_step.max(origin + 1);
                self.fit.smoothing.forecast(&self.smoothing, origin, out);
            }
        }
    }

    /// Writes the naive forecast of the shortest season; returns the quantiles of its residuals, `[level][step]`.
    pub fn naive_intervals(&self, origin: i64, out: &mut [f64]) -> Option<&'a [Vec<[f64; 2]>]> {
        self.timeline.naive_forecast(self.baselines.seasons.shortest(), origin, out);
        self.fit.residual_bounds.as_deref()
    }
}
