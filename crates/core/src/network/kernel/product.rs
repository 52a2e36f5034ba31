//! A product with a packed matrix, tile by tile, and what becomes of its sums at once.

use super::panels::{Panel, Panels};
use super::rows::Rows;
use crate::simd::{Kernel, Simd, Vector};

/// What a product is for. Of the matrix's `B` blocks, `N` have something in a part of its columns.
pub trait Work<const B: usize, const N: usize> {
    /// The blocks of the first part, and of the second.
    const BLOCKS: [[usize; N]; 2];

    /// What the sum of a column starts from, where the matrix says `start`.
    fn start<S: Simd>(&self, simd: S, start: S::V, panel: usize, place: usize) -> S::V;

    /// Takes the sums of all blocks of a panel for `C` columns from `place` on.
    fn finish<S: Simd, const C: usize>(&mut self, simd: S, panel: usize, place: usize, sums: &[[S::V; C]; B]);
}

/// Multiplies the matrix by `width` columns, whose numbers for each part of its columns are in one of `rows`.
pub fn product<W: Work<B, N>, const B: usize, const N: usize>(
    work: &mut W,
    panels: &Panels,
    rows: [Rows<'_>; 2],
    width: usize,
) {
    if width > 0 {
        panels.isa().run(Product { work, panels, rows, width });
    }
}

struct Product<'a, W, const B: usize, const N: usize> {
    work: &'a mut W,
    panels: &'a Panels,
    rows: [Rows<'a>; 2],
    width: usize,
}

impl<W: Work<B, N>, const B: usize, const N: usize> Kernel for Product<'_, W, B, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        // Each addition waits for the one before it, and two go on side by side for four steps: a tile has eight sums or more
        // where it can, and no more than there are registers for beside what is multiplied.
        let count = self.panels.units().div_ceil(S::LANES);
        let most = if S::REGISTERS < 32 { 3 } else { 4 };
        match (N, self.width) {
            (1, 1) => self.groups(count, 8, |all, panel, together| all.single::<S>(simd, panel, together)),
            (_, 1) => self.groups(count, 3, |all, panel, together| all.single::<S>(simd, panel, together)),
            (1, _) => self.groups(count, 4, |all, panel, together| match together {
                1 => all.columns::<S, 1>(simd, panel, 3),
                2 => all.columns::<S, 2>(simd, panel, 3),
                3 => all.columns::<S, 3>(simd, panel, 3),
                _ => all.columns::<S, 4>(simd, panel, 3),
            }),
            _ => self.groups(count, 1, |all, panel, _| all.columns::<S, 1>(simd, panel, most)),
        }
    }
}

impl<W: Work<B, N>, const B: usize, const N: usize> Product<'_, W, B, N> {
    /// All panels, some at a time: `most` of them or fewer, as evenly as may be.
    #[inline(always)]
    fn groups(&mut self, count: usize, most: usize, mut group: impl FnMut(&mut Self, usize, usize)) {
        let mut panel = 0;
        while panel < count {
            let left = count - panel;
            let together = left.div_ceil(left.div_ceil(most));
            group(self, panel, together);
            panel += together;
        }
    }

    /// The only column, of so many panels.
    #[inline(always)]
    fn single<S: Simd>(&mut self, simd: S, panel: usize, together: usize) {
        match together {
            1 => self.tiles::<S, 1, 1>(simd, panel, 0, 1),
            2 => self.tiles::<S, 2, 1>(simd, panel, 0, 1),
            3 => self.tiles::<S, 3, 1>(simd, panel, 0, 1),
            4 if N == 1 => self.tiles::<S, 4, 1>(simd, panel, 0, 1),
            5 if N == 1 => self.tiles::<S, 5, 1>(simd, panel, 0, 1),
            6 if N == 1 => self.tiles::<S, 6, 1>(simd, panel, 0, 1),
            7 if N == 1 => self.tiles::<S, 7, 1>(simd, panel, 0, 1),
            8 if N == 1 => self.tiles::<S, 8, 1>(simd, panel, 0, 1),
            _ => unreachable!("no more than there are registers for"),
        }
    }

    /// All columns of `P` panels, in tiles of two widths at most that differ by one: a tile of a single column would wait for
    /// its sums.
    #[inline(always)]
    fn columns<S: Simd, const P: usize>(&mut self, simd: S, panel: usize, most: usize) {
        let tiles = self.width.div_ceil(most);
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
        let mut panels = [self.panels.panel(panel); P];
        for (p, each) in panels.iter_mut().enumerate() {
            *each = self.panels.panel(panel + p);
        }
        simd.run(Tiles::<W, B, N, P, C> { work: self.work, panels, panel, rows: self.rows, first, end });
    }
}

/// All columns of some panels, `P` panels by `C` columns at a time.
struct Tiles<'a, W, const B: usize, const N: usize, const P: usize, const C: usize> {
    work: &'a mut W,
    panels: [Panel<'a>; P],
    /// Number of the first of the panels.
    panel: usize,
    rows: [Rows<'a>; 2],
    first: usize,
    end: usize,
}

impl<W: Work<B, N>, const B: usize, const N: usize, const P: usize, const C: usize> Kernel
    for Tiles<'_, W, B, N, P, C>
{
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // Loops over arrays everywhere: a closure would be compiled apart, without the wide vectors.
        let Self { work, panels, panel, rows, first, end } = self;
        let zero = simd.splat(0.0);
        let mut place = first;
        while place < end {
            let mut sums = [[[zero; C]; B]; P];
            for p in 0..P {
                for b in 0..B {
                    let start = simd.load(&panels[p].starts[b * S::LANES..]);
                    for c in 0..C {
                        sums[p][b][c] = work.start(simd, start, panel + p, place + c);
                    }
                }
            }
            for part in 0..2 {
                let mut weights = [panels[0].parts[part]; P];
                for p in 0..P {
                    weights[p] = panels[p].parts[part];
                }
                let count = weights[0].len() / (N * S::LANES);
                let mut numbers = [rows[part].row(place, count); C];
                for c in 0..C {
                    numbers[c] = rows[part].row(place + c, count);
                }
                accumulate(simd, &mut sums, W::BLOCKS[part], weights, numbers);
            }
            for p in 0..P {
                work.finish(simd, panel + p, place, &sums[p]);
            }
            place += C;
        }
    }
}

/// sums[p][blocks[n]][c] += Σ_k weights[p][k][n] · numbers[c][k], the terms in the order of k.
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
        assert_eq!(numbers.len(), count, "a number of each column for each term");
    }
    for weights in &weights {
        assert_eq!(weights.len(), count * N * S::LANES, "a vector of each block for each term");
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
            // SAFETY: there are `count` numbers of each column.
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
