//! Every series' state as an Arrow table, a row an id, and back. Plain columns and lists of numbers, so that any Arrow
//! tool can read them:
//!
//! | column | of an id |
//! |---|---|
//! | `series`, `position`, `newest`, `frontier`, `cold` | its name, its latest used row, its clock, its first open step |
//! | `accepted` | its last accepted times |
//! | `candidate`, `candidate_values` | offset and time; targets, covariates, known ahead |
//! | `open`, `open_values` | each step: number, rows, times (counted), count and latest time of each cell, time of what is known ahead and its length; the cells' values, what is known ahead |
//! | `windows`, `windows_values` | each target: last step, length, 64 marks a number, readings so far; mean, squares, least, greatest, a value a step |
//! | `tracks`, `tracks_values` | each covariate: last step, length; a value a step |
//! | `memory`, `memory_values` | each target: count of its numbers, last step; last value, the numbers; a count of 0 alone before the first reading |
//! | `carried`, `carried_values` | nothing; each target: the cells' state, if the model carries one |

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Builder, Int64Array, Int64Builder, LargeListArray,
    LargeListBuilder, RecordBatch, StringArray,
};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema};

use super::{Carried, Histories, History, Target, sound};
use crate::network::memory::{Memory, MemoryState};
use crate::series::{Candidate, Cell, OpenStep, Running, Steps, Track, Window};
use crate::table::Columns;

/// Why a snapshot could not be put back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("the snapshot has no column {0:?} of the right type")]
    Column(String),
    #[error("the snapshot's state of series {id:?} contradicts itself in {part:?}")]
    Row { id: String, part: &'static str },
}

const PARTS: [&str; 7] = ["accepted", "candidate", "open", "windows", "tracks", "memory", "carried"];

/// One part of the state of all ids: whole numbers and floating point numbers, a list of each an id.
#[derive(Default)]
struct Part {
    whole: LargeListBuilder<Int64Builder>,
    real: LargeListBuilder<Float64Builder>,
}

impl Part {
    fn whole(&mut self, values: impl IntoIterator<Item = i64>) {
        values.into_iter().for_each(|value| self.whole.values().append_value(value));
    }

    fn real(&mut self, values: &[f64]) {
        self.real.values().append_slice(values);
    }
}

/// The state of all ids, ordered by id.
pub fn of(histories: &Histories, carried: Option<&Carried>) -> RecordBatch {
    let order = histories.by_id();
    let rows: Vec<&History> = order.iter().map(|index| &histories.all()[*index]).collect();
    let mut parts: [Part; 7] = Default::default();
    for (history, index) in rows.iter().zip(&order) {
        write(history, histories.keep(), &mut parts);
        if let (Some(carried), [.., part]) = (carried, &mut parts) {
            let columns = index * history.targets.len()..(index + 1) * history.targets.len();
            let numbers = columns.flat_map(|column| carried.column(column));
            part.real(&numbers.map(f64::from).collect::<Vec<_>>());
        }
        for part in &mut parts {
            part.whole.append(true);
            part.real.append(true);
        }
    }
    let mut columns: Vec<(String, ArrayRef)> = vec![
        ("series".into(), Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.id)))),
        ("position".into(), Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.position)))),
        ("newest".into(), Arc::new(rows.iter().map(|row| row.steps.newest).collect::<Int64Array>())),
        (
            "frontier".into(),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.steps.frontier))),
        ),
        ("cold".into(), Arc::new(rows.iter().map(|row| Some(row.steps.cold)).collect::<BooleanArray>())),
    ];
    for (name, mut part) in PARTS.into_iter().zip(parts) {
        columns.push((name.into(), Arc::new(part.whole.finish())));
        columns.push((values_of(name), Arc::new(part.real.finish())));
    }
    let field =
        |(name, column): &(String, ArrayRef)| Field::new(name, column.data_type().clone(), name == "newest");
    let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new(Arc::new(schema), columns).expect("every column has a row an id")
}

fn values_of(part: &str) -> String {
    format!("{part}_values")
}

