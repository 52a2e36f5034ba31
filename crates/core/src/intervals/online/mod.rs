//! Intervals and scores that follow each series as its actuals arrive.
//!
//! The bounds that a model knows from its validation part are where every series begins. From there a tracker for each
//! followed step of the horizon corrects them, by what came of the forecasts that were issued so many steps before; steps in
//! between are corrected in proportion. A forecast waits, as little of it as is needed, until the step that it is of is
//! observed; where none is, it never teaches anything.
//!
//! All numbers of a series lie in one stretch of one array, `f32` each, so that a million series cost their numbers alone.

mod around;
mod drift;
mod gains;
mod plan;
mod settle;
mod tally;
mod tracker;

pub use drift::Drift;
use gains::{BLOCK, Dues, Rates};
pub use plan::{HORIZONS_MAX, Plan};
pub use tally::{HorizonScores, RUNNING};

use crate::near;
use crate::simd::Isa;
use around::{Around, Trackers};
pub use around::{Forecast, Scaled};
use plan::parted;
use settle::Settle;

/// How far a series has been followed before it ever was.
const NEVER: i64 = i64::MIN;

/// The series that are followed, side by side.
#[derive(Clone, Debug)]
pub struct Online {
    isa: Isa,
    plan: Plan,
    /// Of each followed step.
    rates: Vec<Rates>,
    dues: Dues,
    /// `[series][number]`
    numbers: Vec<f32>,
    /// Of each series, the last step that it was told of.
    last: Vec<i64>,
    /// What all trackers of one series say of the bounds of its forecast at hand: ρ, `[followed]`, and by how many spreads each
    /// bound is moved up, in blocks, `[followed][bound]`.
    scales: Vec<f32>,
    moves: Vec<[f32; BLOCK]>,
    /// The bounds of one forecast in order, and what its outcome adds to a tally.
    sorted: Vec<f32>,
    outcome: Vec<f32>,
}

/// A forecast that was issued.
pub struct Issued<'a> {
    pub origin: i64,
    pub forecast: &'a Forecast,
    /// What errors are measured in, in the readings' unit: 0 where the series does not vary.
    pub unit: f32,
    /// What the naive forecast says of each followed step; nothing where that is not scored.
    pub naive: &'a [f32],
}

/// What is known of one series beside its numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesScores {
    /// Of about the last [`RUNNING`] forecasts, ascending by horizon; steps of which none has come are left out.
    pub horizons: Vec<HorizonScores>,
    /// Whether its errors have left their own history.
    pub drifts: bool,
}

/// Lanes at most: bounds of two levels are four numbers, and many horizons a dozen steps. Vectors of sixteen would be parts of one,
/// each of which waits for what has just been stored in other pieces: with them, levels cost a quarter more.
const LANES: usize = 8;

