//! One series: the values of its last steps beside what was forecast for them, the forecast of now, and how far off they were.

use std::collections::VecDeque;
use std::sync::Arc;

use super::periods::Periods;
use super::scores::{Miss, Scores, Sums};
use super::{Room, State};
use tidecast_core::intervals::Drift;
use tidecast_core::series::Aggregate;
use crate::serve::facts::Facts;

/// Steps over which errors are averaged: a week of hours.
const WINDOW: i64 = 168;
/// Seconds without a reading before a series can be late: partitions are read in turns.
const IDLE: u32 = 2;
/// Steps behind the others.
const LATE: i64 = 2;

/// What was forecast for a step: value, lower and upper of the narrowest interval, of the widest. NaN where nothing was.
pub type Said = [f32; 5];
const NOTHING: Said = [f32::NAN; 5];

#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// NaN where nothing came.
    pub value: f32,
    /// Rows that it is made of.
    rows: u16,
    /// One step ahead, and the last that is kept.
    pub said: [Said; 2],
}

pub const STEP_BYTES: usize = size_of::<Step>();

const EMPTY: Step = Step { value: f32::NAN, rows: 0, said: [NOTHING; 2] };

/// The latest reading.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    pub step: i64,
    pub time: i64,
    pub value: f64,
}

/// The forecast of now.
#[derive(Clone, Debug, Default)]
pub struct Fan {
    pub origin: i64,
    /// As in [`Said`], but a list each.
    pub lists: Vec<Vec<f32>>,
}

#[derive(Debug)]
pub struct Track {
    pub name: Arc<str>,
    pub target: usize,
    pub unit: Option<Arc<str>>,
    /// Number of the first step that is kept.
    pub first: i64,
    pub steps: VecDeque<Step>,
    pub last: Option<Reading>,
    /// Far from the others: believed once the next agrees.
    far: Option<Reading>,
    /// Steps up to this one have closed.
    pub closed: Option<i64>,
    /// Steps with a value, since the start or the last gap; `None` where it goes on from a state, until a gap.
    pub observed: Option<u64>,
    pub fan: Option<Fan>,
    /// At each horizon, as of the last look.
    pub scores: [Scores; 2],
    /// Up to where they are of.
    scored: Option<i64>,
    /// As the stream scored them itself.
    pub periods: Periods,
    /// Of errors one step ahead.
    drift: Drift,
    /// Counts changes.
    pub version: u64,
    /// Readings so far, and as of the last look.
    readings: u64,
    seen: u64,
    /// Looks since a reading came.
    idle: u32,
    pub state: State,
}

impl Track {
    pub fn new(name: Arc<str>, target: usize, unit: Option<Arc<str>>) -> Self {
        Self {
            name,
            target,
            unit,
            first: 0,
            steps: VecDeque::new(),
            last: None,
            far: None,
            closed: None,
            observed: Some(0),
            fan: None,
            scores: Default::default(),
            scored: None,
            periods: Periods::default(),
            drift: Drift::default(),
            version: 0,
            readings: 0,
            seen: 0,
            idle: 0,
            state: State::Cold,
        }
    }

    /// A finite value at a time, with room for so many steps.
    pub fn observe(&mut self, facts: &Facts, time: i64, value: f64, room: Room) {
        let reading = Reading { step: facts.grid.step_of(time), time, value };
        let Some(last) = self.last else { return self.take(facts, reading, room) };
        let is_near = |from: i64, step: i64| (step - from).abs() <= facts.max_gap;
        if is_near(last.step, reading.step) {
            self.far = None;
            return self.take(facts, reading, room);
        }
        // Old rows of a series that is forecast are late, however many agree.
        if reading.step < last.step && self.closed.is_some() {
            return;
        }
        match self.far.take() {
            Some(far) if reading.time > far.time && is_near(far.step, reading.step) => {
                self.restart(far.step > last.step);
                self.take(facts, far, room);
                self.take(facts, reading, room);
            }
            _ => self.far = Some(reading),
        }
    }

    /// After a gap, what is forecast next comes of what follows. What was before stays to be seen, unless time went back.
    fn restart(&mut self, keep: bool) {
        self.observed = Some(0);
        self.fan = None;
        if !keep {
            self.steps.clear();
            self.last = None;
        }
    }

    fn take(&mut self, facts: &Facts, reading: Reading, room: Room) {
        if self.closed.is_some_and(|closed| reading.step <= closed) {
            return;
        }
        if self.last.is_some_and(|last| last.time == reading.time) {
            return;
        }
        let Some(step) = self.step(reading.step, room) else { return };
        if facts.complete_after.is_some_and(|rows| u32::from(step.rows) >= rows) {
            return;
        }
        let value = reading.value as f32;
        step.rows = step.rows.saturating_add(1);
        let is_new = step.rows == 1;
        step.value = match facts.aggregate {
            _ if is_new => value,
            Aggregate::Mean => step.value + (value - step.value) / f32::from(step.rows),
            Aggregate::Last => value,
            Aggregate::Sum => step.value + value,
            Aggregate::Min => step.value.min(value),
            Aggregate::Max => step.value.max(value),
        };
        self.observed.iter_mut().for_each(|steps| *steps += u64::from(is_new));
        if self.last.is_none_or(|last| reading.time > last.time) {
            self.last = Some(reading);
        }
        self.readings += 1;
        self.version += 1;
    }

