//! Restoring of series from a snapshot.
//!
//! The file is untrusted: it may be damaged or forged. Every number is checked against the invariants of a state, so that
//! none can break a later computation.

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, LargeListArray, RecordBatch, StringArray,
};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Float64Type, Int64Type};
use smallvec::SmallVec;

use super::series_store::{SeriesState, SeriesStore, TargetState};
use super::snapshot::{LATEST_TIME, SECTIONS, values_column};
use super::states::AuxStatesMut;
use crate::intervals::OnlineCalibrator;
use crate::network::recurrence::LastObservation;
use crate::schema::Columns;
use crate::series::{
    Candidate, CovariateWindow, OpenStep, RECENT_TIMES_MAX, Row, RunningStats, StepAccumulator, StepBuffer,
    TIMES_PER_STEP_MAX, Window,
};

/// Bound on a step's distance from the epoch, so that differences of steps fit 64 bits.
///
/// Times are microseconds in 64 bits and a step spans at least a thousand of them; the factor of two covers rounding.
const STEP_MAX: i64 = i64::MAX / 500;

/// Reason that a snapshot cannot be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("the snapshot has no column {0:?} of the expected type")]
    Column(String),
    #[error("the snapshot's state of series {id:?} is inconsistent in {section:?}")]
    Inconsistent { id: String, section: &'static str },
    #[error("the snapshot has series {0:?} twice")]
    DuplicateSeries(String),
    #[error("the snapshot has more series than the limit of {0} per partition")]
    TooManySeries(usize),
}

/// Adds the series of a snapshot, or of a batch of it, to a store of at most `limit` series.
pub(super) fn restore_batch(
    batch: &RecordBatch,
    columns: &Columns,
    limit: usize,
    store: &mut SeriesStore,
    mut aux: AuxStatesMut<'_>,
) -> Result<(), RestoreError> {
    let view = SnapshotView::new(batch)?;
    for row in 0..batch.num_rows() {
        let id = view.series.value(row);
        if store.contains(id) {
            return Err(RestoreError::DuplicateSeries(id.to_owned()));
        }
        if store.series().len() >= limit {
            return Err(RestoreError::TooManySeries(limit));
        }
        let state = restore_series(&view, row, columns, store, &mut aux);
        let state = state
            .map_err(|Inconsistent(section)| RestoreError::Inconsistent { id: id.to_owned(), section })?;
        store.insert(state);
    }
    Ok(())
}

/// The section that contains an impossible number, or too few or too many of them.
struct Inconsistent(&'static str);

/// Typed view of a snapshot table.
struct SnapshotView<'a> {
    series: &'a StringArray,
    positions: &'a Int64Array,
    latest_times: &'a Int64Array,
    frontiers: &'a Int64Array,
    cold_starts: &'a BooleanArray,
    /// Integers and floats of each section.
    sections: Vec<(&'a LargeListArray, &'a LargeListArray)>,
}

impl<'a> SnapshotView<'a> {
    fn new(batch: &'a RecordBatch) -> Result<Self, RestoreError> {
        let missing = |name: &str| RestoreError::Column(name.to_owned());
        let column = |name: &str| batch.column_by_name(name).ok_or_else(|| missing(name));
        let integers =
            |name: &str| column(name)?.as_primitive_opt::<Int64Type>().ok_or_else(|| missing(name));
        let mut sections = Vec::new();
        for section in SECTIONS {
            let values = values_column(section);
            sections.push((
                list(column(section)?, &DataType::Int64, section)?,
                list(column(&values)?, &DataType::Float64, &values)?,
            ));
        }
        Ok(Self {
            series: column("series")?.as_string_opt::<i32>().ok_or_else(|| missing("series"))?,
            positions: integers("position")?,
            latest_times: integers(LATEST_TIME)?,
            frontiers: integers("frontier")?,
            cold_starts: column("cold_start")?.as_boolean_opt().ok_or_else(|| missing("cold_start"))?,
            sections,
        })
    }

