//! A constant matrix in the order in which a product reads it, and the strided operands of that product.

use crate::simd::Isa;

/// Numbers of each column of a batch.
#[derive(Clone, Copy)]
pub struct Strided<'a> {
    pub data: &'a [f32],
    /// Distance between the first numbers of two neighbouring columns.
    pub stride: usize,
    /// The column at each position of the batch; without it position i is column i.
    pub indices: Option<&'a [usize]>,
}

impl<'a> Strided<'a> {
    /// Columns in the order in which they are stored.
    pub fn dense(data: &'a [f32], stride: usize) -> Self {
        Self { data, stride, indices: None }
    }

    pub fn empty() -> Self {
        Self::dense(&[], 0)
    }

    /// The first `len` numbers of the column at a position of the batch.
    #[inline(always)]
    pub fn column(&self, position: usize, len: usize) -> &'a [f32] {
        let column = self.indices.map_or(position, |indices| indices[position]);
        &self.data[column * self.stride..][..len]
    }
}

/// Numbers of each column of a batch, to write, in the order in which they are stored.
pub struct StridedMut<'a> {
    pub data: &'a mut [f32],
    pub stride: usize,
}

impl StridedMut<'_> {
    /// The first `len` numbers of the column at a position of the batch.
    #[inline(always)]
    pub fn column(&mut self, position: usize, len: usize) -> &mut [f32] {
        &mut self.data[position * self.stride..][..len]
    }
}

/// A range of a matrix's columns, and the blocks of its rows that are not zero there.
#[derive(Clone, Copy)]
pub struct ColumnRange<'a> {
    pub first: usize,
    pub count: usize,
    pub blocks: &'a [usize],
}

/// A matrix of equally large blocks of rows, with a bias from which each row's sum starts.
///
/// A panel holds one row of every block for as many units as a vector has lanes: first the bias of each block, then, for each
/// column of the first range, a vector of each of the range's blocks, then the same for the second range.
#[derive(Clone, Debug)]
pub struct PackedMatrix {
    isa: Isa,
    units: usize,
    blocks: usize,
    /// Numbers of one panel in each of the two ranges.
    range_sizes: [usize; 2],
    lines: Vec<CacheLine>,
}

/// One cache line, aligned: a vector that crosses two lines costs two loads.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct CacheLine([f32; LINE_LEN]);

const LINE_LEN: usize = 16;

/// One panel as a product reads it.
#[derive(Clone, Copy)]
pub struct Panel<'a> {
    pub bias: &'a [f32],
    pub ranges: [&'a [f32]; 2],
}

impl PackedMatrix {
    /// Packs the matrix whose element is `element(block, unit, column)` and whose bias is `bias(block, unit)`. A range that is
    /// not needed has a `count` of 0.
    pub fn pack(
        isa: Isa,
        blocks: usize,
        units: usize,
        ranges: [ColumnRange<'_>; 2],
        bias: impl Fn(usize, usize) -> f32,
        element: impl Fn(usize, usize, usize) -> f32,
    ) -> Self {
        let lanes = isa.lanes();
        let range_sizes = ranges.map(|range| range.count * range.blocks.len() * lanes);
        let mut packed = Self { isa, units, blocks, range_sizes, lines: Vec::new() };
        let panels = units.div_ceil(lanes);
        packed.lines = vec![CacheLine([0.0; LINE_LEN]); (panels * packed.panel_size()).div_ceil(LINE_LEN)];
        let mut numbers = packed.lines.iter_mut().flat_map(|line| &mut line.0);
        for first in (0..units).step_by(lanes) {
            let mut put = |number: &dyn Fn(usize) -> f32| {
                for (lane, to) in numbers.by_ref().take(lanes).enumerate() {
                    *to = if first + lane < units { number(first + lane) } else { 0.0 };
                }
            };
            (0..blocks).for_each(|block| put(&|unit| bias(block, unit)));
            for range in ranges {
                for column in range.first..range.first + range.count {
                    range.blocks.iter().for_each(|block| put(&|unit| element(*block, unit, column)));
                }
            }
        }
        packed
    }

    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Rows of a block.
    pub fn units(&self) -> usize {
        self.units
    }

    /// Numbers of a panel.
    fn panel_size(&self) -> usize {
        self.blocks * self.isa.lanes() + self.range_sizes[0] + self.range_sizes[1]
    }

    #[inline]
    pub fn panel(&self, index: usize) -> Panel<'_> {
        let size = self.panel_size();
        // SAFETY: a line consists of its numbers, and the slice ends where the lines end.
        let numbers = unsafe {
            std::slice::from_raw_parts(self.lines.as_ptr().cast::<f32>(), self.lines.len() * LINE_LEN)
        };
        let bias_size = size - self.range_sizes[0] - self.range_sizes[1];
        let (bias, rest) = numbers[index * size..][..size].split_at(bias_size);
        let (first, second) = rest.split_at(self.range_sizes[0]);
        Panel { bias, ranges: [first, second] }
    }
}
