//! A snapshot from the store, a batch at a time.

use std::sync::Arc;

use arrow::array::RecordBatch;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::file::{self, Decoder, Footer, Head};
use super::lineage::{FORMAT, FORMERS};

/// Bytes at the end of a file that are read at first: the footer of a million series fits.
const FOOTER_GUESS: u64 = 256 << 10;

/// Bytes of a footer, at most: the list of frames of a hundred million series.
const FOOTER_MAX: u64 = 64 << 20;

/// Why a snapshot could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    #[error(transparent)]
    Store(#[from] object_store::Error),
    #[error("it is of snapshot format {format}, and this program reads {} to {FORMAT}", FORMERS[0])]
    Format { format: String, lineage: Vec<(String, String)> },
    #[error("{0}")]
    Damaged(String),
}

fn damaged(error: anyhow::Error) -> Unread {
    Unread::Damaged(format!("{error:#}"))
}

/// A snapshot that is being read.
pub struct Snapshot {
    store: Arc<dyn ObjectStore>,
    path: Path,
    pub head: Head,
    pub ids: u64,
    /// Bytes of the whole.
    pub size: u64,
    /// What is left of it.
    frames: std::vec::IntoIter<(u64, String)>,
    offset: u64,
    left: u64,
    decoder: Decoder,
}

impl Snapshot {
    /// Reads what it is of.
    pub async fn open(store: &Arc<dyn ObjectStore>, path: &Path) -> Result<Self, Unread> {
        let size = store.head(path).await?.size;
        if size < file::TAIL {
            return Err(Unread::Damaged("it is cut off".to_owned()));
        }
        let end = store.get_range(path, size.saturating_sub(FOOTER_GUESS)..size).await?;
        let (before, tail) = end.split_at(end.len().saturating_sub(file::TAIL as usize));
        let start = file::footer_start(size, tail).map_err(damaged)?;
        let length = size - file::TAIL - start;
        if length > FOOTER_MAX {
            return Err(Unread::Damaged(format!("its footer would have {length} bytes")));
        }
        let footer = match before.len().checked_sub(length as usize) {
            Some(at) => file::footer(&before[at..], start),
            None => file::footer(&store.get_range(path, start..size - file::TAIL).await?, start),
        };
        let list = match footer.map_err(damaged)? {
            Footer::Ours(list) => list,
            Footer::Before { format, lineage } => return Err(Unread::Format { format, lineage }),
        };
        let mut frames = list.frames.into_iter();
        let (length, check) = frames.next().ok_or_else(|| Unread::Damaged("it is empty".to_owned()))?;
        let first = store.get_range(path, 0..length).await?;
        let (decoder, head) = Decoder::new(&first, &check).map_err(damaged)?;
        if head.format != FORMAT && !FORMERS.contains(&head.format) {
            return Err(Unread::Format { format: head.format.to_string(), lineage: head.lineage });
        }
        let (store, path) = (store.clone(), path.clone());
        Ok(Self { store, path, head, ids: list.ids, size, frames, offset: length, left: list.ids, decoder })
    }

    /// The next batch; `None` behind the last one.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, Unread> {
        let Some((length, check)) = self.frames.next() else {
            return match self.left {
                0 => Ok(None),
                left => Err(Unread::Damaged(format!("{left} ids are missing"))),
            };
        };
        let frame = self.store.get_range(&self.path, self.offset..self.offset + length).await?;
        self.offset += length;
        let batch = self.decoder.batch(frame.into(), &check).map_err(damaged)?;
        let left = self.left.checked_sub(batch.num_rows() as u64);
        self.left = left.ok_or_else(|| Unread::Damaged("it has more ids than it says".to_owned()))?;
        Ok(Some(batch))
    }
}