fn write(
    history: &History,
    keep: usize,
    [accepted, candidate, open, windows, tracks, memory, _]: &mut [Part; 7],
) {
    let steps = &history.steps;
    accepted.whole(steps.accepted.iter().copied());
    if let Some(held) = &steps.candidate {
        candidate.whole([held.offset, held.time]);
        candidate.real(&held.targets);
        candidate.real(&held.covariates);
        candidate.real(&held.ahead);
    }
    for step in &steps.open {
        open.whole([step.step, i64::from(step.rows), step.times.len() as i64]);
        open.whole(step.times.iter().copied());
        open.whole(step.cells.iter().flat_map(|cell| [i64::from(cell.count), cell.latest]));
        open.whole([step.ahead_time, step.ahead.len() as i64]);
        step.cells.iter().for_each(|cell| open.real(&[cell.value]));
        open.real(&step.ahead);
    }
    for Target { window, running, memory: state } in &history.targets {
        memory.whole([state.numbers.len() as i64]);
        if let Some((step, value)) = state.last {
            memory.whole([step]);
            memory.real(&[value]);
            memory.real(&state.numbers);
        }
        let (values, observed) = window.tail(window.len().min(keep)).unwrap_or_default();
        windows.whole([window.last, values.len() as i64]);
        windows.whole(observed.chunks(64).map(packed));
        windows.whole([running.count as i64]);
        windows.real(&[running.mean, running.squares, running.low, running.high]);
        windows.real(values);
    }
    for track in &history.covariates {
        let values = track.tail(keep);
        tracks.whole([track.last, values.len() as i64]);
        tracks.real(values);
    }
}

/// Marks as the bits of a number, the first one lowest.
fn packed(marks: &[bool]) -> i64 {
    marks.iter().rev().fold(0, |bits, mark| bits << 1 | i64::from(*mark))
}

/// Puts the ids of a snapshot into empty histories.
pub fn into(
    snapshot: &RecordBatch,
    columns: &Columns,
    histories: &mut Histories,
    mut carried: Option<&mut Carried>,
) -> Result<(), RestoreError> {
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
    for name in PARTS {
        let (values, name) = (values_of(name), name.to_owned());
        parts.push((
            list(column(&name)?, &DataType::Int64, name)?,
            list(column(&values)?, &DataType::Float64, values)?,
        ));
    }
    for row in 0..snapshot.num_rows() {
        let mut cursors = parts.iter().zip(PARTS).map(|((whole, real), part)| Cursor {
            whole: whole.value(row).as_primitive::<Int64Type>().values().to_vec().into_iter(),
            real: real.value(row).as_primitive::<Float64Type>().values().to_vec().into_iter(),
            part,
        });
        let cursors: [Cursor; 7] = std::array::from_fn(|_| cursors.next().expect("a cursor a part"));
        let mut history = History {
            id: series.value(row).into(),
            position: positions.value(row),
            steps: Steps::default(),
            targets: Vec::new(),
            covariates: Vec::new(),
        };
        history.steps.newest = newest.is_valid(row).then(|| newest.value(row));
        history.steps.frontier = frontiers.value(row);
        history.steps.cold = cold.value(row);
        let numbers = histories.memory().map_or(0, Memory::numbers);
        let torn = |Torn(part)| RestoreError::Row { id: series.value(row).to_owned(), part };
        let mut states = read(cursors, columns, numbers, &mut history).map_err(torn)?;
        if let Some(part) = sound::contradiction(&history, histories) {
            return Err(torn(Torn(part)));
        }
        if let Some(carried) = &mut carried {
            for target in 0..columns.targets.len() {
                let numbers = states.reals(carried.numbers()).map_err(torn)?;
                let numbers: Vec<f32> = numbers.into_iter().map(|number| number as f32).collect();
                carried.set_column(histories.all().len() * columns.targets.len() + target, &numbers);
            }
        }
        states.end().map_err(torn)?;
        histories.insert(history);
    }
    Ok(())
}

fn list<'a>(column: &'a ArrayRef, of: &DataType, name: String) -> Result<&'a LargeListArray, RestoreError> {
    let found = column.as_list_opt::<i64>().filter(|list| list.value_type() == *of && list.null_count() == 0);
    found.ok_or(RestoreError::Column(name))
}

