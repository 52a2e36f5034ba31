//! Snapshots on disk: every series' state of one partition after all rows below a position. One Arrow IPC file each,
//! named by topic, partition, position and lineage; written aside and renamed, so that a file under its name is whole.
//!
//! *Lineage* is what a state is a function of besides the rows: the configuration that shapes it, the model and the
//! format of the file. Only a snapshot of the same lineage is restored.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use arrow::array::RecordBatch;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use sha2::{Digest, Sha256};

use crate::io::{Partition, Position, ipc};

/// Version of the file. A reader knows only its own.
const FORMAT: &str = "2";

/// Snapshots kept of a partition: the newest, and one in case that it is damaged.
const KEPT: usize = 2;

/// What states are a function of, besides the rows: names and values, in a fixed order.
#[derive(Clone, Debug)]
pub struct Lineage {
    keys: Vec<(String, String)>,
    hash: String,
}

impl Lineage {
    pub fn new(keys: Vec<(String, String)>, model: &str) -> Self {
        let mut keys = keys;
        keys.push(("model".to_owned(), model.to_owned()));
        keys.push(("snapshot format".to_owned(), FORMAT.to_owned()));
        let mut digest = Sha256::new();
        for part in keys.iter().flat_map(|(key, value)| [key, value]) {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part.as_bytes());
        }
        let hash = digest.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        Self { keys, hash }
    }

    /// The keys in which `other` differs, as text.
    fn differences(&self, other: &HashMap<String, String>) -> Vec<String> {
        let changed = self.keys.iter().filter(|(key, value)| other.get(key) != Some(value));
        let gone = other.keys().filter(|key| self.keys.iter().all(|(known, _)| known != *key));
        let gone = gone.map(|key| format!("{key} is not there any more"));
        let changed = changed.map(|(key, value)| match other.get(key) {
            Some(before) => format!("{key} was {before}, is {value}"),
            None => format!("{key} is {value}, the snapshot has none"),
        });
        let mut differences: Vec<String> = changed.chain(gone).collect();
        differences.sort();
        differences
    }
}

/// What there is to start a partition from.
#[derive(Debug)]
pub enum Found {
    /// The state after all rows below the position.
    Snapshot(Position, Box<RecordBatch>),
    /// Only snapshots of another lineage; what differs.
    Foreign(Vec<String>),
    Nothing,
}

/// A folder of snapshots of one lineage, beside those of others.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    lineage: Lineage,
}

impl Store {
    /// # Errors
    /// If the folder cannot be made.
    pub fn open(folder: &Path, lineage: Lineage) -> Result<Self> {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the state folder {}", folder.display()))?;
        Ok(Self { folder: folder.to_owned(), lineage })
    }

    /// Writes the state of `partition` at `position`, and removes older ones of the same lineage.
    pub fn save(&self, partition: &Partition, position: Position, state: &RecordBatch) -> Result<()> {
        let name = format!("{}{:020}-{}.arrow", prefix(partition), position.0, self.lineage.hash);
        let path = self.folder.join(name);
        // Two processes may keep the same state at the same time: the same bytes, but not through the same file.
        let partial = path.with_extension(format!("{}.partial", std::process::id()));
        self.write(&partial, partition, position, state)
            .and_then(|()| Ok(fs::rename(&partial, &path)?))
            // The name, too, must outlive a power cut.
            .and_then(|()| Ok(File::open(&self.folder)?.sync_all()?))
            .with_context(|| format!("cannot write the snapshot {}", path.display()))?;
        let own = self.list(partition)?.into_iter().filter(|file| file.lineage == self.lineage.hash);
        let mut own: Vec<Name> = own.filter(|file| file.position <= position).collect();
        own.sort_by_key(|file| file.position);
        for old in own.iter().rev().skip(KEPT) {
            fs::remove_file(&old.path)
                .with_context(|| format!("cannot remove the snapshot {}", old.path.display()))?;
        }
        Ok(())
    }