impl Online {
    pub fn new(plan: Plan) -> Self {
        let (followed, fours) = (plan.horizons().len(), plan.probabilities().len().div_ceil(BLOCK));
        let rates = plan.horizons().iter().map(|horizon| Rates::new(*horizon));
        Self {
            isa: Isa::within(LANES),
            rates: rates.collect(),
            dues: Dues::of(plan.probabilities()),
            numbers: Vec::new(),
            last: Vec::new(),
            scales: vec![1.0; followed],
            moves: vec![[0.0; BLOCK]; followed * fours],
            outcome: vec![0.0; plan.tally()],
            plan,
            sorted: Vec::new(),
        }
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Forgets all of a series.
    pub fn clear(&mut self, series: usize) {
        self.widen(series);
        self.last[series] = NEVER;
        let Self { plan, numbers, .. } = self;
        let numbers = &mut numbers[series * plan.numbers()..][..plan.numbers()];
        numbers.fill(0.0);
        for followed in 0..plan.horizons().len() {
            let place = plan.place(followed);
            tracker::begin(&mut numbers[place..][..plan.tracker()]);
            let (waiting, room) = (plan.waiting(followed), plan.room(followed) * plan.entry());
            numbers[waiting..][..room].fill(f32::NAN);
        }
    }

    /// The last step that a series was told of, if any.
    pub fn last(&self, series: usize) -> Option<i64> {
        self.last.get(series).copied().filter(|last| *last != NEVER)
    }

    /// The numbers of a series; none if it was never told of.
    pub fn numbers(&self, series: usize) -> &[f32] {
        let there = self.last(series).map(|_| series * self.plan.numbers());
        there.map_or(&[], |start| &self.numbers[start..][..self.plan.numbers()])
    }

    /// Puts back what [`Online::last`] and [`Online::numbers`] gave; `false` if they could never have been.
    pub fn restore(&mut self, series: usize, last: i64, numbers: &[f32]) -> bool {
        self.clear(series);
        if numbers.len() != self.plan.numbers() || last == NEVER {
            return false;
        }
        let own = &mut self.numbers[series * self.plan.numbers()..][..numbers.len()];
        own.copy_from_slice(numbers);
        self.last[series] = last;
        let finite = |numbers: &[f32]| numbers.iter().all(|number| number.is_finite());
        let plan = &self.plan;
        let sound = |followed: usize| {
            let (place, waiting) = (plan.place(followed), plan.waiting(followed));
            let (tracker, tallies) = numbers[place..waiting].split_at(plan.tracker());
            let (running, period) = tallies.split_at(plan.tally());
            let mut entries = numbers[waiting..].chunks(plan.entry()).take(plan.room(followed));
            finite(&numbers[place..waiting])
                && tracker::is_sound(tracker)
                && [running, period].into_iter().all(tally::is_sound)
                && entries.all(|entry| entry[0].is_nan() || finite(entry) && entry[1] >= 0.0)
        };
        let drift = &numbers[plan.drift()..];
        (0..plan.horizons().len()).all(sound) && finite(drift) && drift::is_sound(drift)
    }

    /// A step of a series was observed: every forecast that waited for it is scored and corrects its tracker, the oldest
    /// first. `means` are the mean sizes of errors that the model knows, in units, of each followed step.
    pub fn settle(&mut self, series: usize, step: i64, actual: f64, means: &[f32]) {
        self.advance(series, step);
        let Self { isa, plan, rates, dues, numbers, sorted, outcome, .. } = self;
        let numbers = &mut numbers[series * plan.numbers()..][..plan.numbers()];
        isa.run(Settle { plan, rates, dues, numbers, step, actual, means, sorted, outcome });
        let numbers = &mut self.numbers[series * self.plan.numbers()..][..self.plan.numbers()];
        // Should nothing be issued here, nothing may be found here. Where every step issues, what was found was here.
        let others = if self.plan.every() == 1 { 0 } else { self.plan.horizons().len() };
        for followed in 0..others {
            self.plan.slot(followed, step).into_iter().for_each(|slot| numbers[slot] = f32::NAN);
        }
    }

    /// Asks for the numbers of a series, if there are any.
    pub fn bring(&self, series: usize) {
        self.last.get(series).into_iter().for_each(near::bring_one);
        let size = self.plan.numbers();
        self.numbers.get(series * size..(series + 1) * size).into_iter().for_each(near::bring);
    }

    /// The forecast of a series as it is issued. Where it `corrects`, its bounds are moved as of now: they lie around the values as
    /// the model knows them else.
    pub fn around(&mut self, series: usize, said: &Scaled<'_>, corrects: bool, out: &mut Forecast) {
        self.widen(series);
        let Self { isa, plan, rates, dues, numbers, scales, moves, .. } = self;
        let bounds = plan.probabilities().len();
        out.resize(said.values.len(), bounds);
        let numbers = &numbers[series * plan.numbers()..][..plan.numbers()];
        let trackers = Trackers { numbers, rates, dues, scales, moves };
        let trackers = (corrects && bounds > 0).then_some(trackers);
        isa.run(Around { plan, said, trackers, out });
    }

    /// A forecast was issued: what of it will be compared waits.
    pub fn issue(&mut self, series: usize, issued: &Issued<'_>) {
        self.advance(series, issued.origin);
        let Self { plan, numbers, .. } = self;
        let numbers = &mut numbers[series * plan.numbers()..][..plan.numbers()];
        let Forecast { values, own, .. } = issued.forecast;
        let horizon = values.len();
        let bounds = plan.probabilities().len();
        for followed in 0..plan.horizons().len() {
            let step = plan.horizons()[followed] - 1;
            let Some(slot) = plan.slot(followed, issued.origin) else { continue };
            let entry = &mut numbers[slot..][..plan.entry()];
            entry[0] = values[step];
            entry[1] = issued.unit;
            let of_step = own.iter().skip(step).step_by(horizon);
            entry[2..2 + bounds].iter_mut().zip(of_step).for_each(|(entry, own)| *entry = *own);
            if plan.is_scored() {
                entry[2 + bounds] = issued.naive[followed];
            }
        }
    }

    /// What is known of a series.
    pub fn scores(&self, series: usize) -> SeriesScores {
        let numbers = self.numbers(series);
        if numbers.is_empty() || !self.plan.is_scored() {
            return SeriesScores { horizons: Vec::new(), drifts: false };
        }
        let drifts = drift::drifts(&numbers[self.plan.drift()..]);
        SeriesScores { horizons: self.tallies(series, 0).collect(), drifts }
    }

    /// What was scored of a series since this was last asked.
    pub fn take_period(&mut self, series: usize) -> SeriesScores {
        let scores = SeriesScores { horizons: self.tallies(series, 1).collect(), ..self.scores(series) };
        let Self { plan, numbers, .. } = self;
        for followed in 0..plan.horizons().len() {
            let place = series * plan.numbers() + plan.place(followed) + plan.tracker() + plan.tally();
            numbers[place..][..plan.tally()].fill(0.0);
        }
        scores
    }

    /// The running tallies of a series, or those of the period.
    fn tallies(&self, series: usize, which: usize) -> impl Iterator<Item = HorizonScores> + '_ {
        let (plan, numbers) = (&self.plan, self.numbers(series));
        let scores = move |followed: usize| {
            let place = plan.place(followed) + plan.tracker() + which * plan.tally();
            HorizonScores::of(plan, followed, &numbers[place..][..plan.tally()])
        };
        let all = if numbers.is_empty() { 0 } else { plan.horizons().len() };
        (0..all).map(scores).filter(|scores| scores.forecasts > 0.0)
    }

