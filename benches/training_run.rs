//! Duration and peak memory of a training run with default settings. One line of JSON.
//!
//! `cargo bench --bench training_run -- --rows 100000000` takes many minutes and a gigabyte of temporary files; `--cell none`
//! trains without cells. The default is a million rows.

mod common;

use common::files::write_rows;
use common::options::Options;
use common::program::{RunCost, measure};
use common::rows::{FILES, MINUTE, PIPELINE};
use serde_json::json;

const SERIES: usize = 1000;

fn main() {
    let options = Options::from_args();
    let rows = options.number("--rows", 1_000_000);
    let cell = options.value("--cell");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cell_key = cell.as_ref().map_or(String::new(), |cell| format!("cell = \"{cell}\"\n"));
    let pipeline = format!("{PIPELINE}{FILES}[train]\nhorizon = 24\n{cell_key}");
    let pipeline = pipeline.replace("every = \"1m\"", "every = \"5m\"").replace("levels = []\n", "");
    std::fs::write(folder.path().join("bench.toml"), pipeline).expect("the folder is writable");
    write_rows(&folder.path().join("rows.parquet"), SERIES, rows / SERIES, 5 * MINUTE);
    let arguments = "train bench.toml --data rows.parquet --out trained.safetensors";
    let RunCost { seconds, peak_mib } = measure(folder.path(), arguments);
    println!(
        "{}",
        json!({
            "bench": "training_run",
            "rows": rows,
            "series": SERIES,
            "cell": cell.as_deref().unwrap_or("default"),
            "seconds": seconds.round(),
            "peak_mib": peak_mib,
        })
    );
}
