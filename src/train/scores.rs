//! How good a network is on a part of a history, beside the forecasts that cost nothing.

use super::shards;
use super::windows::{Origin, Windows};
use crate::forecaster::Inputs;
use crate::intervals::ErrorQuantiles;
use crate::model::Score;
use crate::network::{Network, Random, Scratch};
use crate::series::moments;

/// Windows whose errors are kept apart for the quantiles and sums: enough for full matrices, few enough to be spread
/// over threads.
const SHARD: usize = 64;

/// Most windows of a part that are scored: at this number the standard error of the mean is far below a percent, and a
/// history of years costs seconds. More are thinned out evenly.
pub const MOST_WINDOWS: usize = 50_000;

/// A season that a naive forecast can repeat: a day of steps, where a day has at least two and the history at least
/// twice that.
pub fn season(every: i64, steps: i64) -> Option<usize> {
    const DAY: i64 = 86_400_000_000;
    let season = DAY / every;
    let whole = DAY % every == 0 && season >= 2 && steps >= 2 * season;
    whole.then_some(season as usize)
}

/// One of every n, such that at most `most` are left. Which one is drawn, or hours of the day that recur every n
/// windows would be all there is.
pub fn thinned(origins: &[Origin], most: usize) -> Vec<Origin> {
    let every = origins.len().div_ceil(most.max(1)).max(1);
    let mut random = Random::new(every as u64);
    let mut pick = |some: &[Origin]| some[(random.next_u64() % some.len() as u64) as usize];
    origins.chunks(every).map(&mut pick).collect()
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
    let spread = |values: &Vec<f64>| crate::series::Scale::from(moments(values)).spread;
    values.iter().map(|targets| targets.iter().map(spread).collect()).collect()
}

/// The scores of a part, and the scaled errors of each step of the horizon.
pub struct Evaluation {
    pub score: Score,
    pub errors: Option<ErrorQuantiles>,
}

#[derive(Default)]
struct Sums {
    forecasts: u64,
    values: u64,
    model: f64,
    last: f64,
    seasonal: f64,
    errors: Vec<Vec<f32>>,
}

/// Scores `network` on `origins`; `None` if none of them can be scored.
pub fn evaluate(
    windows: &Windows<'_>,
    network: &Network,
    origins: &[Origin],
    spreads: &[Vec<f64>],
    season: Option<usize>,
    part: &str,
) -> Option<Evaluation> {
    let spread = |origin: &Origin| {
        let segment = &windows.history.segments[origin.segment as usize];
        spreads[segment.series][segment.target]
    };
    let varies = |origin: &&Origin| spread(origin) > 0.0;
    let usable: Vec<Origin> = origins.iter().filter(varies).copied().collect();
    // All forecasts are compared on the same windows: a season that fewer than nine in ten reach back to is left out.
    let seasoned = |origin: &Origin| season.is_none_or(|s| origin.place as usize + 1 >= s);
    let with_season: Vec<Origin> = usable.iter().filter(|origin| seasoned(origin)).copied().collect();
    let (usable, season) =
        if with_season.len() * 10 >= usable.len() * 9 { (with_season, season) } else { (usable, None) };
    let chosen = thinned(&usable, MOST_WINDOWS);
    let chunks: Vec<&[Origin]> = chosen.chunks(SHARD).collect();
    let sums = shards::each(
        chunks.len(),
        || Workspace::new(network),
        |workspace, shard| {
            let mut sums = Sums { errors: vec![Vec::new(); network.shape().horizon], ..Sums::default() };
            workspace.score(windows, network, chunks[shard], season, &spread, &mut sums);
            sums
        },
    );
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
    Some(Evaluation { score, errors: ErrorQuantiles::of(total.errors) })
}

impl Sums {
    fn plus(mut self, other: Self) -> Self {
        self.forecasts += other.forecasts;
        self.values += other.values;
        self.model += other.model;
        self.last += other.last;
        self.seasonal += other.seasonal;
        for (mine, theirs) in self.errors.iter_mut().zip(other.errors) {
            mine.extend(theirs);
        }
        self
    }
}

struct Workspace {
    inputs: Inputs,
    scratch: Scratch,
    outputs: Vec<f32>,
}

impl Workspace {
    fn new(network: &Network) -> Self {
        Self { inputs: Inputs::default(), scratch: Scratch::new(network.shape()), outputs: Vec::new() }
    }

    fn score(
        &mut self,
        windows: &Windows<'_>,
        network: &Network,
        origins: &[Origin],
        season: Option<usize>,
        spread: &dyn Fn(&Origin) -> f64,
        sums: &mut Sums,
    ) {
        let horizon = network.shape().horizon;
        self.inputs.clear();
        let scales: Vec<_> = origins.iter().map(|origin| windows.read(*origin, &mut self.inputs)).collect();
        self.outputs.resize(origins.len() * horizon, 0.0);
        network.forecast(&self.inputs.batch(windows.description), &mut self.scratch, &mut self.outputs);
        for ((origin, scale), outputs) in origins.iter().zip(scales).zip(self.outputs.chunks_exact(horizon)) {
            let segment = &windows.history.segments[origin.segment as usize];
            let (place, unit) = (origin.place as usize, spread(origin));
            sums.forecasts += 1;
            let scaled = windows.targets(*origin, scale);
            for (i, ((actual, target), output)) in
                windows.actuals(*origin).zip(scaled).zip(outputs).enumerate()
            {
                if actual.is_nan() {
                    continue;
                }
                let error = |forecast: f64| (actual - forecast).abs() / unit;
                sums.values += 1;
                sums.model += error(scale.invert(*output));
                sums.last += error(segment.values[place]);
                // ŷ(t + h) = y(t + h - s ceil(h / s))
                sums.seasonal +=
                    season.map_or(0.0, |s| error(segment.values[place + i + 1 - s * (i + 1).div_ceil(s)]));
                if !target.is_nan() {
                    sums.errors[i].push(target - output);
                }
            }
        }
    }
}
