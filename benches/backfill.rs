//! Throughput of a backfill from file to file, next to polars, which reads the same rows and copies the same forecasts. One line
//! of JSON. Fails if memory grows with the number of rows.
//!
//! `cargo bench --bench backfill -- --rows 10000000 --series 1000`, and the model options of `--bench push`.

mod common;

use std::time::Instant;

use common::files::{copy, write_rows};
use common::model::{ModelSize, pipeline};
use common::options::Options;
use common::program::{RunCost, measure};
use common::rows::{FILES, MINUTE, PIPELINE};
use serde_json::json;

fn main() {
    let options = Options::from_args();
    let size = ModelSize::from_options(&options, ModelSize::default());
    let rows = options.number("--rows", 10_000_000);
    let series = options.number("--series", 1000);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("bench.toml"), format!("{PIPELINE}{FILES}")).expect("the folder is writable");
    let model = size.model(&pipeline(folder.path(), FILES)).to_bytes();
    std::fs::write(path("model.safetensors"), model).expect("the folder is writable");

    let run = |rows: usize| {
        write_rows(&path("rows.parquet"), series, rows / series, MINUTE);
        measure(folder.path(), "--quiet backfill bench.toml")
    };
    let RunCost { peak_mib: fifth_peak_mib, .. } = run(rows / 5);
    let RunCost { seconds, peak_mib } = run(rows);
    let started = Instant::now();
    copy(&path("rows.parquet"), &path("forecasts.parquet"), &path("copy.parquet"));
    let polars_seconds = started.elapsed().as_secs_f64();
    println!(
        "{}",
        json!({
            "bench": "backfill",
            "cell": size.cell,
            "hidden": size.hidden,
            "poles": size.poles,
            "horizon": size.horizon,
            "series": series,
            "rows": rows,
            "rows_per_second": (rows as f64 / seconds).round(),
            "polars_rows_per_second": (rows as f64 / polars_seconds).round(),
            "peak_mib": peak_mib,
            "fifth_peak_mib": fifth_peak_mib,
        })
    );
    assert!(peak_mib <= fifth_peak_mib + fifth_peak_mib / 4 + 16, "memory grows with the number of rows");
}
