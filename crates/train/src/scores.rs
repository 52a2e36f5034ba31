//! How good a network is on a part of a history, beside the forecasts that cost nothing.

use super::replay::replay;
use super::targets::by_lane;
use super::walk::Lane;
use super::windows::{Origin, Split, Windows};
use super::{History, shards};
use tidecast_core::intervals::{Corrections, ErrorQuantiles, OWN_LEAST, choose_widening, widening};
use tidecast_core::model::{Corrected, Errors, Model, Score};
use tidecast_core::series::{Rules, moments};

/// A season that a naive forecast can repeat: a day of steps, where a day has at least two and the history at least
/// twice that.
pub fn season(every: i64, steps: i64) -> Option<usize> {
    const DAY: i64 = 86_400_000_000;
    let season = DAY / every;
    let whole = DAY % every == 0 && season >= 2 && steps >= 2 * season;
    whole.then_some(season as usize)
}

/// Scale of each series' errors: its standard deviation before `until`, by `[id][target]`; 0 where nothing varies.
pub fn spreads(windows: &Windows<'_>, until: i64) -> Vec<Vec<f64>> {
    let history = windows.history;
    let targets = windows.description.targets.len();
    let mut values = vec![vec![Vec::new(); targets]; history.ids.len()];
    for segment in &history.segments {
        let kept = &mut values[segment.series][segment.target];
        let places = (0..segment.values.len())
            .filter(|place| segment.observed[*place] && segment.step(*place) < until);
        kept.extend(places.map(|place| segment.values[place]));
    }
    let spread = |values: &Vec<f64>| tidecast_core::series::Scale::from(moments(values)).spread;
    values.iter().map(|targets| targets.iter().map(spread).collect()).collect()
}

/// The scores of a part, and the scaled errors of each step of the horizon.
pub struct Evaluation {
    pub score: Score,
    pub errors: Option<Errors>,
}

#[derive(Default)]
struct Sums {
    forecasts: u64,
    values: u64,
    model: f64,
    last: f64,
    seasonal: f64,
    /// What came less the forecast, by step of the horizon, NaN where nothing came; and how restless the series was at each
    /// origin.
    errors: Vec<Vec<f32>>,
    restless: Vec<f32>,
    /// What came less each learned quantile, by quantile and step.
    quantiles: Vec<Vec<Vec<f32>>>,
}

/// Scores a model on parts of a history.
pub struct Scoring<'a> {
    pub windows: Windows<'a>,
    pub lanes: &'a [Lane],
    pub model: &'a Model,
    spreads: Vec<Vec<f64>>,
    season: Option<usize>,
}

impl<'a> Scoring<'a> {
    pub fn new(
        history: &'a History,
        lanes: &'a [Lane],
        rules: &'a Rules,
        model: &'a Model,
        split: Split,
    ) -> Self {
        let windows = Windows { history, description: &model.description, rules };
        let spreads = spreads(&windows, split.train_end);
        let season = season(rules.grid.every, split.train_end - split.first);
        Self { windows, lanes, model, spreads, season }
    }

    fn spread(&self, origin: &Origin) -> f64 {
        let segment = &self.windows.history.segments[origin.segment as usize];
        self.spreads[segment.series][segment.target]
    }

    /// The lanes that can be scored on `origins` and their errors, the least first.
    pub fn by_error(&self, origins: &[Origin]) -> Vec<(usize, f64)> {
        let usable: Vec<Origin> =
            origins.iter().filter(|origin| self.spread(origin) > 0.0).copied().collect();
        let by_lane = by_lane(&self.windows, self.lanes, &usable);
        let sums =
            shards::each(self.lanes.len(), || (), |(), lane| score_lane(self, lane, &by_lane[lane], None));
        let lanes = sums.into_iter().enumerate().filter(|(_, sums)| sums.values > 0);
        let mut by_error: Vec<_> =
            lanes.map(|(lane, sums)| (lane, sums.model / sums.values as f64)).collect();
        by_error.sort_by(|(_, a), (_, b)| a.total_cmp(b));
        by_error
    }

