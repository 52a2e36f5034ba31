//! Intervals of all series at a few steps of the horizon, beside what others make of the model's own.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Float32Type;
use serde::Serialize;

use super::adaptive::Way;
use super::intervals::{Held, HeldShares, Others};
use super::past::Past;
use super::places::Places;
use super::scorer::Task;
use tidecast_core::table::Forecasts;

/// Intervals along time of each lane.
pub struct Bands<'a> {
    task: Task<'a>,
    places: Places<'a>,
    /// Steps ahead that are looked at, ascending.
    horizons: Vec<usize>,
    pasts: Vec<Past<'a>>,
    /// `[lane][horizon][level]`
    ours: Vec<Vec<Vec<Held>>>,
    /// `[lane][horizon]`
    others: Vec<Vec<Others>>,
}

/// The intervals of one level some steps ahead of one series.
#[derive(Clone, Debug, Serialize)]
pub struct Band {
    /// Steps after the origin.
    pub step: usize,
    pub level: f64,
    pub methods: Vec<MethodBand>,
}

#[derive(Clone, Debug, Serialize)]
pub struct MethodBand {
    pub method: &'static str,
    #[serde(flatten)]
    pub held: HeldShares,
}

/// The same over all series, each counting the same.
#[derive(Clone, Debug, Serialize)]
pub struct OverallBand {
    pub step: usize,
    pub level: f64,
    pub methods: Vec<MethodMeans>,
}

#[derive(Clone, Debug, Serialize)]
pub struct MethodMeans {
    pub method: &'static str,
    pub coverage: f64,
    /// Of the series that is farthest from the level, how far.
    pub farthest: f64,
    pub ties: f64,
    /// Least share within of any 500 forecasts in a row of any series; none where all have fewer.
    pub worst_recent: Option<f64>,
    /// Mean of the interval score over that of the model's own intervals.
    pub score_ratio: f64,
}

/// Ours, the model's own, then the other ways.
fn methods() -> impl Iterator<Item = &'static str> {
    ["ours", "model's own"].into_iter().chain(Way::ALL.map(Way::name))
}

impl<'a> Bands<'a> {
    pub fn new(task: Task<'a>, horizons: Vec<usize>) -> Self {
        let Task { history, lanes, levels, .. } = task;
        let ours = vec![vec![vec![Held::default(); levels.len()]; horizons.len()]; lanes.len()];
        let of_lane: Vec<Others> = horizons.iter().map(|ahead| Others::new(*ahead, levels)).collect();
        Self {
            task,
            places: Places::new(&task),
            pasts: lanes.iter().map(|lane| Past::of(history, lane)).collect(),
            ours,
            others: vec![of_lane; lanes.len()],
            horizons,
        }
    }

    /// Takes forecasts as they come out of the line, those of a series in the order of their origins.
    pub fn add(&mut self, forecasts: &RecordBatch) {
        let Self { task, places, horizons, pasts, ours, .. } = self;
        each(task, places, forecasts, |lane, origin, bounds| {
            if !task.parts.scored.contains(&origin) {
                return;
            }
            for (ahead, ours) in horizons.iter().zip(&mut ours[lane]) {
                let Some(actual) = pasts[lane].observed(origin + *ahead as i64) else { continue };
                for ((held, level), [lower, upper]) in ours.iter_mut().zip(task.levels).zip(bounds(*ahead)) {
                    held.add(*level, actual, lower, upper);
                }
            }
        });
    }

    /// Takes the same forecasts with the model's own intervals, from the first one on: others learn from them.
    pub fn add_own(&mut self, forecasts: &RecordBatch) {
        let Self { task, places, horizons, pasts, others, .. } = self;
        each(task, places, forecasts, |lane, origin, bounds| {
            let scored = task.parts.scored.contains(&origin);
            for (ahead, others) in horizons.iter().zip(&mut others[lane]) {
                others.issue(origin, scored, bounds(*ahead), |step| pasts[lane].observed(step));
            }
        });
    }

    /// What was found: of each lane, and of all.
    pub fn finish(mut self) -> (Vec<Vec<Band>>, Vec<OverallBand>) {
        for (others, past) in self.others.iter_mut().zip(&self.pasts) {
            others.iter_mut().for_each(|others| others.settle(i64::MAX, &|step| past.observed(step)));
        }
        let lanes: Vec<Vec<Band>> = (0..self.ours.len()).map(|lane| self.of_lane(lane)).collect();
        let mut overall = Vec::new();
        for step in &self.horizons {
            for level in self.task.levels {
                let same = |band: &&Band| band.step == *step && band.level == *level;
                let all: Vec<&Band> = lanes.iter().flat_map(|bands| bands.iter().find(same)).collect();
                if !all.is_empty() {
                    overall.push(overall_of(*step, *level, &all));
                }
            }
        }
        (lanes, overall)
    }

    fn of_lane(&self, lane: usize) -> Vec<Band> {
        let mut bands = Vec::new();
        for (place, step) in self.horizons.iter().enumerate() {
            for (number, level) in self.task.levels.iter().enumerate() {
                let ours = &self.ours[lane][place][number];
                let all = std::iter::once(ours).chain(&self.others[lane][place].held[number]);
                let shares: Option<Vec<HeldShares>> = all.map(Held::shares).collect();
                let named = |shares: Vec<HeldShares>| {
                    methods().zip(shares).map(|(method, held)| MethodBand { method, held }).collect()
                };
                let band = shares.map(|shares| Band { step: *step, level: *level, methods: named(shares) });
                bands.extend(band);
            }
        }
        bands
    }
}

fn overall_of(step: usize, level: f64, all: &[&Band]) -> OverallBand {
    let count = all.len() as f64;
    let of_method = |(number, method): (usize, &'static str)| {
        let held = || all.iter().map(|band| &band.methods[number].held);
        let mean = |value: fn(&HeldShares) -> f64| held().map(value).sum::<f64>() / count;
        let ratio = |band: &&Band| {
            let own = band.methods[1].held.interval_score;
            if own > 0.0 { band.methods[number].held.interval_score / own } else { 1.0 }
        };
        MethodMeans {
            method,
            coverage: mean(|held| held.coverage),
            farthest: held().map(|held| (held.coverage - level).abs()).fold(0.0, f64::max),
            ties: mean(|held| held.ties),
            worst_recent: held().filter_map(|held| held.worst_recent).reduce(f64::min),
            score_ratio: all.iter().map(ratio).sum::<f64>() / count,
        }
    };
    OverallBand { step, level, methods: methods().enumerate().map(of_method).collect() }
}

/// Shows every forecast of a batch: its lane, its origin, and the bounds of each level so many steps ahead.
fn each(
    task: &Task<'_>,
    places: &Places<'_>,
    forecasts: &RecordBatch,
    mut show: impl FnMut(usize, i64, &dyn Fn(usize) -> Vec<[f64; 2]>),
) {
    let view = Forecasts::new(forecasts);
    for row in 0..view.len() {
        let Some(lane) = places.lane(view.series.value(row), view.targets.value(row)) else { continue };
        let at = |list: usize, ahead: usize| {
            let list = view.lists[list];
            let place = list.value_offsets()[row] as usize + ahead - 1;
            f64::from(list.values().as_primitive::<Float32Type>().value(place))
        };
        let bounds = |ahead: usize| {
            let of_level = |level: usize| [at(1 + 2 * level, ahead), at(2 + 2 * level, ahead)];
            (0..task.levels.len()).map(of_level).collect()
        };
        show(lane, task.grid.step_of(view.origins.value(row)), &bounds);
    }
}
