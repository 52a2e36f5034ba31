//! Resident memory of a million series beside the bytes of their numbers, at rest and while a snapshot is taken; and over
//! many readings, whether it stays flat. One line of JSON.
//!
//! `cargo bench --bench memory -- --series 1000000 --readings 10000000` (and the sizes of `--bench push`).

#[path = "../model.rs"]
mod model;
#[path = "../readings.rs"]
mod readings;
#[path = "../words.rs"]
mod words;

use std::path::Path;
use std::sync::Arc;

use model::{Sizes, batch};
use readings::{FILES, ids};
use serde_json::json;
use tidecast_core::forecaster::{ASIDE_BYTES, BATCH_IDS, SnapshotProgress, Forecaster, Setup};
use tidecast_core::intervals::CalibrationMode;
use tidecast_core::network::State;
use words::Words;

const BATCH: usize = 10_000;

fn main() {
    let words = Words::new();
    let sizes = Sizes::of(&words, Sizes { poles: 54, ..Sizes::default() });
    let series = words.number("--series", 1_000_000);
    let readings = words.number("--readings", 10_000_000);
    let pipeline = model::pipeline(Path::new("."), FILES);
    let setup = Setup {
        columns: pipeline.columns.clone(),
        rules: pipeline.rules.clone(),
        every: 1,
        levels: vec![],
        calibration: CalibrationMode::Fixed,
        scoring: None,
        model: Arc::new(sizes.model(&pipeline)),
        every_text: pipeline.every_text(),
        capacity: series.into(),
    };
    let numbers = numbers(&setup);
    let names = ids(series);
    let before = resident();
    let mut forecaster = Forecaster::new(Arc::new(setup));
    let mut next = 0;
    let mut push = |forecaster: &mut Forecaster, rows: usize| {
        for _ in (0..rows).step_by(BATCH) {
            forecaster.push(&batch(&pipeline, &names, next, BATCH));
            next += BATCH;
        }
    };
    push(&mut forecaster, 4 * series);
    let each = |bytes: u64| bytes.saturating_sub(before) as f64 / series as f64;
    let rest = each(resident());
    push(&mut forecaster, readings);
    let later = each(resident());

    // Rows go on between two steps of the capture, and every batch of it is gone when it is written.
    let mut saving = 0.0_f64;
    forecaster.begin_capture(ASIDE_BYTES);
    loop {
        match forecaster.capture(BATCH_IDS) {
            SnapshotProgress::Batch(batch) => drop(batch),
            SnapshotProgress::More => {}
            SnapshotProgress::Done => break,
        }
        // As the driver does it: what is put aside is bounded.
        if !forecaster.must_capture() {
            push(&mut forecaster, BATCH);
        }
        saving = saving.max(each(resident()));
    }
    println!(
        "{}",
        json!({
            "bench": "memory",
            "cell": sizes.cell,
            "hidden": sizes.hidden,
            "poles": sizes.poles,
            "series": series,
            "bytes_of_numbers": numbers,
            "bytes_per_series": rest.round(),
            "after_readings": readings,
            "bytes_per_series_then": later.round(),
            "bytes_per_series_while_saving": saving.round(),
        })
    );
}

/// Bytes of the numbers of a series: its memory, its cells, its name and its clock.
fn numbers(setup: &Setup) -> usize {
    let (memory, cells) = (&setup.model.recurrence, &setup.model.cells);
    let memory = memory.as_ref().map_or(0, |part| 4 * part.recurrence.numbers());
    let cells = cells.as_ref().map_or(0, |network| 4 * State::zeros(network.shape(), 0).numbers());
    memory + cells + 16 + 8
}

/// Bytes of this process that are in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    1024 * kilobytes.expect("Linux says what is resident")
}
