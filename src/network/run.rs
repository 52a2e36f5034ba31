//! The forward pass of one tile of columns: cells step by step, then the head, with or without keeping what
//! the backward pass needs. Forecasting and training run this same code, so they give the same bits.

use nalgebra::DMatrix;

use super::activations::widest;
use super::cells::Forward;
use super::fused::{SMALLEST, gate_rows, head_rows, output_rows, state_rows};
use super::{Batch, Decoder, Network, Shape, State};

/// Columns that go through the network together. Enough that the products, not the packing of the weights,
/// take the time, few enough that a step stays in the cache and that buffers do not grow with the batch.
pub(super) const TILE: usize = 64;

/// The buffers of one layer: blocks of `padded` columns, one block a step when steps are kept.
pub(super) struct LayerRun {
    /// `[h' | x | 1 | 0...]`, the right side of the product.
    pub states: DMatrix<f32>,
    /// The product, then the gates.
    pub gates: DMatrix<f32>,
    /// c'; of no rows for cells without.
    pub cells: DMatrix<f32>,
}

/// The buffers of the head, a block each time it is read.
pub(super) struct HeadRun {
    /// `[h | known | 1 | 0...]`
    pub states: DMatrix<f32>,
    pub outputs: DMatrix<f32>,
}

/// The buffers of a forward pass.
pub(super) struct Run {
    pub shape: Shape,
    pub layers: Vec<LayerRun>,
    pub head: HeadRun,
    /// Factors of what the head reads of the tile's hidden values, `[column][hidden]`; none where they are read as they are.
    pub factors: Vec<f32>,
    /// Whose columns the tile's are, and what is learned of each, `[column][embedding]`.
    pub series: Vec<Option<u32>>,
    embedded: Vec<f32>,
    /// Columns of the tile at hand, rounded up so that no product is smaller than its kernel takes.
    pub padded: usize,
    /// Steps that can be kept; 0 when each step replaces the one before.
    kept: usize,
    /// Columns of a block.
    columns: usize,
}

/// The columns of a batch that one tile takes.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub first: usize,
    pub count: usize,
}

/// The tiles of a batch of `width` columns.
pub(super) fn tiles(width: usize) -> impl Iterator<Item = Tile> {
    (0..width).step_by(TILE).map(move |first| Tile { first, count: TILE.min(width - first) })
}

/// A part of the columns of `data`, which holds `width` columns of `rows` numbers for each step.
pub(super) fn columns(data: &[f32], step: usize, width: usize, rows: usize, tile: Tile) -> &[f32] {
    &data[(step * width + tile.first) * rows..][..tile.count * rows]
}

impl Run {
    /// Buffers for tiles of up to `width` columns that keep `kept` steps and `said` readings of the head, or only the last of
    /// each when `kept` is 0.
    pub fn new(shape: &Shape, kept: usize, said: usize, width: usize) -> Self {
        let columns = width.min(TILE).next_multiple_of(SMALLEST);
        let layer = |k: usize| LayerRun {
            states: constant(state_rows(shape, k), (kept + 1) * columns, shape.hidden + shape.inputs_of(k)),
            gates: DMatrix::zeros(gate_rows(shape), kept.max(1) * columns),
            cells: DMatrix::zeros(shape.cell.cell_states() * shape.hidden, (kept + 1) * columns),
        };
        let head = HeadRun {
            states: constant(head_rows(shape), said.max(1) * columns, shape.hidden + shape.head_known()),
            outputs: DMatrix::zeros(output_rows(shape), said.max(1) * columns),
        };
        let layers = (0..shape.layers).map(layer).collect();
        Self {
            shape: *shape,
            layers,
            head,
            factors: vec![],
            series: vec![],
            embedded: vec![],
            padded: SMALLEST,
            kept,
            columns,
        }
    }

    pub fn kept(&self) -> usize {
        self.kept
    }

    /// Columns that a tile may have.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Readings of the head that can be kept.
    pub fn said(&self) -> usize {
        self.head.outputs.ncols() / self.columns
    }

    /// The block of the states before a step, or of the gates in it.
    pub fn block(&self, step: usize) -> usize {
        if self.kept == 0 { 0 } else { step }
    }

    /// Makes ready for the columns of a tile, with the states `from` or with zeros.
    pub fn begin(&mut self, from: Option<(&State, &[usize])>, tile: Tile) {
        self.padded = tile.count.next_multiple_of(SMALLEST);
        assert!(self.padded <= self.columns, "the buffers are wide enough");
        let hidden = self.shape.hidden;
        let column = |place: usize| {
            // Columns that only fill up a product start from zero, too.
            let (state, columns) = from.filter(|_| place < tile.count)?;
            Some((state, columns[tile.first + place]))
        };
        for (k, layer) in self.layers.iter_mut().enumerate() {
            let (state_rows, cell_rows) = (layer.states.nrows(), layer.cells.nrows());
            for place in 0..self.padded {
                let states = &mut layer.states.as_mut_slice()[place * state_rows..][..hidden];
                let cells = &mut layer.cells.as_mut_slice()[place * cell_rows..][..cell_rows];
                match column(place) {
                    Some((state, column)) => {
                        states.copy_from_slice(&state.hidden(k)[column * hidden..][..hidden]);
                        cells.copy_from_slice(&state.cell(k)[column * cell_rows..][..cell_rows]);
                    }
                    None => {
                        states.fill(0.0);
                        cells.fill(0.0);
                    }
                }
            }
        }
    }

