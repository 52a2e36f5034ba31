//! The snapshot file: an Arrow IPC file of several batches, which any Arrow reader opens.
//!
//! The file is a sequence of frames: the schema, whose metadata contains the [`Header`]; one frame per batch; Arrow's footer.
//! The footer's metadata contains the [`FrameIndex`] with the length and digest of every frame, and a digest of the index
//! itself. A reader therefore verifies each frame before it decodes it, and holds one frame at a time. It ignores the rest of
//! Arrow's footer, which serves other readers. Each metadata has a single key, because Arrow writes several in random order,
//! and equal states must have equal bytes.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use arrow::ipc::convert::try_schema_from_ipc_buffer;
use arrow::ipc::reader::{FileDecoder, read_footer_length};
use arrow::ipc::writer::FileWriter;
use arrow::ipc::{Block, MessageHeader, MetadataVersion, root_as_footer, root_as_message};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Partition, Position};

/// Version of the snapshot format.
pub const FORMAT: u32 = 1;

/// Length of the magic bytes at the start of an Arrow file.
const MAGIC_LEN: usize = 6;

const HEADER_KEY: &str = "tidecast.header";
const FRAMES_KEY: &str = "tidecast.frames";

/// Bytes after the footer: its length and the closing magic.
pub const TRAILER_LEN: u64 = 10;

/// Half a megabyte for each id of a batch.
const FRAME_BYTES_MAX: u64 = 1 << 30;

/// The identity of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub format: u32,
    pub topic: String,
    pub partition: i32,
    /// The state contains all rows from `start` to below `position`.
    pub position: i64,
    pub start: i64,
    pub lineage: Vec<(String, String)>,
}

impl Header {
    pub fn new(
        partition: &Partition,
        start: Position,
        position: Position,
        lineage: &[(String, String)],
    ) -> Self {
        Self {
            format: FORMAT,
            topic: partition.topic.to_string(),
            partition: partition.number,
            position: position.0,
            start: start.0,
            lineage: lineage.to_vec(),
        }
    }

    pub fn partition(&self) -> Partition {
        Partition { topic: self.topic.as_str().into(), number: self.partition }
    }
}

/// The frames of a file before its footer.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameIndex {
    /// The number of ids in all batches.
    pub ids: u64,
    pub frames: Vec<Frame>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    pub bytes: u64,
    /// Hexadecimal.
    pub sha256: String,
}

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Encodes a snapshot. Every method returns the next bytes of the file.
pub struct Encoder {
    writer: FileWriter<Vec<u8>>,
    index: FrameIndex,
}

impl Encoder {
    pub fn new(header: &Header, schema: &Schema) -> Result<(Self, Vec<u8>)> {
        let metadata = HashMap::from([(HEADER_KEY.to_owned(), serde_json::to_string(header)?)]);
        let writer = FileWriter::try_new(Vec::new(), &schema.clone().with_metadata(metadata))?;
        let mut encoder = Self { writer, index: FrameIndex { ids: 0, frames: Vec::new() } };
        let bytes = encoder.take_frame();
        Ok((encoder, bytes))
    }

    pub fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<u8>> {
        self.index.ids += batch.num_rows() as u64;
        self.writer.write(batch)?;
        Ok(self.take_frame())
    }

    pub fn finish(mut self) -> Result<Vec<u8>> {
        let index = serde_json::to_string(&self.index)?;
        self.writer.write_metadata(FRAMES_KEY, format!("{} {index}", hex(&sha256(index.as_bytes()))));
        Ok(self.writer.into_inner()?)
    }

    /// The bytes written since the last call.
    fn take_frame(&mut self) -> Vec<u8> {
        let bytes = std::mem::take(self.writer.get_mut());
        self.index.frames.push(Frame { bytes: bytes.len() as u64, sha256: hex(&sha256(&bytes)) });
        bytes
    }
}

/// The offset of the footer in a file of `size` bytes that ends with `trailer`.
pub fn footer_start(size: u64, trailer: &[u8]) -> Result<u64> {
    let trailer: [u8; TRAILER_LEN as usize] = trailer.try_into().context("the file is truncated")?;
    let length = read_footer_length(trailer).context("the file is truncated or not an Arrow file")? as u64;
    (size - TRAILER_LEN)
        .checked_sub(length)
        .with_context(|| format!("the footer's {length} bytes exceed the file"))
}

/// Decodes the footer, which starts at `start` of the file.
pub fn decode_footer(bytes: &[u8], start: u64) -> Result<FrameIndex> {
    let footer = root_as_footer(bytes).map_err(|error| anyhow!("the footer is damaged: {error}"))?;
    let mut pairs = footer.custom_metadata().into_iter().flatten();
    let index = pairs.find(|pair| pair.key() == Some(FRAMES_KEY)).and_then(|pair| pair.value());
    let index = index.context("the file is not a snapshot")?;
    let (digest, index) = index.split_once(' ').context("the frame index is damaged")?;
    ensure!(digest == hex(&sha256(index.as_bytes())), "the frame index is damaged");
    let index: FrameIndex = serde_json::from_str(index)?;
    let sum = index.frames.iter().try_fold(0u64, |sum, frame| sum.checked_add(frame.bytes));
    let fits = sum.is_some_and(|sum| sum <= start)
        && index.frames.iter().all(|frame| frame.bytes <= FRAME_BYTES_MAX);
    ensure!(fits && !index.frames.is_empty(), "the frames exceed the file");
    Ok(index)
}

