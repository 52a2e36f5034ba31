//! The weights in the layouts in which the products read them.
//!
//! A layer has one matrix: a block of rows for each [`Block`](super::cells::Block), and the columns `[h' | x | 1]`. One
//! product with equally stacked states gives all sums that the gates are applied to. The head's matrix has the columns
//! `[h | future covariates | 1]`. Forward both are read as [`PackedMatrix`], backward as [`TransposedWeights`].
//!
//! Both matrices are padded with zeros to [`DIM_MIN`] rows and columns, since nalgebra computes the gradients of the weights
//! with its fast kernel only when every dimension is at least 6.

use nalgebra::{DMatrix, Dyn, MatrixView};

use super::cells::FedBy;
use super::kernel::packed::{ColumnRange, PackedMatrix, Strided, StridedMut};
use super::kernel::product::{Init, linear};
use super::{Shape, Tensor, Tensors};
use crate::simd::Isa;

/// Minimum rows and columns of a matrix.
const DIM_MIN: usize = 8;

/// The weights of one layer.
#[derive(Clone, Debug)]
pub(super) struct LayerWeights {
    pub fused: FusedLayer,
    pub packed: PackedMatrix,
}

/// The weights of the head.
#[derive(Clone, Debug)]
pub(super) struct HeadWeights {
    /// [`output_rows`] x [`head_rows`]
    pub matrix: DMatrix<f32>,
    pub packed: PackedMatrix,
}

/// The fused weights of one layer, or their gradients.
#[derive(Clone, Debug)]
pub(super) struct FusedLayer {
    /// [`gate_rows`] x [`state_rows`]
    pub matrix: DMatrix<f32>,
    /// `[peephole][hidden]`
    pub peepholes: Vec<f32>,
}

/// Rows of a layer's matrix.
pub(super) fn gate_rows(shape: &Shape) -> usize {
    (shape.cell.blocks().len() * shape.hidden).max(DIM_MIN)
}

/// Rows of a layer's stacked states `[h' | x | 1]`.
pub(super) fn state_rows(shape: &Shape, layer: usize) -> usize {
    (shape.hidden + shape.inputs_of(layer) + 1).max(DIM_MIN)
}

/// Rows of the head's matrix.
pub(super) fn output_rows(shape: &Shape) -> usize {
    shape.head_rows().max(DIM_MIN)
}

/// Rows of the head's stacked inputs `[h | future covariates | 1]`.
pub(super) fn head_rows(shape: &Shape) -> usize {
    (shape.hidden + shape.head_covariates() + 1).max(DIM_MIN)
}

/// Tensors of zeros with the names and shapes of `shape`.
pub(super) fn zeros(shape: &Shape) -> Tensors {
    shape.tensor_specs().into_iter().map(|spec| (spec.name, Tensor::zeros(&spec.shape))).collect()
}

fn tensor<'a>(tensors: &'a Tensors, name: &str) -> &'a [f32] {
    &tensors.get(name).expect("a network has every tensor of its shape").data
}

fn tensor_mut<'a>(tensors: &'a mut Tensors, name: &str) -> &'a mut [f32] {
    &mut tensors.get_mut(name).expect("gradients have every tensor of the shape").data
}

/// Names of a layer's weights and biases: input to hidden, hidden to hidden.
fn names(k: usize) -> [String; 4] {
    ["weight_ih", "weight_hh", "bias_ih", "bias_hh"].map(|name| format!("{name}_l{k}"))
}

fn peephole(gate: &str, k: usize) -> String {
    format!("peephole_{gate}_l{k}")
}

impl LayerWeights {
    /// Packs layer `k` of `tensors`, which fit `shape`.
    pub fn pack(shape: &Shape, tensors: &Tensors, k: usize) -> Self {
        let fused = FusedLayer::pack(shape, tensors, k);
        let (blocks, hidden, inputs) = (shape.cell.blocks(), shape.hidden, shape.inputs_of(k));
        let except = |fed_by: FedBy| -> Vec<usize> {
            (0..blocks.len()).filter(|b| blocks[*b].fed_by != fed_by).collect()
        };
        let ranges = [
            ColumnRange { first: 0, count: hidden, blocks: &except(FedBy::Input) },
            ColumnRange { first: hidden, count: inputs, blocks: &except(FedBy::Hidden) },
        ];
        let element = |b: usize, unit: usize, column: usize| fused.matrix[(b * hidden + unit, column)];
        let bias = |b: usize, unit: usize| element(b, unit, hidden + inputs);
        let packed = PackedMatrix::pack(Isa::widest(), blocks.len(), hidden, ranges, bias, element);
        Self { fused, packed }
    }
}

