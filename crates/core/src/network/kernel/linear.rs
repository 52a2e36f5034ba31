//! A product of which nothing more becomes.

use super::panels::Panels;
use super::product::{Work, product};
use super::rows::{Rows, RowsMut};
use crate::simd::Simd;

/// What a sum starts from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Onto {
    /// What was packed with the matrix.
    Start,
    /// What is there already.
    Itself,
}

struct Linear<'a> {
    onto: Onto,
    units: usize,
    out: RowsMut<'a>,
}

/// out = start + A [first; second], or out += A [first; second], for `width` columns.
pub fn linear(panels: &Panels, onto: Onto, rows: [Rows<'_>; 2], width: usize, out: RowsMut<'_>) {
    product(&mut Linear { onto, units: panels.units(), out }, panels, rows, width);
}

impl Linear<'_> {
    #[inline(always)]
    fn out(&mut self, first: usize, place: usize) -> &mut [f32] {
        let start = place * self.out.stride;
        &mut self.out.numbers[start + first..start + self.units]
    }
}

impl Work<1, 1> for Linear<'_> {
    const BLOCKS: [[usize; 1]; 2] = [[0], [0]];

    #[inline(always)]
    fn start<S: Simd>(&self, simd: S, start: S::V, panel: usize, place: usize) -> S::V {
        match self.onto {
            Onto::Start => start,
            Onto::Itself => {
                let (first, at) = (panel * S::LANES, place * self.out.stride);
                simd.load_partial(&self.out.numbers[at + first..at + self.units])
            }
        }
    }

    #[inline(always)]
    fn finish<S: Simd, const C: usize>(
        &mut self,
        simd: S,
        panel: usize,
        place: usize,
        [sums]: &[[S::V; C]; 1],
    ) {
        for c in 0..C {
            let out = self.out(panel * S::LANES, place + c);
            simd.store_partial(sums[c], out);
        }
    }
}

#[cfg(test)]
mod tests {
    use nalgebra::DMatrix;

    use super::super::panels::Part;
    use super::*;
    use crate::network::Random;
    use crate::simd::Isa;

    /// Of every instruction set: a product with a matrix of two parts, from its starts and then onto itself.
    fn products(
        matrix: &DMatrix<f32>,
        starts: &[f32],
        first: usize,
        columns: &DMatrix<f32>,
    ) -> Vec<DMatrix<f32>> {
        let parts = [
            Part { first: 0, count: first, blocks: &[0] },
            Part { first, count: matrix.ncols() - first, blocks: &[0] },
        ];
        let rows = [columns.as_slice(), columns.as_slice().get(first..).unwrap_or_default()];
        let rows = rows.map(|numbers| Rows::dense(numbers, columns.nrows()));
        let of = |isa| {
            let number = |_: usize, unit: usize, column: usize| matrix[(unit, column)];
            let panels = Panels::pack(isa, (1, matrix.nrows()), parts, |_, unit| starts[unit], number);
            let mut out = DMatrix::zeros(matrix.nrows(), columns.ncols());
            for onto in [Onto::Start, Onto::Itself] {
                let stride = out.nrows();
                let out = RowsMut { numbers: out.as_mut_slice(), stride };
                linear(&panels, onto, rows, columns.ncols(), out);
            }
            out
        };
        Isa::all().map(of).collect()
    }

    #[test]
    fn products_are_those_of_nalgebra_in_every_instruction_set() {
        let mut random = Random::new(5);
        for (units, first, second) in [(1, 1, 0), (3, 2, 5), (8, 7, 1), (24, 32, 0), (65, 9, 4), (133, 40, 3)]
        {
            for width in [0, 1, 2, 3, 4, 5, 7, 64] {
                let mut draw = |rows, columns| DMatrix::from_fn(rows, columns, |_, _| random.within(1.0));
                let (matrix, columns) = (draw(units, first + second), draw(first + second, width));
                let starts = draw(units, 1);
                let found = products(&matrix, starts.as_slice(), first, &columns);
                let mut expected = 2.0 * (&matrix * &columns);
                expected.column_iter_mut().for_each(|mut column| column += &starts);
                assert!((&found[0] - &expected).amax() < 1e-5 * (first + second) as f32);
                assert!(found.iter().all(|other| *other == found[0]), "{units} {first} {second} {width}");
            }
        }
    }
}
