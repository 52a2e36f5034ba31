//! `study`: claims of the textbooks, measured.

mod convergence;
mod ledger;
mod memory;

use std::fs;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::cli::{How, Study, StudyOf};
use crate::report::{Page, Picture};

pub async fn study(arguments: Study, quiet: bool) -> Result<()> {
    match arguments.of {
        StudyOf::Memory(arguments) => memory::study(&arguments.how, quiet),
        StudyOf::Convergence(arguments) => convergence::study(&arguments, quiet),
    }
}

/// Prints what was found, and writes the page and the picture.
fn deliver(
    how: &How,
    found: &impl Serialize,
    text: &str,
    page: impl FnOnce() -> Page,
    picture: impl FnOnce() -> Picture,
) -> Result<()> {
    if let Some(path) = &how.html {
        write(path, &page().html())?;
    }
    if let Some(path) = &how.svg {
        write(path, &picture().svg())?;
    }
    if how.json {
        return super::print(&super::json_line(found)?);
    }
    super::print(text)
}

fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(path, text))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
