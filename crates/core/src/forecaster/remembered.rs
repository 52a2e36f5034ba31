//! The memory's states that series carry from step to step, side by side: a column for each target of each id.

use super::closing::WindowUpdate;
use crate::prefetch;
use crate::network::recurrence::LinearRecurrence;
use crate::series::Window;

/// The step of a column that has not remembered anything yet.
const NEVER: i64 = i64::MIN;

/// The states of a memory.
pub struct MemoryStates {
    memory: LinearRecurrence,
    /// `[column][number]`
    numbers: Vec<f32>,
    /// Of each column, step and value of the latest reading.
    last: Vec<(i64, f64)>,
}

impl MemoryStates {
    /// Of no series yet.
    pub fn new(memory: LinearRecurrence) -> Self {
        Self { memory, numbers: Vec::new(), last: Vec::new() }
    }

    pub fn memory(&self) -> &LinearRecurrence {
        &self.memory
    }

    /// A column takes the steps that its window has just taken, the last of them at `step`.
    pub fn follow(&mut self, column: usize, entry: WindowUpdate, window: &Window, step: i64) {
        self.widen(column);
        let last = self.last(column);
        let (memory, size) = (&self.memory, self.memory.numbers());
        let numbers = &mut self.numbers[column * size..][..size];
        let new = match entry {
            WindowUpdate::Missing => return,
            WindowUpdate::Reset => 1,
            WindowUpdate::Extended(steps) => steps as usize,
        };
        let at_hand = window.len().min(memory.reach().max(1) + new);
        let (values, _) = window.tail(at_hand).expect("no more than there are");
        let value = values[at_hand - 1];
        match entry {
            WindowUpdate::Extended(_) => memory.follow(numbers, values, new),
            _ => memory.start(numbers, last, step, value),
        }
        self.last[column] = (step, value);
    }

    /// Step and value of the latest reading of a column; `None` before the first.
    pub fn last(&self, column: usize) -> Option<(i64, f64)> {
        self.last.get(column).copied().filter(|(step, _)| *step != NEVER)
    }

    /// The state of a column; no numbers before its first reading.
    pub fn numbers(&self, column: usize) -> &[f32] {
        let size = self.memory.numbers();
        self.last(column).map_or(&[], |_| &self.numbers[column * size..][..size])
    }

    /// Asks for the state of a column, if there is one.
    pub fn prefetch(&self, column: usize) {
        let size = self.memory.numbers();
        self.numbers.get(column * size..(column + 1) * size).into_iter().for_each(prefetch::slice);
        self.last.get(column).into_iter().for_each(prefetch::value);
    }

    /// A column forgets all that it has seen.
    pub fn clear(&mut self, column: usize) {
        self.widen(column);
        self.last[column] = (NEVER, 0.0);
        let size = self.memory.numbers();
        self.numbers[column * size..][..size].fill(0.0);
    }

    /// Puts back what [`MemoryStates::last`] and [`MemoryStates::numbers`] gave.
    pub fn set(&mut self, column: usize, last: Option<(i64, f64)>, numbers: &[f32]) {
        self.clear(column);
        if let Some(last) = last {
            self.last[column] = last;
            self.numbers[column * numbers.len()..][..numbers.len()].copy_from_slice(numbers);
        }
    }

    fn widen(&mut self, column: usize) {
        if column >= self.last.len() {
            self.last.resize(column + 1, (NEVER, 0.0));
            self.numbers.resize((column + 1) * self.memory.numbers(), 0.0);
        }
    }
}