impl HeadWeights {
    /// Packs the head of `tensors`, which fit `shape`.
    pub fn pack(shape: &Shape, tensors: &Tensors) -> Self {
        let (hidden, covariates, rows) = (shape.hidden, shape.head_covariates(), shape.head_rows());
        let (weight, bias) = (tensor(tensors, "head.weight"), tensor(tensors, "head.bias"));
        let columns = hidden + covariates;
        let mut matrix = DMatrix::zeros(output_rows(shape), head_rows(shape));
        for r in 0..rows {
            (0..columns).for_each(|c| matrix[(r, c)] = weight[r * columns + c]);
            matrix[(r, columns)] = bias[r];
        }
        let ranges = [
            ColumnRange { first: 0, count: hidden, blocks: &[0] },
            ColumnRange { first: hidden, count: covariates, blocks: &[0] },
        ];
        let bias = |_: usize, unit: usize| matrix[(unit, columns)];
        let element = |_: usize, unit: usize, column: usize| matrix[(unit, column)];
        let packed = PackedMatrix::pack(Isa::widest(), 1, rows, ranges, bias, element);
        Self { matrix, packed }
    }

    /// Adds the gradients of the head's matrix to `tensors`.
    pub fn unpack_gradients(matrix: &DMatrix<f32>, shape: &Shape, tensors: &mut Tensors) {
        let columns = shape.hidden + shape.head_covariates();
        let weight = tensor_mut(tensors, "head.weight");
        for r in 0..shape.head_rows() {
            (0..columns).for_each(|c| weight[r * columns + c] += matrix[(r, c)]);
        }
        let bias = tensor_mut(tensors, "head.bias");
        (0..shape.head_rows()).for_each(|r| bias[r] += matrix[(r, columns)]);
    }
}

impl FusedLayer {
    fn pack(shape: &Shape, tensors: &Tensors, k: usize) -> Self {
        let (hidden, inputs) = (shape.hidden, shape.inputs_of(k));
        let [weight_ih, weight_hh, bias_ih, bias_hh] = names(k).map(|name| tensor(tensors, &name));
        let mut matrix = DMatrix::zeros(gate_rows(shape), state_rows(shape, k));
        for (b, block) in shape.cell.blocks().iter().enumerate() {
            for j in 0..hidden {
                let (to, from) = (b * hidden + j, block.gate * hidden + j);
                if block.fed_by != FedBy::Input {
                    (0..hidden).for_each(|c| matrix[(to, c)] = weight_hh[from * hidden + c]);
                    matrix[(to, hidden + inputs)] += bias_hh[from];
                }
                if block.fed_by != FedBy::Hidden {
                    (0..inputs).for_each(|c| matrix[(to, hidden + c)] = weight_ih[from * inputs + c]);
                    matrix[(to, hidden + inputs)] += bias_ih[from];
                }
            }
        }
        let peepholes = shape.cell.peepholes().iter();
        let peepholes = peepholes.flat_map(|gate| tensor(tensors, &peephole(gate, k))).copied().collect();
        Self { matrix, peepholes }
    }

    /// Gradients of zero.
    pub fn zeros(shape: &Shape, k: usize) -> Self {
        Self {
            matrix: DMatrix::zeros(gate_rows(shape), state_rows(shape, k)),
            peepholes: vec![0.0; shape.cell.peepholes().len() * shape.hidden],
        }
    }

