//! The backward pass of one tile of columns, through what [`Run`] has kept.

use nalgebra::DMatrix;

use super::fused::{FusedLayer, gate_rows, head_rows, output_rows, transposed, unpack_head};
use super::kernel::back::StepBack;
use super::kernel::linear::{Onto, linear};
use super::kernel::rows::{Rows, RowsMut};
use super::run::{LayerRun, Run, TILE};
use super::shape::EMBEDDING;
use super::{Gradients, Network, Shape};

/// What of the loss's derivative is on its way back through one layer, and its gradients so far.
struct LayerBack {
    /// `hidden` x columns: ḣ of the step at hand.
    dh: DMatrix<f32>,
    /// The part of ċ that comes from the next step.
    dc: DMatrix<f32>,
    gradients: FusedLayer,
}

/// The buffers of a backward pass.
pub(super) struct Back {
    shape: Shape,
    layers: Vec<LayerBack>,
    /// With respect to what the head says, blocks as in the run.
    pub doutputs: DMatrix<f32>,
    /// With respect to the h that the head reads.
    dhead: DMatrix<f32>,
    head: DMatrix<f32>,
    /// `[column][x; e]`: ẋ and ė of the step just gone through.
    dinputs: DMatrix<f32>,
    /// With respect to what each column of the tile reads of its series, `[column][embedding]`, over the steps so far.
    dembedded: Vec<f32>,
    /// `[series][embedding]`
    embedding: Vec<f32>,
}

impl Back {
    /// Buffers for `said` readings of the head, in tiles of up to `width` columns.
    pub fn new(shape: &Shape, said: usize, width: usize) -> Self {
        let columns = width.min(TILE);
        let layer = |k: usize| LayerBack {
            dh: DMatrix::zeros(shape.hidden, columns),
            dc: DMatrix::zeros(shape.cell.cell_states() * shape.hidden, columns),
            gradients: FusedLayer::zeros(shape, k),
        };
        Self {
            shape: *shape,
            layers: (0..shape.layers).map(layer).collect(),
            doutputs: DMatrix::zeros(output_rows(shape), said.max(1) * columns),
            dhead: DMatrix::zeros(shape.hidden, columns),
            head: DMatrix::zeros(output_rows(shape), head_rows(shape)),
            dinputs: DMatrix::zeros(shape.inputs_of(0), columns),
            dembedded: vec![0.0; columns * shape.embedding],
            embedding: vec![0.0; shape.series * shape.embedding],
        }
    }

