//! The backward pass of one tile of columns, through what [`Run`] has kept.

use nalgebra::DMatrix;

use super::activations::widest;
use super::cells::Backward;
use super::fused::{FusedLayer, SMALLEST, gate_rows, head_rows, output_rows, state_rows, transposed};
use super::run::{LayerRun, Run, TILE};
use super::shape::EMBEDDING;
use super::{Gradients, Network, Shape};

/// What of the loss's derivative is on its way back through one layer, and its gradients so far.
struct LayerBack {
    /// `hidden` x columns: ḣ of the step at hand.
    dh: DMatrix<f32>,
    /// The part of ċ that comes from the next step.
    dc: DMatrix<f32>,
    /// With respect to `[h' | x | 1]`.
    dstates: DMatrix<f32>,
    /// The layer's weights transposed: packed at every step, a copy made once is cheaper than strides.
    transposed: DMatrix<f32>,
    gradients: FusedLayer,
}

/// The buffers of a backward pass.
pub(super) struct Back {
    shape: Shape,
    layers: Vec<LayerBack>,
    /// With respect to what the head says, blocks as in the run.
    pub doutputs: DMatrix<f32>,
    /// With respect to `[h | known | 1]`.
    dhead: DMatrix<f32>,
    head: DMatrix<f32>,
    /// With respect to what each column of the tile reads of its series, `[column][embedding]`, over the steps so far.
    dembedded: Vec<f32>,
    /// `[series][embedding]`
    embedding: Vec<f32>,
}

impl Back {
    /// Buffers for `said` readings of the head, in tiles of up to `width` columns.
    pub fn new(shape: &Shape, said: usize, width: usize) -> Self {
        let columns = width.min(TILE).next_multiple_of(SMALLEST);
        let layer = |k: usize| LayerBack {
            dh: DMatrix::zeros(shape.hidden, TILE),
            dc: DMatrix::zeros(shape.cell.cell_states() * shape.hidden, TILE),
            dstates: DMatrix::zeros(state_rows(shape, k), TILE),
            transposed: DMatrix::zeros(state_rows(shape, k), gate_rows(shape)),
            gradients: FusedLayer::zeros(shape, k),
        };
        Self {
            shape: *shape,
            layers: (0..shape.layers).map(layer).collect(),
            doutputs: DMatrix::zeros(output_rows(shape), said.max(1) * columns),
            dhead: DMatrix::zeros(head_rows(shape), TILE),
            head: DMatrix::zeros(output_rows(shape), head_rows(shape)),
            dembedded: vec![0.0; TILE * shape.embedding],
            embedding: vec![0.0; shape.series * shape.embedding],
        }
    }

    /// Makes ready for a batch: forgets the gradients of what was before, and learns the weights of now.
    pub fn clear(&mut self, network: &Network) {
        for (layer, weights) in self.layers.iter_mut().zip(&network.layers) {
            weights.product.transpose_to(&mut layer.transposed);
            layer.gradients.product.fill(0.0);
            layer.gradients.peepholes.fill(0.0);
        }
        self.head.fill(0.0);
        self.embedding.fill(0.0);
    }

    /// Makes ready for the next tile: nothing comes back from after the last step.
    pub fn begin(&mut self) {
        for layer in &mut self.layers {
            layer.dh.fill(0.0);
            layer.dc.fill(0.0);
        }
        self.doutputs.fill(0.0);
        self.dembedded.fill(0.0);
    }

    /// ḣ of the top layer for the step that [`Back::step`] goes through next, `[column][hidden]`.
    pub fn top(&mut self) -> &mut [f32] {
        self.layers[self.shape.layers - 1].dh.as_mut_slice()
    }

    /// From reading `i` of the head, whose part of `doutputs` is complete, to ḣ of the top layer.
    pub fn say(&mut self, network: &Network, run: &Run, i: usize) {
        let (hidden, padded) = (self.shape.hidden, run.padded);
        let doutputs = self.doutputs.columns(i * padded, padded);
        // forward: y = W s, so ṡ = Wᵀ ẏ
        let weights = transposed(&network.head, network.head.ncols());
        self.dhead.columns_mut(0, padded).gemm(1.0, &weights, &doutputs, 0.0);
        // forward: ĥ = f ∘ h, so ḣ is f times that of ĥ
        let rows = self.dhead.nrows();
        let read = self.dhead.as_mut_slice().chunks_exact_mut(rows);
        for (dh, factors) in read.zip(run.factors.chunks_exact(hidden)) {
            dh.iter_mut().zip(factors).for_each(|(dh, factor)| *dh *= factor);
        }
        let from = self.dhead.view((0, 0), (hidden, padded));
        let mut to = self.layers[self.shape.layers - 1].dh.columns_mut(0, padded);
        to += from;
    }

