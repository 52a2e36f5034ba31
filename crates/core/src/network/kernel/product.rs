//! A product with a packed matrix, tile by tile, with an epilogue that consumes the sums in registers.

use super::packed::{PackedMatrix, Panel, Strided, StridedMut};
use crate::simd::{Kernel, Simd, Vector};

/// The consumer of a product's sums. Of the matrix's `B` blocks, `N` are not zero in each range of its columns.
pub trait Epilogue<const B: usize, const N: usize> {
    /// The blocks of the first range, and of the second.
    const BLOCKS: [[usize; N]; 2];

    /// The initial sum of the column at `position`, given the matrix's bias.
    fn init<S: Simd>(&self, simd: S, bias: S::V, panel: usize, position: usize) -> S::V;

    /// Consumes the sums of all blocks of a panel for `C` columns from `position` on.
    fn finish<S: Simd, const C: usize>(
        &mut self,
        simd: S,
        panel: usize,
        position: usize,
        sums: &[[S::V; C]; B],
    );
}

/// Multiplies `matrix` by `width` columns. `inputs` holds the numbers of the columns for each range of the matrix's columns.
pub fn multiply<E: Epilogue<B, N>, const B: usize, const N: usize>(
    epilogue: &mut E,
    matrix: &PackedMatrix,
    inputs: [Strided<'_>; 2],
    width: usize,
) {
    if width > 0 {
        matrix.isa().run(Product { epilogue, matrix, inputs, width });
    }
}

struct Product<'a, E, const B: usize, const N: usize> {
    epilogue: &'a mut E,
    matrix: &'a PackedMatrix,
    inputs: [Strided<'a>; 2],
    width: usize,
}

impl<E: Epilogue<B, N>, const B: usize, const N: usize> Kernel for Product<'_, E, B, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        // A fused multiply-add has a latency of four cycles and a throughput of two per cycle, so a tile has at least eight
        // independent sums where possible, and at most as many as fit into the registers with their operands.
        let panels = self.matrix.units().div_ceil(S::LANES);
        let columns_max = if S::REGISTERS < 32 { 3 } else { 4 };
        match (N, self.width) {
            (1, 1) => self.grouped(panels, 8, |all, panel, count| all.single_column::<S>(simd, panel, count)),
            (_, 1) => self.grouped(panels, 3, |all, panel, count| all.single_column::<S>(simd, panel, count)),
            (1, _) => self.grouped(panels, 4, |all, panel, count| match count {
                1 => all.all_columns::<S, 1>(simd, panel, 3),
                2 => all.all_columns::<S, 2>(simd, panel, 3),
                3 => all.all_columns::<S, 3>(simd, panel, 3),
                _ => all.all_columns::<S, 4>(simd, panel, 3),
            }),
            _ => self.grouped(panels, 1, |all, panel, _| all.all_columns::<S, 1>(simd, panel, columns_max)),
        }
    }
}

impl<E: Epilogue<B, N>, const B: usize, const N: usize> Product<'_, E, B, N> {
    /// Calls `group(first panel, panels)` for groups of at most `max` of the panels, as even as possible.
    #[inline(always)]
    fn grouped(&mut self, panels: usize, max: usize, mut group: impl FnMut(&mut Self, usize, usize)) {
        let mut panel = 0;
        while panel < panels {
            let left = panels - panel;
            let count = left.div_ceil(left.div_ceil(max));
            group(self, panel, count);
            panel += count;
        }
    }

    /// The only column, for `count` panels.
    #[inline(always)]
    fn single_column<S: Simd>(&mut self, simd: S, panel: usize, count: usize) {
        match count {
            1 => self.tiles::<S, 1, 1>(simd, panel, 0, 1),
            2 => self.tiles::<S, 2, 1>(simd, panel, 0, 1),
            3 => self.tiles::<S, 3, 1>(simd, panel, 0, 1),
            4 if N == 1 => self.tiles::<S, 4, 1>(simd, panel, 0, 1),
            5 if N == 1 => self.tiles::<S, 5, 1>(simd, panel, 0, 1),
            6 if N == 1 => self.tiles::<S, 6, 1>(simd, panel, 0, 1),
            7 if N == 1 => self.tiles::<S, 7, 1>(simd, panel, 0, 1),
            8 if N == 1 => self.tiles::<S, 8, 1>(simd, panel, 0, 1),
            _ => unreachable!("a group has at most eight panels"),
        }
    }

    /// All columns for `P` panels, in tiles of at most two widths that differ by one: a leftover tile of a single column would
    /// stall on its sums.
    #[inline(always)]
    fn all_columns<S: Simd, const P: usize>(&mut self, simd: S, panel: usize, max: usize) {
        let tiles = self.width.div_ceil(max);
        let (narrow, wider) = (self.width / tiles, self.width % tiles);
        let between = wider * (narrow + 1);
        for (columns, first, end) in [(narrow + 1, 0, between), (narrow, between, self.width)] {
            match columns {
                _ if first == end => {}
                1 => self.tiles::<S, P, 1>(simd, panel, first, end),
                2 => self.tiles::<S, P, 2>(simd, panel, first, end),
                3 => self.tiles::<S, P, 3>(simd, panel, first, end),
                _ => self.tiles::<S, P, 4>(simd, panel, first, end),
            }
        }
    }

    #[inline(always)]
    fn tiles<S: Simd, const P: usize, const C: usize>(
        &mut self,
        simd: S,
        panel: usize,
        first: usize,
        end: usize,
    ) {
        let mut panels = [self.matrix.panel(panel); P];
        for (p, each) in panels.iter_mut().enumerate() {
            *each = self.matrix.panel(panel + p);
        }
        let (epilogue, inputs) = (&mut *self.epilogue, self.inputs);
        simd.run(Tiles::<E, B, N, P, C> { epilogue, panels, panel, inputs, first, end });
    }
}

