//! A snapshot's rows back into histories. What they say is not to be trusted: a file may be damaged, or made by somebody.

use arrow::array::{Array, ArrayRef, AsArray, LargeListArray, RecordBatch};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Float64Type, Int64Type};
use smallvec::SmallVec;

use super::snapshot::{LIVE, PARTS, values_of};
use super::sound::{self, STEP_MAX};
use super::{BesideMut, SeriesStore, SeriesState, TargetState};
use crate::intervals::OnlineCalibrator;
use crate::series::{Candidate, StepAccumulator, OpenStep, RECENT_TIMES_MAX, Row, RunningStats, StepBuffer, CovariateWindow, Window};
use crate::schema::Columns;

/// Why a snapshot could not be put back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("the snapshot has no column {0:?} of the right type")]
    Column(String),
    #[error("the snapshot's state of series {id:?} contradicts itself in {part:?}")]
    Row { id: String, part: &'static str },
    #[error("the snapshot has series {0:?} twice")]
    Twice(String),
    #[error("the snapshot has more series than a partition may hold: {0}")]
    TooMany(usize),
}

/// Adds the ids of a snapshot, or of a batch of it, behind those that are there.
pub fn into(
    snapshot: &RecordBatch,
    columns: &Columns,
    limit: usize,
    histories: &mut SeriesStore,
    beside: BesideMut<'_>,
) -> Result<(), RestoreError> {
    let BesideMut { mut remembered, mut carried, mut online } = beside;
    let column =
        |name: &str| snapshot.column_by_name(name).ok_or_else(|| RestoreError::Column(name.to_owned()));
    let whole = |name: &str| {
        let found = column(name)?.as_primitive_opt::<Int64Type>();
        found.ok_or_else(|| RestoreError::Column(name.to_owned()))
    };
    let series =
        column("series")?.as_string_opt::<i32>().ok_or_else(|| RestoreError::Column("series".into()))?;
    let cold = column("cold")?.as_boolean_opt().ok_or_else(|| RestoreError::Column("cold".into()))?;
    let (positions, newest, frontiers) = (whole("position")?, whole("newest")?, whole("frontier")?);
    let mut parts = Vec::new();
    // A series of which nothing was kept here begins as the model knows it.
    let known = |name: &&str| *name != LIVE || snapshot.column_by_name(name).is_some();
    for name in PARTS.into_iter().filter(known) {
        let (values, name) = (values_of(name), name.to_owned());
        parts.push((
            list(column(&name)?, &DataType::Int64, name)?,
            list(column(&values)?, &DataType::Float64, values)?,
        ));
    }
    let numbers = remembered.as_ref().map_or(0, |all| all.memory().numbers());
    for row in 0..snapshot.num_rows() {
        let id = series.value(row);
        let torn = |Torn(part)| RestoreError::Row { id: id.to_owned(), part };
        let cursors: [Cursor<'_>; PARTS.len()] = std::array::from_fn(|part| {
            let Some((whole, real)) = parts.get(part).copied() else {
                return Cursor { whole: &[], real: &[], part: PARTS[part] };
            };
            let (whole, real) = (of_row::<Int64Type>(whole, row), of_row::<Float64Type>(real, row));
            Cursor { whole, real, part: PARTS[part] }
        });
        if histories.holds(id) {
            return Err(RestoreError::Twice(id.to_owned()));
        }
        if histories.all().len() >= limit {
            return Err(RestoreError::TooMany(limit));
        }
        let mut history = SeriesState {
            id: id.into(),
            position: positions.value(row),
            steps: StepBuffer::default(),
            targets: SmallVec::new(),
            covariates: Box::default(),
        };
        history.steps.latest_time = newest.is_valid(row).then(|| newest.value(row));
        history.steps.frontier = in_range(frontiers.value(row), "frontier").map_err(torn)?;
        history.steps.cold_start = cold.value(row);
        let [mut memory, mut states, mut followed] = read(cursors, columns, &mut history).map_err(torn)?;
        let kept = columns.targets.iter().map(|_| Kept::read(&mut memory, numbers));
        let kept = kept.collect::<Result<Vec<Kept>, Torn>>().map_err(torn)?;
        memory.end().map_err(torn)?;
        let lasts: Vec<Option<(i64, f64)>> = kept.iter().map(|kept| kept.last).collect();
        if let Some(part) = sound::contradiction(&history, histories, remembered.is_some(), &lasts) {
            return Err(torn(Torn(part)));
        }
        if let Some(remembered) = &mut remembered {
            for (target, Kept { last, numbers }) in kept.iter().enumerate() {
                remembered.set(histories.all().len() * columns.targets.len() + target, *last, numbers);
            }
        }
        if let Some(carried) = &mut carried {
            for target in 0..columns.targets.len() {
                let numbers = states.singles(carried.numbers()).map_err(torn)?;
                carried.set_column(histories.all().len() * columns.targets.len() + target, &numbers);
            }
        }
        states.end().map_err(torn)?;
        if let Some(online) = online.as_mut().filter(|_| parts.len() == PARTS.len()) {
            for target in 0..columns.targets.len() {
                let column = histories.all().len() * columns.targets.len() + target;
                follow(&mut followed, &history, online, column).map_err(torn)?;
            }
            followed.end().map_err(torn)?;
        }
        histories.insert(history);
    }
    Ok(())
}

