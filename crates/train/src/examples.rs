//! Forecasts to look at: of the series that is forecast best, of the middle one and of the worst, at a few times of a part.

use super::replay::replay;
use super::scores::Scoring;
use super::targets::by_lane;
use super::windows::Origin;

/// Forecasts of a series that are shown.
const SHOWN: usize = 3;
/// The level of the interval that is shown, where there is one.
pub const LEVEL: f64 = 0.8;

/// Forecasts of one series in the middle of what came before and after.
#[derive(Clone, Debug)]
pub struct Example {
    /// Id and target.
    pub series: (String, String),
    /// Which of all series it is, by its error: the best, the middle one, the worst.
    pub rank: &'static str,
    /// Mean absolute error in standard deviations of the series.
    pub mae: f64,
    /// What came: microseconds and values.
    pub readings: Vec<(i64, f64)>,
    pub forecasts: Vec<Shown>,
}

/// One forecast: times in microseconds, values, and the bounds of [`LEVEL`].
#[derive(Clone, Debug)]
pub struct Shown {
    pub values: Vec<(i64, f64)>,
    pub bounds: Vec<(i64, f64, f64)>,
}

/// The examples of `scoring`'s model at `origins`.
pub fn examples(scoring: &Scoring<'_>, targets: &[String], origins: &[Origin]) -> Vec<Example> {
    let by_error = scoring.by_error(origins);
    let Some(last) = by_error.len().checked_sub(1) else { return Vec::new() };
    let mut ranks = vec![(0, "the best"), (last / 2, "the middle one"), (last, "the worst")];
    ranks.dedup_by_key(|(place, _)| *place);
    let by_lane = by_lane(&scoring.windows, scoring.lanes, origins);
    ranks
        .into_iter()
        .map(|(place, rank)| {
            let (lane, mae) = by_error[place];
            example(scoring, targets, lane, &by_lane[lane], (rank, mae))
        })
        .collect()
}

fn example(
    scoring: &Scoring<'_>,
    targets: &[String],
    number: usize,
    origins: &[Origin],
    (rank, mae): (&'static str, f64),
) -> Example {
    let (windows, lane) = (&scoring.windows, &scoring.lanes[number]);
    let (history, horizon) = (windows.history, windows.description.horizon);
    let grid = windows.rules.grid;
    // A horizon apart, from the middle on.
    let middle = origins[origins.len() / 2];
    let segment = &history.segments[middle.segment as usize];
    let apart = |origin: &&Origin| {
        let way = (origin.place - middle.place.min(origin.place)) as usize;
        origin.segment == middle.segment && origin.place >= middle.place && way.is_multiple_of(horizon + 1)
    };
    let chosen: Vec<Origin> = origins.iter().filter(apart).take(SHOWN).copied().collect();
    let around = scoring.model.errors.is_some().then(|| scoring.model.bounds(LEVEL, Some(number)));
    let mut forecasts = Vec::new();
    replay(windows, (number, lane), std::slice::from_ref(scoring.model), &|_| 0, &chosen, |said| {
        let step = segment.step(said.origin.place as usize);
        let time = |i: usize| grid.start_of(step + 1 + i as i64);
        let value = |scaled: f32| said.scale.invert(scaled);
        let values = said.values.iter().enumerate().map(|(i, scaled)| (time(i), value(*scaled)));
        let bounds = around.iter().flat_map(|around| {
            let [mut lower, mut upper] = [(); 2].map(|()| vec![0.0; horizon]);
            around.write((said.values, said.quantiles), said.restlessness, &mut lower, &mut upper);
            let bounds = lower.into_iter().zip(upper).enumerate();
            bounds.map(|(i, (lower, upper))| (time(i), value(lower), value(upper))).collect::<Vec<_>>()
        });
        forecasts.push(Shown { values: values.collect(), bounds: bounds.collect() });
    });
    let end = chosen.last().map_or(middle, |last| *last).place as usize + horizon + 1;
    let places = (middle.place as usize).saturating_sub(3 * horizon)..end.min(segment.values.len());
    let readings = places
        .filter(|place| segment.observed[*place])
        .map(|place| (grid.start_of(segment.step(place)), segment.values[place]));
    let series = (history.ids[lane.series].clone(), targets[lane.target].clone());
    Example { series, rank, mae, readings: readings.collect(), forecasts }
}
