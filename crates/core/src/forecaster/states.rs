//! State that series carry from step to step besides their windows: one column per target of each series.

use crate::intervals::OnlineCalibrator;
use crate::network::recurrence::{LastObservation, LinearRecurrence};
use crate::network::{Batch, Network, Scratch, Shape, State};
use crate::prefetch;
use crate::series::{Window, WindowUpdate};

/// Carried states of all series of a partition, read.
#[derive(Clone, Copy)]
pub struct AuxStates<'a> {
    /// States of the linear recurrence, if the model has one.
    pub recurrence: Option<&'a RecurrenceStates>,
    /// States of the cells, if the model carries them.
    pub cells: Option<&'a CellStates>,
    /// With calibrated intervals or scores.
    pub calibrator: Option<&'a OnlineCalibrator>,
}

/// Carried states of all series of a partition, written.
pub struct AuxStatesMut<'a> {
    pub recurrence: Option<&'a mut RecurrenceStates>,
    pub cells: Option<&'a mut CellStates>,
    pub calibrator: Option<&'a mut OnlineCalibrator>,
}

/// States of the cells, advanced many columns at a time.
///
/// Which columns are advanced together does not change a bit of any of them.
pub struct CellStates {
    state: State,
    /// Columns with a pending step, each at most once.
    pending: Vec<usize>,
    /// Inputs of the pending steps, `[pending][input]`.
    inputs: Vec<f32>,
    /// Index of each pending column's series in the model.
    series: Vec<Option<u32>>,
    /// By column: whether it has a pending step.
    is_pending: Vec<bool>,
    /// Columns to forecast after their pending step.
    origins: Vec<usize>,
    /// Future covariates at those origins, `[origin][horizon x covariate]`.
    future: Vec<f32>,
    scratch: Scratch,
}

impl CellStates {
    /// States of no series.
    pub fn new(shape: &Shape) -> Self {
        Self {
            state: State::zeros(shape, 0),
            pending: Vec::new(),
            inputs: Vec::new(),
            series: Vec::new(),
            is_pending: Vec::new(),
            origins: Vec::new(),
            future: Vec::new(),
            scratch: Scratch::new(shape),
        }
    }

    /// Number of pending steps.
    pub fn pending_count(&self) -> usize {
        self.pending.len()
    }

    /// True if a column has a pending step, which must run before another is added.
    pub fn is_pending(&self, column: usize) -> bool {
        self.is_pending.get(column) == Some(&true)
    }

    /// Resets a column without a pending step.
    pub fn clear(&mut self, column: usize) {
        self.widen(column);
        self.state.clear_column(column);
    }

    /// Adds a step of a column; returns its inputs, to be written by the caller.
    ///
    /// # Panics
    /// If the column has a pending step.
    pub fn add_step(&mut self, shape: &Shape, column: usize, series_idx: Option<usize>) -> &mut [f32] {
        self.widen(column);
        assert!(!self.is_pending[column], "a column takes one step at a time");
        self.is_pending[column] = true;
        self.pending.push(column);
        self.series.push(series_idx.map(|series| series as u32));
        extend_zeroed(&mut self.inputs, shape.inputs)
    }

    /// Requests a forecast of a column after its pending step; returns its future covariates, `[horizon x covariate]`, to
    /// be written by the caller.
    pub fn add_origin(&mut self, shape: &Shape, column: usize) -> &mut [f32] {
        self.origins.push(column);
        extend_zeroed(&mut self.future, shape.horizon * shape.future_covariates)
    }

    /// Runs all pending steps, and writes the requested forecasts to `out`, `[origin][output][horizon]`.
    pub fn run(&mut self, network: &Network, out: &mut Vec<f32>) {
        network.step(&mut self.state, &self.pending[..], &self.inputs, &self.series, &mut self.scratch);
        self.pending.iter().for_each(|column| self.is_pending[*column] = false);
        self.pending.clear();
        self.inputs.clear();
        self.series.clear();
        out.clear();
        out.resize(self.origins.len() * network.shape().outputs(), 0.0);
        let (width, known) = (self.origins.len(), &self.future);
        let batch = Batch {
            width,
            steps: 0,
            inputs: &[],
            feedback_inputs: &[],
            future_covariates: known,
            series: &[],
        };
        network.forecast_from(&self.state, &self.origins, &batch, &mut self.scratch, out);
        self.origins.clear();
        self.future.clear();
    }

