//! Accuracy of the default settings of `tidecast train` on held-out data. On every history a model is trained on the first three
//! fifths, validated on the next fifth, and scored on the last by `tidecast evaluate`. One line of JSON per series, then a
//! summary.
//!
//! `cargo bench --bench heldout -- --data DIR [--inner] [--sets sensors,motes,nab] [--only NAME] [--cells]`, where DIR/nab
//! contains the series of the Numenta Anomaly Benchmark; the other two sets are samples of the repository.
//!
//! `--inner` first removes the last fifth of every history: settings are tuned there, so that the scores without it stay
//! held-out. Without `--cells` the recurrence forecasts alone, which takes a minute instead of an hour.

#[path = "../common/mod.rs"]
mod common;
mod sets;
mod summary;

use common::options::Options;
use common::program::output;
use serde_json::{Value, json};
use sets::Case;
use summary::{SeriesResult, summary};

fn main() {
    let options = Options::from_args();
    let data = options.data_folder("heldout");
    let sets = options.value("--sets").unwrap_or("sensors,motes,nab".into());
    let only = options.value("--only").unwrap_or_default();
    let mut all = Vec::new();
    for set in sets.split(',') {
        let mut of_set = Vec::new();
        for case in sets::cases(set, &data).into_iter().filter(|case| case.name.contains(&only)) {
            let case = if options.has("--inner") { case.without_last_fifth() } else { case };
            of_set.extend(run(case, options.has("--cells")));
        }
        println!("{}", summary(set, &of_set));
        all.extend(of_set);
    }
    println!("{}", summary("all", &all));
}

/// Trains and scores a model; prints a line per series.
fn run(mut case: Case, has_cells: bool) -> Vec<SeriesResult> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    case.write(folder.path(), has_cells);
    let train = ["train", "pipeline.toml", "--data", "rows.parquet", "--out", "model.safetensors"];
    output(folder.path(), &train);
    let report = output(folder.path(), &["evaluate", "pipeline.toml", "--json", "--quiet"]);
    let report: Value = serde_json::from_slice(&report).expect("evaluate prints JSON");
    let results = report["series"].as_array().expect("series").iter().map(|series| {
        let result = SeriesResult::new(series);
        let name = if case.set == "nab" { json!(case.name) } else { series["series"].clone() };
        println!("{}", result.json(case.set, name, &series["target"], &report["methods"]));
        result
    });
    results.collect()
}
