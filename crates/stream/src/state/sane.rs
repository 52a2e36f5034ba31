//! Batches that anyone may have written. Arrow's decoder believes what a batch says of itself: a buffer that ends behind
//! the batch is a panic there, a length of a terabyte an attempt to have it. So both are looked at before.

use anyhow::{Context, Result, bail, ensure};
use arrow::datatypes::{DataType, Schema};
use arrow::ipc::{MessageHeader, root_as_message};

/// What stands before the length of a message.
const CONTINUATION: [u8; 4] = [0xff; 4];

/// Bytes of an element of each buffer of a table, in the order of a batch.
pub struct Widths(Vec<u64>);

impl Widths {
    /// # Errors
    /// If a column is of a type that no snapshot has.
    pub fn of(schema: &Schema) -> Result<Self> {
        let mut widths = Self(Vec::new());
        schema.fields().iter().try_for_each(|field| widths.add(field.data_type()))?;
        Ok(widths)
    }

    /// Marks of what is missing, offsets, values.
    fn add(&mut self, of: &DataType) -> Result<()> {
        match of {
            // Their values are copied into place, whatever they are.
            DataType::Int64 | DataType::Float64 | DataType::Boolean => self.0.extend([1, 1]),
            DataType::Utf8 | DataType::Binary => self.0.extend([1, 4, 1]),
            DataType::LargeList(item) => {
                self.0.extend([1, 8]);
                self.add(item.data_type())?;
            }
            other => bail!("it has a column of type {other}, which no snapshot has"),
        }
        Ok(())
    }

    /// Whether what a message says of a batch fits the `body` bytes behind it.
    pub fn check(&self, message: &[u8], body: u64) -> Result<()> {
        let message = message.strip_prefix(&CONTINUATION).unwrap_or(message).get(4..).unwrap_or_default();
        let message = root_as_message(message).ok().context("a batch is damaged")?;
        ensure!(message.header_type() == MessageHeader::RecordBatch, "a batch is none");
        let batch = message.header_as_record_batch().context("a batch is none")?;
        ensure!(batch.compression().is_none(), "a batch is compressed, which no snapshot is");
        let buffers = batch.buffers().context("a batch has no columns")?;
        let (count, wanted) = (buffers.len(), self.0.len());
        ensure!(count == wanted, "a batch has {count} buffers, its columns {wanted}");
        let of = |number: i64| u64::try_from(number).ok().filter(|number| *number <= body);
        for (buffer, width) in buffers.iter().zip(&self.0) {
            let place = of(buffer.offset()).zip(of(buffer.length()));
            let fits =
                |(from, length): (u64, u64)| from + length <= body && from % 8 == 0 && length % width == 0;
            ensure!(place.is_some_and(fits), "a column lies outside of its batch");
        }
        // A row takes a bit at the least, so more are not there.
        let is_count = |count: i64| of(count).is_some_and(|count| count / 8 <= body);
        ensure!(is_count(batch.length()), "a batch is said to have {} rows", batch.length());
        for node in batch.nodes().into_iter().flatten() {
            let (length, nulls) = (node.length(), node.null_count());
            ensure!(
                is_count(length) && (0..=length).contains(&nulls),
                "a column is said to have {length} rows"
            );
        }
        Ok(())
    }
}
