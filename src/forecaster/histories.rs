//! The first half of the line, the same for training and for serving: rows of one partition go to the history of their
//! id, and every step that closes is shown to the caller with all that is known at it.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Float64Array, RecordBatch};
use arrow::datatypes::Float64Type;

use crate::network::memory::{Memory, MemoryState};
use crate::series::{
    ClosedStep, Outcome, Refusal, Row, Rules, Running, Steps, Tally, Track, Verdict, Window,
};
use crate::table::{Columns, Observations};

/// What is kept of one target of one id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    pub window: Window,
    pub running: Running,
    /// Of a model with a memory.
    pub memory: MemoryState,
}

/// All that is kept of one id.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    pub id: Arc<str>,
    pub steps: Steps,
    pub targets: Vec<Target>,
    pub covariates: Vec<Track>,
    /// Position of the latest row that was used.
    pub position: i64,
}

/// A step that has just closed; the history holds it already.
pub struct Closing<'a> {
    /// Number of the id in this partition, by first appearance.
    pub index: usize,
    pub id: &'a Arc<str>,
    /// Position of the row that closed the step.
    pub position: i64,
    pub step: i64,
    pub targets: &'a [Target],
    /// For each target, how the step went into its window.
    pub entries: &'a [Entry],
    pub covariates: &'a [Track],
    /// The values of the covariates in this very step, NaN where there is none.
    pub covariate_values: &'a [f64],
    /// What is known of the coming horizon, `[known x horizon]`; empty if nothing was brought.
    pub ahead: &'a [f64],
    /// The id starts (again) with this step.
    pub cold: bool,
}

/// Who follows what becomes of histories.
pub trait Follower {
    /// The history of this number is about to change, or to make room for another id's.
    fn touch(&mut self, index: usize, history: &History);

    fn close(&mut self, closing: Closing<'_>);
}

/// Follows closings alone.
struct Closings<F>(F);

impl<F: FnMut(Closing<'_>)> Follower for Closings<F> {
    fn touch(&mut self, _: usize, _: &History) {}

    fn close(&mut self, closing: Closing<'_>) {
        (self.0)(closing);
    }
}

/// How a closed step went into a target's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The target was not observed in it.
    Missing,
    /// The window starts with it.
    Started,
    /// The window grew by so many steps, the last being this one.
    Grew(i64),
}

/// The candidate of an id has changed: its position before and after, if there was and is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub before: Option<i64>,
    pub after: Option<i64>,
}

/// What became of rows that were not simply used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unused {
    pub refused: Vec<Refused>,
    /// In the order of the rows.
    pub held: Vec<Held>,
}

/// A refused row, by its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    pub position: i64,
    pub reason: Refusal,
}

/// The histories of all ids of one partition.
pub struct Histories {
    columns: Arc<Columns>,
    rules: Rules,
    /// Steps of a window that can still be asked for.
    keep: usize,
    memory: Option<Memory>,
    /// Values a row brings for each input known ahead.
    horizon: usize,
    /// Most ids; a row that would start one more is refused.
    limit: usize,
    /// Only looked up, never walked: its order is of no consequence.
    index: HashMap<Arc<str>, usize>,
    histories: Vec<History>,
    row: RowBuffers,
    entries: Vec<Entry>,
}

/// One row's numbers, used again for the next one.
#[derive(Default)]
struct RowBuffers {
    targets: Vec<f64>,
    covariates: Vec<f64>,
    ahead: Vec<f64>,
}

impl Histories {
    pub fn new(columns: Columns, rules: Rules, keep: usize, horizon: usize, limit: usize) -> Self {
        Self {
            columns: Arc::new(columns),
            rules,
            keep,
            memory: None,
            horizon,
            limit,
            index: HashMap::new(),
            histories: Vec::new(),
            row: RowBuffers::default(),
            entries: Vec::new(),
        }
    }

    /// Carries a memory along, whose reach `keep` has to cover.
    pub fn with_memory(self, memory: Option<Memory>) -> Self {
        Self { memory, ..self }
    }

    pub fn memory(&self) -> Option<&Memory> {
        self.memory.as_ref()
    }

    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    pub fn keep(&self) -> usize {
        self.keep
    }

    pub fn all(&self) -> &[History] {
        &self.histories
    }

    /// Whether there is a history of this id.
    pub fn has(&self, id: &str) -> bool {
        self.index.contains_key(id)
    }

