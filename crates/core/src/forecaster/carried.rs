//! The cells' states that series carry from step to step, side by side: a column for each target of each id. StepBuffer of
//! different columns wait for one another and are taken together; which ones do is of no consequence to a bit of them.

use crate::network::{Batch, Network, Scratch, Shape, State};

/// States, and what waits to change them and to be said from them.
pub struct CellStates {
    state: State,
    /// The columns that are to take a step, none of them twice, and `[column][input]`.
    columns: Vec<usize>,
    inputs: Vec<f32>,
    /// Whose columns they are, by number among the series that the model knows.
    series: Vec<Option<u32>>,
    /// By column: whether it is one of those.
    waits: Vec<bool>,
    /// The columns of which a forecast is to be said after that step, and `[column][horizon x known]`.
    issued: Vec<usize>,
    known: Vec<f32>,
    scratch: Scratch,
}

impl CellStates {
    /// Of no series yet.
    pub fn new(shape: &Shape) -> Self {
        Self {
            state: State::zeros(shape, 0),
            columns: Vec::new(),
            inputs: Vec::new(),
            series: Vec::new(),
            waits: Vec::new(),
            issued: Vec::new(),
            known: Vec::new(),
            scratch: Scratch::new(shape),
        }
    }

    /// StepBuffer that wait.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Whether a step of a column waits: it has to be taken before the next one is added.
    pub fn waits(&self, column: usize) -> bool {
        self.waits.get(column) == Some(&true)
    }

    /// A column forgets all that it has seen. No step of it waits.
    pub fn clear(&mut self, column: usize) {
        self.widen(column);
        self.state.clear_column(column);
    }

    /// A column, of the series of that number if the model knows it, is to take a step, whose inputs `write` writes. No step of
    /// it waits yet.
    pub fn add(
        &mut self,
        shape: &Shape,
        column: usize,
        series: Option<usize>,
        write: impl FnOnce(&mut [f32]),
    ) {
        self.widen(column);
        assert!(!self.waits[column], "a column takes one step at a time");
        self.waits[column] = true;
        self.columns.push(column);
        self.series.push(series.map(|series| series as u32));
        write(grow(&mut self.inputs, shape.inputs));
    }

    /// A forecast is to be said of a column after the step that waits; `write` writes what is known ahead.
    pub fn issue(&mut self, shape: &Shape, column: usize, write: impl FnOnce(&mut [f32])) {
        self.issued.push(column);
        write(grow(&mut self.known, shape.horizon * shape.known));
    }

    /// Takes all steps that wait, and says what was issued into `out`, `[issued][quantity][horizon]`.
    pub fn run(&mut self, network: &Network, out: &mut Vec<f32>) {
        let columns = (&mut self.state, &self.columns[..]);
        network.step(columns, &self.inputs, &self.series, &mut self.scratch);
        self.columns.iter().for_each(|column| self.waits[*column] = false);
        self.columns.clear();
        self.inputs.clear();
        self.series.clear();
        out.clear();
        out.resize(self.issued.len() * network.shape().outputs(), 0.0);
        let (width, known) = (self.issued.len(), &self.known);
        let batch = Batch { width, steps: 0, inputs: &[], future: &[], known, series: &[] };
        network.forecast_from((&self.state, &self.issued), &batch, &mut self.scratch, out);
        self.issued.clear();
        self.known.clear();
    }

    /// The state of a column, nothing of which waits; that of one that was never added is zeros.
    pub fn column(&self, column: usize) -> Vec<f32> {
        match column < self.state.width() {
            true => self.state.column(column).collect(),
            false => vec![0.0; self.state.numbers()],
        }
    }

    /// Numbers of a column.
    pub fn numbers(&self) -> usize {
        self.state.numbers()
    }

    /// Puts back what [`CellStates::column`] gave.
    pub fn set_column(&mut self, column: usize, numbers: &[f32]) {
        self.widen(column);
        self.state.set_column(column, numbers);
    }

    fn widen(&mut self, column: usize) {
        if column >= self.waits.len() {
            self.waits.resize(column + 1, false);
            self.state.widen(column + 1);
        }
    }
}

/// Room for `count` more numbers at the end of `all`.
fn grow(all: &mut Vec<f32>, count: usize) -> &mut [f32] {
    let start = all.len();
    all.resize(start + count, 0.0);
    &mut all[start..]
}
