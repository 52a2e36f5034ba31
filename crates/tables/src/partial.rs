//! The unfinished file beside a final name: one process writes it, and no other may touch it meanwhile.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// How the name of an unfinished file ends.
const PARTIAL: &str = ".partial";

/// An unfinished file that is ours while this lives. Others find it locked; the system unlocks it when a process dies, so
/// that what a killed one has left stands in nobody's way.
pub(super) struct Partial {
    path: PathBuf,
    /// Holds the lock: writers get copies of it.
    file: File,
}

impl Partial {
    /// `NAME.partial` beside a file that one process may write at a time.
    ///
    /// # Errors
    /// If it cannot be created, or another process writes it.
    pub fn only(path: &Path) -> Result<Self> {
        let partial = beside(path, "");
        match Self::take(partial.clone())? {
            Some(partial) => Ok(partial),
            None => bail!(
                "{} is being written by another process, which has {} open; let that one end, or name another path",
                path.display(),
                partial.display()
            ),
        }
    }

    /// `NAME.WRITER.NUMBER.partial` beside a file that several may write at once, the first of these that is free. A process
    /// that was taken for dead and lives holds up nobody who goes on under its name.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn of(path: &Path, writer: &str) -> Result<Self> {
        for number in 0.. {
            if let Some(partial) = Self::take(beside(path, &format!(".{writer}.{number}")))? {
                return Ok(partial);
            }
        }
        unreachable!("there are more numbers than processes")
    }

    /// Removes what processes of this name have left in a folder when they were killed; what a living one writes stays.
    ///
    /// # Errors
    /// If the folder cannot be read, or a file not be removed.
    pub fn sweep(folder: &Path, writer: &str) -> Result<()> {
        let place = || format!("cannot read {}", folder.display());
        for entry in fs::read_dir(folder).with_context(place)? {
            let entry = entry.with_context(place)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let tail = name.rsplit_once(".parquet.").and_then(|(_, tail)| tail.strip_prefix(writer));
            if tail.is_some_and(|tail| tail.starts_with('.') && tail.ends_with(PARTIAL))
                && let Some(partial) = Self::take(entry.path())?
            {
                let removed = fs::remove_file(&partial.path);
                removed.with_context(|| format!("cannot remove {}", partial.path.display()))?;
            }
        }
        Ok(())
    }

    /// Takes the file of this name, empty; `None` where another has it.
    fn take(path: PathBuf) -> Result<Option<Self>> {
        let place = || format!("cannot create {}", path.display());
        loop {
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
            let file = file.with_context(place)?;
            if !file.metadata().with_context(place)?.is_file() {
                // What goes into a pipe or a device stands over nothing.
                return Ok(Some(Self { path, file }));
            }
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => {
                    tracing::warn!(
                        "{}: this file system has no locks ({error}): see to it that no other process writes the same file",
                        path.display()
                    );
                }
            }
            // Whoever had it when it was opened may have given it its final name since.
            if is_at(&file, &path) {
                file.set_len(0).with_context(place)?;
                return Ok(Some(Self { path, file }));
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// To write to it.
    pub fn file(&self) -> Result<File> {
        self.file.try_clone().with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Gives it its final name; a file that had it is replaced.
    ///
    /// # Errors
    /// If it is no longer there, or cannot be renamed.
    pub fn rename(&self, to: &Path) -> Result<()> {
        let place = || format!("cannot rename {} to {}", self.path.display(), to.display());
        ensure!(is_at(&self.file, &self.path), "{}: another process has removed it", place());
        fs::rename(&self.path, to).with_context(place)
    }

    /// Gives it up.
    pub fn remove(&self) {
        // What has its name by now is not ours.
        if is_at(&self.file, &self.path)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

fn beside(path: &Path, writer: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(format!("{writer}{PARTIAL}"));
    name.into()
}

/// Whether what has this name is this open file.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let number = |found: io::Result<fs::Metadata>| found.map(|found| (found.dev(), found.ino())).ok();
    let own = number(file.metadata());
    own.is_some() && own == number(fs::metadata(path))
}

/// Whether anything has this name: elsewhere files have no numbers to tell them apart by.
#[cfg(not(unix))]
fn is_at(_file: &File, path: &Path) -> bool {
    path.exists()
}