/// Decodes frames into batches.
pub struct Decoder {
    decoder: FileDecoder,
    layout: BufferLayout,
}

impl Decoder {
    /// Decodes the first frame.
    pub fn new(bytes: &[u8], frame: &Frame) -> Result<(Self, Header)> {
        verify(bytes, frame)?;
        // The magic bytes are followed by padding and the schema.
        let padding = bytes.iter().skip(MAGIC_LEN).take_while(|byte| **byte == 0).count();
        let schema = bytes.get(MAGIC_LEN + padding..).context("a frame is too short")?;
        let schema = catch_panic(|| try_schema_from_ipc_buffer(schema))?;
        let header = schema.metadata().get(HEADER_KEY).context("the header is missing")?;
        let header = serde_json::from_str(header)?;
        let layout = BufferLayout::new(&schema)?;
        Ok((Self { decoder: FileDecoder::new(Arc::new(schema), MetadataVersion::V5), layout }, header))
    }

    /// Decodes a later frame.
    pub fn batch(&self, bytes: Vec<u8>, frame: &Frame) -> Result<RecordBatch> {
        verify(&bytes, frame)?;
        let length = bytes.get(4..8).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
        let length = length.and_then(|bytes| i32::from_le_bytes(bytes).checked_add(8));
        let fits = |length: &i32| *length > 8 && *length as usize <= bytes.len();
        let length = length.filter(fits).context("a frame is too short")?;
        let body = bytes.len() - length as usize;
        self.layout.validate(&bytes[..length as usize], body as u64)?;
        let block = Block::new(0, length, body as i64);
        catch_panic(|| self.decoder.read_record_batch(&block, &bytes.into()))?.context("a batch is missing")
    }
}

fn verify(bytes: &[u8], frame: &Frame) -> Result<()> {
    ensure!(frame.sha256 == hex(&sha256(bytes)), "the contents are damaged: a digest does not match");
    Ok(())
}

/// Converts a panic of Arrow's decoder into an error. A digest is not a signature: forged bytes can violate the decoder's
/// assumptions.
fn catch_panic<T>(decode: impl FnOnce() -> Result<T, ArrowError>) -> Result<T> {
    let decoded = catch_unwind(AssertUnwindSafe(decode));
    Ok(decoded.map_err(|_| anyhow!("the contents are inconsistent"))??)
}

/// The element widths of all buffers of a batch, in order, for validation of forged batches.
///
/// Arrow's decoder trusts the metadata of a batch: a buffer outside the batch panics, and a length of a terabyte is
/// allocated. So both are validated first.
struct BufferLayout(Vec<u64>);

impl BufferLayout {
    /// Bytes before the length of an encapsulated message.
    const CONTINUATION: [u8; 4] = [0xff; 4];

    /// # Errors
    /// If a column has a type that no snapshot contains.
    fn new(schema: &Schema) -> Result<Self> {
        let mut layout = Self(Vec::new());
        schema.fields().iter().try_for_each(|field| layout.add(field.data_type()))?;
        Ok(layout)
    }

    /// Adds the validity, offset and value buffers of a type.
    fn add(&mut self, data_type: &DataType) -> Result<()> {
        match data_type {
            // Arrow realigns these values by copying, whatever their number.
            DataType::Int64 | DataType::Float64 | DataType::Boolean => self.0.extend([1, 1]),
            DataType::Utf8 | DataType::Binary => self.0.extend([1, 4, 1]),
            DataType::LargeList(item) => {
                self.0.extend([1, 8]);
                self.add(item.data_type())?;
            }
            other => bail!("a column has type {other}, which no snapshot contains"),
        }
        Ok(())
    }

    /// Validates the metadata of a batch against the `body` bytes that follow it.
    fn validate(&self, message: &[u8], body: u64) -> Result<()> {
        let message =
            message.strip_prefix(&Self::CONTINUATION).unwrap_or(message).get(4..).unwrap_or_default();
        let message = root_as_message(message).ok().context("a batch is damaged")?;
        ensure!(message.header_type() == MessageHeader::RecordBatch, "a frame is not a batch");
        let batch = message.header_as_record_batch().context("a frame is not a batch")?;
        ensure!(batch.compression().is_none(), "a batch is compressed, which no snapshot is");
        let buffers = batch.buffers().context("a batch has no columns")?;
        let (count, expected) = (buffers.len(), self.0.len());
        ensure!(count == expected, "a batch has {count} buffers, its columns {expected}");
        let within_body = |number: i64| u64::try_from(number).ok().filter(|number| *number <= body);
        for (buffer, width) in buffers.iter().zip(&self.0) {
            let range = within_body(buffer.offset()).zip(within_body(buffer.length()));
            let is_valid = range.is_some_and(|(offset, length)| {
                offset + length <= body && offset % 8 == 0 && length % width == 0
            });
            ensure!(is_valid, "a column lies outside its batch");
        }
        // Every row takes at least one bit.
        let is_count = |count: i64| within_body(count).is_some_and(|count| count / 8 <= body);
        ensure!(is_count(batch.length()), "a batch claims {} rows", batch.length());
        for node in batch.nodes().into_iter().flatten() {
            let (length, nulls) = (node.length(), node.null_count());
            ensure!(is_count(length) && (0..=length).contains(&nulls), "a column claims {length} rows");
        }
        Ok(())
    }
}
