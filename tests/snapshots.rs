//! Snapshots: what a capture takes, what a store keeps and gives back, and what becomes of damage.

mod capture;
mod damage;
mod recovery;
mod saver;
mod store;

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use arrow::array::RecordBatch;
use tidecast::config::Place;
use tidecast_core::forecaster::{Captured, Forecaster};
use tidecast_stream::{Partition, Position};
use tidecast_stream::state::{Found, Lineage, Store};

use crate::harness::{Case, row};

fn partition() -> Partition {
    Partition { topic: "readings".into(), number: 3 }
}

fn lineage(hash: &str) -> Lineage {
    Lineage::new(vec![("grid.every".into(), "10s".into())], hash)
}

fn store(folder: &Path) -> Store {
    Store::open(&Place::Folder(folder.to_owned()), lineage("m")).unwrap()
}

/// One that has seen `steps` readings of each of some ids.
fn filled(case: &Case, ids: usize, steps: i64) -> Forecaster {
    let mut forecaster = case.forecaster();
    for step in 0..steps {
        let rows: Vec<_> =
            (0..ids).map(|id| row(&format!("s{id}"), 10 * step, id as f64 + 0.5 * step as f64)).collect();
        forecaster.push(&case.batch(step * ids as i64, &rows));
    }
    forecaster
}

async fn save(store: &Store, start: i64, position: i64, forecaster: &mut Forecaster) {
    let batches = forecaster.snapshot_batches();
    store.save(&partition(), Position(start), Position(position), batches).await.unwrap();
}

/// What a store has at a committed position.
async fn found(store: &Store, case: &Case, start: Option<i64>, committed: i64) -> Result<Found<Forecaster>> {
    let add = |forecaster: &mut Forecaster, batch: &RecordBatch| Ok(forecaster.restore_more(batch)?);
    store.newest(&partition(), start.map(Position), Position(committed), || case.forecaster(), add).await
}

/// The position of what was found.
fn position(found: &Found<Forecaster>) -> Option<i64> {
    match found {
        Found::Snapshot { position, .. } => Some(position.0),
        _ => None,
    }
}

/// The next batch of a capture that has one.
fn next(forecaster: &mut Forecaster, ids: usize) -> Option<RecordBatch> {
    loop {
        match forecaster.capture(ids) {
            Captured::More => {}
            Captured::Batch(batch) => return Some(batch),
            Captured::Done => return None,
        }
    }
}

fn shared(folder: &Path) -> Arc<Store> {
    Arc::new(store(folder))
}
