//! The bytes of a snapshot: an Arrow IPC file of several batches, which any Arrow reader opens.
//!
//! Its frames lie one behind the other: first the schema, which says in its metadata what the snapshot is of; then a batch
//! each; then Arrow's footer. The footer's metadata holds a digest of every frame, and one of this list itself. So a frame is
//! known to be whole before any of it is looked at, whatever the order of reading, and one frame is all that is held at a
//! time. What else Arrow's footer says is for other readers: we go by the list. (Each metadata has one key: Arrow writes
//! several in random order, and the same state has to give the same bytes.)

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::ipc::convert::try_schema_from_ipc_buffer;
use arrow::ipc::reader::{FileDecoder, read_footer_length};
use arrow::ipc::writer::FileWriter;
use arrow::ipc::{Block, MetadataVersion, root_as_footer};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::lineage::FORMAT;
use super::sane::Widths;
use super::{Partition, Position};

/// Bytes that an Arrow file begins with.
const MAGIC: usize = 6;

const HEAD: &str = "tidecast";
const FRAMES: &str = "tidecast.frames";

/// Bytes at the end of the file that say how long its footer is.
pub const TAIL: u64 = 10;

/// Bytes of a frame, at most: half a megabyte for each id of a batch.
const FRAME_MAX: u64 = 1 << 30;

/// What a snapshot is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub format: u32,
    pub topic: String,
    pub partition: i32,
    pub position: i64,
    /// Where the life began whose state this is.
    pub start: i64,
    pub lineage: Vec<(String, String)>,
}

impl Head {
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

/// The list of frames.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frames {
    pub ids: u64,
    /// Bytes and digest of each.
    pub frames: Vec<(u64, String)>,
}

pub fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file in the making. What its methods return are the next bytes of it.
pub struct Encoder {
    writer: FileWriter<Vec<u8>>,
    list: Frames,
}

impl Encoder {
    pub fn new(head: &Head, schema: &Schema) -> Result<(Self, Vec<u8>)> {
        let metadata = HashMap::from([(HEAD.to_owned(), serde_json::to_string(head)?)]);
        let writer = FileWriter::try_new(Vec::new(), &schema.clone().with_metadata(metadata))?;
        let mut encoder = Self { writer, list: Frames { ids: 0, frames: Vec::new() } };
        let bytes = encoder.frame();
        Ok((encoder, bytes))
    }

    pub fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<u8>> {
        self.list.ids += batch.num_rows() as u64;
        self.writer.write(batch)?;
        Ok(self.frame())
    }

    pub fn finish(mut self) -> Result<Vec<u8>> {
        let list = serde_json::to_string(&self.list)?;
        self.writer.write_metadata(FRAMES, format!("{} {list}", hex(&digest(list.as_bytes()))));
        Ok(self.writer.into_inner()?)
    }

    /// What was written since the last time.
    fn frame(&mut self) -> Vec<u8> {
        let bytes = std::mem::take(self.writer.get_mut());
        self.list.frames.push((bytes.len() as u64, hex(&digest(&bytes))));
        bytes
    }
}

/// Where the footer of a file of `size` bytes begins, by its [`TAIL`].
pub fn footer_start(size: u64, tail: &[u8]) -> Result<u64> {
    let tail: [u8; TAIL as usize] = tail.try_into().context("it is cut off")?;
    let length = read_footer_length(tail).context("it is cut off, or no Arrow file")? as u64;
    (size - TAIL)
        .checked_sub(length)
        .with_context(|| format!("its footer of {length} bytes is longer than it"))
}

/// What the footer says: our list of frames, or the lineage of a file of a format before it.
pub enum Footer {
    Ours(Frames),
    Before { format: String, lineage: Vec<(String, String)> },
}

/// Reads the footer, which begins at `start`.
pub fn footer(bytes: &[u8], start: u64) -> Result<Footer> {
    let footer = root_as_footer(bytes).map_err(|error| anyhow!("its footer is damaged: {error}"))?;
    let pairs = footer.custom_metadata().into_iter().flatten();
    let metadata: HashMap<&str, &str> = pairs.filter_map(|pair| Some((pair.key()?, pair.value()?))).collect();
    let Some(list) = metadata.get(FRAMES) else {
        let lineage = metadata.get("lineage").and_then(|text| serde_json::from_str(text).ok());
        let lineage: Vec<(String, String)> = lineage.context("it is no snapshot")?;
        let format = lineage.iter().find(|(key, _)| key == "snapshot format");
        let format = format.map_or("unknown".to_owned(), |(_, format)| format.clone());
        return Ok(Footer::Before { format, lineage });
    };
    let (check, list) = list.split_once(' ').context("its list of frames is damaged")?;
    ensure!(check == hex(&digest(list.as_bytes())), "its list of frames is damaged");
    let list: Frames = serde_json::from_str(list)?;
    let sum = list.frames.iter().try_fold(0u64, |sum, (length, _)| sum.checked_add(*length));
    let fits =
        sum.is_some_and(|sum| sum <= start) && list.frames.iter().all(|(length, _)| *length <= FRAME_MAX);
    ensure!(fits && !list.frames.is_empty(), "its frames are longer than it");
    Ok(Footer::Ours(list))
}

/// Frames back into batches.
pub struct Decoder {
    decoder: FileDecoder,
    widths: Widths,
}

impl Decoder {
    /// Reads the first frame: what the snapshot is of.
    pub fn new(frame: &[u8], check: &str) -> Result<(Self, Head)> {
        whole(frame, check)?;
        // Behind the magic comes padding, and then the schema.
        let padding = frame.iter().skip(MAGIC).take_while(|byte| **byte == 0).count();
        let schema = frame.get(MAGIC + padding..).context("a frame is too short")?;
        let schema = caught(|| try_schema_from_ipc_buffer(schema))?;
        let head = schema.metadata().get(HEAD).context("it does not say what it is of")?;
        let head = serde_json::from_str(head)?;
        let widths = Widths::of(&schema)?;
        Ok((Self { decoder: FileDecoder::new(Arc::new(schema), MetadataVersion::V5), widths }, head))
    }

    /// A frame behind it.
    pub fn batch(&self, frame: Vec<u8>, check: &str) -> Result<RecordBatch> {
        whole(&frame, check)?;
        let length = frame.get(4..8).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
        let length = length.and_then(|bytes| i32::from_le_bytes(bytes).checked_add(8));
        let fits = |length: &i32| *length > 8 && *length as usize <= frame.len();
        let length = length.filter(fits).context("a frame is too short")?;
        let body = frame.len() - length as usize;
        self.widths.check(&frame[..length as usize], body as u64)?;
        let block = Block::new(0, length, body as i64);
        caught(|| self.decoder.read_record_batch(&block, &frame.into()))?.context("a batch is missing")
    }
}

fn whole(frame: &[u8], check: &str) -> Result<()> {
    ensure!(check == hex(&digest(frame)), "its contents are damaged: a digest does not fit");
    Ok(())
}

/// A digest is no signature: bytes that somebody made may break what Arrow's decoder takes for granted.
fn caught<T>(decode: impl FnOnce() -> Result<T, ArrowError>) -> Result<T> {
    let decoded = catch_unwind(AssertUnwindSafe(decode));
    Ok(decoded.map_err(|_| anyhow!("its contents contradict themselves"))??)
}
