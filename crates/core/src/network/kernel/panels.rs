//! A constant matrix in the order in which a product reads it.

use crate::simd::Isa;

/// A part of the columns of a matrix, and the blocks of its rows that have something there.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    pub first: usize,
    pub count: usize,
    pub blocks: &'a [usize],
}

/// A matrix of some blocks of as many rows each, and the sums that a product starts from.
///
/// A panel has the rows of as many units as a vector has lanes, one row of each block a unit: first the starts of all blocks,
/// then, for each column of the first part, a vector of each of its blocks, then the same of the second.
#[derive(Clone, Debug)]
pub struct Panels {
    isa: Isa,
    units: usize,
    blocks: usize,
    /// Numbers of one panel in the first part, and in the second.
    sizes: [usize; 2],
    lines: Vec<Line>,
}

/// As many numbers as a line of the cache: vectors that lie across two cost twice.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

const LINE: usize = 16;

/// One panel as a product reads it.
#[derive(Clone, Copy)]
pub struct Panel<'a> {
    pub starts: &'a [f32],
    pub parts: [&'a [f32]; 2],
}

impl Panels {
    /// `matrix` and `starts` give the numbers of a block and unit; a part that is not needed has no columns.
    pub fn pack(
        isa: Isa,
        (blocks, units): (usize, usize),
        parts: [Part<'_>; 2],
        starts: impl Fn(usize, usize) -> f32,
        matrix: impl Fn(usize, usize, usize) -> f32,
    ) -> Self {
        let lanes = isa.lanes();
        let sizes = parts.map(|part| part.count * part.blocks.len() * lanes);
        let mut panels = Self { isa, units, blocks, sizes, lines: Vec::new() };
        let count = units.div_ceil(lanes);
        panels.lines = vec![Line([0.0; LINE]); (count * panels.size()).div_ceil(LINE)];
        let mut numbers = panels.lines.iter_mut().flat_map(|line| &mut line.0);
        for first in (0..units).step_by(lanes) {
            let mut put = |number: &dyn Fn(usize) -> f32| {
                for (lane, to) in numbers.by_ref().take(lanes).enumerate() {
                    *to = if first + lane < units { number(first + lane) } else { 0.0 };
                }
            };
            (0..blocks).for_each(|block| put(&|unit| starts(block, unit)));
            for part in parts {
                for column in part.first..part.first + part.count {
                    part.blocks.iter().for_each(|block| put(&|unit| matrix(*block, unit, column)));
                }
            }
        }
        panels
    }

    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Rows of a block.
    pub fn units(&self) -> usize {
        self.units
    }

    /// Numbers of a panel.
    fn size(&self) -> usize {
        self.blocks * self.isa.lanes() + self.sizes[0] + self.sizes[1]
    }

    #[inline]
    pub fn panel(&self, number: usize) -> Panel<'_> {
        let size = self.size();
        // SAFETY: a line is its numbers and nothing else, and the slice ends where the lines end.
        let numbers =
            unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast::<f32>(), self.lines.len() * LINE) };
        let (starts, rest) = numbers[number * size..][..size].split_at(size - self.sizes[0] - self.sizes[1]);
        let (first, second) = rest.split_at(self.sizes[0]);
        Panel { starts, parts: [first, second] }
    }
}
