//! The backward pass of one tile of columns, through what [`ForwardPass`] has saved.

use nalgebra::DMatrix;

use super::forward::{ForwardPass, LayerBuffers, TILE};
use super::kernel::layer_step::LayerStepBackward;
use super::kernel::packed::{Strided, StridedMut};
use super::kernel::product::{Init, linear};
use super::optimizer::Gradients;
use super::shape::EMBEDDING;
use super::weights::{FusedLayer, HeadWeights, gate_rows, head_rows, output_rows, transposed_view};
use super::{Network, Shape};

/// The gradients that propagate through one layer, and those of its weights so far.
struct LayerGradients {
    /// `hidden` x columns: ḣ of the current step.
    dh: DMatrix<f32>,
    /// The part of ċ from the next step.
    dc: DMatrix<f32>,
    weights: FusedLayer,
}

/// The buffers of a backward pass.
pub(super) struct BackwardPass {
    shape: Shape,
    layers: Vec<LayerGradients>,
    /// Gradients of the head's outputs, in the blocks of the forward pass.
    pub doutputs: DMatrix<f32>,
    /// Gradients of the h that the head reads.
    dhead: DMatrix<f32>,
    /// Gradients of the head's matrix so far.
    head: DMatrix<f32>,
    /// `[column][x; e]`: ẋ and ė of the step last passed.
    dinputs: DMatrix<f32>,
    /// `[column][embedding]`: ė of the tile, summed over its steps.
    dembedded: Vec<f32>,
    /// `[series][embedding]`: gradients of the embeddings so far.
    embedding: Vec<f32>,
}

impl BackwardPass {
    /// Buffers for `head_calls` calls of the head, in tiles of up to `width` columns.
    pub fn new(shape: &Shape, head_calls: usize, width: usize) -> Self {
        let columns = width.min(TILE);
        let layer = |k: usize| LayerGradients {
            dh: DMatrix::zeros(shape.hidden, columns),
            dc: DMatrix::zeros(shape.cell.cell_states() * shape.hidden, columns),
            weights: FusedLayer::zeros(shape, k),
        };
        Self {
            shape: *shape,
            layers: (0..shape.layers).map(layer).collect(),
            doutputs: DMatrix::zeros(output_rows(shape), head_calls.max(1) * columns),
            dhead: DMatrix::zeros(shape.hidden, columns),
            head: DMatrix::zeros(output_rows(shape), head_rows(shape)),
            dinputs: DMatrix::zeros(shape.inputs_of(0), columns),
            dembedded: vec![0.0; columns * shape.embedding],
            embedding: vec![0.0; shape.series * shape.embedding],
        }
    }

    /// Prepares for a batch: clears the gradients of the weights.
    pub fn clear(&mut self) {
        for layer in &mut self.layers {
            layer.weights.matrix.fill(0.0);
            layer.weights.peepholes.fill(0.0);
        }
        self.head.fill(0.0);
        self.embedding.fill(0.0);
    }

    /// Prepares for a tile: no gradient flows back from after its last step.
    pub fn begin(&mut self) {
        for layer in &mut self.layers {
            layer.dh.fill(0.0);
            layer.dc.fill(0.0);
        }
        self.doutputs.fill(0.0);
        self.dembedded.fill(0.0);
    }

    /// ḣ of the top layer for the step that [`BackwardPass::step`] passes next, `[column][hidden]`.
    pub fn top_dh(&mut self) -> &mut [f32] {
        self.layers[self.shape.layers - 1].dh.as_mut_slice()
    }

    /// From call `i` of the head, whose block of `doutputs` is complete, to ḣ of the top layer.
    pub fn head(&mut self, network: &Network, forward: &ForwardPass, i: usize) {
        let (hidden, count) = (self.shape.hidden, forward.count);
        let rows = self.doutputs.nrows();
        let doutputs = Strided::dense(&self.doutputs.as_slice()[i * count * rows..], rows);
        let dhead = &mut self.dhead.as_mut_slice()[..count * hidden];
        // forward: y = W [ĥ; future covariates; 1], so ĥ̇ = W_hᵀ ẏ
        let out = StridedMut { data: dhead, stride: hidden };
        linear(&network.transposed().head, Init::Bias, [doutputs, Strided::empty()], count, out);
        let dhead = &mut self.dhead.as_mut_slice()[..count * hidden];
        // forward: ĥ = f ∘ h, so ḣ = f ∘ ĥ̇
        dhead.iter_mut().zip(&forward.dropout).for_each(|(dh, factor)| *dh *= factor);
        let to = self.layers[self.shape.layers - 1].dh.as_mut_slice();
        to.iter_mut().zip(dhead).for_each(|(to, from)| *to += *from);
    }