fn list<'a>(column: &'a ArrayRef, of: &DataType, name: String) -> Result<&'a LargeListArray, RestoreError> {
    let found = column.as_list_opt::<i64>().filter(|list| list.value_type() == *of && list.null_count() == 0);
    found.ok_or(RestoreError::Column(name))
}

/// The numbers of a row, without a new array for each.
fn of_row<T: ArrowPrimitiveType>(list: &LargeListArray, row: usize) -> &[T::Native] {
    let offsets = list.value_offsets();
    let values = list.values().as_primitive::<T>().values();
    values.get(offsets[row] as usize..offsets[row + 1] as usize).unwrap_or_default()
}

/// The part whose numbers are too few, too many or impossible.
struct Torn(&'static str);

/// What is left of one id's numbers of one part.
struct Cursor<'a> {
    whole: &'a [i64],
    real: &'a [f64],
    part: &'static str,
}

impl<'a> Cursor<'a> {
    fn whole(&mut self) -> Result<i64, Torn> {
        Ok(self.wholes(1)?[0])
    }

    fn wholes(&mut self, count: usize) -> Result<&'a [i64], Torn> {
        let (taken, rest) = self.whole.split_at_checked(count).ok_or(Torn(self.part))?;
        self.whole = rest;
        Ok(taken)
    }

    fn count(&mut self) -> Result<usize, Torn> {
        usize::try_from(self.whole()?).map_err(|_| Torn(self.part))
    }

    fn narrow(&mut self) -> Result<u32, Torn> {
        u32::try_from(self.whole()?).map_err(|_| Torn(self.part))
    }

    fn step(&mut self) -> Result<i64, Torn> {
        in_range(self.whole()?, self.part)
    }

    fn real(&mut self) -> Result<f64, Torn> {
        Ok(self.reals(1)?[0])
    }

    fn reals(&mut self, count: usize) -> Result<&'a [f64], Torn> {
        let (taken, rest) = self.real.split_at_checked(count).ok_or(Torn(self.part))?;
        self.real = rest;
        Ok(taken)
    }

    fn finite(&mut self, count: usize) -> Result<&'a [f64], Torn> {
        let numbers = self.reals(count)?;
        if numbers.iter().all(|number| number.is_finite()) { Ok(numbers) } else { Err(Torn(self.part)) }
    }

    /// Finite numbers in single precision.
    fn singles(&mut self, count: usize) -> Result<Vec<f32>, Torn> {
        let numbers: Vec<f32> = self.reals(count)?.iter().map(|number| *number as f32).collect();
        if numbers.iter().all(|number| number.is_finite()) { Ok(numbers) } else { Err(Torn(self.part)) }
    }

    fn end(&self) -> Result<(), Torn> {
        if self.whole.is_empty() && self.real.is_empty() { Ok(()) } else { Err(Torn(self.part)) }
    }
}

fn in_range(step: i64, part: &'static str) -> Result<i64, Torn> {
    if (-STEP_MAX..=STEP_MAX).contains(&step) { Ok(step) } else { Err(Torn(part)) }
}