    fn cursors(&self, row: usize) -> [Cursor<'a>; SECTIONS.len()] {
        std::array::from_fn(|i| Cursor {
            integers: list_values::<Int64Type>(self.sections[i].0, row),
            floats: list_values::<Float64Type>(self.sections[i].1, row),
            section: SECTIONS[i],
        })
    }
}

fn list<'a>(column: &'a ArrayRef, item: &DataType, name: &str) -> Result<&'a LargeListArray, RestoreError> {
    let list = column.as_list_opt::<i64>().filter(|l| l.value_type() == *item && l.null_count() == 0);
    list.ok_or_else(|| RestoreError::Column(name.to_owned()))
}

/// The numbers of a row, without an array for each.
fn list_values<T: ArrowPrimitiveType>(list: &LargeListArray, row: usize) -> &[T::Native] {
    let offsets = list.value_offsets();
    let values = list.values().as_primitive::<T>().values();
    values.get(offsets[row] as usize..offsets[row + 1] as usize).unwrap_or_default()
}

/// Unread numbers of one section of one series.
struct Cursor<'a> {
    integers: &'a [i64],
    floats: &'a [f64],
    section: &'static str,
}

impl<'a> Cursor<'a> {
    fn error(&self) -> Inconsistent {
        Inconsistent(self.section)
    }

    fn integer(&mut self) -> Result<i64, Inconsistent> {
        Ok(self.take_integers(1)?[0])
    }

    fn take_integers(&mut self, count: usize) -> Result<&'a [i64], Inconsistent> {
        self.integers.split_off(..count).ok_or(self.error())
    }

    fn count<T: TryFrom<i64>>(&mut self) -> Result<T, Inconsistent> {
        T::try_from(self.integer()?).map_err(|_| self.error())
    }

    fn step(&mut self) -> Result<i64, Inconsistent> {
        let step = self.integer()?;
        if is_step(step) { Ok(step) } else { Err(self.error()) }
    }

    fn float(&mut self) -> Result<f64, Inconsistent> {
        Ok(self.take_floats(1)?[0])
    }

    fn take_floats(&mut self, count: usize) -> Result<&'a [f64], Inconsistent> {
        self.floats.split_off(..count).ok_or(self.error())
    }

    fn take_finite(&mut self, count: usize) -> Result<&'a [f64], Inconsistent> {
        let values = self.take_floats(count)?;
        if values.iter().all(|value| value.is_finite()) { Ok(values) } else { Err(self.error()) }
    }

    /// Finite numbers in single precision.
    fn take_f32(&mut self, count: usize) -> Result<Vec<f32>, Inconsistent> {
        let values: Vec<f32> = self.take_floats(count)?.iter().map(|value| *value as f32).collect();
        if values.iter().all(|value| value.is_finite()) { Ok(values) } else { Err(self.error()) }
    }

    fn end(&self) -> Result<(), Inconsistent> {
        if self.integers.is_empty() && self.floats.is_empty() { Ok(()) } else { Err(self.error()) }
    }
}

fn is_step(step: i64) -> bool {
    (-STEP_MAX..=STEP_MAX).contains(&step)
}