/// Columns `first..end` for `P` panels, `C` columns at a time.
struct Tiles<'a, E, const B: usize, const N: usize, const P: usize, const C: usize> {
    epilogue: &'a mut E,
    panels: [Panel<'a>; P],
    /// Index of the first panel.
    panel: usize,
    inputs: [Strided<'a>; 2],
    first: usize,
    end: usize,
}

impl<E: Epilogue<B, N>, const B: usize, const N: usize, const P: usize, const C: usize> Kernel
    for Tiles<'_, E, B, N, P, C>
{
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // Only loops over arrays: a closure would be compiled separately, without the wide vectors.
        let Self { epilogue, panels, panel, inputs, first, end } = self;
        let zero = simd.splat(0.0);
        let mut position = first;
        while position < end {
            let mut sums = [[[zero; C]; B]; P];
            for p in 0..P {
                for b in 0..B {
                    let bias = simd.load(&panels[p].bias[b * S::LANES..]);
                    for c in 0..C {
                        sums[p][b][c] = epilogue.init(simd, bias, panel + p, position + c);
                    }
                }
            }
            for range in 0..2 {
                let mut weights = [panels[0].ranges[range]; P];
                for p in 0..P {
                    weights[p] = panels[p].ranges[range];
                }
                let terms = weights[0].len() / (N * S::LANES);
                let mut numbers = [inputs[range].column(position, terms); C];
                for c in 0..C {
                    numbers[c] = inputs[range].column(position + c, terms);
                }
                accumulate(simd, &mut sums, E::BLOCKS[range], weights, numbers);
            }
            for p in 0..P {
                epilogue.finish(simd, panel + p, position, &sums[p]);
            }
            position += C;
        }
    }
}

/// sums[p][blocks[n]][c] += Σ_k weights[p][k][n] · numbers[c][k], with the terms in the order of k.
#[inline(always)]
fn accumulate<S: Simd, const B: usize, const N: usize, const P: usize, const C: usize>(
    simd: S,
    sums: &mut [[[S::V; C]; B]; P],
    blocks: [usize; N],
    weights: [&[f32]; P],
    numbers: [&[f32]; C],
) {
    let (count, zero) = (numbers[0].len(), simd.splat(0.0));
    for numbers in &numbers {
        assert_eq!(numbers.len(), count, "every column has one number per term");
    }
    for weights in &weights {
        assert_eq!(weights.len(), count * N * S::LANES, "every block has one vector per term");
    }
    let mut running = [[[zero; C]; N]; P];
    for p in 0..P {
        for n in 0..N {
            running[p][n] = sums[p][blocks[n]];
        }
    }
    for k in 0..count {
        let mut number = [zero; C];
        for c in 0..C {
            // SAFETY: each column has `count` numbers.
            number[c] = simd.splat(unsafe { *numbers[c].get_unchecked(k) });
        }
        for p in 0..P {
            for n in 0..N {
                let first = (k * N + n) * S::LANES;
                // SAFETY: there are `count * N` vectors of weights.
                let weight = simd.load(unsafe { weights[p].get_unchecked(first..first + S::LANES) });
                for c in 0..C {
                    running[p][n][c] = weight.mul_add(number[c], running[p][n][c]);
                }
            }
        }
    }
    for p in 0..P {
        for n in 0..N {
            sums[p][blocks[n]] = running[p][n];
        }
    }
}

