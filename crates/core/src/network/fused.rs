//! The weights as the products read them: one matrix a layer and one for the head, biases included.
//!
//! A layer's matrix has a block of rows for each [`Block`](super::cells::Block), and the columns
//! `[h' | x | 1]`: one product with the states stacked in the same way gives everything that the gates are
//! applied to. The head's matrix has the columns `[h | known | 1]`.
//!
//! Both are padded with zeros up to [`SMALLEST`] rows and columns, since nalgebra sends the sum of the gradients to its fast
//! kernel only when no dimension is below 6. Forward they are read as [`Panels`].

use nalgebra::{DMatrix, Dyn, MatrixView};

use super::cells::Fed;
use super::kernel::panels::{Panels, Part};
use super::{Shape, Tensor, Tensors};
use crate::simd::Isa;

/// Least rows and columns of a matrix.
pub(super) const SMALLEST: usize = 8;

/// The weights of one layer as they are used: the matrix itself on the way back, its panels forward.
#[derive(Clone, Debug)]
pub(super) struct PackedLayer {
    pub fused: FusedLayer,
    pub panels: Panels,
}

/// The same of the head.
#[derive(Clone, Debug)]
pub(super) struct PackedHead {
    pub product: DMatrix<f32>,
    pub panels: Panels,
}

/// The weights of one layer.
#[derive(Clone, Debug)]
pub(super) struct FusedLayer {
    /// [`gate_rows`] x [`state_rows`].
    pub product: DMatrix<f32>,
    /// One block of `hidden` for each peephole of the cell.
    pub peepholes: Vec<f32>,
}

/// Rows of a layer's product: one for each number that a gate is applied to.
pub(super) fn gate_rows(shape: &Shape) -> usize {
    (shape.cell.blocks().len() * shape.hidden).max(SMALLEST)
}

/// Rows of a layer's stacked states `[h' | x | 1]`.
pub(super) fn state_rows(shape: &Shape, layer: usize) -> usize {
    (shape.hidden + shape.inputs_of(layer) + 1).max(SMALLEST)
}

/// Rows of the head's product.
pub(super) fn output_rows(shape: &Shape) -> usize {
    shape.head_rows().max(SMALLEST)
}

/// Rows of what the head reads `[h | known | 1]`.
pub(super) fn head_rows(shape: &Shape) -> usize {
    (shape.hidden + shape.head_known() + 1).max(SMALLEST)
}

/// The tensor of a name that [`Shape::slots`] gave.
fn tensor<'a>(tensors: &'a Tensors, name: &str) -> &'a [f32] {
    &tensors.get(name).expect("a network has every tensor of its shape").data
}

fn tensor_mut<'a>(tensors: &'a mut Tensors, name: &str) -> &'a mut [f32] {
    &mut tensors.get_mut(name).expect("gradients have every tensor of the shape").data
}

impl PackedLayer {
    /// Reads layer `k` of `tensors`, which fit `shape`.
    pub fn pack(shape: &Shape, tensors: &Tensors, k: usize) -> Self {
        let fused = FusedLayer::pack(shape, tensors, k);
        let (blocks, hidden, inputs) = (shape.cell.blocks(), shape.hidden, shape.inputs_of(k));
        let fed = |not: Fed| -> Vec<usize> { (0..blocks.len()).filter(|b| blocks[*b].fed != not).collect() };
        let parts = [
            Part { first: 0, count: hidden, blocks: &fed(Fed::Input) },
            Part { first: hidden, count: inputs, blocks: &fed(Fed::Hidden) },
        ];
        let matrix = |b: usize, unit: usize, column: usize| fused.product[(b * hidden + unit, column)];
        let bias = |b: usize, unit: usize| matrix(b, unit, hidden + inputs);
        let panels = Panels::pack(Isa::widest(), (blocks.len(), hidden), parts, bias, matrix);
        Self { fused, panels }
    }
}

impl PackedHead {
    pub fn pack(shape: &Shape, tensors: &Tensors) -> Self {
        let product = pack_head(shape, tensors);
        let (hidden, known) = (shape.hidden, shape.head_known());
        let parts = [
            Part { first: 0, count: hidden, blocks: &[0] },
            Part { first: hidden, count: known, blocks: &[0] },
        ];
        let bias = |_: usize, unit: usize| product[(unit, hidden + known)];
        let matrix = |_: usize, unit: usize, column: usize| product[(unit, column)];
        let panels = Panels::pack(Isa::widest(), (1, shape.head_rows()), parts, bias, matrix);
        Self { product, panels }
    }
}

