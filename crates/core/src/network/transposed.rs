//! The weights as the backward pass reads them: transposed, each in the order in which its product reads it.

use super::Network;
use super::cells::Fed;
use super::kernel::linear::{Onto, linear};
use super::kernel::panels::{Panels, Part};
use super::kernel::rows::{Rows, RowsMut};

/// All weights on the way back.
#[derive(Clone, Debug)]
pub(super) struct TransposedWeights {
    pub layers: Vec<TransposedLayer>,
    /// The head's weights of h.
    pub to_top: Panels,
}

/// The weights of one layer.
#[derive(Clone, Debug)]
pub(super) struct TransposedLayer {
    pub to_hidden: Transposed,
    pub to_inputs: Transposed,
}

/// Some columns of a layer's weights, as rows of a product with the derivatives of the sums.
#[derive(Clone, Debug)]
pub(super) struct Transposed {
    panels: Panels,
    /// Where the sums begin that have a part in it: those that lie together are a part of the product.
    firsts: [usize; 2],
}

impl TransposedWeights {
    pub fn pack(network: &Network) -> Self {
        let (shape, blocks) = (network.shape(), network.shape().cell.blocks());
        let hidden = shape.hidden;
        let layer = |k: usize| TransposedLayer {
            to_hidden: Transposed::pack(network, k, (0, hidden), &|b| blocks[b].fed != Fed::Input),
            to_inputs: Transposed::pack(network, k, (hidden, shape.inputs_of(k)), &|b| {
                blocks[b].fed != Fed::Hidden
            }),
        };
        let none = Part { first: 0, count: 0, blocks: &[0] };
        let parts = [Part { count: shape.head_rows(), ..none }, none];
        let head = |_: usize, unit: usize, row: usize| network.head.product[(row, unit)];
        let isa = network.head.panels.isa();
        let to_top = Panels::pack(isa, (1, hidden), parts, |_, _| 0.0, head);
        Self { layers: (0..shape.layers).map(layer).collect(), to_top }
    }
}

impl Transposed {
    /// `count` columns from `first` on of the weights of the blocks that are `fed`.
    fn pack(
        network: &Network,
        k: usize,
        (first, count): (usize, usize),
        fed: &dyn Fn(usize) -> bool,
    ) -> Self {
        let (blocks, size) = (network.shape().cell.blocks().len(), network.shape().hidden);
        let all: Vec<usize> = (0..blocks).filter(|b| fed(*b)).collect();
        let mut parts = [Part { first: 0, count: 0, blocks: &[0] }; 2];
        for (part, run) in parts.iter_mut().zip(all.chunk_by(|a, b| a + 1 == *b)) {
            (part.first, part.count) = (run[0] * size, run.len() * size);
        }
        assert_eq!(parts[0].count + parts[1].count, all.len() * size, "two runs of blocks at most");
        let product = &network.layers[k].fused.product;
        let matrix = |_: usize, unit: usize, sum: usize| product[(sum, first + unit)];
        let isa = network.layers[k].panels.isa();
        let panels = Panels::pack(isa, (1, count), parts, |_, _| 0.0, matrix);
        Self { panels, firsts: parts.map(|part| part.first) }
    }

    /// out = Wᵀ ȧ, or out += Wᵀ ȧ, of `count` columns of derivatives, `stride` apart.
    pub fn multiply(&self, (dsums, stride): (&[f32], usize), onto: Onto, count: usize, out: RowsMut<'_>) {
        let rows = self.firsts.map(|first| Rows::dense(&dsums[first..], stride));
        linear(&self.panels, onto, rows, count, out);
    }
}
