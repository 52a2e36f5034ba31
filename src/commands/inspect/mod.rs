//! `inspect`: what a file of ours says of itself: a model, or a snapshot of series' states.

mod model;
mod snapshot;
mod told;

use std::fs::File;
use std::io::Read;

use anyhow::{Result, bail};

pub use model::{scores, text};
pub use told::Told;

use super::prepare;
use crate::cli::Inspect;
use crate::config::unread;

/// What an Arrow file begins with, and a snapshot is one.
const ARROW: [u8; 6] = *b"ARROW1";

pub async fn inspect(arguments: Inspect) -> Result<()> {
    let path = &arguments.file;
    let mut start = Vec::new();
    let opened = File::open(path).and_then(|file| file.take(ARROW.len() as u64).read_to_end(&mut start));
    if let Err(error) = opened {
        let makes = "; `train` and `adopt` write models, `run` writes snapshots into its state";
        bail!("cannot read {}: {}", path.display(), unread(path, &error, makes));
    }
    let text = match (start == ARROW, arguments.json) {
        (true, false) => snapshot::read(path).await?.text(),
        (true, true) => super::json_line(&snapshot::read(path).await?.told())?,
        (false, false) => text(&prepare::model(path)?),
        (false, true) => super::json_line(&Told::of(&prepare::model(path)?))?,
    };
    super::print(&text)
}