/// What was followed of a target.
fn follow(
    followed: &mut Cursor<'_>,
    history: &SeriesState,
    online: &mut OnlineCalibrator,
    column: usize,
) -> Result<(), Torn> {
    if followed.count()? == 0 {
        return Ok(());
    }
    let last = followed.step()?;
    let numbers = followed.reals(online.layout().state_len())?;
    let numbers: Vec<f32> = numbers.iter().map(|number| *number as f32).collect();
    let has_closed = history.steps.latest_time.is_some() && last < history.steps.frontier;
    if has_closed && online.restore(column, last, &numbers) { Ok(()) } else { Err(Torn(followed.part)) }
}

/// Reads all parts but the last three, which it gives back.
fn read<'a>(
    cursors: [Cursor<'a>; PARTS.len()],
    columns: &Columns,
    history: &mut SeriesState,
) -> Result<[Cursor<'a>; 3], Torn> {
    let [mut accepted, mut candidate, mut open, mut windows, mut tracks, memory, carried, online] = cursors;
    let (targets, covariates) = (columns.targets.len(), columns.covariates.len());
    let times = accepted.wholes(accepted.whole.len())?;
    if times.len() > RECENT_TIMES_MAX {
        return Err(Torn("accepted"));
    }
    history.steps.recent_times = times.iter().copied().collect();
    if !candidate.whole.is_empty() {
        let (offset, time) = (candidate.whole()?, candidate.whole()?);
        let (targets, covariates) = (candidate.reals(targets)?, candidate.reals(covariates)?);
        let ahead = candidate.reals(candidate.real.len())?;
        history.steps.set_candidate(Candidate::new(Row { position: offset, time, targets, covariates, future: ahead }));
    }
    while !open.whole.is_empty() {
        let step = open_step(&mut open, targets, covariates)?;
        history.steps.push_open_step(step);
    }
    if !history.steps.open_steps().is_sorted_by(|a, b| a.step < b.step) {
        return Err(Torn(open.part));
    }
    for _ in 0..targets {
        let (last, length) = (windows.step()?, windows.count()?);
        let marks = windows.wholes(length.div_ceil(64))?;
        let count = windows.count()? as u64;
        let moments = windows.finite(4)?;
        let [mean, m2, min, max] = [moments[0], moments[1], moments[2], moments[3]];
        let running = RunningStats { count, mean, m2, min, max };
        let values = windows.reals(length)?.to_vec();
        let observed = (0..length).map(|i| marks[i / 64] >> (i % 64) & 1 == 1).collect();
        let window = Window::restored(last, values, observed);
        history.targets.push(TargetState { window, running });
    }
    let track = |_| {
        let (last, length) = (tracks.step()?, tracks.count()?);
        Ok(CovariateWindow::restored(last, tracks.reals(length)?.to_vec()))
    };
    history.covariates = (0..covariates).map(track).collect::<Result<_, Torn>>()?;
    [accepted, candidate, open, windows, tracks].iter().try_for_each(Cursor::end)?;
    Ok([memory, carried, online])
}

/// What is kept of a target's memory: as many numbers as it has and its latest reading, or nothing yet.
#[derive(Default)]
struct Kept {
    last: Option<(i64, f64)>,
    numbers: Vec<f32>,
}

impl Kept {
    fn read(memory: &mut Cursor<'_>, numbers: usize) -> Result<Self, Torn> {
        match memory.count()? {
            0 => Ok(Self::default()),
            count if count == numbers => {
                let last = Some((memory.step()?, memory.finite(1)?[0]));
                Ok(Self { last, numbers: memory.singles(numbers)? })
            }
            _ => Err(Torn(memory.part)),
        }
    }
}

fn open_step(open: &mut Cursor<'_>, targets: usize, covariates: usize) -> Result<OpenStep, Torn> {
    let (step, rows, times) = (open.step()?, open.narrow()?, open.count()?);
    let times = open.wholes(times)?.to_vec();
    let mut cells = Vec::new();
    for _ in 0..targets + covariates {
        cells.push(StepAccumulator { count: open.narrow()?, latest: open.whole()?, value: 0.0 });
    }
    let (ahead_time, ahead) = (open.whole()?, open.count()?);
    for cell in &mut cells {
        cell.value = open.real()?;
    }
    let ahead = open.reals(ahead)?.to_vec();
    Ok(OpenStep { step, rows, times, accumulators: cells, target_count: targets, future: ahead, future_time: ahead_time, ..OpenStep::default() })
}