    /// The forecast of a step's end; `lists` are the value, lower and upper of the narrowest interval, of the widest.
    pub fn forecast(&mut self, facts: &Facts, origin: i64, lists: &[&[f32]], room: Room) {
        let origin = facts.grid.step_of(origin);
        for (i, ahead) in facts.ahead.iter().enumerate() {
            let mut said = NOTHING;
            for (said, list) in said.iter_mut().zip(lists) {
                *said = list.get(ahead - 1).copied().unwrap_or(f32::NAN);
            }
            if let Some(step) = self.step(origin + *ahead as i64, room) {
                step.said[i] = said;
            }
        }
        let lists = lists.iter().map(|list| list[..room.fan.min(list.len())].to_vec()).collect();
        self.fan = Some(Fan { origin, lists });
        // A forecast shows that its origin has closed, and all before.
        self.closed = Some(self.closed.map_or(origin, |closed| closed.max(origin)));
        self.version += 1;
    }

    /// The step of a number: made, if it is later than those there are. The oldest give way.
    fn step(&mut self, number: i64, room: Room) -> Option<&mut Step> {
        let end = self.first + self.steps.len() as i64;
        if self.steps.is_empty() || number - end >= room.steps as i64 {
            self.steps.clear();
            self.first = number;
        }
        let more = number + 1 - self.first - self.steps.len() as i64;
        let wanted = self.steps.len() + usize::try_from(more).unwrap_or(0);
        self.forget(wanted.saturating_sub(room.steps));
        let wanted = wanted.min(room.steps);
        if wanted > self.steps.capacity() {
            // A quarter more at a time: twice as much, as a queue grows by itself, would be up to twice what there is room for.
            let capacity = (wanted + wanted / 4).min(room.steps);
            self.steps.reserve_exact(capacity - self.steps.len());
        }
        self.steps.resize(wanted, EMPTY);
        usize::try_from(number - self.first).ok().and_then(|place| self.steps.get_mut(place))
    }

    /// Lets the oldest steps go.
    fn forget(&mut self, count: usize) {
        self.steps.drain(..count.min(self.steps.len()));
        self.first += count as i64;
    }

    /// Keeps no more than there is room for.
    pub fn give_back(&mut self, room: Room) {
        self.forget(self.steps.len().saturating_sub(room.steps));
        self.steps.shrink_to(room.steps);
        for list in self.fan.iter_mut().flat_map(|fan| &mut fan.lists) {
            list.truncate(room.fan);
            list.shrink_to_fit();
        }
    }

    /// Bytes of what it keeps as it lies in memory.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        let lists = self.fan.iter().flat_map(|fan| &fan.lists);
        let fan: usize = lists.map(|list| size_of_val(list) + list.capacity() * size_of::<f32>()).sum();
        self.steps.capacity() * STEP_BYTES + fan
    }

    /// The value of a step.
    pub fn value(&self, step: i64) -> Option<f32> {
        let place = usize::try_from(step - self.first).ok()?;
        self.steps.get(place).map(|step| step.value).filter(|value| value.is_finite())
    }

    /// How far off the forecasts of the closed steps from a number on were.
    fn misses(&self, facts: &Facts, ahead: usize, from: i64) -> impl Iterator<Item = Miss> {
        let end = self.first + self.steps.len() as i64;
        let closed = self.closed.map_or(self.first, |closed| (closed + 1).min(end));
        (from.max(self.first)..closed).filter_map(move |step| self.miss(facts, ahead, step))
    }

    /// The sums over the last closed steps.
    fn sums(&self, facts: &Facts, ahead: usize) -> Sums {
        let mut sums = Sums::default();
        let from = self.closed.map_or(self.first, |closed| closed - WINDOW + 1);
        self.misses(facts, ahead, from).for_each(|miss| sums.add(&miss));
        sums
    }

    /// How far off the forecast of a step was.
    fn miss(&self, facts: &Facts, ahead: usize, step: i64) -> Option<Miss> {
        let value = f64::from(self.value(step)?);
        let said = self.steps[usize::try_from(step - self.first).ok()?].said[ahead].map(f64::from);
        if !said[0].is_finite() {
            return None;
        }
        let ahead = facts.ahead[ahead] as i64;
        let back = facts.kept_season().map_or(ahead, |season| (ahead + season - 1) / season * season);
        let naive = self.value(step - back).map(|naive| (value - f64::from(naive)).abs());
        let inside = [said[1] <= value && value <= said[2], said[3] <= value && value <= said[4]];
        Some(Miss { off: value - said[0], naive, inside })
    }

    /// The time of the latest reading, if it is more than a lone one's.
    pub fn known_time(&self) -> Option<i64> {
        self.last.filter(|_| self.readings > 1).map(|last| last.time)
    }

    /// Once a second: how it is, where the others are at `now`.
    pub fn judge(&mut self, facts: &Facts, now: Option<i64>) {
        if self.scored != self.closed {
            let from = self.scored.map_or(self.first, |scored| scored + 1);
            let mut drift = self.drift;
            self.misses(facts, 0, from).for_each(|miss| drift.add(miss.off.abs() as f32));
            (self.drift, self.scored) = (drift, self.closed);
            self.scores = [0, 1].map(|ahead| self.sums(facts, ahead).scores(facts.shown.len()));
        }
        self.idle = if self.readings == self.seen { self.idle.saturating_add(1) } else { 0 };
        self.seen = self.readings;
        let behind = match (now, self.last) {
            (Some(now), Some(last)) if self.idle >= IDLE => facts.grid.step_of(now) - last.step,
            _ => 0,
        };
        let state = match behind {
            behind if behind > facts.max_gap.max(LATE + 1) => State::Silent,
            // A gap takes the forecast away; one that is only behind is on its way.
            _ if self.fan.is_none() => State::Cold,
            behind if behind > LATE => State::Late,
            _ if self.drift.is_on() => State::Drifting,
            _ => State::Ok,
        };
        if state != self.state {
            self.state = state;
            self.version += 1;
        }
    }
}
