//! Where snapshots lie: a folder of this machine, or a bucket by its URL with the credentials of the environment.

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

use crate::config::Place;

/// A request to a cloud is tried again for so long: longer, and a restart that cannot reach its state would not say so
/// before somebody asks why.
const RETRY: Duration = Duration::from_secs(30);

/// An upload that nobody has added to for so long is of a process that died. At the slowest pace a batch takes seconds.
const ORPHAN: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub struct Opened {
    pub store: Arc<dyn ObjectStore>,
    /// Within the store.
    pub folder: Path,
    /// For a reader.
    pub text: String,
    /// The folder of this machine, if it is one.
    pub local: Option<PathBuf>,
}

impl Opened {
    /// Where the object of this name lies, for a reader.
    pub fn say(&self, name: &str) -> String {
        format!("{}/{name}", self.text.trim_end_matches('/'))
    }
}

pub fn open(place: &Place) -> Result<Opened> {
    let text = place.to_string();
    let url = match place {
        Place::Folder(folder) => {
            std::fs::create_dir_all(folder).context("the folder cannot be made")?;
            // Synced, so that what is under its name outlives a power cut, and so does the name.
            let store = LocalFileSystem::new_with_prefix(folder)?.with_fsync(true);
            let local = Some(folder.clone());
            return Ok(Opened { store: Arc::new(store), folder: Path::default(), text, local });
        }
        Place::Url(url) => url,
    };
    let (scheme, rest) = url.split_once("://").context("it is no URL")?;
    let folder = Path::parse(rest.split_once('/').map_or("", |(_, folder)| folder))?;
    let retry = RetryConfig { max_retries: 10, retry_timeout: RETRY, ..RetryConfig::default() };
    let store: Arc<dyn ObjectStore> = match scheme {
        "s3" => Arc::new(AmazonS3Builder::from_env().with_url(url).with_retry(retry).build()?),
        "gs" => Arc::new(GoogleCloudStorageBuilder::from_env().with_url(url).with_retry(retry).build()?),
        "az" => Arc::new(MicrosoftAzureBuilder::from_env().with_url(url).with_retry(retry).build()?),
        _ => bail!("`{scheme}:` is not supported"),
    };
    Ok(Opened { store, folder, text, local: None })
}

/// Removes what processes that died left of uploads under names that are `ours`. (Clouds keep such parts out of sight; they have
/// rules of their own to remove them.)
pub fn sweep(opened: &Opened, ours: impl Fn(&str) -> bool) {
    let Some(Ok(entries)) = opened.local.as_ref().map(std::fs::read_dir) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        // The local store writes to `NAME#1` and renames.
        let Some((name, number)) = name.to_str().and_then(|name| name.rsplit_once('#')) else { continue };
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let old = modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age >= ORPHAN));
        if old && number.bytes().all(|digit| digit.is_ascii_digit()) && ours(name) {
            tracing::info!(file = %entry.path().display(), "what was left of an upload is removed");
            // If it cannot be removed, the next turn tries again.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
