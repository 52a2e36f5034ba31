//! How good the choices that `tidecast train` makes by itself are on times that no one has seen: on every history a model is
//! trained on the first three fifths, validated on the next, and scored on the last by `tidecast evaluate`, whose forecasts
//! come out of the line that runs live. One line of JSON a series, then one with the bars.
//!
//! `cargo bench --bench heldout -- --data DIR [--inner] [--sets sensors,motes,nab] [--only NAME] [--cells]`, where DIR/nab
//! holds the series of the Numenta Anomaly Benchmark; the other two are samples of the repository.
//!
//! With `--inner` the last fifth of every history is cut off before anything else is done: what is developed and chosen is
//! developed and chosen there, or the figures without it mean nothing. Without `--cells` the memory stands alone, which
//! takes a minute in place of an hour.

mod sets;
mod summary;
#[path = "../words.rs"]
mod words;

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sets::Case;
use summary::{Scored, summary};
use words::Words;

fn main() {
    let words = Words::new();
    let data = words.data("heldout");
    let has = |name: &str| std::env::args().any(|word| word == name);
    let sets = words.after("--sets").unwrap_or("sensors,motes,nab".into());
    let only = words.after("--only").unwrap_or_default();
    let mut all = Vec::new();
    for set in sets.split(',') {
        let mut of_set = Vec::new();
        for case in sets::cases(set, &data).into_iter().filter(|case| case.name.contains(&only)) {
            let case = if has("--inner") { case.inner() } else { case };
            of_set.extend(bench(case, has("--cells")));
        }
        println!("{}", summary(set, &of_set));
        all.extend(of_set);
    }
    println!("{}", summary("all", &all));
}

/// Trains a model and scores it.
fn bench(mut case: Case, cells: bool) -> Vec<Scored> {
    let folder = tempfile::tempdir().expect("a folder");
    let (readings, pipeline) = case.write(folder.path(), cells);
    let model = folder.path().join("model.safetensors");
    tidecast(&["train", text(&pipeline), "--data", text(&readings), "--out", text(&model)], &case.name);
    let found = tidecast(&["evaluate", text(&pipeline), "--json", "--quiet"], &case.name);
    let found: Value = serde_json::from_slice(&found).expect("evaluate says JSON");
    let series = found["series"].as_array().expect("series").iter();
    let scored = series.map(|series| {
        let scored = Scored::of(series);
        let name = if case.set == "nab" { json!(case.name) } else { series["series"].clone() };
        println!("{}", scored.json(case.set, name, &series["target"], &found["methods"]));
        scored
    });
    scored.collect()
}

/// What the program writes to standard output; what it chooses goes to ours of errors.
fn tidecast(words: &[&str], name: &str) -> Vec<u8> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidecast"));
    let output = command.args(words).stderr(Stdio::piped()).output().expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    said.lines().for_each(|line| eprintln!("{name}: {line}"));
    assert!(output.status.success(), "{name}: {words:?} failed");
    output.stdout
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary folder has a plain name")
}
