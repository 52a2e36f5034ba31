//! Readings per second of a whole backfill, from file to file, beside polars, which reads the same readings and writes the
//! same forecasts without making them. One line of JSON; asserts that memory does not grow with the number of readings.
//!
//! `cargo bench --bench backfill -- --readings 10000000 --series 1000` (and the sizes of `--bench push`).

mod files;
#[path = "../model.rs"]
mod model;
mod program;
#[path = "../readings.rs"]
mod readings;
#[path = "../words.rs"]
mod words;

use std::time::Instant;

use files::{copied, write_readings};
use model::Sizes;
use program::tidecast;
use readings::{FILES, MINUTE, PIPELINE};
use serde_json::json;
use words::Words;

fn main() {
    let words = Words::new();
    let sizes = Sizes::of(&words, Sizes::default());
    let readings = words.number("--readings", 10_000_000);
    let series = words.number("--series", 1000);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("bench.toml"), format!("{PIPELINE}{FILES}")).expect("the folder takes files");
    let model = sizes.model(&model::pipeline(folder.path(), FILES)).to_bytes();
    std::fs::write(at("model.safetensors"), model).expect("the folder takes files");

    let run = |readings: usize| {
        write_readings(&at("readings.parquet"), series, readings / series, MINUTE);
        tidecast(folder.path(), "--quiet backfill bench.toml")
    };
    let (_, small) = run(readings / 5);
    let (seconds, large) = run(readings);
    let started = Instant::now();
    copied(&at("readings.parquet"), &at("forecasts.parquet"), &at("copy.parquet"));
    let polars = started.elapsed().as_secs_f64();
    println!(
        "{}",
        json!({
            "bench": "backfill",
            "cell": sizes.cell,
            "hidden": sizes.hidden,
            "poles": sizes.poles,
            "horizon": sizes.horizon,
            "series": series,
            "readings": readings,
            "readings_s": (readings as f64 / seconds).round(),
            "polars_readings_s": (readings as f64 / polars).round(),
            "peak_mib": large,
            "peak_mib_of_a_fifth": small,
        })
    );
    assert!(large <= small + small / 4 + 16, "memory grows with the number of readings");
}