    /// Writes the states after `done` steps to the tile's part of `columns`.
    pub fn store(&self, done: usize, (state, columns): (&mut State, &[usize]), tile: Tile) {
        let hidden = self.shape.hidden;
        let start = self.block(done) * self.padded;
        for (k, layer) in self.layers.iter().enumerate() {
            let (rows, cell_rows) = (layer.states.nrows(), layer.cells.nrows());
            for (place, column) in columns[tile.first..][..tile.count].iter().enumerate() {
                let from = (start + place) * rows;
                state.hidden_mut(k)[column * hidden..][..hidden]
                    .copy_from_slice(&layer.states.as_slice()[from..from + hidden]);
                let from = (start + place) * cell_rows;
                state.cell_mut(k)[column * cell_rows..][..cell_rows]
                    .copy_from_slice(&layer.cells.as_slice()[from..from + cell_rows]);
            }
        }
    }

    /// Says whose columns the tile's are: `series` are those of all columns, or empty where none is known.
    pub fn embed(&mut self, network: &Network, series: &[Option<u32>], tile: Tile) {
        let size = self.shape.embedding;
        self.series.clear();
        self.series.extend(series.iter().skip(tile.first).take(tile.count));
        self.series.resize(tile.count, None);
        self.embedded.clear();
        self.embedded.resize(tile.count * size, 0.0);
        if size == 0 {
            return;
        }
        for (column, series) in self.series.iter().enumerate() {
            if let Some(numbers) = network.embedding(*series) {
                self.embedded[column * size..][..size].copy_from_slice(numbers);
            }
        }
    }

    /// Sets the inputs `[column][input]` of a step, and beside them what is learned of each series.
    pub fn feed(&mut self, step: usize, inputs: &[f32]) {
        let (start, width) = (self.block(step) * self.padded, self.shape.inputs);
        let states = &mut self.layers[0].states;
        let rows = states.nrows();
        let to = &mut states.as_mut_slice()[start * rows..][..self.padded * rows];
        copy_rows((inputs, width, 0), (to, rows, self.shape.hidden), width);
        let size = self.shape.embedding;
        copy_rows((&self.embedded, size, 0), (to, rows, self.shape.hidden + width), size);
    }

    /// All layers take one step, with the inputs that were fed.
    pub fn advance(&mut self, network: &Network, step: usize) {
        let (now, next) = (self.block(step) * self.padded, self.block(step + 1) * self.padded);
        let (hidden, padded) = (self.shape.hidden, self.padded);
        for (k, weights) in network.layers.iter().enumerate() {
            if k > 0 {
                // The layer below has just written h.
                let (below, above) = self.layers.split_at_mut(k);
                let (from, to) = (&below[k - 1].states, &mut above[0].states);
                let (from_rows, to_rows) = (from.nrows(), to.nrows());
                let from = &from.as_slice()[next * from_rows..][..padded * from_rows];
                let to = &mut to.as_mut_slice()[now * to_rows..][..padded * to_rows];
                copy_rows((from, from_rows, 0), (to, to_rows, hidden), hidden);
            }
            let layer = &mut self.layers[k];
            // [a_i; a_f; ...] = [W_hh W_ih b] [h'; x; 1]
            let states = layer.states.columns(now, padded);
            layer.gates.columns_mut(now, padded).gemm(1.0, &weights.product, &states, 0.0);
            if now != next {
                layer.keep(now, next, padded, hidden);
            }
            let (gate_rows, state_rows, cell_rows) =
                (layer.gates.nrows(), layer.states.nrows(), layer.cells.nrows());
            widest(Forward {
                kind: self.shape.cell,
                hidden,
                peepholes: &weights.peepholes,
                gates: &mut layer.gates.as_mut_slice()[now * gate_rows..][..padded * gate_rows],
                gate_rows,
                cells: &mut layer.cells.as_mut_slice()[next * cell_rows..][..padded * cell_rows],
                states: &mut layer.states.as_mut_slice()[next * state_rows..][..padded * state_rows],
                state_rows,
            });
        }
    }

