//! The state that a network carries from step to step: a few hundred numbers per series.

use super::Shape;

/// The states of many columns.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    width: usize,
    /// Numbers of a column in each vector of `hidden`.
    hidden_size: usize,
    /// Numbers of a column in each vector of `cell`; 0 for cells without a cell state.
    cell_size: usize,
    /// `[layer][column][hidden]`
    hidden: Vec<Vec<f32>>,
    /// `[layer][column][hidden]`
    cell: Vec<Vec<f32>>,
}

impl State {
    /// The initial state of `width` columns.
    pub fn zeros(shape: &Shape, width: usize) -> Self {
        let (hidden_size, cell_size) = (shape.hidden, shape.cell.cell_states() * shape.hidden);
        let none = vec![Vec::new(); shape.layers];
        let mut state = Self { width: 0, hidden_size, cell_size, hidden: none.clone(), cell: none };
        state.widen(width);
        state
    }

    /// Appends columns in their initial state, up to `width` columns in total.
    pub fn widen(&mut self, width: usize) {
        self.width = self.width.max(width);
        self.hidden.iter_mut().for_each(|layer| layer.resize(self.width * self.hidden_size, 0.0));
        self.cell.iter_mut().for_each(|layer| layer.resize(self.width * self.cell_size, 0.0));
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Numbers of a column.
    pub fn column_len(&self) -> usize {
        self.hidden.len() * (self.hidden_size + self.cell_size)
    }

    /// The numbers of a column: the hidden and cell state of each layer.
    pub fn column(&self, column: usize) -> impl Iterator<Item = f32> {
        self.hidden.iter().zip(&self.cell).flat_map(move |(hidden, cell)| {
            let copy = |numbers: &'_ [f32], size: usize| numbers[column * size..][..size].to_vec();
            copy(hidden, self.hidden_size).into_iter().chain(copy(cell, self.cell_size))
        })
    }

    /// Sets a column to numbers from [`State::column`].
    ///
    /// # Panics
    /// If there are not [`State::column_len`] numbers.
    pub fn set_column(&mut self, column: usize, numbers: &[f32]) {
        assert_eq!(numbers.len(), self.column_len(), "all numbers of a column are set");
        let mut rest = numbers;
        for (hidden, cell) in self.hidden.iter_mut().zip(&mut self.cell) {
            for (to, size) in [(hidden, self.hidden_size), (cell, self.cell_size)] {
                let (from, after) = rest.split_at(size);
                to[column * size..][..size].copy_from_slice(from);
                rest = after;
            }
        }
    }

    /// Resets a column to its initial state.
    pub fn clear_column(&mut self, column: usize) {
        for (hidden, cell) in self.hidden.iter_mut().zip(&mut self.cell) {
            hidden[column * self.hidden_size..][..self.hidden_size].fill(0.0);
            cell[column * self.cell_size..][..self.cell_size].fill(0.0);
        }
    }

    /// The hidden state of a layer, `[column][hidden]`.
    pub fn hidden(&self, layer: usize) -> &[f32] {
        &self.hidden[layer]
    }

    pub fn hidden_mut(&mut self, layer: usize) -> &mut [f32] {
        &mut self.hidden[layer]
    }

    /// The cell state of a layer, `[column][hidden]`; empty for cells without one.
    pub fn cell(&self, layer: usize) -> &[f32] {
        &self.cell[layer]
    }

    pub fn cell_mut(&mut self, layer: usize) -> &mut [f32] {
        &mut self.cell[layer]
    }

    /// The hidden and cell states of all layers, each with its numbers per column.
    pub(super) fn layers(&self) -> impl Iterator<Item = (&[f32], usize)> {
        let cells = self.cell.iter().map(|numbers| (numbers.as_slice(), self.cell_size));
        self.hidden.iter().map(|numbers| (numbers.as_slice(), self.hidden_size)).chain(cells)
    }

    /// The states that a step of one layer reads and writes.
    pub(super) fn layer_mut(&mut self, layer: usize) -> LayerState<'_> {
        let (below, from) = self.hidden.split_at_mut(layer);
        let below = below.last().map(Vec::as_slice);
        LayerState { below, hidden: &mut from[0], cell: &mut self.cell[layer] }
    }

    /// True if this is the state of a network of this shape.
    pub(super) fn matches(&self, shape: &Shape) -> bool {
        let cell_size = shape.cell.cell_states() * shape.hidden;
        (self.hidden.len(), self.hidden_size, self.cell_size) == (shape.layers, shape.hidden, cell_size)
    }
}

/// The states that a step of one layer reads and writes, each `[column][hidden]`.
pub(super) struct LayerState<'a> {
    /// The hidden state of the layer below; `None` for the first layer.
    pub below: Option<&'a [f32]>,
    pub hidden: &'a mut [f32],
    pub cell: &'a mut [f32],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::CellKind;

    #[test]
    fn a_column_is_restored_from_its_numbers() {
        let shape = Shape { hidden: 2, layers: 2, ..Shape::small(CellKind::Lstm) };
        let mut state = State::zeros(&shape, 1);
        state.widen(3);
        let numbers: Vec<f32> = (1..=8).map(|i| i as f32).collect();
        state.set_column(1, &numbers);
        assert_eq!(state.column(1).collect::<Vec<_>>(), numbers);
        assert_eq!(state.hidden(1), [0.0, 0.0, 5.0, 6.0, 0.0, 0.0]);
        assert_eq!(state.cell(0), [0.0, 0.0, 3.0, 4.0, 0.0, 0.0]);
        state.clear_column(1);
        assert_eq!(state, {
            let mut zeros = State::zeros(&shape, 2);
            zeros.widen(3);
            zeros
        });
    }
}