    /// Back through one step of all layers. With `inputs`, [`BackwardPass::dinput`] is ẋ of that step afterwards.
    pub fn step(
        &mut self,
        network: &Network,
        forward: &mut ForwardPass,
        step: usize,
        inputs: InputGradients,
    ) {
        let (hidden, count) = (self.shape.hidden, forward.count);
        for k in (0..self.shape.layers).rev() {
            let (below, at) = self.layers.split_at_mut(k);
            let (layer, weights) = (&mut at[0], &network.transposed().layers[k]);
            layer.gates(network, &mut forward.layers[k], k, step * count, count);
            let gates = &forward.layers[k].gates;
            let (dsums, stride) = (&gates.as_slice()[step * count * gates.nrows()..], gates.nrows());
            // forward: a = W [h'; x; 1], so ḣ' += W_hᵀ ȧ, and ẋ = W_xᵀ ȧ
            let dh = StridedMut { data: layer.dh.as_mut_slice(), stride: hidden };
            weights.hidden.multiply(dsums, stride, Init::Output, count, dh);
            if let Some(below) = below.last_mut() {
                let dh = StridedMut { data: below.dh.as_mut_slice(), stride: hidden };
                weights.inputs.multiply(dsums, stride, Init::Output, count, dh);
            } else if inputs == InputGradients::Computed || self.shape.embedding > 0 {
                let rows = self.dinputs.nrows();
                let dinputs = StridedMut { data: self.dinputs.as_mut_slice(), stride: rows };
                weights.inputs.multiply(dsums, stride, Init::Bias, count, dinputs);
            }
        }
        // e is an input of every step, so ė is the sum over the steps
        let (size, rows) = (self.shape.embedding, self.dinputs.nrows());
        let dinputs = self.dinputs.as_slice().chunks_exact(rows).take(count);
        for (sums, dinputs) in self.dembedded.chunks_exact_mut(size.max(1)).zip(dinputs) {
            sums.iter_mut().zip(&dinputs[self.shape.inputs..]).for_each(|(sum, de)| *sum += de);
        }
    }

    /// ẋ of the step last passed.
    pub fn dinput(&self, input: usize, column: usize) -> f32 {
        self.dinputs[(input, column)]
    }

    /// Adds the tile's gradients of the weights, over all its `steps` and `head_calls`.
    pub fn accumulate(&mut self, forward: &ForwardPass, steps: usize, head_calls: usize) {
        let count = forward.count;
        for (layer, buffers) in self.layers.iter_mut().zip(&forward.layers) {
            // forward: a = W s at every step, so Ẇ = Σ ȧ sᵀ
            let states = transposed_view(&buffers.states, steps * count);
            layer.weights.matrix.gemm(1.0, &buffers.gates.columns(0, steps * count), &states, 1.0);
        }
        if head_calls > 0 {
            // forward: y = W s at every call, so Ẇ = Σ ẏ sᵀ
            let states = transposed_view(&forward.head.states, head_calls * count);
            self.head.gemm(1.0, &self.doutputs.columns(0, head_calls * count), &states, 1.0);
        }
        let size = self.shape.embedding;
        for (series, sums) in forward.series.iter().zip(self.dembedded.chunks_exact(size.max(1))) {
            let Some(series) = series else { continue };
            let to = &mut self.embedding[*series as usize * size..][..size];
            to.iter_mut().zip(sums).for_each(|(to, sum)| *to += sum);
        }
    }

    /// The accumulated gradients, with the names of the weights.
    pub fn gradients(&self) -> Gradients {
        let mut gradients = Gradients::zeros(&self.shape);
        for (k, layer) in self.layers.iter().enumerate() {
            layer.weights.unpack_gradients(&self.shape, &mut gradients.tensors, k);
        }
        HeadWeights::unpack_gradients(&self.head, &self.shape, &mut gradients.tensors);
        if let Some(embedding) = gradients.tensors.get_mut(EMBEDDING) {
            embedding.data.copy_from_slice(&self.embedding);
        }
        gradients
    }
}

/// Gradients of the first layer's inputs in a backward step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum InputGradients {
    Computed,
    Skipped,
}

impl LayerGradients {
    /// From ḣ and ċ to the gradients of the sums, which replace the gates. `start` is the first column of the step.
    fn gates(&mut self, network: &Network, buffers: &mut LayerBuffers, k: usize, start: usize, count: usize) {
        let shape = network.shape();
        let (gate_rows, state_rows, cell_rows) =
            (gate_rows(shape), buffers.states.nrows(), buffers.cells.nrows());
        let cells = buffers.cells.as_slice();
        let states = &buffers.states.as_slice()[start * state_rows..][..count * state_rows];
        let step = LayerStepBackward {
            kind: shape.cell,
            units: shape.hidden,
            peepholes: &network.layers[k].fused.peepholes,
            gates: StridedMut {
                data: &mut buffers.gates.as_mut_slice()[start * gate_rows..][..count * gate_rows],
                stride: gate_rows,
            },
            cells_before: &cells[start * cell_rows..][..count * cell_rows],
            cells_after: &cells[(start + count) * cell_rows..][..count * cell_rows],
            hidden: Strided::dense(states, state_rows),
            dh: &mut self.dh.as_mut_slice()[..count * shape.hidden],
            dc: &mut self.dc.as_mut_slice()[..count * cell_rows],
            dpeepholes: &mut self.weights.peepholes,
        };
        step.run(network.layers[k].packed.isa(), count);
    }
}
