//! What a network carries from step to step: a few hundred numbers a series.

use nalgebra::DMatrix;

use super::Shape;

/// The states of `width` columns, side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    width: usize,
    /// One `hidden` x `width` matrix a layer.
    hidden: Vec<DMatrix<f32>>,
    /// The same for cells with a cell state; of no rows for the others.
    cell: Vec<DMatrix<f32>>,
}

impl State {
    /// The state before anything was seen.
    pub fn zeros(shape: &Shape, width: usize) -> Self {
        let zeros = |rows: usize| vec![DMatrix::zeros(rows, width); shape.layers];
        Self { width, hidden: zeros(shape.hidden), cell: zeros(shape.cell.cell_states() * shape.hidden) }
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The hidden state of a layer, `[column][hidden]`.
    pub fn hidden(&self, layer: usize) -> &[f32] {
        self.hidden[layer].as_slice()
    }

    pub fn hidden_mut(&mut self, layer: usize) -> &mut [f32] {
        self.hidden[layer].as_mut_slice()
    }

    /// The cell state of a layer, `[column][hidden]`; empty for cells without.
    pub fn cell(&self, layer: usize) -> &[f32] {
        self.cell[layer].as_slice()
    }

    pub fn cell_mut(&mut self, layer: usize) -> &mut [f32] {
        self.cell[layer].as_mut_slice()
    }

    /// Whether this is the state of `width` columns of a network of this shape.
    pub(super) fn fits(&self, shape: &Shape, width: usize) -> bool {
        let rows = shape.cell.cell_states() * shape.hidden;
        self.width == width
            && self.hidden.len() == shape.layers
            && self.hidden.iter().all(|layer| layer.nrows() == shape.hidden)
            && self.cell.iter().all(|layer| layer.nrows() == rows)
    }
}
