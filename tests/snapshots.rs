//! Snapshots: their content, the store that retains and restores them, and damaged files.

mod damage;
mod incremental;
mod recovery;
mod store;
mod uploader;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use arrow::array::RecordBatch;
use tidecast_core::forecaster::{Forecaster, SnapshotProgress};
use tidecast_stream::settings::StateLocation;
use tidecast_stream::state::{Lineage, Lookup, SnapshotStore};
use tidecast_stream::{Partition, Position};

use crate::harness::{Case, row};

fn partition() -> Partition {
    Partition { topic: "readings".into(), number: 3 }
}

fn lineage(model_hash: &str) -> Lineage {
    Lineage::new(vec![("grid.every".into(), "10s".into())], model_hash)
}

fn store(folder: &Path) -> SnapshotStore {
    open_store(folder, lineage("m"))
}

fn open_store(folder: &Path, lineage: Lineage) -> SnapshotStore {
    SnapshotStore::open(&StateLocation::Folder(folder.to_owned()), lineage).unwrap()
}

/// A forecaster with `ids` ids after `steps` observations each.
fn filled(case: &Case, ids: usize, steps: i64) -> Forecaster {
    let mut forecaster = case.forecaster();
    for step in 0..steps {
        let rows: Vec<_> =
            (0..ids).map(|id| row(&format!("s{id}"), 10 * step, id as f64 + 0.5 * step as f64)).collect();
        forecaster.push(&case.batch(step * ids as i64, &rows));
    }
    forecaster
}

async fn save(store: &SnapshotStore, start: i64, position: i64, forecaster: &mut Forecaster) {
    let batches = forecaster.snapshot_batches();
    store.save(&partition(), Position(start), Position(position), batches).await.unwrap();
}

/// Restores the newest snapshot at or below a committed position.
async fn restore_newest(
    store: &SnapshotStore,
    case: &Case,
    start: Option<i64>,
    committed: i64,
) -> Result<Lookup<Forecaster>> {
    let restore = |forecaster: &mut Forecaster, batch: &RecordBatch| Ok(forecaster.restore_batch(batch)?);
    let (start, committed) = (start.map(Position), Position(committed));
    store.restore_newest(&partition(), start, committed, || case.forecaster(), restore).await
}

/// The position of the newest snapshot at or below a committed position.
async fn newest_position(
    store: &SnapshotStore,
    case: &Case,
    start: Option<i64>,
    committed: i64,
) -> Option<i64> {
    match restore_newest(store, case, start, committed).await.unwrap() {
        Lookup::Found { position, .. } => Some(position.0),
        _ => None,
    }
}

/// The next batch of an incremental snapshot; `None` at its end.
fn next_batch(forecaster: &mut Forecaster, series_per_step: usize) -> Option<RecordBatch> {
    loop {
        match forecaster.advance_snapshot(series_per_step) {
            SnapshotProgress::Pending => {}
            SnapshotProgress::Batch(batch) => return Some(batch),
            SnapshotProgress::Done => return None,
        }
    }
}

/// The files in a folder, sorted by name.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Replaces a store's folder with a file, so that nothing can be written to it.
fn block_store(folder: &Path) {
    fs::remove_dir(folder).unwrap();
    fs::write(folder, "").unwrap();
}