    fn write(
        &self,
        path: &Path,
        partition: &Partition,
        position: Position,
        state: &RecordBatch,
    ) -> Result<()> {
        let mut file = File::create(path)?;
        let mut writer = FileWriter::try_new(&mut file, &state.schema())?;
        writer.write_metadata("partition", partition.to_string());
        writer.write_metadata("position", position.to_string());
        writer.write_metadata("lineage", serde_json::to_string(&self.lineage.keys)?);
        writer.write(state)?;
        writer.finish()?;
        drop(writer);
        Ok(file.sync_all()?)
    }

    /// The newest state of `partition` at or below `committed`.
    ///
    /// # Errors
    /// If a snapshot of this lineage cannot be read: it names the file.
    pub fn newest(&self, partition: &Partition, committed: Position) -> Result<Found> {
        let mut files = self.list(partition)?;
        files.sort_by_key(|file| file.position);
        let newest = |own: bool| {
            files
                .iter()
                .rev()
                .find(|file| (file.lineage == self.lineage.hash) == own && file.position <= committed)
        };
        if let Some(file) = newest(true) {
            let (state, metadata) = read(&file.path)?;
            let says = |key: &str| metadata.get(key).map_or("nothing", String::as_str);
            if says("partition") != partition.to_string() || says("position") != file.position.to_string() {
                bail!(
                    "the snapshot {} says that it is of {} at {}: it was renamed; remove it to rebuild the state from the topic",
                    file.path.display(),
                    says("partition"),
                    says("position")
                );
            }
            return Ok(Found::Snapshot(file.position, Box::new(state)));
        }
        let Some(file) = newest(false) else { return Ok(Found::Nothing) };
        let (_, metadata) = read(&file.path)?;
        let keys: Vec<(String, String)> =
            metadata.get("lineage").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        Ok(Found::Foreign(self.lineage.differences(&keys.into_iter().collect())))
    }

    /// Removes the states of `partition` of this lineage: they are of another life of the topic or the group.
    pub fn forget(&self, partition: &Partition) -> Result<()> {
        for file in self.list(partition)?.into_iter().filter(|file| file.lineage == self.lineage.hash) {
            tracing::warn!(%partition, position = file.position.0, "a snapshot of an earlier life is removed");
            fs::remove_file(&file.path)
                .with_context(|| format!("cannot remove the snapshot {}", file.path.display()))?;
        }
        Ok(())
    }

    /// The hash of its lineage.
    pub fn lineage(&self) -> &str {
        &self.lineage.hash
    }

    fn list(&self, partition: &Partition) -> Result<Vec<Name>> {
        let prefix = prefix(partition);
        let entries = fs::read_dir(&self.folder)
            .with_context(|| format!("cannot read the state folder {}", self.folder.display()))?;
        let mut names = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let parts = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(".arrow"));
            let Some((position, lineage)) = parts.and_then(|rest| rest.split_once('-')) else { continue };
            if let Ok(position) = position.parse() {
                names.push(Name { position: Position(position), lineage: lineage.to_owned(), path });
            }
        }
        Ok(names)
    }
}

/// A snapshot by its name.
struct Name {
    position: Position,
    lineage: String,
    path: PathBuf,
}

/// Topics hold no `@`, so one partition's names never start like another's.
fn prefix(partition: &Partition) -> String {
    format!("{}@{}@", partition.topic.replace(['/', '\\'], "_"), partition.number)
}

fn read(path: &Path) -> Result<(RecordBatch, HashMap<String, String>)> {
    let damaged = || {
        format!("cannot read the snapshot {}: remove it to rebuild the state from the topic", path.display())
    };
    let mut file = File::open(path).with_context(damaged)?;
    ipc::check(&mut file).with_context(damaged)?;
    let mut reader = FileReader::try_new(BufReader::new(file), None).with_context(damaged)?;
    let metadata = reader.custom_metadata().clone();
    let state = reader.next().ok_or_else(|| anyhow!("it holds no state")).with_context(damaged)?;
    let state = state.with_context(damaged)?;
    if reader.next().is_some() {
        bail!("the snapshot {} holds more than one state", path.display());
    }
    Ok((state, metadata))
}
