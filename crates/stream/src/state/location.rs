//! The location of snapshots, a local folder or a bucket, and their file names.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, RetryConfig};

use crate::settings::StateLocation;
use crate::{Partition, Position};

/// Retry limit of a request to a cloud store. A longer time would delay the error of a restart that cannot reach its
/// state.
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);

/// An upload unmodified for this long belongs to a dead process: even at the slowest rate a batch takes seconds.
const ORPHAN_AGE: Duration = Duration::from_secs(3600);

/// An object store and the folder in it.
#[derive(Debug)]
pub struct Location {
    pub store: Arc<dyn ObjectStore>,
    pub folder: Path,
    /// For messages.
    pub text: String,
    /// The path of a local folder.
    local: Option<PathBuf>,
}

impl Location {
    /// # Errors
    /// If a local folder cannot be created, or the environment lacks a cloud's settings.
    pub fn open(location: &StateLocation) -> Result<Self> {
        let text = location.to_string();
        let url = match location {
            StateLocation::Folder(folder) => {
                std::fs::create_dir_all(folder).context("the folder cannot be created")?;
                // Synced, so that contents and name survive a power failure.
                let store = LocalFileSystem::new_with_prefix(folder)?.with_fsync(true);
                let local = Some(folder.clone());
                return Ok(Self { store: Arc::new(store), folder: Path::default(), text, local });
            }
            StateLocation::Url(url) => url,
        };
        let (scheme, rest) = url.split_once("://").context("not a URL")?;
        let folder = Path::parse(rest.split_once('/').map_or("", |(_, folder)| folder))?;
        let retry = RetryConfig { max_retries: 10, retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() };
        let store: Arc<dyn ObjectStore> = match scheme {
            "s3" => Arc::new(AmazonS3Builder::from_env().with_url(url).with_retry(retry).build()?),
            "gs" => Arc::new(GoogleCloudStorageBuilder::from_env().with_url(url).with_retry(retry).build()?),
            "az" => Arc::new(MicrosoftAzureBuilder::from_env().with_url(url).with_retry(retry).build()?),
            _ => bail!("`{scheme}:` is not supported"),
        };
        Ok(Self { store, folder, text, local: None })
    }

    pub fn in_store(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, folder: Path::default(), text: "memory:".to_owned(), local: None }
    }

    pub fn path(&self, partition: &Partition, name: &FileName) -> Path {
        self.folder.clone().join(name.format(partition))
    }

    /// The full name of a snapshot, for messages.
    pub fn describe(&self, partition: &Partition, name: &FileName) -> String {
        format!("{}/{}", self.text.trim_end_matches('/'), name.format(partition))
    }

    /// Removes the remains of uploads by dead processes, for the snapshot names that `matches` accepts. Clouds hide
    /// unfinished uploads and remove them by their own rules.
    pub fn remove_stale_uploads(&self, matches: impl Fn(&str) -> bool) {
        let Some(Ok(entries)) = self.local.as_ref().map(std::fs::read_dir) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            // The local store writes to `NAME#1` and renames.
            let Some((name, number)) = name.to_str().and_then(|name| name.rsplit_once('#')) else { continue };
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            let is_stale = modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age >= ORPHAN_AGE));
            if is_stale && number.bytes().all(|digit| digit.is_ascii_digit()) && matches(name) {
                tracing::info!(file = %entry.path().display(), "removing the remains of an upload");
                // A failed removal is retried by the next call.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// The parsed file name of a snapshot of a known partition, ordered by position.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileName {
    pub position: Position,
    /// Hash of the lineage.
    pub lineage: String,
    pub start: Position,
}

impl FileName {
    pub fn parse(partition: &Partition, text: &str) -> Option<Self> {
        let rest = text.strip_prefix(&prefix(partition))?.strip_suffix(".arrow")?;
        let [position, lineage, start] = rest.split('-').collect::<Vec<_>>()[..] else { return None };
        let (position, start) = (Position(position.parse().ok()?), Position(start.parse().ok()?));
        Some(Self { position, lineage: lineage.to_owned(), start })
    }

    pub fn format(&self, partition: &Partition) -> String {
        let Self { position, lineage, start } = self;
        format!("{}{:020}-{lineage}-{:020}.arrow", prefix(partition), position.0, start.0)
    }
}

/// The prefix of a partition's file names. Topic names contain no `@`, so no prefix is the prefix of another.
fn prefix(partition: &Partition) -> String {
    format!("{}@{}@", partition.topic.replace(['/', '\\'], "_"), partition.number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_identify_partition_position_lineage_and_start() {
        let partition = Partition { topic: "a-b".into(), number: 7 };
        let name = FileName { position: Position(42), lineage: "0123456789ab".into(), start: Position(5) };
        let text = name.format(&partition);
        assert_eq!(text, "a-b@7@00000000000000000042-0123456789ab-00000000000000000005.arrow");
        assert_eq!(FileName::parse(&partition, &text), Some(name));
        let other = Partition { topic: "a-b".into(), number: 71 };
        assert_eq!(FileName::parse(&other, &text), None);
        assert_eq!(FileName::parse(&partition, "a-b@7@00000000000000000042-0123456789ab.arrow"), None);
    }
}