    /// Puts a history in place, for its id.
    pub fn insert(&mut self, history: History) {
        self.index.insert(history.id.clone(), self.histories.len());
        self.histories.push(history);
    }

    /// Takes rows in order; every step that closes goes to `on_step`. What was not simply used is added to `unused`.
    pub fn push(
        &mut self,
        rows: &RecordBatch,
        tally: &mut Tally,
        unused: &mut Unused,
        on_step: impl FnMut(Closing<'_>),
    ) {
        self.push_for(rows, tally, unused, &mut Closings(on_step));
    }

    /// Takes rows in order for a follower.
    pub fn push_for(
        &mut self,
        rows: &RecordBatch,
        tally: &mut Tally,
        unused: &mut Unused,
        follower: &mut impl Follower,
    ) {
        let columns = self.columns.clone();
        let observations = Observations::new(rows, &columns);
        for i in 0..observations.len() {
            tally.rows += 1;
            let position = observations.positions.value(i);
            let id = observations.series.map_or(columns.only_series.as_str(), |series| series.value(i));
            self.row.read(&observations, i, self.horizon);
            let outcome = match self.index_of(id) {
                Ok(index) => {
                    let before = self.candidate(index);
                    follower.touch(index, &self.histories[index]);
                    let outcome = self.take(index, position, observations.times.value(i), follower);
                    let after = self.candidate(index);
                    if before != after {
                        unused.held.push(Held { before, after });
                    }
                    outcome
                }
                Err(reason) => Outcome { verdict: Verdict::Refused(reason), dropped: None, restarted: false },
            };
            let own = match outcome.verdict {
                Verdict::Refused(reason) => Some(Refused { position, reason }),
                Verdict::Used | Verdict::Held => None,
            };
            let dropped = outcome.dropped.map(|position| Refused { position, reason: Refusal::TooFar });
            for refusal in [dropped, own].into_iter().flatten() {
                tally.refuse(refusal.reason);
                unused.refused.push(refusal);
            }
            tally.restarts += u64::from(outcome.restarted);
        }
    }

    /// The input is over: closes what time alone held open of the ids with these numbers.
    pub fn finish(
        &mut self,
        ids: &[usize],
        tally: &mut Tally,
        unused: &mut Unused,
        on_step: impl FnMut(Closing<'_>),
    ) {
        self.finish_for(ids, tally, unused, &mut Closings(on_step));
    }

    /// The same for a follower.
    pub fn finish_for(
        &mut self,
        ids: &[usize],
        tally: &mut Tally,
        unused: &mut Unused,
        follower: &mut impl Follower,
    ) {
        for &index in ids {
            follower.touch(index, &self.histories[index]);
            let (rules, keep, memory) = (&self.rules, self.keep, self.memory.as_ref());
            let History { id, steps, targets, covariates, position } = &mut self.histories[index];
            let candidate = steps.finish(rules, |closed| {
                let entries = &mut self.entries;
                let mut sides = Sides {
                    rules,
                    keep,
                    memory,
                    index,
                    id,
                    position: *position,
                    targets,
                    covariates,
                    entries,
                };
                sides.close(closed, follower);
            });
            if let Some(position) = candidate {
                tally.refuse(Refusal::TooFar);
                unused.refused.push(Refused { position, reason: Refusal::TooFar });
                unused.held.push(Held { before: Some(position), after: None });
            }
        }
    }

    /// The numbers of all ids, by id.
    pub fn by_id(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.histories.len()).collect();
        order.sort_unstable_by(|a, b| self.histories[*a].id.cmp(&self.histories[*b].id));
        order
    }

    fn index_of(&mut self, id: &str) -> Result<usize, Refusal> {
        if let Some(index) = self.index.get(id) {
            return Ok(*index);
        }
        if !self.row.targets.iter().any(|value| value.is_finite()) {
            return Err(Refusal::NotFinite);
        }
        if self.histories.len() >= self.limit {
            return Err(Refusal::TooManySeries);
        }
        self.insert(History {
            id: id.into(),
            steps: Steps::default(),
            targets: vec![Target::default(); self.columns.targets.len()],
            covariates: vec![Track::default(); self.columns.covariates.len()],
            position: 0,
        });
        Ok(self.histories.len() - 1)
    }

    /// Position of the row that an id holds as its candidate.
    fn candidate(&self, index: usize) -> Option<i64> {
        self.histories[index].steps.candidate.as_ref().map(|candidate| candidate.offset)
    }

    fn take(&mut self, index: usize, offset: i64, time: i64, follower: &mut impl Follower) -> Outcome {
        let (rules, keep, memory) = (&self.rules, self.keep, self.memory.as_ref());
        let History { id, steps, targets, covariates, position } = &mut self.histories[index];
        let RowBuffers { targets: values, covariates: covariate_values, ahead } = &self.row;
        let row = Row { offset, time, targets: values, covariates: covariate_values, ahead };
        let entries = &mut self.entries;
        let mut sides =
            Sides { rules, keep, memory, index, id, position: offset, targets, covariates, entries };
        let newest = steps.newest;
        let outcome = steps.push(rules, row, |closed| sides.close(closed, follower));
        // A candidate may have been used even where the row itself was not.
        if outcome.verdict == Verdict::Used || steps.newest != newest {
            *position = offset;
        }
        outcome
    }
}

impl RowBuffers {
    fn read(&mut self, observations: &Observations<'_>, i: usize, horizon: usize) {
        let value = |column: &&Float64Array| {
            Some(column.value(i)).filter(|value| column.is_valid(i) && usable(value)).unwrap_or(f64::NAN)
        };
        self.targets.clear();
        self.targets.extend(observations.targets.iter().map(value));
        self.covariates.clear();
        self.covariates.extend(observations.covariates.iter().map(value));
        self.ahead.clear();
        if observations.known_ahead.iter().all(|lists| lists.is_null(i)) {
            return;
        }
        for lists in &observations.known_ahead {
            let values = lists.is_valid(i).then(|| lists.value(i));
            let values = values.as_ref().map(|values| values.as_primitive::<Float64Type>());
            let value = |step: usize| match values {
                Some(values) if step < values.len() && values.is_valid(step) => Some(values.value(step)),
                _ => None,
            };
            self.ahead.extend((0..horizon).map(|step| value(step).filter(usable).unwrap_or(f64::NAN)));
        }
    }
}

/// Forecasts are f32: what has no f32 is as good as not finite.
fn usable(value: &f64) -> bool {
    value.abs() <= f64::from(f32::MAX)
}

/// A history without its steps, while a step closes.
struct Sides<'a> {
    rules: &'a Rules,
    keep: usize,
    memory: Option<&'a Memory>,
    index: usize,
    id: &'a Arc<str>,
    position: i64,
    targets: &'a mut [Target],
    covariates: &'a mut [Track],
    entries: &'a mut Vec<Entry>,
}