    /// Goes on to a step: nothing was issued at those in between, so what waits in their places is of an earlier lap.
    fn advance(&mut self, series: usize, step: i64) {
        self.widen(series);
        let last = std::mem::replace(&mut self.last[series], step);
        if last == step || last == NEVER || last + 1 == step {
            return;
        }
        let Self { plan, numbers, .. } = self;
        let numbers = &mut numbers[series * plan.numbers()..][..plan.numbers()];
        let every = plan.every();
        let (first, end) = (parted(last, every).0 + 1, parted(step - 1, every).0 + 1);
        for followed in 0..plan.horizons().len() {
            for number in first.max(end - plan.room(followed) as i64)..end {
                plan.slot(followed, number * every).into_iter().for_each(|slot| numbers[slot] = f32::NAN);
            }
        }
    }

    fn widen(&mut self, series: usize) {
        while series >= self.last.len() {
            self.last.push(NEVER);
            self.numbers.resize(self.last.len() * self.plan.numbers(), 0.0);
            self.clear(self.last.len() - 1);
        }
    }
}

/// The nearest number that f32 has; beyond its range stands its end.
#[inline]
pub fn bounded(value: f64) -> f32 {
    value.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::intervals::{Base, Bound, Bounds};

    const HORIZON: usize = 7;

    fn issue(online: &mut Online, origin: i64, value: f32) {
        let values: Vec<f32> = (0..HORIZON).map(|i| value + i as f32).collect();
        let bounds: Vec<f32> =
            [-1.0, 1.0].iter().flat_map(|way| values.iter().map(move |v| v + way)).collect();
        let naive = vec![value; online.plan().horizons().len()];
        let forecast = Forecast { values, own: bounds.clone(), bounds };
        online.issue(0, &Issued { origin, forecast: &forecast, unit: 1.0, naive: &naive });
    }

    /// Steps that were observed, and whether a forecast was issued there.
    fn steps(every: i64) -> impl Iterator<Item = (i64, bool)> {
        let mut state = 5u64;
        let mut next = move |most: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % most
        };
        let mut step = -40;
        (0..600).map(move |_| {
            step += match next(10) {
                0 => next(40) as i64 + 1,
                1 | 2 => 2,
                _ => 1,
            };
            (step, step.rem_euclid(every) == 0 && next(5) > 0)
        })
    }

    #[test]
    fn every_forecast_meets_its_own_actual_or_none() {
        for every in [1, 3] {
            let plan = Plan::new(HORIZON, vec![1, 4, 7], &[0.8], every, true);
            let mut online = Online::new(plan);
            let (mut issued, mut expected) = (HashMap::new(), vec![(0, 0.0f64); 3]);
            for (step, issues) in steps(i64::from(every)) {
                let actual = (step * step % 17) as f64;
                online.settle(0, step, actual, &[1.0; 3]);
                for (place, ahead) in [1i64, 4, 7].into_iter().enumerate() {
                    if let Some(value) = issued.get(&(step - ahead)) {
                        let said = f64::from(*value) + ahead as f64 - 1.0;
                        expected[place].0 += 1;
                        expected[place].1 += (actual - said).abs();
                    }
                }
                if issues {
                    issue(&mut online, step, step as f32 * 0.5);
                    issued.insert(step, step as f32 * 0.5);
                }
            }
            let scores = online.take_period(0);
            assert_eq!(scores.horizons.len(), 3);
            for (scores, (count, sizes)) in scores.horizons.iter().zip(&expected) {
                assert!(*count > 50 && scores.forecasts == *count as f32, "{every}: {scores:?} {count}");
                assert!((f64::from(scores.mae) - sizes / f64::from(*count)).abs() < 1e-2, "{scores:?}");
            }
            assert!(online.take_period(0).horizons.is_empty());
            assert_eq!(online.scores(0).horizons.len(), 3);
        }
    }

    #[test]
    fn what_is_learned_has_the_same_bits_on_every_processor() {
        let plan = Plan::new(HORIZON, vec![1, 4, 7], &[0.5, 0.8, 0.95], 1, true);
        let mut first: Option<Vec<u32>> = None;
        for isa in Isa::all() {
            let mut online = Online { isa, ..Online::new(plan.clone()) };
            for step in 0..300 {
                online.settle(0, step, (step * step % 17) as f64 / 3.0, &[0.8; 3]);
                let own: Vec<f32> =
                    (0..6).flat_map(|b| vec![(b * b) as f32 / 7.0 + (step % 5) as f32; HORIZON]).collect();
                let forecast = Forecast { values: vec![2.5; HORIZON], bounds: own.clone(), own };
                let issued = Issued { origin: step, forecast: &forecast, unit: 0.7, naive: &[1.0, 2.0, 3.0] };
                online.issue(0, &issued);
            }
            let bits = || online.numbers(0).iter().map(|number| number.to_bits());
            assert!(first.get_or_insert_with(|| bits().collect()).iter().copied().eq(bits()), "{isa:?}");
        }
    }

    #[test]
    fn what_is_put_back_goes_on_as_it_was() {
        let plan = Plan::new(HORIZON, vec![2, 7], &[0.5, 0.9], 1, true);
        let (mut one, mut other) = (Online::new(plan.clone()), Online::new(plan.clone()));
        let go = |online: &mut Online, steps: std::ops::Range<i64>| {
            for step in steps {
                online.settle(0, step, (step * 7 % 5) as f64, &[1.0; 2]);
                let own: Vec<f32> = [-2.0, 0.0, 2.0, 4.0].iter().flat_map(|b| vec![*b; HORIZON]).collect();
                let forecast = Forecast { values: vec![1.0; HORIZON], bounds: own.clone(), own };
                let issued = Issued { origin: step, forecast: &forecast, unit: 0.7, naive: &[1.0, 2.0] };
                online.issue(0, &issued);
            }
        };
        go(&mut one, 0..50);
        assert!(other.restore(0, one.last(0).unwrap(), one.numbers(0)));
        go(&mut one, 50..90);
        go(&mut other, 50..90);
        let bits = |online: &Online| online.numbers(0).iter().map(|n| n.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&one), bits(&other));
        let numbers = one.numbers(0).to_vec();
        assert!(!other.restore(0, 3, &numbers[1..]));
        for wrong in [f32::NAN, f32::INFINITY, 0.0] {
            let mut numbers = numbers.clone();
            numbers[0] = wrong;
            assert!(!other.restore(0, 3, &numbers), "{wrong} is no scale");
        }
        for place in (0..plan.tracker()).chain(plan.drift() + 1..plan.numbers()) {
            let mut numbers = numbers.clone();
            numbers[place] = f32::MAX;
            assert!(!other.restore(0, 3, &numbers), "number {place} has bounds");
        }
        // How many were scored, and the unit of what waits.
        for place in [plan.tracker(), plan.tracker() + plan.tally(), plan.waiting(0) + 1, plan.drift()] {
            let mut numbers = numbers.clone();
            numbers[place] = -1.0;
            assert!(!other.restore(0, 3, &numbers), "number {place} is not below 0");
        }
    }

    #[test]
    fn a_series_begins_with_the_bounds_of_the_model() {
        let mut online = Online::new(Plan::new(HORIZON, vec![1, 7], &[0.8], 1, false));
        let bound = |offset| Bound { base: Base::Forecast, beta: 0.0, offsets: vec![offset; HORIZON] };
        let bounds = [Bounds { lower: bound(-2.5), upper: bound(3.25) }];
        let values = [1.0; HORIZON];
        let said = Scaled {
            center: 10.0,
            spread: 2.0,
            values: &values,
            quantiles: &[],
            bounds: &bounds,
            restlessness: 1.0,
            widening: 2.0,
        };
        for corrects in [true, false] {
            let mut forecast = Forecast::default();
            online.around(3, &said, corrects, &mut forecast);
            let known = [[7.0; HORIZON], [18.5; HORIZON]].concat();
            assert_eq!((&forecast.values[..], &forecast.bounds), (&[12.0; HORIZON][..], &known));
            assert_eq!(forecast.own, known);
        }
    }
}
