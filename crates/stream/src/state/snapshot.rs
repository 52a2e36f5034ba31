//! Writing and reading one snapshot, a batch at a time.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow::array::RecordBatch;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;

use super::file::{self, Decoder, Encoder, FORMAT, Frame, Header};

/// Bytes per part of an upload. Clouds require at least 5 MiB and allow ten thousand parts, which is 80 GiB.
const PART_BYTES: usize = 8 << 20;
/// One part is uploaded while the next is encoded.
const CONCURRENT_PARTS: usize = 2;

/// Bytes read from the end of a file at first: the footer of a million series fits.
const FOOTER_GUESS: u64 = 256 << 10;
/// The frame index of a hundred million series.
const FOOTER_BYTES_MAX: u64 = 64 << 20;

/// A snapshot being written. Its name appears in the store once it is complete. Dropped or aborted, it leaves nothing.
pub struct SnapshotWriter {
    upload: BufWriter,
    path: Path,
    /// For messages.
    name: String,
    header: Header,
    encoder: Option<Encoder>,
    own: Arc<OwnSnapshots>,
}

impl SnapshotWriter {
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        path: Path,
        name: String,
        header: Header,
        own: Arc<OwnSnapshots>,
    ) -> Self {
        let upload =
            BufWriter::with_capacity(store, path.clone(), PART_BYTES).with_max_concurrency(CONCURRENT_PARTS);
        Self { upload, path, name, header, encoder: None, own }
    }

    /// Writes a batch and returns its length in bytes.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<u64> {
        let result = self.encode_and_upload(batch).await;
        result.with_context(|| format!("cannot write snapshot {}", self.name))
    }

    async fn encode_and_upload(&mut self, batch: &RecordBatch) -> Result<u64> {
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            None => {
                let (encoder, bytes) = Encoder::new(&self.header, &batch.schema())?;
                self.upload.put(bytes.into()).await?;
                self.encoder.insert(encoder)
            }
        };
        let bytes = encoder.batch(batch)?;
        let length = bytes.len() as u64;
        self.upload.put(bytes.into()).await?;
        Ok(length)
    }

    /// Completes the file, which publishes its name.
    pub async fn finish(mut self) -> Result<()> {
        let Some(encoder) = self.encoder.take() else { bail!("snapshot {} has no batch", self.name) };
        let upload = async {
            self.upload.put(encoder.finish()?.into()).await?;
            anyhow::Ok(self.upload.shutdown().await?)
        };
        upload.await.with_context(|| format!("cannot write snapshot {}", self.name))?;
        self.own.lock().insert(self.path);
        Ok(())
    }

    /// Removes the uploaded parts.
    pub async fn abort(mut self) {
        // If the removal fails, the store's own rules or `remove_stale_uploads` clean up.
        let _ = self.upload.abort().await;
    }
}

/// The paths of snapshots above the committed position that this process wrote.
///
/// Only these may be removed there: the process cannot know whether it still owns the partition, and the next owner may
/// depend on a snapshot that another process wrote. Paths at or below the committed position are forgotten, which bounds
/// the set.
pub(super) type OwnSnapshots = Mutex<BTreeSet<Path>>;

/// The reason a snapshot could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Store(#[from] object_store::Error),
    #[error("its snapshot format is {format}, this program reads {FORMAT}")]
    Format { format: u32, lineage: Vec<(String, String)> },
    #[error("{0}")]
    Damaged(String),
}

impl ReadError {
    fn damaged(error: anyhow::Error) -> Self {
        Self::Damaged(format!("{error:#}"))
    }
}

/// A snapshot being read.
pub struct SnapshotReader {
    store: Arc<dyn ObjectStore>,
    path: Path,
    pub header: Header,
    /// Bytes of the file.
    pub size: u64,
    /// The remaining frames, the offset of the next one, and the ids in them.
    frames: std::vec::IntoIter<Frame>,
    offset: u64,
    ids_left: u64,
    decoder: Decoder,
}

impl SnapshotReader {
    /// Opens a local snapshot file.
    ///
    /// # Errors
    /// If it is not a snapshot of this format.
    pub async fn open_file(file: &std::path::Path) -> Result<Self, ReadError> {
        let store: Arc<dyn ObjectStore> = Arc::new(object_store::local::LocalFileSystem::new());
        let path = Path::from_filesystem_path(file).map_err(object_store::Error::from)?;
        Self::open(&store, &path).await
    }

    /// Opens a snapshot: reads and verifies frame index and header.
    ///
    /// # Errors
    /// If it is not a snapshot of this format.
    pub async fn open(store: &Arc<dyn ObjectStore>, path: &Path) -> Result<Self, ReadError> {
        let size = store.head(path).await?.size;
        if size < file::TRAILER_LEN {
            return Err(ReadError::Damaged("the file is truncated".to_owned()));
        }
        let end = store.get_range(path, size.saturating_sub(FOOTER_GUESS)..size).await?;
        let (before, trailer) = end.split_at(end.len().saturating_sub(file::TRAILER_LEN as usize));
        let start = file::footer_start(size, trailer).map_err(ReadError::damaged)?;
        let length = size - file::TRAILER_LEN - start;
        if length > FOOTER_BYTES_MAX {
            return Err(ReadError::Damaged(format!("the footer claims {length} bytes")));
        }
        let index = match before.len().checked_sub(length as usize) {
            Some(at) => file::decode_footer(&before[at..], start),
            None => {
                let footer = store.get_range(path, start..size - file::TRAILER_LEN).await?;
                file::decode_footer(&footer, start)
            }
        };
        let index = index.map_err(ReadError::damaged)?;
        let mut frames = index.frames.into_iter();
        let first = frames.next().ok_or_else(|| ReadError::Damaged("the file is empty".to_owned()))?;
        let bytes = store.get_range(path, 0..first.bytes).await?;
        let (decoder, header) = Decoder::new(&bytes, &first).map_err(ReadError::damaged)?;
        if header.format != FORMAT {
            return Err(ReadError::Format { format: header.format, lineage: header.lineage });
        }
        let (store, path, offset, ids_left) = (store.clone(), path.clone(), first.bytes, index.ids);
        Ok(Self { store, path, header, size, frames, offset, ids_left, decoder })
    }

    /// The next batch; `None` after the last one.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, ReadError> {
        let Some(frame) = self.frames.next() else {
            return match self.ids_left {
                0 => Ok(None),
                left => Err(ReadError::Damaged(format!("{left} ids are missing"))),
            };
        };
        let bytes = self.store.get_range(&self.path, self.offset..self.offset + frame.bytes).await?;
        self.offset += frame.bytes;
        let batch = self.decoder.batch(bytes.into(), &frame).map_err(ReadError::damaged)?;
        let left = self.ids_left.checked_sub(batch.num_rows() as u64);
        self.ids_left =
            left.ok_or_else(|| ReadError::Damaged("it has more ids than its index".to_owned()))?;
        Ok(Some(batch))
    }
}