/// The initial value of the sums of [`linear`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// The matrix's bias.
    Bias,
    /// The current contents of the output.
    Output,
}

struct Linear<'a> {
    init: Init,
    units: usize,
    out: StridedMut<'a>,
}

/// out = bias + A [first; second], or out += A [first; second], for `width` columns.
pub fn linear(
    matrix: &PackedMatrix,
    init: Init,
    inputs: [Strided<'_>; 2],
    width: usize,
    out: StridedMut<'_>,
) {
    multiply(&mut Linear { init, units: matrix.units(), out }, matrix, inputs, width);
}

impl Epilogue<1, 1> for Linear<'_> {
    const BLOCKS: [[usize; 1]; 2] = [[0], [0]];

    #[inline(always)]
    fn init<S: Simd>(&self, simd: S, bias: S::V, panel: usize, position: usize) -> S::V {
        match self.init {
            Init::Bias => bias,
            Init::Output => {
                let (first, start) = (panel * S::LANES, position * self.out.stride);
                simd.load_partial(&self.out.data[start + first..start + self.units])
            }
        }
    }

    #[inline(always)]
    fn finish<S: Simd, const C: usize>(
        &mut self,
        simd: S,
        panel: usize,
        position: usize,
        [sums]: &[[S::V; C]; 1],
    ) {
        for c in 0..C {
            let (first, start) = (panel * S::LANES, (position + c) * self.out.stride);
            simd.store_partial(sums[c], &mut self.out.data[start + first..start + self.units]);
        }
    }
}

#[cfg(test)]
mod tests {
    use nalgebra::DMatrix;

    use super::super::packed::ColumnRange;
    use super::*;
    use crate::network::Random;
    use crate::simd::Isa;

    /// The product with a matrix of two ranges split at column `first`, from its bias and then added onto itself, for every
    /// instruction set.
    fn products(
        matrix: &DMatrix<f32>,
        bias: &[f32],
        first: usize,
        columns: &DMatrix<f32>,
    ) -> Vec<DMatrix<f32>> {
        let ranges = [
            ColumnRange { first: 0, count: first, blocks: &[0] },
            ColumnRange { first, count: matrix.ncols() - first, blocks: &[0] },
        ];
        let inputs = [columns.as_slice(), columns.as_slice().get(first..).unwrap_or_default()];
        let inputs = inputs.map(|numbers| Strided::dense(numbers, columns.nrows()));
        let product = |isa| {
            let element = |_: usize, unit: usize, column: usize| matrix[(unit, column)];
            let packed = PackedMatrix::pack(isa, 1, matrix.nrows(), ranges, |_, unit| bias[unit], element);
            let mut out = DMatrix::zeros(matrix.nrows(), columns.ncols());
            for init in [Init::Bias, Init::Output] {
                let stride = out.nrows();
                let out = StridedMut { data: out.as_mut_slice(), stride };
                linear(&packed, init, inputs, columns.ncols(), out);
            }
            out
        };
        Isa::all().map(product).collect()
    }

    #[test]
    fn products_match_nalgebra_and_have_equal_bits_in_every_instruction_set() {
        let mut random = Random::new(5);
        for (units, first, second) in [(1, 1, 0), (3, 2, 5), (8, 7, 1), (24, 32, 0), (65, 9, 4), (133, 40, 3)]
        {
            for width in [0, 1, 2, 3, 4, 5, 7, 64] {
                let mut draw = |rows, columns| DMatrix::from_fn(rows, columns, |_, _| random.uniform(1.0));
                let (matrix, columns) = (draw(units, first + second), draw(first + second, width));
                let bias = draw(units, 1);
                let found = products(&matrix, bias.as_slice(), first, &columns);
                let mut expected = 2.0 * (&matrix * &columns);
                expected.column_iter_mut().for_each(|mut column| column += &bias);
                assert!((&found[0] - &expected).amax() < 1e-5 * (first + second) as f32);
                assert!(found.iter().all(|other| *other == found[0]), "{units} {first} {second} {width}");
            }
        }
    }
}
