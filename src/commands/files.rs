//! Output files that never replace an input, and are complete or absent.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Checks that the outputs `written` are none of the inputs `read`; `flag` names another output.
pub fn check_not_overwritten(read: &[&Path], written: &[&Path], flag: &str) -> Result<()> {
    match read.iter().find(|read| written.iter().any(|written| is_same(read, written))) {
        Some(read) => bail!("{} is an input and would be overwritten; choose another {flag}", read.display()),
        None => Ok(()),
    }
}

fn is_same(read: &Path, written: &Path) -> bool {
    matches!((read.canonicalize(), written.canonicalize()), (Ok(read), Ok(written)) if read == written)
}

/// Writes a temporary file and renames it, so that a file of this name is always complete.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let partial = path.with_extension("partial");
    let write = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
