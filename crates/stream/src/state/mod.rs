//! Snapshots: every series' state of one partition after all rows below a position, kept where a pipeline's file says.
//!
//! - `lineage` what a state is a function of besides the rows
//! - `place`   a local folder, or a bucket of S3, Google Cloud Storage or Azure
//! - `name`    what a snapshot is called
//! - `file`    its bytes: an Arrow IPC file that any Arrow reader opens, with a digest of every batch
//! - `sane`    whether what a batch says of itself can be
//! - `write`, `read`   the file to and from the store, a batch at a time
//! - `saver`   writing in the background, paced
//! - `kept`    what came of it, for those who watch
//! - `written` which of them are this process's own to remove
//!
//! A snapshot of a partition at a position is a function of its lineage, its start and the rows from there to the position.
//! So two processes that write the same one write the same bytes, and nobody has to be fenced. It may lie above the
//! committed position: then it is of no use yet, and stays.

mod file;
mod kept;
mod lineage;
mod name;
mod place;
mod read;
mod sane;
mod saver;
mod write;
mod written;

use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt};

pub use file::Head;
pub use kept::{Keeping, Kept};
pub use lineage::{FORMAT, Lineage};
pub use read::{Snapshot, Unread};
pub use saver::{Pace, Saver};
pub use write::Writer;

use crate::config::Place;
use crate::{Partition, Position};
use name::Name;
use place::Opened;
use written::Written;

/// Opens a snapshot by its file.
///
/// # Errors
/// If it is not one that this program reads.
pub async fn open_file(file: &std::path::Path) -> Result<Snapshot, Unread> {
    let store: Arc<dyn ObjectStore> = Arc::new(object_store::local::LocalFileSystem::new());
    let path = Path::from_filesystem_path(file).map_err(Error::from)?;
    Snapshot::open(&store, &path).await
}

/// Snapshots kept of a partition at or below its committed position: the newest, and one in case that it is damaged.
const KEPT: usize = 2;

/// Snapshots of others kept above it, beside the oldest. Whoever has a partition needs no more than a handful of them there;
/// those of processes that died one after the other before the next commit are more, and must not fill the store.
const KEPT_OF_OTHERS: usize = 16;

/// What there is to start a partition from.
#[derive(Debug)]
pub enum Found<T> {
    /// The state after all rows below the position, of a life that began at `start`.
    Snapshot {
        position: Position,
        start: Position,
        state: T,
    },
    /// Only snapshots of another lineage; what differs.
    Foreign(Vec<String>),
    Nothing,
}

/// Snapshots of one lineage, beside those of others.
#[derive(Debug)]
pub struct Store {
    opened: Opened,
    lineage: Lineage,
    keeping: Keeping,
    written: Arc<Written>,
}

impl Store {
    /// # Errors
    /// If a local folder cannot be made, or what a cloud needs is not in the environment.
    pub fn open(place: &Place, lineage: Lineage) -> Result<Self> {
        let opened = place::open(place).with_context(|| format!("cannot open the state store {place}"))?;
        Ok(Self { opened, lineage, keeping: Keeping::default(), written: Arc::default() })
    }

    /// Snapshots in any object store.
    pub fn within(store: Arc<dyn ObjectStore>, lineage: Lineage) -> Self {
        Self {
            opened: Opened { store, folder: Path::default(), text: "memory:".to_owned(), local: None },
            lineage,
            keeping: Keeping::default(),
            written: Arc::default(),
        }
    }

    /// What was kept lately.
    pub fn keeping(&self) -> &Keeping {
        &self.keeping
    }

    /// The hash of its lineage.
    pub fn lineage(&self) -> &str {
        self.lineage.hash()
    }

    /// Whether a state of the lineage with this hash is one to go on from: of its own, or of the version before.
    pub fn continues(&self, lineage: &str) -> bool {
        self.lineage.continues(lineage)
    }

    /// A snapshot in the making. Nothing is there under its name before it is finished.
    pub fn writer(&self, partition: &Partition, start: Position, position: Position) -> Writer {
        let name = Name { position, lineage: self.lineage.hash().to_owned(), start: Some(start) };
        let head = Head::new(partition, start, position, self.lineage.keys());
        let (path, place) = (self.path(partition, &name), self.opened.say(&name.of(partition)));
        Writer::new(self.opened.store.clone(), path, place, head, self.written.clone())
    }

    /// Writes the state of `partition` at `position`. Nothing is removed: see [`Store::prune`].
    pub async fn save(
        &self,
        partition: &Partition,
        start: Position,
        position: Position,
        batches: impl IntoIterator<Item = RecordBatch>,
    ) -> Result<()> {
        let mut writer = self.writer(partition, start, position);
        for batch in batches {
            writer.batch(&batch).await?;
        }
        writer.finish().await
    }