    /// Scores the model on `origins`; `None` if none of them can be scored.
    pub fn score(&self, origins: &[Origin], part: &str) -> Option<Evaluation> {
        let usable: Vec<Origin> =
            origins.iter().filter(|origin| self.spread(origin) > 0.0).copied().collect();
        // All forecasts are compared on the same windows: a season that fewer than nine in ten reach back to is left out.
        let seasoned = |origin: &Origin| self.season.is_none_or(|s| origin.place as usize + 1 >= s);
        let with_season: Vec<Origin> = usable.iter().filter(|origin| seasoned(origin)).copied().collect();
        let (usable, season) = match with_season.len() * 10 >= usable.len() * 9 {
            true => (with_season, self.season),
            false => (usable, None),
        };
        let by_lane = by_lane(&self.windows, self.lanes, &usable);
        let sums =
            shards::each(self.lanes.len(), || (), |(), lane| score_lane(self, lane, &by_lane[lane], season));
        let probabilities = self.model.description.probabilities();
        let own: Vec<_> = shards::each(
            self.model.description.series.len().min(sums.len()),
            || (),
            |(), number| {
                let (sums, beta) = (&sums[number], sums[number].widening());
                let own = ErrorQuantiles::of_one(sums.over(beta)).map(|own| (own, beta));
                (own, Corrections::of(sums.quantiles.clone(), probabilities, OWN_LEAST))
            },
        );
        let (own, own_corrections): (Vec<_>, Vec<_>) = own.into_iter().unzip();
        let total = sums.into_iter().reduce(Sums::plus).filter(|sums| sums.values > 0)?;
        let mean = |sum: f64| sum / total.values as f64;
        let score = Score {
            part: part.to_owned(),
            forecasts: total.forecasts,
            mae: mean(total.model),
            repeat_last: mean(total.last),
            seasonal_naive: season.map(|_| mean(total.seasonal)),
            season,
        };
        let of_all = total.widening();
        let around = ErrorQuantiles::of(total.over(of_all));
        let corrected = Corrections::of(total.quantiles, probabilities, 1).map(|all| {
            let own = own_corrections.into_iter().map(|own| own.unwrap_or_else(|| all.clone()));
            Corrected { own: own.collect(), all }
        });
        let errors = around.map(|all| {
            let own = own.into_iter().map(|own| own.unwrap_or_else(|| (all.for_one(), of_all)));
            let (own, mut widening): (Vec<_>, Vec<_>) = own.unzip();
            widening.push(of_all);
            Errors { own, all, widening, corrected }
        });
        Some(Evaluation { score, errors })
    }
}

impl Sums {
    fn plus(mut self, other: Self) -> Self {
        self.forecasts += other.forecasts;
        self.values += other.values;
        self.model += other.model;
        self.last += other.last;
        self.seasonal += other.seasonal;
        let quantiles = self.quantiles.iter_mut().flatten().zip(other.quantiles.into_iter().flatten());
        for (mine, theirs) in self.errors.iter_mut().zip(other.errors).chain(quantiles) {
            mine.extend(theirs);
        }
        self.restless.extend(other.restless);
        self
    }

    /// How much restlessness widens, by the errors in the middle of the horizon.
    fn widening(&self) -> f32 {
        let Some(errors) = self.errors.get(self.errors.len() / 2) else { return 0.0 };
        let pairs = errors.iter().copied().zip(self.restless.iter().copied());
        choose_widening(&pairs.filter(|(error, _)| !error.is_nan()).collect::<Vec<_>>())
    }

    /// The errors over their widening, by step of the horizon.
    fn over(&self, beta: f32) -> Vec<Vec<f32>> {
        let over = |errors: &Vec<f32>| {
            let pairs = errors.iter().zip(&self.restless).filter(|(error, _)| !error.is_nan());
            pairs.map(|(error, restless)| error / widening(beta, *restless)).collect()
        };
        self.errors.iter().map(over).collect()
    }
}

fn score_lane(of: &Scoring<'_>, lane: usize, origins: &[Origin], season: Option<usize>) -> Sums {
    let description = of.windows.description;
    let (horizon, none) = (description.horizon, vec![Vec::new(); description.horizon]);
    let quantiles = vec![none.clone(); description.probabilities().len()];
    let mut sums = Sums { errors: none, quantiles, ..Sums::default() };
    let model = std::slice::from_ref(of.model);
    replay(&of.windows, (lane, &of.lanes[lane]), model, &|_| 0, origins, |said| {
        let segment = &of.windows.history.segments[said.origin.segment as usize];
        let (place, unit) = (said.origin.place as usize, of.spread(&said.origin));
        sums.forecasts += 1;
        let varies = said.scale.spread > 0.0;
        if varies {
            sums.restless.push(said.restlessness);
            sums.errors.iter_mut().for_each(|errors| errors.push(f32::NAN));
        }
        for (i, (actual, value)) in of.windows.actuals(said.origin).zip(said.values).enumerate() {
            if actual.is_nan() {
                continue;
            }
            let error = |forecast: f64| (actual - forecast).abs() / unit;
            sums.values += 1;
            sums.model += error(said.scale.invert(*value));
            sums.last += error(segment.values[place]);
            // ŷ(t + h) = y(t + h - s ceil(h / s))
            sums.seasonal +=
                season.map_or(0.0, |s| error(segment.values[place + i + 1 - s * (i + 1).div_ceil(s)]));
            if let Some(error) = sums.errors[i].last_mut().filter(|_| varies) {
                let actual = said.scale.apply(actual);
                *error = actual - value;
                let quantiles = said.quantiles.iter().skip(i).step_by(horizon);
                sums.quantiles.iter_mut().zip(quantiles).for_each(|(errors, q)| errors[i].push(actual - q));
            }
        }
    });
    sums
}
