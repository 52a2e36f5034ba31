//! Resident memory of a million series: after warm-up, after many more rows, and during a snapshot, next to the size of their
//! states alone. One line of JSON.
//!
//! `cargo bench --bench memory -- --series 1000000 --rows 10000000`, and the model options of `--bench push`.

mod common;

use std::path::Path;
use std::sync::Arc;

use common::model::{ModelSize, batch, pipeline, setup};
use common::options::Options;
use common::rows::{FILES, ids};
use serde_json::json;
use tidecast_core::forecaster::{
    COPIED_BYTES_MAX, Forecaster, SNAPSHOT_BATCH_SERIES, Setup, SnapshotProgress,
};
use tidecast_core::intervals::CalibrationMode;
use tidecast_core::network::State;

const BATCH: usize = 10_000;

fn main() {
    let options = Options::from_args();
    let default = ModelSize { poles: 54, ..ModelSize::default() };
    let size = ModelSize::from_options(&options, default);
    let series = options.number("--series", 1_000_000);
    let rows = options.number("--rows", 10_000_000);
    let pipeline = pipeline(Path::new("."), FILES);
    let setup = Setup { calibration: CalibrationMode::Fixed, ..setup(&pipeline, size, series) };
    let state_bytes = state_bytes(&setup);
    let names = ids(series);
    let baseline = resident_bytes();
    let mut forecaster = Forecaster::new(Arc::new(setup));
    let mut next = 0;
    let mut push = |forecaster: &mut Forecaster, rows: usize| {
        for _ in (0..rows).step_by(BATCH) {
            forecaster.push(&batch(&pipeline, &names, next, BATCH));
            next += BATCH;
        }
    };
    let bytes_per_series = || resident_bytes().saturating_sub(baseline) as f64 / series as f64;
    push(&mut forecaster, 4 * series);
    let after_warmup = bytes_per_series();
    push(&mut forecaster, rows);
    let after_rows = bytes_per_series();

    // Rows continue between the batches of the snapshot, unless the copied series exceed their budget, as in the driver.
    let mut during_snapshot = 0.0_f64;
    forecaster.begin_snapshot(COPIED_BYTES_MAX);
    loop {
        match forecaster.advance_snapshot(SNAPSHOT_BATCH_SERIES) {
            SnapshotProgress::Batch(batch) => drop(batch),
            SnapshotProgress::Pending => {}
            SnapshotProgress::Done => break,
        }
        if !forecaster.snapshot_over_budget() {
            push(&mut forecaster, BATCH);
        }
        during_snapshot = during_snapshot.max(bytes_per_series());
    }
    println!(
        "{}",
        json!({
            "bench": "memory",
            "cell": size.cell,
            "hidden": size.hidden,
            "poles": size.poles,
            "series": series,
            "state_bytes_per_series": state_bytes,
            "bytes_per_series": after_warmup.round(),
            "rows": rows,
            "bytes_per_series_after_rows": after_rows.round(),
            "bytes_per_series_during_snapshot": during_snapshot.round(),
        })
    );
}

/// Bytes of the state of a series: its recurrence, its cells, its id and its clock.
fn state_bytes(setup: &Setup) -> usize {
    let recurrence = setup.model.recurrence.as_ref().map_or(0, |of| 4 * of.recurrence.state_len());
    let cells = setup.model.cells.as_ref();
    let cells = cells.map_or(0, |network| 4 * State::zeros(network.shape(), 0).column_len());
    recurrence + cells + 16 + 8
}

/// Resident memory of this process.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    1024 * kilobytes.expect("Linux reports VmRSS")
}