    /// Back through step `step` of all layers. Afterwards [`Back::dinput`] gives ẋ of that step.
    pub fn step(&mut self, network: &Network, run: &mut Run, step: usize) {
        let (hidden, padded) = (self.shape.hidden, run.padded);
        for k in (0..self.shape.layers).rev() {
            let (below, at) = self.layers.split_at_mut(k);
            let layer = &mut at[0];
            layer.cells(network, &mut run.layers[k], k, step * padded, padded);
            // forward: a = W [h'; x; 1], so its derivative is Wᵀ ȧ
            let dgates = run.layers[k].gates.columns(step * padded, padded);
            layer.dstates.columns_mut(0, padded).gemm(1.0, &layer.transposed, &dgates, 0.0);
            // ḣ' is what came around the gates and what came through them; ẋ is ḣ of the layer below
            let mut dh = layer.dh.columns_mut(0, padded);
            dh += layer.dstates.view((0, 0), (hidden, padded));
            if let Some(below) = below.last_mut() {
                let mut dh = below.dh.columns_mut(0, padded);
                dh += layer.dstates.view((hidden, 0), (hidden, padded));
            }
        }
        // e is read at every step, so ė = Σ over the steps of what comes to its rows
        let (size, first) = (self.shape.embedding, hidden + self.shape.inputs);
        let dstates = &self.layers[0].dstates;
        for (column, sums) in self.dembedded.chunks_exact_mut(size.max(1)).take(padded).enumerate() {
            sums.iter_mut().enumerate().for_each(|(i, sum)| *sum += dstates[(first + i, column)]);
        }
    }

    /// ẋ of the step just gone through: input `input` of column `column`.
    pub fn dinput(&self, input: usize, column: usize) -> f32 {
        self.layers[0].dstates[(self.shape.hidden + input, column)]
    }

    /// Adds the gradients of the weights over all `steps` and all `said` readings of the head.
    pub fn gather(&mut self, run: &Run, steps: usize, said: usize) {
        let padded = run.padded;
        for (layer, run) in self.layers.iter_mut().zip(&run.layers) {
            // forward: a = W s at every step, so Ẇ = Σ ȧ sᵀ
            let states = transposed(&run.states, steps * padded);
            layer.gradients.product.gemm(1.0, &run.gates.columns(0, steps * padded), &states, 1.0);
        }
        if said > 0 {
            let states = transposed(&run.head.states, said * padded);
            self.head.gemm(1.0, &self.doutputs.columns(0, said * padded), &states, 1.0);
        }
        let size = self.shape.embedding;
        for (series, sums) in run.series.iter().zip(self.dembedded.chunks_exact(size.max(1))) {
            let Some(series) = series else { continue };
            let to = &mut self.embedding[*series as usize * size..][..size];
            to.iter_mut().zip(sums).for_each(|(to, sum)| *to += sum);
        }
    }

    /// The gradients so far, under the names of the weights.
    pub fn gradients(&self) -> Gradients {
        let mut gradients = Gradients::zeros(&self.shape);
        for (k, layer) in self.layers.iter().enumerate() {
            layer.gradients.unpack(&self.shape, &mut gradients.tensors, k);
        }
        super::fused::unpack_head(&self.head, &self.shape, &mut gradients.tensors);
        if let Some(embedding) = gradients.tensors.get_mut(EMBEDDING) {
            embedding.data.copy_from_slice(&self.embedding);
        }
        gradients
    }
}

impl LayerBack {
    /// From ḣ and ċ to the derivatives of what the gates were applied to, in place of the gates.
    fn cells(&mut self, network: &Network, run: &mut LayerRun, k: usize, now: usize, padded: usize) {
        let shape = network.shape();
        let (gate_rows, state_rows, cell_rows) = (gate_rows(shape), state_rows(shape, k), run.cells.nrows());
        let cells = run.cells.as_slice();
        widest(Backward {
            kind: shape.cell,
            hidden: shape.hidden,
            peepholes: &network.layers[k].peepholes,
            gates: &mut run.gates.as_mut_slice()[now * gate_rows..][..padded * gate_rows],
            gate_rows,
            cells_before: &cells[now * cell_rows..][..padded * cell_rows],
            cells: &cells[(now + padded) * cell_rows..][..padded * cell_rows],
            states_before: &run.states.as_slice()[now * state_rows..][..padded * state_rows],
            state_rows,
            dh: &mut self.dh.as_mut_slice()[..padded * shape.hidden],
            dc: &mut self.dc.as_mut_slice()[..padded * cell_rows],
            dpeepholes: &mut self.gradients.peepholes,
        });
    }
}
