//! The first half of the line, the same for training and for serving: rows of one partition go to the history of their
//! id, and every step that closes is shown to the caller with all that is known at it.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Float64Type;
use compact_str::CompactString;
use smallvec::{SmallVec, smallvec};

use super::closing::{StepContext, WindowUpdate, Happening, Sides};
use super::ids::Ids;
use super::silence::Silence;
use crate::prefetch;
use crate::series::{
    Capacity, OnFull, Retention, RowOutcome, Refusal, Row, StepConfig, RunningStats, StepBuffer, RowCounters, CovariateWindow, Verdict, Window,
};
use crate::schema::{Columns, Observations};

/// Rows whose ids are looked up together. What is kept of them lies all over the memory, and comes sooner when it is asked
/// for at once.
const AT_ONCE: usize = 32;

/// What is kept of one target of one id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TargetState {
    pub window: Window,
    pub running: RunningStats,
}

/// All that is kept of one id.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesState {
    pub id: CompactString,
    pub steps: StepBuffer,
    pub targets: SmallVec<[TargetState; 1]>,
    pub covariates: Box<[CovariateWindow]>,
    /// Position of the latest row that was used; of the first one while none was.
    pub position: i64,
}

impl SeriesState {
    /// Asks for what a row reads and changes beside the history itself.
    fn prefetch(&self) {
        self.steps.prefetch();
        for target in &self.targets {
            target.window.prefetch();
        }
    }
}

/// The candidate of an id has changed: its position before and after, if there was and is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CandidateChange {
    pub before: Option<i64>,
    pub after: Option<i64>,
}

/// What became of rows that were not simply used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowDiagnostics {
    pub refused: Vec<DroppedRow>,
    /// In the order of the rows.
    pub held: Vec<CandidateChange>,
}

impl RowDiagnostics {
    /// A candidate is given up with its id.
    fn drop_candidate(&mut self, refused: DroppedRow, tally: &mut RowCounters) {
        tally.refuse(refused.reason);
        self.refused.push(refused);
        self.held.push(CandidateChange { before: Some(refused.position), after: None });
    }
}

/// A refused row, by its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DroppedRow {
    pub position: i64,
    pub reason: Refusal,
    /// Position of the row that decided it: its own, or that of a later one where it was held as a candidate.
    pub decided: i64,
}

/// The histories of all ids of one partition.
pub struct SeriesStore {
    columns: Arc<Columns>,
    rules: StepConfig,
    keep: Retention,
    /// Values a row brings for each input known ahead.
    horizon: usize,
    capacity: Capacity,
    ids: Ids,
    /// The number of the next row's id, where ids have last come in the order of their numbers.
    next: Option<usize>,
    histories: Vec<SeriesState>,
    /// Who gives way next; made when somebody first has to.
    silence: Option<Silence>,
    row: RowBuffers,
    entries: Vec<WindowUpdate>,
}

/// One row's numbers, used again for the next one.
struct RowBuffers {
    targets: Vec<f64>,
    covariates: Vec<f64>,
    ahead: Vec<f64>,
}

impl SeriesStore {
    pub fn new(
        columns: Columns,
        rules: StepConfig,
        keep: Retention,
        horizon: usize,
        capacity: impl Into<Capacity>,
    ) -> Self {
        Self {
            row: RowBuffers::new(&columns),
            columns: Arc::new(columns),
            rules,
            keep,
            horizon,
            capacity: capacity.into(),
            ids: Ids::default(),
            next: None,
            histories: Vec::new(),
            silence: None,
            entries: Vec::new(),
        }
    }

    pub fn rules(&self) -> &StepConfig {
        &self.rules
    }

    pub fn keep(&self) -> Retention {
        self.keep
    }

    /// Numbers that a row brings of what is known ahead, if it brings any.
    pub fn ahead(&self) -> usize {
        self.columns.future_covariates.len() * self.horizon
    }

    pub fn holds(&self, id: &str) -> bool {
        self.number_of(id).is_some()
    }

    pub fn all(&self) -> &[SeriesState] {
        &self.histories
    }

    /// Adds a history, for its id.
    pub fn insert(&mut self, history: SeriesState) {
        self.histories.push(history);
        let histories = &self.histories;
        self.ids.insert(histories.len() - 1, |number| &histories[number].id);
    }