/// The part whose numbers are too few, too many or impossible.
struct Torn(&'static str);

/// One id's numbers of one part.
struct Cursor {
    whole: std::vec::IntoIter<i64>,
    real: std::vec::IntoIter<f64>,
    part: &'static str,
}

impl Cursor {
    fn whole(&mut self) -> Result<i64, Torn> {
        self.whole.next().ok_or(Torn(self.part))
    }

    fn wholes(&mut self, count: usize) -> Result<Vec<i64>, Torn> {
        (0..count).map(|_| self.whole()).collect()
    }

    fn count(&mut self) -> Result<usize, Torn> {
        usize::try_from(self.whole()?).map_err(|_| Torn(self.part))
    }

    fn narrow(&mut self) -> Result<u32, Torn> {
        u32::try_from(self.whole()?).map_err(|_| Torn(self.part))
    }

    fn real(&mut self) -> Result<f64, Torn> {
        self.real.next().ok_or(Torn(self.part))
    }

    fn reals(&mut self, count: usize) -> Result<Vec<f64>, Torn> {
        (0..count).map(|_| self.real()).collect()
    }

    fn end(&self) -> Result<(), Torn> {
        if self.whole.len() + self.real.len() == 0 { Ok(()) } else { Err(Torn(self.part)) }
    }
}

/// Reads all parts but the last, which it gives back.
fn read(
    cursors: [Cursor; 7],
    columns: &Columns,
    numbers: usize,
    history: &mut History,
) -> Result<Cursor, Torn> {
    let [mut accepted, mut candidate, mut open, mut windows, mut tracks, mut memory, carried] = cursors;
    let (targets, covariates) = (columns.targets.len(), columns.covariates.len());
    history.steps.accepted = accepted.wholes(accepted.whole.len())?.into();
    if candidate.whole.len() > 0 {
        let (offset, time) = (candidate.whole()?, candidate.whole()?);
        let (targets, covariates) = (candidate.reals(targets)?, candidate.reals(covariates)?);
        let ahead = candidate.reals(candidate.real.len())?;
        history.steps.candidate = Some(Box::new(Candidate { offset, time, targets, covariates, ahead }));
    }
    while open.whole.len() > 0 {
        let step = open_step(&mut open, targets, covariates)?;
        history.steps.open.push_back(step);
    }
    for _ in 0..targets {
        let (last, length) = (windows.whole()?, windows.count()?);
        let marks = windows.wholes(length.div_ceil(64))?;
        let observed = (0..length).map(|i| marks[i / 64] >> (i % 64) & 1 == 1).collect();
        let count = windows.count()? as u64;
        let [mean, squares, low, high] = [windows.real()?, windows.real()?, windows.real()?, windows.real()?];
        let running = Running { count, mean, squares, low, high };
        let window = Window::restored(last, windows.reals(length)?, observed);
        history.targets.push(Target { window, running, memory: remembered(&mut memory, numbers)? });
    }
    for _ in 0..covariates {
        let (last, length) = (tracks.whole()?, tracks.count()?);
        history.covariates.push(Track::restored(last, tracks.reals(length)?));
    }
    [accepted, candidate, open, windows, tracks, memory].iter().try_for_each(Cursor::end)?;
    Ok(carried)
}

/// What is remembered of a target: as many numbers as the memory has, or nothing yet.
fn remembered(memory: &mut Cursor, numbers: usize) -> Result<MemoryState, Torn> {
    match memory.count()? {
        0 => Ok(MemoryState::default()),
        count if count == numbers => {
            let last = Some((memory.whole()?, memory.real()?));
            Ok(MemoryState { last, numbers: memory.reals(numbers)? })
        }
        _ => Err(Torn(memory.part)),
    }
}

fn open_step(open: &mut Cursor, targets: usize, covariates: usize) -> Result<OpenStep, Torn> {
    let (step, rows, times) = (open.whole()?, open.narrow()?, open.count()?);
    let times = open.wholes(times)?;
    let mut cells = Vec::new();
    for _ in 0..targets + covariates {
        cells.push(Cell { count: open.narrow()?, latest: open.whole()?, value: 0.0 });
    }
    let (ahead_time, ahead) = (open.whole()?, open.count()?);
    for cell in &mut cells {
        cell.value = open.real()?;
    }
    Ok(OpenStep {
        step,
        rows,
        times,
        cells,
        targets,
        ahead: open.reals(ahead)?,
        ahead_time,
        ..OpenStep::default()
    })
}
