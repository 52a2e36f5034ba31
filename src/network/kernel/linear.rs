//! A product of which nothing more becomes.

use super::panels::Panels;
use super::product::{Work, product};
use super::rows::{Rows, RowsMut};
use super::simd::Simd;

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
                simd.load_part(&self.out.numbers[at + first..at + self.units])
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
            simd.store_part(sums[c], out);
        }
    }
}
