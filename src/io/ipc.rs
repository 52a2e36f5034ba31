//! Arrow files that anyone may have written. The reader of arrow believes what a file says of itself: a buffer that ends
//! behind the file is a panic there, a length of a terabyte an attempt to have it. So both are looked at before.

use std::io::{Read, Seek, SeekFrom};

use anyhow::{Context, Result, bail, ensure};
use arrow::ipc::{Block, Field, MessageHeader, Type, root_as_footer, root_as_message};

/// Bytes of what a file says of itself and of each of its batches: a thousand times an ordinary one.
const SAYS_MAX: u64 = 16 << 20;

/// The file's own word at its end, behind the length of its footer.
const MAGIC: &[u8; 6] = b"ARROW1";

/// What stands before the length of a message.
const CONTINUATION: [u8; 4] = [0xff; 4];

/// Whether a file in Arrow's IPC format is of one piece: everything that it points to lies in it. Leaves the reader
/// somewhere in the file.
///
/// # Errors
/// With the first thing that does not fit.
pub fn check(file: &mut (impl Read + Seek)) -> Result<()> {
    let end = file.seek(SeekFrom::End(0))?;
    ensure!(end >= 10, "it has {end} bytes: cut short");
    let tail = bytes(file, end - 10, 10)?;
    ensure!(tail.ends_with(MAGIC), "it does not end as an Arrow file does: cut short, or of another kind");
    let length = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
    ensure!(length <= SAYS_MAX && length <= end - 10, "its footer is said to have {length} bytes");
    let footer = bytes(file, end - 10 - length, length)?;
    let footer = root_as_footer(&footer).ok().context("its footer is damaged")?;
    // We write none, and their reading has more ways to go wrong.
    ensure!(footer.dictionaries().is_none_or(|blocks| blocks.is_empty()), "it has dictionaries");
    let fields = footer.schema().and_then(|schema| schema.fields()).context("it has no columns")?;
    let mut widths = Vec::new();
    fields.iter().try_for_each(|field| buffers_of(&field, &mut widths))?;
    for block in footer.recordBatches().into_iter().flatten() {
        check_batch(file, block, end - 10 - length, &widths)?;
    }
    Ok(())
}

/// Bytes of an element of each buffer of a column, in the order of a batch: marks of what is missing, offsets, values.
fn buffers_of(field: &Field<'_>, widths: &mut Vec<u64>) -> Result<()> {
    match field.type_type() {
        // Their values are copied into place, whatever they are.
        Type::Int | Type::FloatingPoint | Type::Bool | Type::Timestamp => widths.extend([1, 1]),
        Type::Utf8 | Type::Binary => widths.extend([1, 4, 1]),
        Type::LargeUtf8 | Type::LargeBinary => widths.extend([1, 8, 1]),
        Type::List => widths.extend([1, 4]),
        Type::LargeList => widths.extend([1, 8]),
        other => bail!("it has a column of type {other:?}, which no table of ours has"),
    }
    // The depth of a footer is bounded by its reading.
    field.children().into_iter().flatten().try_for_each(|child| buffers_of(&child, widths))
}

/// Whether a batch lies below `end`, and its buffers in the batch.
fn check_batch(file: &mut (impl Read + Seek), block: &Block, end: u64, widths: &[u64]) -> Result<()> {
    let of = |number: i64| u64::try_from(number).ok().filter(|number| *number <= end);
    let place = (of(block.offset()), of(i64::from(block.metaDataLength())), of(block.bodyLength()));
    let (Some(offset), Some(says), Some(body)) = place else { bail!("a batch lies outside of it") };
    ensure!(offset + says + body <= end && says <= SAYS_MAX, "a batch lies outside of it");
    let says = bytes(file, offset, says)?;
    let message = match says.strip_prefix(&CONTINUATION) {
        Some(rest) => rest.get(4..),
        None => says.get(4..),
    };
    let message = root_as_message(message.unwrap_or_default()).ok().context("a batch is damaged")?;
    ensure!(message.header_type() == MessageHeader::RecordBatch, "a batch is none");
    let batch = message.header_as_record_batch().context("a batch is none")?;
    let buffers = batch.buffers().context("a batch has no columns")?;
    ensure!(
        buffers.len() == widths.len(),
        "a batch has {} buffers, its columns {}",
        buffers.len(),
        widths.len()
    );
    for (buffer, width) in buffers.iter().zip(widths) {
        let place = of(buffer.offset()).zip(of(buffer.length()));
        ensure!(
            place.is_some_and(|(from, length)| from + length <= body && from % 8 == 0 && length % width == 0),
            "a column lies outside of its batch"
        );
    }
    // A row takes a bit at the least, so more are not there.
    let is_count = |count: i64| of(count).is_some_and(|count| count / 8 <= body);
    ensure!(is_count(batch.length()), "a batch is said to have {} rows", batch.length());
    for node in batch.nodes().into_iter().flatten() {
        let (length, nulls) = (node.length(), node.null_count());
        ensure!(is_count(length) && (0..=length).contains(&nulls), "a column is said to have {length} rows");
    }
    Ok(())
}

fn bytes(file: &mut (impl Read + Seek), from: u64, count: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; count as usize];
    file.seek(SeekFrom::Start(from))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::sync::Arc;

    use arrow::array::{Int64Array, RecordBatch, StringArray};
    use arrow::ipc::writer::FileWriter;

    use super::*;

    #[test]
    fn what_is_whole_is_told_from_what_is_not() {
        let rows = RecordBatch::try_from_iter([
            ("a", Arc::new(Int64Array::from(vec![1, 2, 3])) as _),
            ("b", Arc::new(StringArray::from(vec!["x", "", "z"])) as _),
        ]);
        let rows = rows.unwrap();
        let mut file = Vec::new();
        let mut writer = FileWriter::try_new(&mut file, &rows.schema()).unwrap();
        writer.write(&rows).unwrap();
        writer.finish().unwrap();
        drop(writer);
        check(&mut Cursor::new(&file)).unwrap();
        for length in 0..file.len() {
            assert!(check(&mut Cursor::new(&file[..length])).is_err(), "{length}");
        }
    }
}
