//! The forward pass of one tile of columns: cells step by step, then the head, with or without keeping what
//! the backward pass needs. Forecasting and training run this same code, so they give the same bits.

use std::ops::Range;

use nalgebra::DMatrix;

use super::fused::{gate_rows, head_rows, output_rows, state_rows};
use super::kernel::layer::{CellRows, Step};
use super::kernel::linear::{Onto, linear};
use super::kernel::rows::{Rows, RowsMut};
use super::{Batch, Decoder, Network, Shape, State};

/// Columns that go through the network together. Enough that a panel of the weights, once at hand, is used often, few enough
/// that a step stays in the cache and that buffers do not grow with the batch.
pub(super) const TILE: usize = 64;

/// The buffers of one layer: blocks of as many columns as the tile has, one block a step when steps are kept.
pub(super) struct LayerRun {
    /// `[h' | x | 1 | 0...]`: what the sums are of, and what their weights' gradients are sums over.
    pub states: DMatrix<f32>,
    /// The gates; of no columns when steps are not kept.
    pub gates: DMatrix<f32>,
    /// c'; of no rows for cells without.
    pub cells: DMatrix<f32>,
}

/// What the head read and said, a block each time; of no columns when steps are not kept.
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
    /// Columns of the tile at hand.
    pub count: usize,
    /// Steps that can be kept; 0 when each step replaces the one before the last.
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
    /// Buffers for tiles of up to `width` columns that keep `kept` steps and `said` readings of the head; none of them is kept
    /// when `kept` is 0.
    pub fn new(shape: &Shape, kept: usize, said: usize, width: usize) -> Self {
        let columns = width.min(TILE);
        // One block is read while the next is written.
        let (blocks, said) = if kept == 0 { (2, 0) } else { (kept + 1, said.max(1)) };
        let cells = if kept == 0 { 1 } else { blocks };
        let layer = |k: usize| LayerRun {
            states: constant(state_rows(shape, k), blocks * columns, shape.hidden + shape.inputs_of(k)),
            gates: DMatrix::zeros(gate_rows(shape), kept * columns),
            cells: DMatrix::zeros(shape.cell.cell_states() * shape.hidden, cells * columns),
        };
        let head = HeadRun {
            states: constant(head_rows(shape), said * columns, shape.hidden + shape.head_known()),
            outputs: DMatrix::zeros(output_rows(shape), said * columns),
        };
        let layers = (0..shape.layers).map(layer).collect();
        let (factors, series, embedded) = (vec![], vec![], vec![]);
        Self { shape: *shape, layers, head, factors, series, embedded, count: 0, kept, columns }
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

    /// The columns of the states before a step.
    fn block(&self, step: usize) -> usize {
        self.count * if self.kept == 0 { step % 2 } else { step }
    }

    /// The columns of c' of a step.
    fn cells_block(&self, step: usize) -> usize {
        self.count * if self.kept == 0 { 0 } else { step }
    }

    /// Makes ready for the columns of a tile, with the states `from` or with zeros.
    pub fn begin(&mut self, from: Option<(&State, &[usize])>, tile: Tile) {
        assert!(tile.count <= self.columns, "the buffers are wide enough");
        self.count = tile.count;
        let hidden = self.shape.hidden;
        for (k, layer) in self.layers.iter_mut().enumerate() {
            let (state_rows, cell_rows) = (layer.states.nrows(), layer.cells.nrows());
            for place in 0..tile.count {
                let states = &mut layer.states.as_mut_slice()[place * state_rows..][..hidden];
                let cells = &mut layer.cells.as_mut_slice()[place * cell_rows..][..cell_rows];
                match from {
                    Some((state, columns)) => {
                        let column = columns[tile.first + place];
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

    /// Says whose columns the tile's are: `series` are those of all columns, or empty where none is known.
    pub fn embed(&mut self, network: &Network, series: &[Option<u32>], tile: Tile) {
        self.series.clear();
        self.series.extend(series.iter().skip(tile.first).take(tile.count));
        self.series.resize(tile.count, None);
        network.embed(&self.series, &mut self.embedded);
    }

    /// Sets the inputs `[column][input]` of a step, and beside them what is learned of each series.
    pub fn feed(&mut self, step: usize, inputs: &[f32]) {
        let (start, width, hidden) = (self.block(step), self.shape.inputs, self.shape.hidden);
        let states = &mut self.layers[0].states;
        let rows = states.nrows();
        let to = &mut states.as_mut_slice()[start * rows..][..self.count * rows];
        copy_rows((inputs, width, 0), (to, rows, hidden), width);
        let size = self.shape.embedding;
        copy_rows((&self.embedded, size, 0), (to, rows, hidden + width), size);
    }

    /// All layers take one step, with the inputs that were fed.
    pub fn advance(&mut self, network: &Network, step: usize) {
        let (now, next) = (self.block(step), self.block(step + 1));
        let (before, after) = (self.cells_block(step), self.cells_block(step + 1));
        let (hidden, count) = (self.shape.hidden, self.count);
        for (k, weights) in network.layers.iter().enumerate() {
            if k > 0 {
                // The layer below has just written h.
                let (below, above) = self.layers.split_at_mut(k);
                let (from, to) = (&below[k - 1].states, &mut above[0].states);
                let (from_rows, to_rows) = (from.nrows(), to.nrows());
                let from = &from.as_slice()[next * from_rows..][..count * from_rows];
                let to = &mut to.as_mut_slice()[now * to_rows..][..count * to_rows];
                copy_rows((from, from_rows, 0), (to, to_rows, hidden), hidden);
            }
            let LayerRun { states, gates, cells } = &mut self.layers[k];
            let (rows, gate_rows, cell_rows) = (states.nrows(), gates.nrows(), cells.nrows());
            let block = |start: usize| start * rows..(start + count) * rows;
            let (states, out) = two(states.as_mut_slice(), block(now), block(next));
            let gates = (self.kept > 0).then(|| RowsMut {
                numbers: &mut gates.as_mut_slice()[now * gate_rows..][..count * gate_rows],
                stride: gate_rows,
            });
            let cells = CellRows {
                numbers: cells.as_mut_slice(),
                before: before * cell_rows,
                after: after * cell_rows,
                at: None,
            };
            let step = Step {
                kind: self.shape.cell,
                panels: &weights.panels,
                peepholes: &weights.fused.peepholes,
                hidden: Rows::dense(states, rows),
                inputs: Rows::dense(&states[hidden..], rows),
                cells,
                out: RowsMut { numbers: out, stride: rows },
                gates,
            };
            step.take(count);
        }
    }

    /// The head says value or values `i` after `done` steps into the first of each `stride` numbers of `out`. `known` is the
    /// tile's `[column][horizon][known]`.
    pub fn say(
        &self,
        network: &Network,
        done: usize,
        i: usize,
        known: &[f32],
        (out, stride): (&mut [f32], usize),
    ) {
        let top = &self.layers[self.shape.layers - 1].states;
        let states = &top.as_slice()[self.block(done) * top.nrows()..];
        network.say(
            Rows::dense(states, top.nrows()),
            (known, i),
            self.count,
            RowsMut { numbers: out, stride },
        );
    }

    /// As [`Run::say`], and keeps what the head reads and says as reading `i`.
    pub fn say_kept(&mut self, network: &Network, done: usize, i: usize, known: &[f32]) {
        let (hidden, count) = (self.shape.hidden, self.count);
        let (from, to) = (self.block(done), i * count);
        let HeadRun { states, outputs } = &mut self.head;
        let rows = states.nrows();
        let into = &mut states.as_mut_slice()[to * rows..][..count * rows];

        let top = &self.layers[self.shape.layers - 1].states;
        let top_rows = top.nrows();
        copy_rows((&top.as_slice()[from * top_rows..], top_rows, 0), (into, rows, 0), hidden);
        // ĥ = f ∘ h
        for (h, factors) in into.chunks_exact_mut(rows).zip(self.factors.chunks_exact(hidden)) {
            h.iter_mut().zip(factors).for_each(|(h, factor)| *h *= factor);
        }
        let (stride, known_count) = (self.shape.horizon * self.shape.known, self.shape.head_known());
        let offset = known_offset(&self.shape, i);
        copy_rows((known, stride, offset), (into, rows, hidden), known_count);

        // y = W [h; known; 1]
        let output_rows = outputs.nrows();
        let out = &mut outputs.as_mut_slice()[to * output_rows..][..count * output_rows];
        let read = [Rows::dense(into, rows), Rows::dense(&into[hidden..], rows)];
        let out = RowsMut { numbers: out, stride: output_rows };
        linear(&network.head.panels, Onto::Start, read, count, out);
    }

    /// Forecasts the columns of a tile: into `out` `[column][quantity][horizon]` when steps are not kept, else to where what is
    /// said is kept.
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
            match self.kept {
                0 => self.say(network, done, i, known, (&mut out[i..], shape.outputs())),
                _ => self.say_kept(network, done, i, known),
            }
            if i < shape.fed_back() {
                self.feed(done, columns(batch.future, i, width, shape.inputs, tile));
                self.feed_back(done, i, out);
                self.advance(network, done);
            }
        }
    }

    /// The top layer's h after `done` steps, `[column][hidden]`.
    pub fn top(&self, done: usize, out: &mut [f32]) {
        let top = &self.layers[self.shape.layers - 1].states;
        let from = &top.as_slice()[self.block(done) * top.nrows()..];
        copy_rows((from, top.nrows(), 0), (out, self.shape.hidden, 0), self.shape.hidden);
    }

    /// The value just said becomes input 0 of a step.
    fn feed_back(&mut self, step: usize, i: usize, out: &[f32]) {
        let (start, outputs) = (self.block(step), &self.head.outputs);
        let states = &mut self.layers[0].states;
        for place in 0..self.count {
            let said = match self.kept {
                0 => out[place * self.shape.outputs() + i],
                _ => outputs[(0, i * self.count + place)],
            };
            states[(self.shape.hidden, start + place)] = said;
        }
    }
}

impl Network {
    /// What is learned of each series, one after the other; zeros of one that is not known.
    pub(super) fn embed(&self, series: &[Option<u32>], out: &mut Vec<f32>) {
        let size = self.shape().embedding;
        out.clear();
        out.resize(series.len() * size, 0.0);
        if size == 0 {
            return;
        }
        for (series, out) in series.iter().zip(out.chunks_exact_mut(size)) {
            if let Some(numbers) = self.embedding(*series) {
                out.copy_from_slice(numbers);
            }
        }
    }

    /// The head says value or values `i` of `count` columns from the top layer's h, and from `known`
    /// `[column][horizon][known]`.
    pub(super) fn say(&self, top: Rows<'_>, (known, i): (&[f32], usize), count: usize, out: RowsMut<'_>) {
        let shape = self.shape();
        // y = W [h; known; 1]
        let known = Rows::dense(&known[known_offset(shape, i)..], shape.horizon * shape.known);
        linear(&self.head.panels, Onto::Start, [top, known], count, out);
    }
}

/// The first of the known inputs of a column that reading `i` of the head reads.
fn known_offset(shape: &Shape, i: usize) -> usize {
    match shape.decoder {
        Decoder::Direct => 0,
        Decoder::Recursive => i * shape.known,
    }
}

/// Two parts of `numbers` that have none in common, one to read and one to write.
fn two(numbers: &mut [f32], read: Range<usize>, write: Range<usize>) -> (&[f32], &mut [f32]) {
    let [read, write] = numbers.get_disjoint_mut([read, write]).expect("one block, and another");
    (read, write)
}

/// Zeros, and a row of ones: the biases' gradients are sums over it. Nothing writes over the ones, nor over the padding below
/// them.
fn constant(rows: usize, columns: usize, ones: usize) -> DMatrix<f32> {
    let mut matrix = DMatrix::zeros(rows, columns);
    matrix.row_mut(ones).fill(1.0);
    matrix
}

/// Copies `count` rows of each column, from (numbers, rows of a column, first row) to the same.
fn copy_rows(from: (&[f32], usize, usize), to: (&mut [f32], usize, usize), count: usize) {
    let ((from, from_rows, first), (to, to_rows, start)) = (from, to);
    if count == 0 {
        return;
    }
    for (from, to) in from.chunks_exact(from_rows).zip(to.chunks_exact_mut(to_rows)) {
        to[start..start + count].copy_from_slice(&from[first..first + count]);
    }
}