    /// Adds these gradients to `tensors`, the gradients of layer `k`.
    pub fn unpack_gradients(&self, shape: &Shape, tensors: &mut Tensors, k: usize) {
        let (hidden, inputs) = (shape.hidden, shape.inputs_of(k));
        let [weight_ih, weight_hh, bias_ih, bias_hh] = names(k);
        for (b, block) in shape.cell.blocks().iter().enumerate() {
            let rows = || (0..hidden).map(|j| (block.gate * hidden + j, self.matrix.row(b * hidden + j)));
            if block.fed_by != FedBy::Input {
                let weight = tensor_mut(tensors, &weight_hh);
                for (to, row) in rows() {
                    (0..hidden).for_each(|c| weight[to * hidden + c] += row[c]);
                }
                let bias = tensor_mut(tensors, &bias_hh);
                rows().for_each(|(to, row)| bias[to] += row[hidden + inputs]);
            }
            if block.fed_by != FedBy::Hidden {
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
}

/// All weights as the backward pass reads them.
#[derive(Clone, Debug)]
pub(super) struct TransposedWeights {
    pub layers: Vec<TransposedLayer>,
    /// The head's weights of h.
    pub head: PackedMatrix,
}

/// The weights of one layer as the backward pass reads them.
#[derive(Clone, Debug)]
pub(super) struct TransposedLayer {
    pub hidden: Transposed,
    pub inputs: Transposed,
}

/// Some columns of a layer's matrix, as rows of a product with the gradients of the sums.
#[derive(Clone, Debug)]
pub(super) struct Transposed {
    packed: PackedMatrix,
    /// First sum of each run of neighbouring blocks that these columns feed.
    firsts: [usize; 2],
}

impl TransposedWeights {
    pub fn pack(shape: &Shape, layers: &[LayerWeights], head: &HeadWeights) -> Self {
        let (blocks, hidden) = (shape.cell.blocks(), shape.hidden);
        let layer = |(k, weights): (usize, &LayerWeights)| {
            let inputs = hidden..hidden + shape.inputs_of(k);
            TransposedLayer {
                hidden: Transposed::pack(shape, weights, 0..hidden, &|b| blocks[b].fed_by != FedBy::Input),
                inputs: Transposed::pack(shape, weights, inputs, &|b| blocks[b].fed_by != FedBy::Hidden),
            }
        };
        let empty = ColumnRange { first: 0, count: 0, blocks: &[0] };
        let ranges = [ColumnRange { count: shape.head_rows(), ..empty }, empty];
        let element = |_: usize, unit: usize, row: usize| head.matrix[(row, unit)];
        let packed = PackedMatrix::pack(head.packed.isa(), 1, hidden, ranges, |_, _| 0.0, element);
        Self { layers: layers.iter().enumerate().map(layer).collect(), head: packed }
    }
}

impl Transposed {
    /// The given columns of the blocks for which `is_fed` holds.
    fn pack(
        shape: &Shape,
        weights: &LayerWeights,
        columns: std::ops::Range<usize>,
        is_fed: &dyn Fn(usize) -> bool,
    ) -> Self {
        let size = shape.hidden;
        let blocks: Vec<usize> = (0..shape.cell.blocks().len()).filter(|b| is_fed(*b)).collect();
        let mut ranges = [ColumnRange { first: 0, count: 0, blocks: &[0] }; 2];
        for (range, run) in ranges.iter_mut().zip(blocks.chunk_by(|a, b| a + 1 == *b)) {
            (range.first, range.count) = (run[0] * size, run.len() * size);
        }
        assert_eq!(
            ranges[0].count + ranges[1].count,
            blocks.len() * size,
            "the blocks form at most two runs"
        );
        let element = |_: usize, unit: usize, sum: usize| weights.fused.matrix[(sum, columns.start + unit)];
        let isa = weights.packed.isa();
        let packed = PackedMatrix::pack(isa, 1, columns.len(), ranges, |_, _| 0.0, element);
        Self { packed, firsts: ranges.map(|range| range.first) }
    }

    /// out = Wᵀ ȧ, or out += Wᵀ ȧ, for `width` columns of gradients of the sums, `stride` apart.
    pub fn multiply(&self, dsums: &[f32], stride: usize, init: Init, width: usize, out: StridedMut<'_>) {
        let inputs = self.firsts.map(|first| Strided::dense(&dsums[first..], stride));
        linear(&self.packed, init, inputs, width, out);
    }
}

/// A matrix view with any strides.
type StridedView<'a> = MatrixView<'a, f32, Dyn, Dyn, Dyn, Dyn>;

/// The transpose of the first `columns` columns of `matrix`, without a copy: the fast kernel packs its operands anyway and
/// takes any stride, while nalgebra's own transposed product does not reach it.
pub(super) fn transposed_view(matrix: &DMatrix<f32>, columns: usize) -> StridedView<'_> {
    let rows = matrix.nrows();
    StridedView::from_slice_with_strides(&matrix.as_slice()[..columns * rows], columns, rows, rows, 1)
}