    /// The head says value or values `i` after `done` steps. `known` is the tile's
    /// `[column][horizon][known]`.
    pub fn say(&mut self, network: &Network, done: usize, i: usize, known: &[f32]) {
        let (hidden, padded) = (self.shape.hidden, self.padded);
        let (from, to) = (self.block(done) * padded, self.block(i) * padded);
        let HeadRun { states, outputs } = &mut self.head;
        let rows = states.nrows();
        let into = &mut states.as_mut_slice()[to * rows..][..padded * rows];

        let top = &self.layers[self.shape.layers - 1].states;
        let top_rows = top.nrows();
        copy_rows((&top.as_slice()[from * top_rows..], top_rows, 0), (into, rows, 0), hidden);
        // ĥ = f ∘ h
        for (h, factors) in into.chunks_exact_mut(rows).zip(self.factors.chunks_exact(hidden)) {
            h.iter_mut().zip(factors).for_each(|(h, factor)| *h *= factor);
        }
        let (stride, count) = (self.shape.horizon * self.shape.known, self.shape.head_known());
        let offset = match self.shape.decoder {
            Decoder::Direct => 0,
            Decoder::Recursive => i * self.shape.known,
        };
        copy_rows((known, stride, offset), (into, rows, hidden), count);

        // y = W [h; known; 1]
        outputs.columns_mut(to, padded).gemm(1.0, &network.head, &states.columns(to, padded), 0.0);
    }

    /// Forecasts the columns of a tile into `out` `[column][quantity][horizon]`.
    pub fn forecast(
        &mut self,
        network: &Network,
        from: Option<(&State, &[usize])>,
        batch: &Batch<'_>,
        tile: Tile,
        out: &mut [f32],
    ) {
        let (shape, width) = (self.shape, batch.width);
        self.begin(from, tile);
        self.embed(network, batch.series, tile);
        for step in 0..batch.steps {
            self.feed(step, columns(batch.inputs, step, width, shape.inputs, tile));
            self.advance(network, step);
        }
        let known = columns(batch.known, 0, width, shape.horizon * shape.known, tile);
        for i in 0..=shape.fed_back() {
            let done = batch.steps + i;
            self.say(network, done, i, known);
            let rows = self.head.outputs.nrows();
            let said = &self.head.outputs.as_slice()[self.block(i) * self.padded * rows..];
            copy_rows((said, rows, 0), (out, shape.outputs(), i), shape.head_rows());
            if i < shape.fed_back() {
                self.feed(done, columns(batch.future, i, width, shape.inputs, tile));
                self.feed_back(done, i);
                self.advance(network, done);
            }
        }
    }

    /// What reading `i` of the head said to the columns of `out`, `[column][value]`.
    pub fn said_values(&self, i: usize, out: &mut [f32]) {
        let (rows, values) = (self.head.outputs.nrows(), self.shape.head_rows());
        let said = &self.head.outputs.as_slice()[self.block(i) * self.padded * rows..];
        copy_rows((said, rows, 0), (out, values, 0), values);
    }

    /// The top layer's h after `done` steps, `[column][hidden]`.
    pub fn top(&self, done: usize, out: &mut [f32]) {
        let top = &self.layers[self.shape.layers - 1].states;
        let from = &top.as_slice()[self.block(done) * self.padded * top.nrows()..];
        copy_rows((from, top.nrows(), 0), (out, self.shape.hidden, 0), self.shape.hidden);
    }

    /// The value just said becomes input 0 of a step.
    fn feed_back(&mut self, step: usize, i: usize) {
        let (from, to) = (self.block(i) * self.padded, self.block(step) * self.padded);
        let (said, states) = (&self.head.outputs, &mut self.layers[0].states);
        for j in 0..self.padded {
            states[(self.shape.hidden, to + j)] = said[(0, from + j)];
        }
    }
}

impl LayerRun {
    /// Copies h' and c' to where the step will replace them by h and c.
    fn keep(&mut self, now: usize, next: usize, padded: usize, hidden: usize) {
        let rows = self.states.nrows();
        let states = self.states.as_mut_slice();
        for j in 0..padded {
            let from = (now + j) * rows;
            states.copy_within(from..from + hidden, (next + j) * rows);
        }
        let rows = self.cells.nrows();
        self.cells.as_mut_slice().copy_within(now * rows..(now + padded) * rows, next * rows);
    }
}

/// Zeros, and a row of ones that brings in the biases. Nothing writes over the ones, nor over the padding
/// below them.
fn constant(rows: usize, columns: usize, ones: usize) -> DMatrix<f32> {
    let mut matrix = DMatrix::zeros(rows, columns);
    matrix.row_mut(ones).fill(1.0);
    matrix
}

/// Copies `count` rows of each column, from (numbers, rows of a column, first row) to the same. Where there
/// are more columns to write than to read, the others become zero: columns that only fill up a product must
/// stay finite.
fn copy_rows(from: (&[f32], usize, usize), to: (&mut [f32], usize, usize), count: usize) {
    let ((from, from_rows, first), (to, to_rows, start)) = (from, to);
    if count == 0 {
        return;
    }
    let mut from = from.chunks_exact(from_rows);
    for to in to.chunks_exact_mut(to_rows) {
        match from.next() {
            Some(from) => to[start..start + count].copy_from_slice(&from[first..first + count]),
            None => to[start..start + count].fill(0.0),
        }
    }
}
