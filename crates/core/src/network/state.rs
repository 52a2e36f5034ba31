//! What a network carries from step to step: a few hundred numbers a series.

use super::Shape;

/// The states of many columns, side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    width: usize,
    /// Numbers of a column in each of the vectors of `hidden` and of `cell`.
    hidden_size: usize,
    cell_size: usize,
    /// `[column][hidden]`, a vector a layer.
    hidden: Vec<Vec<f32>>,
    /// The same for cells with a cell state; empty for the others.
    cell: Vec<Vec<f32>>,
}

impl State {
    /// The state of `width` columns before anything was seen.
    pub fn zeros(shape: &Shape, width: usize) -> Self {
        let (hidden_size, cell_size) = (shape.hidden, shape.cell.cell_states() * shape.hidden);
        let none = vec![Vec::new(); shape.layers];
        let mut state = Self { width: 0, hidden_size, cell_size, hidden: none.clone(), cell: none };
        state.widen(width);
        state
    }

    /// Adds columns that have seen nothing, up to `width` in all.
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
    pub fn numbers(&self) -> usize {
        self.hidden.len() * (self.hidden_size + self.cell_size)
    }

    /// The numbers of a column: each layer's hidden and cell state.
    pub fn column(&self, column: usize) -> impl Iterator<Item = f32> {
        self.hidden.iter().zip(&self.cell).flat_map(move |(hidden, cell)| {
            let of = |numbers: &'_ [f32], size: usize| numbers[column * size..][..size].to_vec();
            of(hidden, self.hidden_size).into_iter().chain(of(cell, self.cell_size))
        })
    }

    /// Puts back what [`State::column`] gave.
    ///
    /// # Panics
    /// If these are not [`State::numbers`].
    pub fn set_column(&mut self, column: usize, numbers: &[f32]) {
        assert_eq!(numbers.len(), self.numbers(), "a column has all its numbers");
        let mut rest = numbers;
        for (hidden, cell) in self.hidden.iter_mut().zip(&mut self.cell) {
            for (to, size) in [(hidden, self.hidden_size), (cell, self.cell_size)] {
                let (mine, more) = rest.split_at(size);
                to[column * size..][..size].copy_from_slice(mine);
                rest = more;
            }
        }
    }

    /// A column forgets everything.
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

    /// The cell state of a layer, `[column][hidden]`; empty for cells without.
    pub fn cell(&self, layer: usize) -> &[f32] {
        &self.cell[layer]
    }

    pub fn cell_mut(&mut self, layer: usize) -> &mut [f32] {
        &mut self.cell[layer]
    }

    /// The hidden and the cell state of each layer, and how many numbers of a column are in it.
    pub(super) fn layers(&self) -> impl Iterator<Item = (&[f32], usize)> {
        let cells = self.cell.iter().map(|numbers| (numbers.as_slice(), self.cell_size));
        self.hidden.iter().map(|numbers| (numbers.as_slice(), self.hidden_size)).chain(cells)
    }

    /// The hidden state of the layer below, and the hidden and cell state of a layer.
    pub(super) fn layer_mut(&mut self, layer: usize) -> (Option<&[f32]>, &mut [f32], &mut [f32]) {
        let (below, from) = self.hidden.split_at_mut(layer);
        (below.last().map(Vec::as_slice), &mut from[0], &mut self.cell[layer])
    }

    /// Whether this is the state of columns of a network of this shape.
    pub(super) fn fits(&self, shape: &Shape) -> bool {
        let cell_size = shape.cell.cell_states() * shape.hidden;
        (self.hidden.len(), self.hidden_size, self.cell_size) == (shape.layers, shape.hidden, cell_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{CellKind, Decoder};

    #[test]
    fn a_column_is_put_back_where_it_was() {
        let shape = Shape {
            cell: CellKind::Lstm,
            inputs: 1,
            hidden: 2,
            layers: 2,
            horizon: 1,
            known: 0,
            quantiles: 0,
            embedding: 0,
            series: 0,
            decoder: Decoder::Direct,
        };
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