/// Restores the next series of `store`; its carried states go to `aux`.
fn restore_series(
    view: &SnapshotView<'_>,
    row: usize,
    columns: &Columns,
    store: &SeriesStore,
    aux: &mut AuxStatesMut<'_>,
) -> Result<SeriesState, Inconsistent> {
    let [
        recent_times,
        candidate,
        open_steps,
        windows,
        covariates,
        mut recurrence,
        mut cells,
        mut calibration,
    ] = view.cursors(row);
    let mut steps = StepBuffer::default();
    steps.latest_time = view.latest_times.is_valid(row).then(|| view.latest_times.value(row));
    steps.frontier = view.frontiers.value(row);
    steps.cold_start = view.cold_starts.value(row);
    if !is_step(steps.frontier) {
        return Err(Inconsistent("frontier"));
    }
    let state = SeriesState {
        id: view.series.value(row).into(),
        position: view.positions.value(row),
        steps: read_steps(steps, recent_times, candidate, open_steps, columns)?,
        targets: read_targets(windows, columns.targets.len())?,
        covariates: read_covariates(covariates, columns.covariates.len())?,
    };
    let size = aux.recurrence.as_ref().map_or(0, |states| states.recurrence().state_len());
    let read = |_| RecurrenceState::read(&mut recurrence, size);
    let recurrence_states = (0..columns.targets.len()).map(read).collect::<Result<Vec<_>, _>>()?;
    recurrence.end()?;
    if let Some(section) = find_inconsistency(&state, store, aux.recurrence.is_some(), &recurrence_states) {
        return Err(Inconsistent(section));
    }
    let first_column = store.series().len() * columns.targets.len();
    if let Some(states) = &mut aux.recurrence {
        for (column, state) in (first_column..).zip(&recurrence_states) {
            states.set_column(column, state.last, &state.values);
        }
    }
    let target_columns = first_column..first_column + columns.targets.len();
    if let Some(states) = &mut aux.cells {
        for column in target_columns.clone() {
            let values = cells.take_f32(states.column_len())?;
            states.set_column(column, &values);
        }
    }
    cells.end()?;
    if let Some(calibrator) = &mut aux.calibrator {
        for column in target_columns {
            restore_calibration(&mut calibration, &state, calibrator, column)?;
        }
        calibration.end()?;
    }
    Ok(state)
}

fn read_steps(
    mut steps: StepBuffer,
    mut recent_times: Cursor<'_>,
    mut candidate: Cursor<'_>,
    mut open_steps: Cursor<'_>,
    columns: &Columns,
) -> Result<StepBuffer, Inconsistent> {
    let (target_count, covariate_count) = (columns.targets.len(), columns.covariates.len());
    let times = recent_times.take_integers(recent_times.integers.len())?;
    if times.len() > RECENT_TIMES_MAX {
        return Err(recent_times.error());
    }
    steps.recent_times = times.iter().copied().collect();
    if !candidate.integers.is_empty() {
        let (position, time) = (candidate.integer()?, candidate.integer()?);
        let (targets, covariates) =
            (candidate.take_floats(target_count)?, candidate.take_floats(covariate_count)?);
        let future = candidate.take_floats(candidate.floats.len())?;
        steps.set_candidate(Candidate::new(Row { position, time, targets, covariates, future }));
    }
    while !open_steps.integers.is_empty() {
        let step = read_open_step(&mut open_steps, target_count, covariate_count)?;
        steps.push_open_step(step);
    }
    if !steps.open_steps().is_sorted_by(|a, b| a.step < b.step) {
        return Err(open_steps.error());
    }
    [recent_times, candidate, open_steps].iter().try_for_each(Cursor::end)?;
    Ok(steps)
}

fn read_open_step(
    cursor: &mut Cursor<'_>,
    target_count: usize,
    covariate_count: usize,
) -> Result<OpenStep, Inconsistent> {
    let (step, rows, times) = (cursor.step()?, cursor.count()?, cursor.count()?);
    let times = cursor.take_integers(times)?.to_vec();
    let mut accumulators = Vec::new();
    for _ in 0..target_count + covariate_count {
        let (count, latest) = (cursor.count()?, cursor.integer()?);
        accumulators.push(StepAccumulator { count, latest, value: 0.0 });
    }
    let (future_time, future) = (cursor.integer()?, cursor.count()?);
    for accumulator in &mut accumulators {
        accumulator.value = cursor.float()?;
    }
    let future = cursor.take_floats(future)?.to_vec();
    Ok(OpenStep { step, rows, times, accumulators, target_count, future, future_time, values: Vec::new() })
}

fn read_targets(mut windows: Cursor<'_>, count: usize) -> Result<SmallVec<[TargetState; 1]>, Inconsistent> {
    let mut targets = SmallVec::new();
    for _ in 0..count {
        let (last_step, length) = (windows.step()?, windows.count::<usize>()?);
        let flags = windows.take_integers(length.div_ceil(64))?;
        let count = windows.count()?;
        let moments = windows.take_finite(4)?;
        let [mean, m2, min, max] = [moments[0], moments[1], moments[2], moments[3]];
        let stats = RunningStats { count, mean, m2, min, max };
        let values = windows.take_floats(length)?.to_vec();
        let observed = (0..length).map(|i| flags[i / 64] >> (i % 64) & 1 == 1).collect();
        targets.push(TargetState { window: Window::restored(last_step, values, observed), stats });
    }
    windows.end()?;
    Ok(targets)
}

