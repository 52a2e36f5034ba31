//! A product with a packed matrix, tile by tile, and what becomes of its sums at once.

use std::array::from_fn;

use super::panels::{Panel, Panels};
use super::rows::Rows;
use super::simd::{Kernel, Simd, Vector};

/// What a product is for. Of the matrix's `B` blocks, `N` have something in a part of its columns.
pub trait Work<const B: usize, const N: usize> {
    /// The blocks of the first part, and of the second.
    const BLOCKS: [[usize; N]; 2];

    /// What the sum of a column starts from, where the matrix says `start`.
    fn start<S: Simd>(&self, simd: S, start: S::V, panel: usize, place: usize) -> S::V;

    /// Takes the sums of all blocks of a panel for a column.
    fn finish<S: Simd>(&mut self, simd: S, panel: usize, place: usize, sums: [S::V; B]);
}

/// Columns of the widest tile.
const WIDEST: usize = 6;

/// Multiplies the matrix by `width` columns, whose numbers for each part of its columns are in one of `rows`.
pub fn product<W: Work<B, N>, const B: usize, const N: usize>(
    work: &mut W,
    panels: &Panels,
    rows: [Rows<'_>; 2],
    width: usize,
) {
    panels.isa().run(Product { work, panels, rows, width });
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
    fn run<S: Simd>(self, simd: S) {
        // Each addition waits for the one before it, and two go on side by side, four steps each or more: a tile has at least
        // eight sums where it can, and never more than there are registers for beside what is multiplied.
        match (N, self.width) {
            (1, ..4) => self.panels::<S, 8>(simd, 1),
            (1, _) => self.panels::<S, 2>(simd, WIDEST),
            (_, 1) => self.panels::<S, 3>(simd, 1),
            _ => self.panels::<S, 1>(simd, ((S::REGISTERS - 4) / N).min(WIDEST)),
        }
    }
}

impl<W: Work<B, N>, const B: usize, const N: usize> Product<'_, W, B, N> {
    /// All columns, at most `most` at a time, with `P` panels at a time as long as there are so many.
    #[inline(always)]
    fn panels<S: Simd, const P: usize>(mut self, simd: S, most: usize) {
        let count = self.panels.units().div_ceil(S::LANES);
        let (together, rest) = (count / P, count % P);
        (0..together).for_each(|group| self.columns::<S, P>(simd, group * P, most));
        (count - rest..count).for_each(|panel| self.columns::<S, 1>(simd, panel, most));
    }

    /// All columns, in tiles of two widths at most that differ by one: a tile of a single column would wait for its sums.
    #[inline(always)]
    fn columns<S: Simd, const P: usize>(&mut self, simd: S, panel: usize, most: usize) {
        let tiles = self.width.div_ceil(most);
        let (narrow, wider) = (self.width / tiles, self.width % tiles);
        let between = wider * (narrow + 1);
        for (columns, first, end) in [(narrow + 1, 0, between), (narrow, between, self.width)] {
            if first == end {
                continue;
            }
            match columns {
                1 => self.tiles::<S, P, 1>(simd, panel, first, end),
                2 if most >= 2 => self.tiles::<S, P, 2>(simd, panel, first, end),
                3 if most >= 3 => self.tiles::<S, P, 3>(simd, panel, first, end),
                4 if most >= 4 => self.tiles::<S, P, 4>(simd, panel, first, end),
                5 if most >= 5 => self.tiles::<S, P, 5>(simd, panel, first, end),
                _ => self.tiles::<S, P, WIDEST>(simd, panel, first, end),
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
        let panels = from_fn(|p| self.panels.panel(panel + p));
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
        let Self { work, panels, panel, rows, first, end } = self;
        let counts: [usize; 2] = from_fn(|part| panels[0].parts[part].len() / (N * S::LANES));
        let mut place = first;
        while place < end {
            let mut sums: [[[S::V; C]; B]; P] = from_fn(|p| {
                from_fn(|b| {
                    let start = simd.load(&panels[p].starts[b * S::LANES..]);
                    from_fn(|c| work.start(simd, start, panel + p, place + c))
                })
            });
            for part in 0..2 {
                let numbers = from_fn(|c| rows[part].row(place + c, counts[part]));
                let weights = from_fn(|p| panels[p].parts[part]);
                accumulate(simd, &mut sums, W::BLOCKS[part], weights, numbers);
            }
            for (p, sums) in sums.iter().enumerate() {
                for c in 0..C {
                    work.finish(simd, panel + p, place + c, from_fn(|b| sums[b][c]));
                }
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
    let count = numbers[0].len();
    assert!(numbers.iter().all(|numbers| numbers.len() == count), "a number of each column for each term");
    let size = count * N * S::LANES;
    assert!(weights.iter().all(|weights| weights.len() == size), "a vector of each block for each term");
    let mut running: [[[S::V; C]; N]; P] = from_fn(|p| from_fn(|n| sums[p][blocks[n]]));
    for k in 0..count {
        // SAFETY: there are `count` numbers of each column.
        let numbers: [S::V; C] = from_fn(|c| simd.splat(unsafe { *numbers[c].get_unchecked(k) }));
        for p in 0..P {
            for n in 0..N {
                let first = (k * N + n) * S::LANES;
                // SAFETY: there are `count * N` vectors of weights.
                let weight = simd.load(unsafe { weights[p].get_unchecked(first..first + S::LANES) });
                for c in 0..C {
                    running[p][n][c] = weight.mul_add(numbers[c], running[p][n][c]);
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