    /// The state of a column without a pending step; zeros for a column that was never used.
    pub fn column(&self, column: usize) -> Vec<f32> {
        match column < self.state.width() {
            true => self.state.column(column).collect(),
            false => vec![0.0; self.state.column_len()],
        }
    }

    /// Length of a column.
    pub fn column_len(&self) -> usize {
        self.state.column_len()
    }

    /// Restores what [`CellStates::column`] returned.
    pub fn set_column(&mut self, column: usize, values: &[f32]) {
        self.widen(column);
        self.state.set_column(column, values);
    }

    fn widen(&mut self, column: usize) {
        if column >= self.is_pending.len() {
            self.is_pending.resize(column + 1, false);
            self.state.widen(column + 1);
        }
    }
}

/// Appends `count` zeros and returns them.
pub(super) fn extend_zeroed(values: &mut Vec<f32>, count: usize) -> &mut [f32] {
    let start = values.len();
    values.resize(start + count, 0.0);
    &mut values[start..]
}

/// The step of a column without observations.
const NEVER: LastObservation = LastObservation { step: i64::MIN, value: 0.0 };

/// States of the linear recurrence.
pub struct RecurrenceStates {
    recurrence: LinearRecurrence,
    /// `[column][state]`
    values: Vec<f32>,
    /// By column.
    last: Vec<LastObservation>,
}

impl RecurrenceStates {
    /// States of no series.
    pub fn new(recurrence: LinearRecurrence) -> Self {
        Self { recurrence, values: Vec::new(), last: Vec::new() }
    }

    pub fn recurrence(&self) -> &LinearRecurrence {
        &self.recurrence
    }

    /// Advances a column over the steps just added to its window, the last of them `step`.
    pub fn advance(&mut self, column: usize, update: WindowUpdate, window: &Window, step: i64) {
        self.widen(column);
        let last = self.last(column);
        let (recurrence, size) = (&self.recurrence, self.recurrence.state_len());
        let state = &mut self.values[column * size..][..size];
        let added = match update {
            WindowUpdate::Missing => return,
            WindowUpdate::Reset => 1,
            WindowUpdate::Extended(steps) => steps as usize,
        };
        let available = window.len().min(recurrence.lookback().max(1) + added);
        let (values, _) = window.tail(available).expect("the window holds the steps just added");
        let value = values[available - 1];
        match update {
            WindowUpdate::Extended(_) => recurrence.advance_many(state, values, added),
            _ => recurrence.begin_run(state, last, step, value),
        }
        self.last[column] = LastObservation { step, value };
    }

    /// The latest observation of a column; `None` before the first.
    pub fn last(&self, column: usize) -> Option<LastObservation> {
        self.last.get(column).copied().filter(|last| last.step != NEVER.step)
    }

    /// The state of a column; empty before its first observation.
    pub fn column(&self, column: usize) -> &[f32] {
        let size = self.recurrence.state_len();
        self.last(column).map_or(&[], |_| &self.values[column * size..][..size])
    }

    /// Prefetches a column.
    pub fn prefetch(&self, column: usize) {
        let size = self.recurrence.state_len();
        self.values.get(column * size..(column + 1) * size).into_iter().for_each(prefetch::slice);
        self.last.get(column).into_iter().for_each(prefetch::value);
    }

    /// Resets a column.
    pub fn clear(&mut self, column: usize) {
        self.widen(column);
        self.last[column] = NEVER;
        let size = self.recurrence.state_len();
        self.values[column * size..][..size].fill(0.0);
    }

    /// Restores what [`RecurrenceStates::last`] and [`RecurrenceStates::column`] returned.
    pub fn set_column(&mut self, column: usize, last: Option<LastObservation>, values: &[f32]) {
        self.clear(column);
        if let Some(last) = last {
            self.last[column] = last;
            self.values[column * values.len()..][..values.len()].copy_from_slice(values);
        }
    }

    fn widen(&mut self, column: usize) {
        if column >= self.last.len() {
            self.last.resize(column + 1, NEVER);
            self.values.resize((column + 1) * self.recurrence.state_len(), 0.0);
        }
    }
}
