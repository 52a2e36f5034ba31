//! `inspect`: what a file of ours says of itself: a model, or a snapshot of series' states.

mod model;
mod snapshot;

use std::fs::File;
use std::io::Read;

use anyhow::{Context, Result};

pub use model::{scores, text};

use super::prepare;
use crate::cli::Inspect;

/// What an Arrow file begins with, and a snapshot is one.
const ARROW: [u8; 6] = *b"ARROW1";

pub async fn inspect(arguments: Inspect) -> Result<()> {
    let path = &arguments.file;
    let mut start = Vec::new();
    let opened = File::open(path).and_then(|file| file.take(ARROW.len() as u64).read_to_end(&mut start));
    opened.with_context(|| format!("cannot read {}", path.display()))?;
    let text = match start == ARROW {
        true => snapshot::text(path).await?,
        false => text(&prepare::model(path)?),
    };
    super::print(&text)
}
