//! How much an output weighs while it waits for the sink: the rows that it came of, and the bytes that it takes. Rows alone
//! are no bound: with many targets and a long horizon each makes a hundred kilobytes, and rows that are read again count as
//! one a batch, whatever their messages hold.

use std::ops::{AddAssign, Sub, SubAssign};

use arrow::array::{Array, AsArray, RecordBatch};

use crate::{Output, Record};

/// Bytes of outputs that may wait for the sink before the intake does: twice what comes of one push at most
/// (`Setup::rows_at_once`), so that a push need not wait for the one before it.
pub const BYTES_MOST: usize = 128 << 20;

/// What an output takes even if there is nothing in it.
const EMPTY: usize = 4 << 10;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    pub rows: usize,
    pub bytes: usize,
}

impl Weight {
    /// Of what came of `rows` rows.
    pub fn of(output: &Output, rows: usize) -> Self {
        let messages = output.origins.records.iter().map(|record| size_of::<Record>() + record.bytes());
        let tables = table(&output.forecasts) + table(&output.scores);
        Self { rows, bytes: EMPTY + messages.sum::<usize>() + tables }
    }
}

impl AddAssign for Weight {
    fn add_assign(&mut self, other: Self) {
        self.rows += other.rows;
        self.bytes += other.bytes;
    }
}

impl SubAssign for Weight {
    fn sub_assign(&mut self, other: Self) {
        self.rows -= other.rows;
        self.bytes -= other.bytes;
    }
}

impl Sub for Weight {
    type Output = Self;

    fn sub(mut self, other: Self) -> Self {
        self -= other;
        self
    }
}

fn table(rows: &RecordBatch) -> usize {
    rows.columns().iter().map(|column| bytes(column)).sum()
}

/// Bytes of a column's values: asked of its ends and of nothing between them, for this is done for every output.
fn bytes(column: &dyn Array) -> usize {
    const OFFSET: usize = size_of::<i32>();
    let between = |offsets: &[i32]| match offsets {
        [first, .., last] => (last - first) as usize,
        _ => 0,
    };
    if let Some(width) = column.data_type().primitive_width() {
        return width * column.len();
    }
    if let Some(lists) = column.as_list_opt::<i32>() {
        let width = lists.value_type().primitive_width().unwrap_or(size_of::<u64>());
        return OFFSET * lists.len() + width * between(lists.value_offsets());
    }
    match column.as_string_opt::<i32>() {
        Some(text) => OFFSET * text.len() + between(text.value_offsets()),
        None => column.get_array_memory_size(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Origins, Partition};
    use tidecast_core::table::{ForecastBuilder, ForecastStamp, ScoreBuilder};

    #[test]
    fn an_output_weighs_what_its_numbers_and_messages_take() {
        let stamp = ForecastStamp { every: "1h".into(), model: "abc".into() };
        let mut forecasts = ForecastBuilder::new(&[0.8, 0.95], stamp.clone());
        let values = [0.5f32; 96];
        (0..50).for_each(|i| forecasts.push(i, "a series", "a target", 0, [&values[..]; 5]));
        let mut record = Record { payload: Some(vec![0; 10_000].into()), ..Record::default() };
        record.key = Some(vec![0; 500].into());
        let output = Output {
            partition: Partition { topic: "memory".into(), number: 0 },
            forecasts: forecasts.finish(),
            scores: ScoreBuilder::new(&[], stamp).finish(),
            rejects: vec![],
            origins: Origins { records: vec![record; 3] },
        };
        let Weight { rows, bytes } = Weight::of(&output, 7);
        let (numbers, messages) = (50 * 5 * 96 * 4, 3 * 10_500);
        assert_eq!(rows, 7);
        assert!((numbers + messages..numbers + messages + 20_000).contains(&bytes), "{bytes}");
        // A part of it weighs as much less.
        let part = Output { forecasts: output.forecasts.slice(20, 10), ..output };
        let left_out = bytes - Weight::of(&part, 7).bytes;
        assert!((numbers / 5 * 4..numbers / 5 * 4 + 10_000).contains(&left_out), "{left_out}");
    }
}