impl FusedLayer {
    /// Reads layer `k` of `tensors`, which fit `shape`.
    pub fn pack(shape: &Shape, tensors: &Tensors, k: usize) -> Self {
        let (hidden, inputs) = (shape.hidden, shape.inputs_of(k));
        let [weight_ih, weight_hh, bias_ih, bias_hh] = names(k).map(|name| tensor(tensors, &name));
        let mut product = DMatrix::zeros(gate_rows(shape), state_rows(shape, k));
        for (b, block) in shape.cell.blocks().iter().enumerate() {
            for j in 0..hidden {
                let (to, from) = (b * hidden + j, block.gate * hidden + j);
                if block.fed != Fed::Input {
                    (0..hidden).for_each(|c| product[(to, c)] = weight_hh[from * hidden + c]);
                    product[(to, hidden + inputs)] += bias_hh[from];
                }
                if block.fed != Fed::Hidden {
                    (0..inputs).for_each(|c| product[(to, hidden + c)] = weight_ih[from * inputs + c]);
                    product[(to, hidden + inputs)] += bias_ih[from];
                }
            }
        }
        let peepholes = shape.cell.peepholes().iter();
        let peepholes = peepholes.flat_map(|gate| tensor(tensors, &peephole(gate, k))).copied().collect();
        Self { product, peepholes }
    }

    /// Adds the derivatives with respect to this layer's fused weights to `tensors`, gradients of layer `k`.
    pub fn unpack(&self, shape: &Shape, tensors: &mut Tensors, k: usize) {
        let (hidden, inputs) = (shape.hidden, shape.inputs_of(k));
        let [weight_ih, weight_hh, bias_ih, bias_hh] = names(k);
        for (b, block) in shape.cell.blocks().iter().enumerate() {
            let rows = || (0..hidden).map(|j| (block.gate * hidden + j, self.product.row(b * hidden + j)));
            if block.fed != Fed::Input {
                let weight = tensor_mut(tensors, &weight_hh);
                for (to, row) in rows() {
                    (0..hidden).for_each(|c| weight[to * hidden + c] += row[c]);
                }
                let bias = tensor_mut(tensors, &bias_hh);
                rows().for_each(|(to, row)| bias[to] += row[hidden + inputs]);
            }
            if block.fed != Fed::Hidden {
                let weight = tensor_mut(tensors, &weight_ih);
                for (to, row) in rows() {
                    (0..inputs).for_each(|c| weight[to * inputs + c] += row[hidden + c]);
                }
                let bias = tensor_mut(tensors, &bias_ih);
                rows().for_each(|(to, row)| bias[to] += row[hidden + inputs]);
            }
        }
        for (gate, from) in shape.cell.peepholes().iter().zip(self.peepholes.chunks_exact(hidden)) {
            let to = tensor_mut(tensors, &peephole(gate, k));
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        }
    }

    /// A layer of zeros, to add derivatives to.
    pub fn zeros(shape: &Shape, k: usize) -> Self {
        Self {
            product: DMatrix::zeros(gate_rows(shape), state_rows(shape, k)),
            peepholes: vec![0.0; shape.cell.peepholes().len() * shape.hidden],
        }
    }
}

fn names(k: usize) -> [String; 4] {
    ["weight_ih", "weight_hh", "bias_ih", "bias_hh"].map(|name| format!("{name}_l{k}"))
}

fn peephole(gate: &str, k: usize) -> String {
    format!("peephole_{gate}_l{k}")
}

/// The head's matrix: [`output_rows`] x [`head_rows`].
fn pack_head(shape: &Shape, tensors: &Tensors) -> DMatrix<f32> {
    let (weight, bias) = (tensor(tensors, "head.weight"), tensor(tensors, "head.bias"));
    let columns = shape.hidden + shape.head_known();
    let mut product = DMatrix::zeros(output_rows(shape), head_rows(shape));
    for r in 0..shape.head_rows() {
        (0..columns).for_each(|c| product[(r, c)] = weight[r * columns + c]);
        product[(r, columns)] = bias[r];
    }
    product
}

/// Adds the derivatives with respect to the head's matrix to `tensors`.
pub(super) fn unpack_head(product: &DMatrix<f32>, shape: &Shape, tensors: &mut Tensors) {
    let columns = shape.hidden + shape.head_known();
    let weight = tensor_mut(tensors, "head.weight");
    for r in 0..shape.head_rows() {
        (0..columns).for_each(|c| weight[r * columns + c] += product[(r, c)]);
    }
    let bias = tensor_mut(tensors, "head.bias");
    (0..shape.head_rows()).for_each(|r| bias[r] += product[(r, columns)]);
}

/// Tensors of zeros with the names and shapes of `shape`.
pub(super) fn zeros(shape: &Shape) -> Tensors {
    shape.slots().into_iter().map(|slot| (slot.name, Tensor::zeros(&slot.shape))).collect()
}

/// A matrix whose rows and columns may lie anyhow in memory.
pub(super) type Strided<'a> = MatrixView<'a, f32, Dyn, Dyn, Dyn, Dyn>;

/// The transpose of the first `columns` columns of `matrix`, without copying them: the fast kernel packs its
/// operands anyway and takes any stride, while nalgebra's own transposed product does not reach it.
pub(super) fn transposed(matrix: &DMatrix<f32>, columns: usize) -> Strided<'_> {
    let rows = matrix.nrows();
    Strided::from_slice_with_strides(&matrix.as_slice()[..columns * rows], columns, rows, rows, 1)
}