    /// Makes ready for a batch: forgets the gradients of what was before.
    pub fn clear(&mut self) {
        for layer in &mut self.layers {
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
        let (hidden, count) = (self.shape.hidden, run.count);
        let rows = self.doutputs.nrows();
        let doutputs = Rows::dense(&self.doutputs.as_slice()[i * count * rows..], rows);
        let read = &mut self.dhead.as_mut_slice()[..count * hidden];
        // forward: y = W [h; known; 1], so ḣ = W_hᵀ ẏ
        let out = RowsMut { numbers: read, stride: hidden };
        linear(&network.transposed().to_top, Onto::Start, [doutputs, Rows::none()], count, out);
        let read = &mut self.dhead.as_mut_slice()[..count * hidden];
        // forward: ĥ = f ∘ h, so ḣ is f times that of ĥ
        read.iter_mut().zip(&run.factors).for_each(|(dh, factor)| *dh *= factor);
        let to = self.layers[self.shape.layers - 1].dh.as_mut_slice();
        to.iter_mut().zip(read).for_each(|(to, from)| *to += *from);
    }

    /// Back through step `step` of all layers. With `inputs`, [`Back::dinput`] gives ẋ of that step afterwards.
    pub fn step(&mut self, network: &Network, run: &mut Run, step: usize, inputs: bool) {
        let (hidden, count) = (self.shape.hidden, run.count);
        for k in (0..self.shape.layers).rev() {
            let (below, at) = self.layers.split_at_mut(k);
            let (layer, weights) = (&mut at[0], &network.transposed().layers[k]);
            layer.cells(network, &mut run.layers[k], k, step * count, count);
            let gates = &run.layers[k].gates;
            let dsums = &gates.as_slice()[step * count * gates.nrows()..];
            // forward: a = W [h'; x; 1], so ḣ' = W_hᵀ ȧ beside what came around the gates, and ẋ = W_xᵀ ȧ
            let dh = RowsMut { numbers: layer.dh.as_mut_slice(), stride: hidden };
            weights.to_hidden.multiply((dsums, gates.nrows()), Onto::Itself, count, dh);
            if let Some(below) = below.last_mut() {
                let dh = RowsMut { numbers: below.dh.as_mut_slice(), stride: hidden };
                weights.to_inputs.multiply((dsums, gates.nrows()), Onto::Itself, count, dh);
            } else if inputs || self.shape.embedding > 0 {
                let stride = self.dinputs.nrows();
                let dinputs = RowsMut { numbers: self.dinputs.as_mut_slice(), stride };
                weights.to_inputs.multiply((dsums, gates.nrows()), Onto::Start, count, dinputs);
            }
        }
        // e is read at every step, so ė = Σ over the steps of what comes to its rows
        let (size, rows) = (self.shape.embedding, self.dinputs.nrows());
        let dinputs = self.dinputs.as_slice().chunks_exact(rows).take(count);
        for (sums, dinputs) in self.dembedded.chunks_exact_mut(size.max(1)).zip(dinputs) {
            sums.iter_mut().zip(&dinputs[self.shape.inputs..]).for_each(|(sum, de)| *sum += de);
        }
    }

    /// ẋ of the step just gone through: input `input` of column `column`.
    pub fn dinput(&self, input: usize, column: usize) -> f32 {
        self.dinputs[(input, column)]
    }

    /// Adds the gradients of the weights over all `steps` and all `said` readings of the head.
    pub fn gather(&mut self, run: &Run, steps: usize, said: usize) {
        let count = run.count;
        for (layer, run) in self.layers.iter_mut().zip(&run.layers) {
            // forward: a = W s at every step, so Ẇ = Σ ȧ sᵀ
            let states = transposed(&run.states, steps * count);
            layer.gradients.product.gemm(1.0, &run.gates.columns(0, steps * count), &states, 1.0);
        }
        if said > 0 {
            let states = transposed(&run.head.states, said * count);
            self.head.gemm(1.0, &self.doutputs.columns(0, said * count), &states, 1.0);
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
        unpack_head(&self.head, &self.shape, &mut gradients.tensors);
        if let Some(embedding) = gradients.tensors.get_mut(EMBEDDING) {
            embedding.data.copy_from_slice(&self.embedding);
        }
        gradients
    }
}

impl LayerBack {
    /// From ḣ and ċ to the derivatives of the sums, in place of the gates.
    fn cells(&mut self, network: &Network, run: &mut LayerRun, k: usize, now: usize, count: usize) {
        let shape = network.shape();
        let (gate_rows, state_rows, cell_rows) = (gate_rows(shape), run.states.nrows(), run.cells.nrows());
        let cells = run.cells.as_slice();
        let step = StepBack {
            kind: shape.cell,
            units: shape.hidden,
            peepholes: &network.layers[k].fused.peepholes,
            gates: RowsMut {
                numbers: &mut run.gates.as_mut_slice()[now * gate_rows..][..count * gate_rows],
                stride: gate_rows,
            },
            cells_before: &cells[now * cell_rows..][..count * cell_rows],
            cells: &cells[(now + count) * cell_rows..][..count * cell_rows],
            states_before: &run.states.as_slice()[now * state_rows..][..count * state_rows],
            stride: state_rows,
            dh: &mut self.dh.as_mut_slice()[..count * shape.hidden],
            dc: &mut self.dc.as_mut_slice()[..count * cell_rows],
            dpeepholes: &mut self.gradients.peepholes,
        };
        step.take(network.layers[k].panels.isa(), count);
    }
}
