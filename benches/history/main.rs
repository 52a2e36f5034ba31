//! Training on a long history, with nothing chosen but the horizon: its time and its peak memory, as a line of JSON.
//!
//! `cargo bench --bench history -- --readings 100000000` takes many minutes and a gigabyte of temporary files; `--cell none`
//! trains without cells. A plain `cargo bench` trains on a million readings.

#[path = "../backfill/files.rs"]
mod files;
#[path = "../backfill/program.rs"]
mod program;
#[path = "../readings.rs"]
mod readings;
#[path = "../words.rs"]
mod words;

use files::write_readings;
use program::tidecast;
use readings::{FILES, MINUTE, PIPELINE};
use serde_json::json;
use words::Words;

const SERIES: usize = 1000;

fn main() {
    let words = Words::new();
    let readings = words.number("--readings", 1_000_000);
    let cell = words.after("--cell");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let recipe = cell.as_ref().map_or(String::new(), |cell| format!("cell = \"{cell}\"\n"));
    let pipeline = format!("{PIPELINE}{FILES}[train]\nhorizon = 24\n{recipe}");
    let pipeline = pipeline.replace("every = \"1m\"", "every = \"5m\"").replace("levels = []\n", "");
    std::fs::write(folder.path().join("bench.toml"), pipeline).expect("the folder takes files");
    write_readings(&folder.path().join("readings.parquet"), SERIES, readings / SERIES, 5 * MINUTE);
    let line = "train bench.toml --data readings.parquet --out trained.safetensors";
    let (seconds, peak) = tidecast(folder.path(), line);
    let cell = cell.as_deref().unwrap_or("as chosen");
    println!(
        "{}",
        json!({
            "bench": "history",
            "readings": readings,
            "series": SERIES,
            "cell": cell,
            "seconds": seconds.round(),
            "peak_mib": peak,
        })
    );
}