fn read_covariates(mut cursor: Cursor<'_>, count: usize) -> Result<Box<[CovariateWindow]>, Inconsistent> {
    let mut covariates = Vec::new();
    for _ in 0..count {
        let (last_step, length) = (cursor.step()?, cursor.count()?);
        covariates.push(CovariateWindow::restored(last_step, cursor.take_floats(length)?.to_vec()));
    }
    cursor.end()?;
    Ok(covariates.into())
}

/// State of the recurrence of one target; without an observation it has no values.
#[derive(Default)]
struct RecurrenceState {
    last: Option<LastObservation>,
    values: Vec<f32>,
}

impl RecurrenceState {
    fn read(cursor: &mut Cursor<'_>, size: usize) -> Result<Self, Inconsistent> {
        match cursor.count()? {
            0 => Ok(Self::default()),
            count if count == size => {
                let last = LastObservation { step: cursor.step()?, value: cursor.take_finite(1)?[0] };
                Ok(Self { last: Some(last), values: cursor.take_f32(size)? })
            }
            _ => Err(cursor.error()),
        }
    }
}

fn restore_calibration(
    cursor: &mut Cursor<'_>,
    state: &SeriesState,
    calibrator: &mut OnlineCalibrator,
    column: usize,
) -> Result<(), Inconsistent> {
    if cursor.count::<usize>()? == 0 {
        return Ok(());
    }
    let last = cursor.step()?;
    let values = cursor.take_floats(calibrator.layout().state_len())?;
    let values: Vec<f32> = values.iter().map(|value| *value as f32).collect();
    let has_closed = state.steps.latest_time.is_some() && last < state.steps.frontier;
    if has_closed && calibrator.restore(column, last, &values) { Ok(()) } else { Err(cursor.error()) }
}

/// The section that contradicts itself or another, if one does.
fn find_inconsistency(
    state: &SeriesState,
    store: &SeriesStore,
    has_recurrence: bool,
    recurrence: &[RecurrenceState],
) -> Option<&'static str> {
    let SeriesState { steps, targets, covariates, .. } = state;
    // No step closes before the first accepted row.
    let has_started = steps.latest_time.is_some();
    let has_closed = |step: i64| has_started && is_step(step) && step < steps.frontier;
    let is_future = |values: &[f64]| values.is_empty() || values.len() == store.future_len();
    if steps.candidate().is_some_and(|candidate| !is_future(candidate.row().future)) {
        return Some("candidate");
    }
    let is_open = steps.open_steps().all(|open| {
        let is_later = is_step(open.step) && open.step >= steps.frontier;
        is_later && open.times.len() <= TIMES_PER_STEP_MAX && is_future(&open.future)
    });
    if !is_open || !(has_started || steps.open_steps().next().is_none()) {
        return Some("open_steps");
    }
    for (target, recurrence) in targets.iter().zip(recurrence) {
        let window = &target.window;
        let values = window.tail(window.len()).map_or(&[][..], |(values, _)| values);
        // There are no more observations than microseconds.
        let is_count = target.stats.count <= i64::MAX as u64;
        let is_window = values.is_empty() || has_closed(window.last_step);
        if !is_window || !is_count || values.iter().any(|value| !value.is_finite()) {
            return Some("windows");
        }
        // The recurrence starts with the window and survives its resets.
        let is_aligned = match recurrence.last {
            Some(last) => has_closed(last.step) && (values.is_empty() || last.step == window.last_step),
            None => values.is_empty() || !has_recurrence,
        };
        if !is_aligned {
            return Some("recurrence");
        }
    }
    let is_window = |w: &CovariateWindow| w.tail(usize::MAX).is_empty() || has_closed(w.last_step);
    (!covariates.iter().all(is_window)).then_some("covariates")
}
