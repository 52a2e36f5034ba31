//! A snapshot to the store, a batch at a time: its name is there when all of it is.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow::array::RecordBatch;
use object_store::ObjectStore;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use tokio::io::AsyncWriteExt;

use super::file::{Encoder, Head};
use super::written::Written;

/// Bytes of a part of an upload: clouds take no smaller ones than 5 MiB, and ten thousand of them, which is 80 GiB.
const PART: usize = 8 << 20;
/// Parts under way at once: one goes while the next is made.
const PARTS_AT_ONCE: usize = 2;

/// A snapshot in the making. Dropped or aborted, it leaves nothing.
pub struct Writer {
    upload: BufWriter,
    path: Path,
    place: String,
    head: Head,
    encoder: Option<Encoder>,
    written: Arc<Written>,
}

impl Writer {
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        path: Path,
        place: String,
        head: Head,
        written: Arc<Written>,
    ) -> Self {
        let upload = BufWriter::with_capacity(store, path.clone(), PART).with_max_concurrency(PARTS_AT_ONCE);
        Self { upload, path, place, head, encoder: None, written }
    }

    /// Adds a batch; returns its bytes.
    pub async fn batch(&mut self, batch: &RecordBatch) -> Result<u64> {
        let place = self.place.clone();
        self.add(batch).await.with_context(|| format!("cannot write the snapshot {place}"))
    }

    async fn add(&mut self, batch: &RecordBatch) -> Result<u64> {
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            None => {
                let (encoder, bytes) = Encoder::new(&self.head, &batch.schema())?;
                self.upload.put(bytes.into()).await?;
                self.encoder.insert(encoder)
            }
        };
        let bytes = encoder.batch(batch)?;
        let length = bytes.len() as u64;
        self.upload.put(bytes.into()).await?;
        Ok(length)
    }

    /// Puts it under its name.
    pub async fn finish(mut self) -> Result<()> {
        let Some(encoder) = self.encoder.take() else { bail!("the snapshot {} has no batch", self.place) };
        let end = async {
            self.upload.put(encoder.finish()?.into()).await?;
            anyhow::Ok(self.upload.shutdown().await?)
        };
        end.await.with_context(|| format!("cannot write the snapshot {}", self.place))?;
        self.written.add(self.path);
        Ok(())
    }

    /// Takes back what was uploaded.
    pub async fn abort(mut self) {
        // If that fails, too, the store's own rules or the next sweep remove it.
        let _ = self.upload.abort().await;
    }
}