    /// Looks up the ids of the next rows, and asks for what is kept of them. Many sources go round their series in one order,
    /// which is that of the numbers: then nothing has to be looked up but whether it is so.
    fn find<'a>(&mut self, ids: impl Iterator<Item = &'a str> + Clone, found: &mut [Option<usize>; AT_ONCE]) {
        let after = |number: usize| if number + 1 < self.histories.len() { number + 1 } else { 0 };
        let mut next = self.next;
        for (found, id) in found.iter_mut().zip(ids.clone()) {
            *found = next.or_else(|| self.ids.guess(id));
            found.iter().for_each(|index| prefetch::value(&self.histories[*index]));
            next = next.map(after);
        }
        let (mut last, mut in_order) = (None, true);
        for (found, id) in found.iter_mut().zip(ids) {
            if found.is_some_and(|index| self.histories[index].id != id) {
                *found = self.number_of(id);
            }
            found.iter().for_each(|index| self.histories[*index].prefetch());
            in_order &= found.is_some() && last.is_none_or(|last| *found == Some(after(last)));
            last = *found;
        }
        self.next = last.filter(|_| in_order).map(after);
    }

    fn number_of(&self, id: &str) -> Option<usize> {
        self.ids.get(id, |number| &self.histories[number].id)
    }

    /// Takes rows in order; every step that closes goes to `on_step`. What was not simply used is added to `unused`.
    pub fn push(
        &mut self,
        rows: &RecordBatch,
        tally: &mut RowCounters,
        unused: &mut RowDiagnostics,
        mut on_step: impl FnMut(&StepContext<'_>),
    ) {
        self.follow(rows, tally, unused, |happening| {
            if let Happening::Closed(closing) = happening {
                on_step(closing);
            }
        });
    }

    /// The same for one who keeps something beside each id and has to forget it with the id.
    pub fn follow(
        &mut self,
        rows: &RecordBatch,
        tally: &mut RowCounters,
        unused: &mut RowDiagnostics,
        mut tell: impl FnMut(Happening<'_>),
    ) {
        let columns = self.columns.clone();
        let observations = Observations::new(rows, &columns);
        let id =
            |i: usize| observations.series.map_or(columns.only_series.as_str(), |series| series.value(i));
        let (mut found, mut evictions) = ([None; AT_ONCE], tally.evictions);
        for i in 0..observations.len() {
            if i % AT_ONCE == 0 {
                let next = i..observations.len().min(i + AT_ONCE);
                self.find(next.map(id), &mut found);
                found.iter().flatten().for_each(|index| tell(Happening::Coming(*index)));
                evictions = tally.evictions;
            }
            tally.rows += 1;
            let position = observations.positions.value(i);
            self.row.read(&observations, i, self.horizon);
            let index = match found[i % AT_ONCE] {
                // One that gave way meanwhile has left its number to another.
                Some(index) if evictions == tally.evictions => Ok(index),
                _ => self.index_of(id(i), position, tally, unused, &mut tell),
            };
            let outcome = match index {
                Ok(index) => {
                    let before = self.candidate(index);
                    tell(Happening::Touched(index, &self.histories[index]));
                    let outcome = self.take(index, position, observations.times.value(i), &mut tell);
                    let after = self.candidate(index);
                    if before != after {
                        unused.held.push(CandidateChange { before, after });
                    }
                    outcome
                }
                Err(reason) => RowOutcome::new(Verdict::Refused(reason)),
            };
            let own = match outcome.verdict {
                Verdict::Refused(reason) => Some((position, reason)),
                Verdict::Accepted | Verdict::Pending => None,
            };
            let dropped = outcome.dropped_candidate.map(|position| (position, Refusal::TooFar));
            for (refused, reason) in [dropped, own].into_iter().flatten() {
                tally.refuse(reason);
                unused.refused.push(DroppedRow { position: refused, reason, decided: position });
            }
            tally.restarts += u64::from(outcome.restarted);
            tally.forced_closes += outcome.forced_closes;
        }
    }

    /// The input is over: closes what time alone held open of the ids with these numbers.
    pub fn finish(
        &mut self,
        ids: &[usize],
        tally: &mut RowCounters,
        unused: &mut RowDiagnostics,
        mut on_step: impl FnMut(&StepContext<'_>),
    ) {
        self.follow_end(ids, tally, unused, |happening| {
            if let Happening::Closed(closing) = happening {
                on_step(closing);
            }
        });
    }

    /// The same for one who keeps something beside each id.
    pub fn follow_end(
        &mut self,
        ids: &[usize],
        tally: &mut RowCounters,
        unused: &mut RowDiagnostics,
        mut tell: impl FnMut(Happening<'_>),
    ) {
        for &index in ids {
            let position = self.histories[index].position;
            if let Some(candidate) = self.close(index, position, &mut tell) {
                let refused = DroppedRow { position: candidate, reason: Refusal::TooFar, decided: position };
                unused.drop_candidate(refused, tally);
            }
        }
    }

    /// Closes what time alone holds open of an id, for the row at `position`. Returns the position of the candidate that it
    /// held, and holds no more.
    fn close(&mut self, index: usize, position: i64, tell: &mut impl FnMut(Happening<'_>)) -> Option<i64> {
        tell(Happening::Touched(index, &self.histories[index]));
        let (rules, keep) = (&self.rules, self.keep);
        let SeriesState { id, steps, targets, covariates, .. } = &mut self.histories[index];
        let entries = &mut self.entries;
        let mut sides = Sides { rules, keep, index, id, position, targets, covariates, entries };
        steps.finish(rules, |closed| sides.close(closed, tell))
    }

    /// Makes room for one more id at the cost of the one that has been silent longest. Its rows are not lost: its last
    /// steps close first. Returns the number that is free.
    fn evict(
        &mut self,
        position: i64,
        tally: &mut RowCounters,
        unused: &mut RowDiagnostics,
        tell: &mut impl FnMut(Happening<'_>),
    ) -> usize {
        let histories = &self.histories;
        let latest = || Silence::new(histories.iter().map(|history| history.position));
        let index = self.silence.get_or_insert_with(latest).longest().expect("a full partition has ids");
        if let Some(candidate) = self.close(index, position, tell) {
            let refused = DroppedRow { position: candidate, reason: Refusal::TooManySeries, decided: position };
            unused.drop_candidate(refused, tally);
        }
        tell(Happening::Evicted(index));
        tally.evictions += 1;
        let histories = &self.histories;
        self.ids.remove(index, |number| &histories[number].id);
        index
    }

    /// The numbers of all ids, by id.
    pub fn by_id(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.histories.len()).collect();
        order.sort_unstable_by(|a, b| self.histories[*a].id.cmp(&self.histories[*b].id));
        order
    }

    /// The number of an id, which it gets with its first row, at `position`.
    fn index_of(
        &mut self,
        id: &str,
        position: i64,
        tally: &mut RowCounters,
        unused: &mut RowDiagnostics,
        tell: &mut impl FnMut(Happening<'_>),
    ) -> Result<usize, Refusal> {
        if let Some(index) = self.number_of(id) {
            return Ok(index);
        }
        if !self.row.targets.iter().any(|value| value.is_finite()) {
            return Err(Refusal::NotFinite);
        }
        let is_full = self.histories.len() >= self.capacity.series;
        if is_full && self.capacity.on_full == OnFull::Refuse {
            return Err(Refusal::TooManySeries);
        }
        let history = SeriesState {
            id: id.into(),
            steps: StepBuffer::default(),
            targets: smallvec![TargetState::default(); self.columns.targets.len()],
            covariates: vec![CovariateWindow::default(); self.columns.covariates.len()].into(),
            position,
        };
        if !is_full {
            self.insert(history);
            return Ok(self.histories.len() - 1);
        }
        let index = self.evict(position, tally, unused, tell);
        self.histories[index] = history;
        let histories = &self.histories;
        self.ids.insert(index, |number| &histories[number].id);
        self.heard(index);
        Ok(index)
    }

    /// A row of an id was used, or is its first.
    fn heard(&mut self, index: usize) {
        if let Some(silence) = &mut self.silence {
            silence.heard(index);
        }
    }

    /// Position of the row that an id holds as its candidate.
    fn candidate(&self, index: usize) -> Option<i64> {
        self.histories[index].steps.candidate().map(|candidate| candidate.position)
    }

    fn take(
        &mut self,
        index: usize,
        offset: i64,
        time: i64,
        tell: &mut impl FnMut(Happening<'_>),
    ) -> RowOutcome {
        let (rules, keep) = (&self.rules, self.keep);
        let SeriesState { id, steps, targets, covariates, position } = &mut self.histories[index];
        let RowBuffers { targets: values, covariates: covariate_values, ahead } = &self.row;
        let row = Row { position: offset, time, targets: values, covariates: covariate_values, future: ahead };
        let entries = &mut self.entries;
        let mut sides = Sides { rules, keep, index, id, position: offset, targets, covariates, entries };
        let newest = steps.latest_time;
        let outcome = steps.push(rules, self.capacity.open_steps, row, |closed| sides.close(closed, tell));
        // A candidate may have been used even where the row itself was not.
        if outcome.verdict == Verdict::Accepted || steps.latest_time != newest {
            *position = offset;
            self.heard(index);
        }
        outcome
    }
}

impl RowBuffers {
    /// Of as many columns as there are.
    fn new(columns: &Columns) -> Self {
        let [targets, covariates] =
            [&columns.targets, &columns.covariates].map(|columns| vec![f64::NAN; columns.len()]);
        Self { targets, covariates, ahead: Vec::new() }
    }

    fn read(&mut self, observations: &Observations<'_>, i: usize, horizon: usize) {
        let targets = self.targets.iter_mut().zip(&observations.targets);
        let covariates = self.covariates.iter_mut().zip(&observations.covariates);
        for (to, column) in targets.chain(covariates) {
            let value = column.value(i);
            *to = if column.is_valid(i) && usable(&value) { value } else { f64::NAN };
        }
        self.ahead.clear();
        if observations.future_covariates.iter().all(|lists| lists.is_null(i)) {
            return;
        }
        for lists in &observations.future_covariates {
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