    /// The newest state of `partition` at or below `committed`, of the life that began at `start` if that is known: batch
    /// by batch `add`ed to a `fresh` one. One that is damaged, or that `add` refuses, is passed over with a warning for the
    /// one before it.
    ///
    /// # Errors
    /// If the store cannot be read: it names the place.
    pub async fn newest<T>(
        &self,
        partition: &Partition,
        start: Option<Position>,
        committed: Position,
        fresh: impl Fn() -> T,
        mut add: impl FnMut(&mut T, &RecordBatch) -> Result<()>,
    ) -> Result<Found<T>> {
        let mut names = self.list(partition).await?;
        names.retain(|name| name.position <= committed);
        let own = |name: &&Name| self.continues(&name.lineage);
        let fits = |name: &&Name| start.is_none() || name.start == start;
        for name in names.iter().rev().filter(own).filter(fits) {
            let mut state = fresh();
            match self.read(partition, name, |batch| add(&mut state, batch)).await {
                Ok(Head { start, .. }) => {
                    return Ok(Found::Snapshot { position: name.position, start: Position(start), state });
                }
                Err(error) => self.pass_over(partition, name, error)?,
            }
        }
        if names.iter().any(|name| own(&name)) {
            // Of our lineage there are only those of another life, or damaged ones.
            return Ok(Found::Nothing);
        }
        for name in names.iter().rev() {
            let snapshot = Snapshot::open(&self.opened.store, &self.path(partition, name)).await;
            let keys = match snapshot {
                Ok(snapshot) => snapshot.head.lineage,
                Err(Unread::Format { lineage, .. }) => lineage,
                Err(error) => {
                    self.pass_over(partition, name, error)?;
                    continue;
                }
            };
            return Ok(Found::Foreign(self.lineage.differences(&keys)));
        }
        Ok(Found::Nothing)
    }

    async fn read(
        &self,
        partition: &Partition,
        name: &Name,
        mut add: impl FnMut(&RecordBatch) -> Result<()>,
    ) -> Result<Head, Unread> {
        let mut snapshot = Snapshot::open(&self.opened.store, &self.path(partition, name)).await?;
        let Head { position, start, .. } = snapshot.head;
        if (Position(position), Some(Position(start))) != (name.position, name.start)
            || snapshot.head.partition() != *partition
        {
            return Err(Unread::Damaged(format!(
                "it says that it is of {} at {position} from {start}: it was renamed",
                snapshot.head.partition()
            )));
        }
        while let Some(batch) = snapshot.next().await? {
            add(&batch).map_err(|error| Unread::Damaged(format!("{error:#}")))?;
        }
        Ok(snapshot.head)
    }

    /// A snapshot that is of no use is no reason to stop; a store that does not answer is.
    fn pass_over(&self, partition: &Partition, name: &Name, error: Unread) -> Result<()> {
        let place = self.opened.say(&name.of(partition));
        match error {
            Unread::Store(error) if !matches!(error, Error::NotFound { .. }) => {
                Err(error).with_context(|| format!("cannot read the snapshot {place}"))
            }
            error => {
                tracing::warn!(
                    topic = %partition.topic,
                    partition = partition.number,
                    position = name.position.0,
                    "the snapshot {place} is of no use ({error}): the one before it has to do; remove it"
                );
                Ok(())
            }
        }
    }

    /// Removes states of `partition` of the life that began at `start` that no restart needs. The two newest at or below the
    /// committed position stay. Of those above it that this process wrote, the oldest and the newest stay: wherever the next
    /// commit lands above the oldest, a restart reads no more again than lies between the two commits.
    ///
    /// Those that others wrote above it stay, but for the oldest of very many: `committed` may be of a time when the partition
    /// was still ours, and its owner by now has come further.
    pub async fn prune(&self, partition: &Partition, start: Position, committed: Position) -> Result<()> {
        let names = self.list(partition).await?;
        let own = names.iter().filter(|name| self.continues(&name.lineage));
        let life = own.filter(|name| name.start == Some(start));
        let (below, above): (Vec<_>, Vec<_>) = life.partition(|name| name.position <= committed);
        below.iter().for_each(|name| self.written.forget(&self.path(partition, name)));
        let of_others = |name: &&&Name| !self.written.has(&self.path(partition, name));
        let (others, own): (Vec<_>, Vec<_>) = above.iter().partition(of_others);
        let past_oldest = others.iter().skip(1).rev().skip(KEPT_OF_OTHERS);
        let between = own.iter().skip(1).rev().skip(1);
        for name in below.iter().rev().skip(KEPT).chain(past_oldest.copied()).chain(between.copied()) {
            self.remove(partition, name).await?;
        }
        place::sweep(&self.opened, |name| {
            Name::parse(partition, name).is_some_and(|name| self.continues(&name.lineage))
        });
        Ok(())
    }

    /// Removes all states of `partition` of this lineage: it starts anew, without a commit.
    pub async fn forget(&self, partition: &Partition) -> Result<()> {
        for name in self.list(partition).await?.iter().filter(|name| self.continues(&name.lineage)) {
            tracing::warn!(topic = %partition.topic, partition = partition.number, position = name.position.0, "a snapshot of a life before is removed");
            self.remove(partition, name).await?;
        }
        Ok(())
    }