impl Sides<'_> {
    fn close(&mut self, closed: ClosedStep<'_>, follower: &mut impl Follower) {
        let Self { rules, keep, memory, .. } = *self;
        let ClosedStep { step, cold, .. } = closed;
        for (track, value) in self.covariates.iter_mut().zip(closed.covariates) {
            if value.is_finite() {
                track.push(rules, keep, step, *value, cold);
            } else if cold {
                *track = Track::default();
            }
        }
        self.entries.clear();
        for (target, value) in self.targets.iter_mut().zip(closed.targets) {
            self.entries.push(if value.is_finite() {
                target.running.add(*value);
                let grew = target.window.push(rules, keep, step, *value, cold);
                let entry = grew.map_or(Entry::Started, Entry::Grew);
                if let Some(memory) = memory {
                    remember(memory, target, entry, step, *value);
                }
                entry
            } else {
                if cold {
                    target.window = Window::default();
                }
                Entry::Missing
            });
        }
        follower.close(Closing {
            index: self.index,
            id: self.id,
            position: self.position,
            step,
            targets: self.targets,
            entries: self.entries,
            covariates: self.covariates,
            covariate_values: closed.covariates,
            ahead: closed.ahead,
            cold,
        });
    }
}

/// The memory takes the step that the window has just taken.
fn remember(memory: &Memory, target: &mut Target, entry: Entry, step: i64, value: f64) {
    match entry {
        Entry::Missing => {}
        Entry::Started => memory.start(&mut target.memory, step, value),
        Entry::Grew(steps) => {
            let new = steps as usize;
            let at_hand = target.window.len().min(memory.reach().max(1) + new);
            let (values, _) = target.window.tail(at_hand).expect("no more than there are");
            memory.follow(&mut target.memory, step, values, new);
        }
    }
}
