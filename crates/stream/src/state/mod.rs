//! Snapshots: the state of every series of a partition after all rows below a position.
//!
//! - `lineage`: what a state depends on besides the rows
//! - `location`: a local folder or a bucket of S3, Google Cloud Storage or Azure, and the file names in it
//! - `file`: the bytes of a snapshot, an Arrow IPC file with a digest of every batch
//! - `snapshot`: one snapshot to and from the store, a batch at a time
//! - `uploader`: rate-limited writing in the background
//!
//! A snapshot of a partition at a position is a pure function of its lineage, its start and the rows from there to the
//! position. Two processes that write the same snapshot therefore write the same bytes, and need no fencing. A snapshot may
//! lie above the committed position; it is retained until the commit reaches it.

mod file;
mod lineage;
mod location;
mod snapshot;
mod uploader;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use object_store::{Error, ObjectStore, ObjectStoreExt};
use parking_lot::Mutex;

pub use file::{FORMAT, Header};
pub use lineage::Lineage;
pub use snapshot::{ReadError, SnapshotReader, SnapshotWriter};
pub use uploader::{SnapshotUploader, Throttle, UploadSchedule};

use crate::settings::StateLocation;
use crate::{Partition, Position};
use location::{FileName, Location};
use snapshot::OwnSnapshots;

/// Snapshots retained per partition at or below its committed position: the newest, and one in case it is damaged.
const RETAINED: usize = 2;

/// Snapshots by other processes retained above the committed position, besides the oldest.
///
/// An owner needs no more than a few of them. Processes that die one after another before the next commit would otherwise
/// fill the store.
const RETAINED_OF_OTHERS: usize = 16;

/// Events retained while nobody polls them; the oldest are dropped. The poller reads them every second.
const EVENTS_MAX: usize = 1024;

/// The result of a search for a snapshot.
#[derive(Debug)]
pub enum Lookup<T> {
    /// The state of all rows from `start` to below `position`.
    Found {
        position: Position,
        start: Position,
        state: T,
    },
    /// Only snapshots of other lineages exist; the differences to the newest.
    LineageMismatch(Vec<String>),
    NotFound,
}

/// A snapshot that a [`SnapshotUploader`] wrote or failed to write.
#[derive(Clone, Debug)]
pub struct SnapshotEvent {
    pub partition: Partition,
    pub position: Position,
    /// The time since the capture began.
    pub duration: Duration,
    /// True if the store has the snapshot.
    pub saved: bool,
}

/// The snapshot events since the last poll.
#[derive(Debug, Default)]
pub struct SnapshotEvents(Mutex<VecDeque<SnapshotEvent>>);

impl SnapshotEvents {
    fn record(&self, event: SnapshotEvent) {
        let mut events = self.0.lock();
        if events.len() == EVENTS_MAX {
            events.pop_front();
        }
        events.push_back(event);
    }

    pub fn take(&self) -> VecDeque<SnapshotEvent> {
        std::mem::take(&mut *self.0.lock())
    }
}

/// The snapshots of one lineage, in a location that may contain those of others.
#[derive(Debug)]
pub struct SnapshotStore {
    location: Location,
    lineage: Lineage,
    events: SnapshotEvents,
    own: Arc<OwnSnapshots>,
}

impl SnapshotStore {
    /// # Errors
    /// If a local folder cannot be created, or the environment lacks a cloud's settings.
    pub fn open(location: &StateLocation, lineage: Lineage) -> Result<Self> {
        let opened = Location::open(location);
        let location = opened.with_context(|| format!("cannot open the state store {location}"))?;
        Ok(Self::new(location, lineage))
    }

    pub fn in_object_store(store: Arc<dyn ObjectStore>, lineage: Lineage) -> Self {
        Self::new(Location::in_store(store), lineage)
    }

    fn new(location: Location, lineage: Lineage) -> Self {
        Self { location, lineage, events: SnapshotEvents::default(), own: Arc::default() }
    }

    pub fn events(&self) -> &SnapshotEvents {
        &self.events
    }

    pub fn lineage_hash(&self) -> &str {
        self.lineage.hash()
    }

    /// True if a state of the lineage with this hash can be restored.
    pub fn is_compatible(&self, lineage_hash: &str) -> bool {
        self.lineage.hash() == lineage_hash
    }

    pub fn writer(&self, partition: &Partition, start: Position, position: Position) -> SnapshotWriter {
        let name = FileName { position, lineage: self.lineage.hash().to_owned(), start };
        let header = Header::new(partition, start, position, self.lineage.keys());
        let (path, text) = (self.location.path(partition, &name), self.location.describe(partition, &name));
        SnapshotWriter::new(self.location.store.clone(), path, text, header, self.own.clone())
    }