    /// Positions of the states of `partition` of this lineage, and where their lives began, ascending.
    pub async fn positions(&self, partition: &Partition) -> Result<Vec<(Position, Option<Position>)>> {
        let names = self.list(partition).await?;
        let own = names.into_iter().filter(|name| self.continues(&name.lineage));
        Ok(own.map(|name| (name.position, name.start)).collect())
    }

    /// All snapshots of a partition, of any lineage, ascending by position.
    async fn list(&self, partition: &Partition) -> Result<Vec<Name>> {
        let listed = self.opened.store.list_with_delimiter(Some(&self.opened.folder)).await;
        let objects = match listed {
            Ok(listed) => listed.objects,
            // A folder that somebody took away is one without snapshots; it comes back with the next one.
            Err(Error::NotFound { .. }) => Vec::new(),
            Err(error) => {
                return Err(error).with_context(|| {
                    let place = &self.opened.text;
                    format!(
                        "cannot list the snapshots in {place} (is [state] store right, and may it be read?)"
                    )
                });
            }
        };
        let names = objects.iter().filter_map(|object| object.location.filename());
        let mut names: Vec<Name> = names.filter_map(|name| Name::parse(partition, name)).collect();
        names.sort();
        Ok(names)
    }

    async fn remove(&self, partition: &Partition, name: &Name) -> Result<()> {
        let path = self.path(partition, name);
        match self.opened.store.delete(&path).await {
            // Another instance was faster.
            Ok(()) | Err(Error::NotFound { .. }) => {
                self.written.forget(&path);
                Ok(())
            }
            Err(error) => {
                let place = self.opened.say(&name.of(partition));
                Err(error).with_context(|| format!("cannot remove the snapshot {place}"))
            }
        }
    }

    fn path(&self, partition: &Partition, name: &Name) -> Path {
        self.opened.folder.clone().join(name.of(partition))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};
    use object_store::memory::InMemory;

    use super::*;
    use file::Encoder;

    fn keys() -> Vec<(String, String)> {
        vec![("grid.every".to_owned(), "1h".to_owned())]
    }

    /// A snapshot as a version before wrote it.
    async fn former(
        store: &Arc<dyn ObjectStore>,
        partition: &Partition,
        position: i64,
        (lineage, version): (&Lineage, usize),
    ) {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![position]));
        let batch = RecordBatch::try_from_iter([("position", column)]).unwrap();
        let (start, position) = (Position(3), Position(position));
        let format = lineage::FORMERS[version];
        let head = Head { format, ..Head::new(partition, start, position, lineage.keys()) };
        let (mut encoder, mut bytes) = Encoder::new(&head, &batch.schema()).unwrap();
        bytes.extend(encoder.batch(&batch).unwrap());
        bytes.extend(encoder.finish().unwrap());
        let name = Name { position, lineage: lineage.formers()[version].clone(), start: Some(start) };
        store.put(&Path::from(name.of(partition)), bytes.into()).await.unwrap();
    }

    #[tokio::test]
    async fn a_state_of_the_version_before_is_gone_on_from() {
        let partition = Partition { topic: "t".into(), number: 1 };
        let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let before = Lineage::new(keys(), "m");
        for (position, version) in [(10, 0), (20, 0), (30, 1)] {
            former(&objects, &partition, position, (&before, version)).await;
        }
        let store = Store::within(objects.clone(), Lineage::new(keys(), "m"));
        let add = |all: &mut Vec<RecordBatch>, batch: &RecordBatch| {
            all.push(batch.clone());
            Ok(())
        };
        let newest = |at: i64| store.newest(&partition, Some(Position(3)), Position(at), Vec::new, add);
        let Found::Snapshot { position, start, state } = newest(25).await.unwrap() else {
            panic!("there is one")
        };
        assert_eq!((position, start, state.len()), (Position(20), Position(3), 1));
        let Found::Snapshot { position, .. } = newest(35).await.unwrap() else { panic!("there is one") };
        assert_eq!(position, Position(30));
        assert!(
            before.formers().iter().all(|hash| store.continues(hash)) && !store.continues("0123456789ab")
        );
        // They go like those of its own.
        store.prune(&partition, Position(3), Position(40)).await.unwrap();
        let left: Vec<i64> =
            store.positions(&partition).await.unwrap().iter().map(|(position, _)| position.0).collect();
        assert_eq!(left, [20, 30]);
        // Another pipeline's are as foreign as ever.
        let other = Store::within(objects, Lineage::new(keys(), "another model"));
        let found = other.newest(&partition, None, Position(25), Vec::new, add).await.unwrap();
        let Found::Foreign(differences) = found else { panic!("it is foreign") };
        assert!(
            differences.iter().any(|difference| difference.starts_with("model was m")),
            "{differences:?}"
        );
    }
}
