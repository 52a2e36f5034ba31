//! Where the numbers of columns lie.

/// Numbers of each column of a batch.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub numbers: &'a [f32],
    /// From the numbers of one column to those of the next.
    pub stride: usize,
    /// Which columns they are, if these are not the first ones in their order.
    pub at: Option<&'a [usize]>,
}

impl<'a> Rows<'a> {
    /// Of columns that lie one after the other.
    pub fn dense(numbers: &'a [f32], stride: usize) -> Self {
        Self { numbers, stride, at: None }
    }

    pub fn none() -> Self {
        Self::dense(&[], 0)
    }

    /// The first `count` numbers of column `place` of the batch.
    #[inline(always)]
    pub fn row(&self, place: usize, count: usize) -> &'a [f32] {
        let column = self.at.map_or(place, |at| at[place]);
        &self.numbers[column * self.stride..][..count]
    }
}

/// As [`Rows`], to write to; one column after the other.
pub struct RowsMut<'a> {
    pub numbers: &'a mut [f32],
    pub stride: usize,
}

impl RowsMut<'_> {
    #[inline(always)]
    pub fn row(&mut self, place: usize, count: usize) -> &mut [f32] {
        &mut self.numbers[place * self.stride..][..count]
    }
}