    /// Writes the state of `partition` at `position`. Removes nothing: see [`SnapshotStore::prune`].
    pub async fn save(
        &self,
        partition: &Partition,
        start: Position,
        position: Position,
        batches: impl IntoIterator<Item = RecordBatch>,
    ) -> Result<()> {
        let mut writer = self.writer(partition, start, position);
        for batch in batches {
            writer.write(&batch).await?;
        }
        writer.finish().await
    }

    /// Restores the newest state of `partition` at or below `committed`, with the given `start` if it is known.
    ///
    /// Each batch is `restore`d into a `new_state`. A snapshot that is damaged, or that `restore` refuses, is skipped with a
    /// warning in favour of the previous one.
    ///
    /// # Errors
    /// If the store cannot be read; the error names it.
    pub async fn restore_newest<T>(
        &self,
        partition: &Partition,
        start: Option<Position>,
        committed: Position,
        new_state: impl Fn() -> T,
        mut restore: impl FnMut(&mut T, &RecordBatch) -> Result<()>,
    ) -> Result<Lookup<T>> {
        let mut names = self.list(partition).await?;
        names.retain(|name| name.position <= committed);
        let (own, others): (Vec<_>, Vec<_>) =
            names.iter().rev().partition(|name| self.is_compatible(&name.lineage));
        for name in own.iter().filter(|name| start.is_none_or(|start| name.start == start)) {
            let mut state = new_state();
            match self.read(partition, name, |batch| restore(&mut state, batch)).await {
                Ok(()) => return Ok(Lookup::Found { position: name.position, start: name.start, state }),
                Err(error) => self.skip_unreadable(partition, name, error)?,
            }
        }
        if !own.is_empty() {
            // Every snapshot of this lineage has another start or is damaged.
            return Ok(Lookup::NotFound);
        }
        for name in others {
            let keys = match SnapshotReader::open(&self.location.store, &self.path(partition, name)).await {
                Ok(snapshot) => snapshot.header.lineage,
                Err(ReadError::Format { lineage, .. }) => lineage,
                Err(error) => {
                    self.skip_unreadable(partition, name, error)?;
                    continue;
                }
            };
            return Ok(Lookup::LineageMismatch(self.lineage.differences(&keys)));
        }
        Ok(Lookup::NotFound)
    }

    async fn read(
        &self,
        partition: &Partition,
        name: &FileName,
        mut restore: impl FnMut(&RecordBatch) -> Result<()>,
    ) -> Result<(), ReadError> {
        let mut snapshot = SnapshotReader::open(&self.location.store, &self.path(partition, name)).await?;
        let Header { position, start, .. } = snapshot.header;
        if (Position(position), Position(start)) != (name.position, name.start)
            || snapshot.header.partition() != *partition
        {
            return Err(ReadError::Damaged(format!(
                "its header is of {} at {position} from {start}: the file was renamed",
                snapshot.header.partition()
            )));
        }
        while let Some(batch) = snapshot.next().await? {
            restore(&batch).map_err(|error| ReadError::Damaged(format!("{error:#}")))?;
        }
        Ok(())
    }

    /// Warns about a damaged snapshot. A store that does not answer is an error.
    fn skip_unreadable(&self, partition: &Partition, name: &FileName, error: ReadError) -> Result<()> {
        let text = self.location.describe(partition, name);
        match error {
            ReadError::Store(error) if !matches!(error, Error::NotFound { .. }) => {
                Err(error).with_context(|| format!("cannot read snapshot {text}"))
            }
            error => {
                tracing::warn!(
                    topic = %partition.topic,
                    partition = partition.number,
                    position = name.position.0,
                    "snapshot {text} is unreadable ({error}); falling back to the previous one; remove the file"
                );
                Ok(())
            }
        }
    }

    /// Removes the snapshots of `partition` with this `start` that no restart needs.
    ///
    /// The two newest at or below the committed position are retained. Of those above it that this process wrote, the oldest
    /// and the newest are retained: when the next commit passes the oldest, a restart replays at most the rows between the
    /// two commits. Those above it by other processes are retained, except in large numbers: `committed` may date from a time
    /// when this process owned the partition, and its present owner may be ahead.
    pub async fn prune(&self, partition: &Partition, start: Position, committed: Position) -> Result<()> {
        let names = self.list(partition).await?;
        let own = names.iter().filter(|name| self.is_compatible(&name.lineage) && name.start == start);
        let (below, above): (Vec<_>, Vec<_>) = own.partition(|name| name.position <= committed);
        for name in &below {
            self.own.lock().remove(&self.path(partition, name));
        }
        let (own_above, others_above): (Vec<_>, Vec<_>) =
            above.into_iter().partition(|name| self.own.lock().contains(&self.path(partition, name)));
        let superseded = below.iter().rev().skip(RETAINED);
        let excess = others_above.iter().skip(1).rev().skip(RETAINED_OF_OTHERS);
        let between = own_above.iter().skip(1).rev().skip(1);
        for name in superseded.chain(excess).chain(between) {
            self.remove(partition, name).await?;
        }
        self.location.remove_stale_uploads(|name| {
            FileName::parse(partition, name).is_some_and(|name| self.is_compatible(&name.lineage))
        });
        Ok(())
    }

