//! `inspect`: the content of a model or a snapshot.

use std::fs::File;
use std::io::Read;

use anyhow::{Result, bail};

use super::load;
use crate::cli::Inspect;
use crate::config::read_error;
use crate::report::model::{self, ModelJson};
use crate::report::snapshot::SnapshotReport;
use crate::terminal::{json_line, print};

/// The first bytes of an Arrow file, such as a snapshot.
const ARROW_MAGIC: [u8; 6] = *b"ARROW1";

pub async fn inspect(arguments: Inspect) -> Result<()> {
    let path = &arguments.file;
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(ARROW_MAGIC.len() as u64).read_to_end(&mut start));
    if let Err(error) = read {
        let hint = "; `train` and `import-torch` write models, `run` writes snapshots to its state folder";
        bail!("cannot read {}: {}", path.display(), read_error(path, &error, hint));
    }
    let text = match (start == ARROW_MAGIC, arguments.json) {
        (true, false) => SnapshotReport::read(path).await?.text(),
        (true, true) => json_line(&SnapshotReport::read(path).await?)?,
        (false, false) => model::text(&load::model(path)?),
        (false, true) => json_line(&ModelJson::new(&load::model(path)?))?,
    };
    print(&text)
}