    /// Removes all snapshots of `partition` of this lineage: the partition starts over without a commit.
    pub async fn remove_all(&self, partition: &Partition) -> Result<()> {
        for name in self.list(partition).await?.iter().filter(|name| self.is_compatible(&name.lineage)) {
            tracing::warn!(
                topic = %partition.topic,
                partition = partition.number,
                position = name.position.0,
                "removing an obsolete snapshot"
            );
            self.remove(partition, name).await?;
        }
        Ok(())
    }

    /// Position and start of each snapshot of `partition` of this lineage, ascending by position.
    pub async fn positions(&self, partition: &Partition) -> Result<Vec<(Position, Position)>> {
        let names = self.list(partition).await?;
        let own = names.into_iter().filter(|name| self.is_compatible(&name.lineage));
        Ok(own.map(|name| (name.position, name.start)).collect())
    }

    /// All snapshots of a partition, of any lineage, ascending by position.
    async fn list(&self, partition: &Partition) -> Result<Vec<FileName>> {
        let listed = self.location.store.list_with_delimiter(Some(&self.location.folder)).await;
        let objects = match listed {
            Ok(listed) => listed.objects,
            // A removed folder has no snapshots; the next one recreates it.
            Err(Error::NotFound { .. }) => Vec::new(),
            Err(error) => {
                return Err(error).with_context(|| {
                    format!(
                        "cannot list the snapshots in {}; check `store` in [state] and its read permission",
                        self.location.text
                    )
                });
            }
        };
        let names = objects.iter().filter_map(|object| object.location.filename());
        let mut names: Vec<FileName> = names.filter_map(|name| FileName::parse(partition, name)).collect();
        names.sort();
        Ok(names)
    }

    async fn remove(&self, partition: &Partition, name: &FileName) -> Result<()> {
        let path = self.path(partition, name);
        match self.location.store.delete(&path).await {
            // Another instance may have removed it.
            Ok(()) | Err(Error::NotFound { .. }) => {
                self.own.lock().remove(&path);
                Ok(())
            }
            Err(error) => {
                let text = self.location.describe(partition, name);
                Err(error).with_context(|| format!("cannot remove snapshot {text}"))
            }
        }
    }

    fn path(&self, partition: &Partition, name: &FileName) -> object_store::path::Path {
        self.location.path(partition, name)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};
    use object_store::memory::InMemory;

    use super::*;
    use file::Encoder;

    #[tokio::test]
    async fn a_snapshot_of_another_format_is_a_lineage_mismatch() {
        let partition = Partition { topic: "t".into(), number: 1 };
        let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let lineage = || Lineage::new(vec![("grid.every".to_owned(), "1h".to_owned())], "m");
        let store = SnapshotStore::in_object_store(objects.clone(), lineage());
        let (start, position) = (Position(3), Position(20));
        let mut keys = lineage().keys().to_vec();
        keys.retain(|(key, _)| key != "snapshot format");
        keys.push(("snapshot format".to_owned(), "2".to_owned()));
        let header = Header { format: 2, ..Header::new(&partition, start, position, &keys) };
        let column: ArrayRef = Arc::new(Int64Array::from(vec![20]));
        let batch = RecordBatch::try_from_iter([("position", column)]).unwrap();
        let (mut encoder, mut bytes) = Encoder::new(&header, &batch.schema()).unwrap();
        bytes.extend(encoder.batch(&batch).unwrap());
        bytes.extend(encoder.finish().unwrap());
        let name = FileName { position, lineage: "0123456789ab".to_owned(), start };
        objects.put(&store.path(&partition, &name), bytes.into()).await.unwrap();

        let restore = |_: &mut (), _: &RecordBatch| Ok(());
        let found = store.restore_newest(&partition, None, Position(25), || (), restore).await.unwrap();
        let Lookup::LineageMismatch(differences) = found else { panic!("the formats differ") };
        assert_eq!(differences, [format!("snapshot format was 2, is {FORMAT}")]);
    }
}
