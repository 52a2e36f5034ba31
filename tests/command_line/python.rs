//! Our numbers beside Python's, both ways: what `backfill` writes is what a few lines of numpy make of the model file,
//! and weights that Python wrote are adopted and forecast what Python says. With PyTorch, the scripts that we document
//! run too.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tidecast_core::network::CellKind;
use tidecast_core::series::Scaling;

use super::mistakes::PARQUET;
use super::table::parsed;
use super::*;
use crate::harness::SECOND;

const NEEDED: &str = "import numpy, safetensors.numpy";
const TORCH: &str = "import torch, polars, safetensors.torch";

fn python() -> Command {
    Command::new(std::env::var_os("TIDECAST_PYTHON").unwrap_or_else(|| "python3".into()))
}

/// Whether Python has what a test needs; says so if it has not, and fails where it has to.
fn python_has(modules: &str, test: &str, required: bool) -> bool {
    let tried = python().args(["-c", modules]).stderr(Stdio::null()).status();
    let has = tried.is_ok_and(|status| status.success());
    if !has {
        assert!(
            !required || std::env::var_os("TIDECAST_REQUIRE_PYTHON").is_none(),
            "TIDECAST_REQUIRE_PYTHON is set, but TIDECAST_PYTHON (or python3) cannot `{modules}`"
        );
        eprintln!("SKIPPED {test}: TIDECAST_PYTHON (or python3) cannot `{modules}`");
    }
    has
}

/// What the reference says to a request, line by line.
fn reference(request: &Value) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/reference.py");
    let (stdin, stdout) = (Stdio::piped(), Stdio::piped());
    let mut child = python().arg(script).stdin(stdin).stdout(stdout).spawn().expect("it has just run");
    child.stdin.take().expect("it is piped").write_all(request.to_string().as_bytes()).expect("it listens");
    let outcome = child.wait_with_output().expect("a child can be waited for");
    assert!(outcome.status.success(), "the reference failed at {request}");
    String::from_utf8(outcome.stdout).expect("JSON is UTF-8")
}

/// On a Saturday morning; without gaps, for the reference fills none.
fn rows() -> Vec<Row> {
    readings(&["a", "b"], 20_000..20_060)
}

fn by_id(rows: &[Row]) -> Value {
    let mut all: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    rows.iter().for_each(|row| all.entry(&row.series).or_default().push(json!([row.time, row.targets[0]])));
    json!(all)
}

/// Holds the lines of `backfill` against those of the reference.
#[track_caller]
fn assert_same(backfilled: &str, reference: &str, expected: usize) {
    let mut ours = parsed(backfilled.lines());
    ours.sort();
    let theirs: Vec<(String, i64, f64, Vec<f64>)> =
        reference.lines().map(|line| serde_json::from_str(line).expect("a line of the reference")).collect();
    assert_eq!((ours.len(), theirs.len()), (expected, expected));
    for (ours, (series, origin, spread, values)) in ours.iter().zip(theirs) {
        assert_eq!((&ours.series, ours.origin), (&series, origin / SECOND));
        assert_eq!(ours.bits[0].len(), values.len());
        for (bits, theirs) in ours.bits[0].iter().zip(values) {
            let ours = f64::from(f32::from_bits(*bits));
            // The spread's share is calculated in f32, and the sum is rounded to f32.
            let most = 1e-5 * spread + f64::from(f32::EPSILON) * theirs.abs();
            assert!((ours - theirs).abs() <= most, "{series} at {origin}: {ours}, not {theirs}");
        }
    }
}

#[test]
fn numpy_forecasts_what_backfill_does() {
    if !python_has(NEEDED, "numpy_forecasts_what_backfill_does", true) {
        return;
    }
    let workspace = Workspace::new(PARQUET);
    let rows = rows();
    workspace.readings("in.parquet", &rows);
    let cases = [
        (CellKind::Gru, Scaling::WindowStandard, 1),
        (CellKind::Lstm, Scaling::WindowLast, 3),
        (CellKind::Rnn, Scaling::WindowStandard, 2),
    ];
    for (cell, scaling, segment) in cases {
        let case = Case { cell, scaling, segment, lookback: 6, ..Case::default() };
        fs::write(workspace.path("model.safetensors"), case.model().to_bytes()).unwrap();
        let ours = workspace.run("backfill p.toml --to -").succeeds().stdout;
        let request = json!({ "model": workspace.path("model.safetensors"), "readings": by_id(&rows) });
        assert_same(&ours, &reference(&request), 110);
    }
}

#[test]
fn weights_that_python_wrote_are_adopted_and_forecast_what_python_says() {
    if !python_has(NEEDED, "weights_that_python_wrote_are_adopted_and_forecast_what_python_says", true) {
        return;
    }
    let cases = [
        ("gru", "window-standard", 1, ""),
        ("lstm", "window-last", 2, "lstm."),
        ("rnn", "window-last", 1, "rnn."),
    ];
    for (cell, scaling, segment, prefix) in cases {
        let settings = json!({
            "cell": cell, "segment": segment, "blend_weight": 1, "lookback": 8, "scaling": scaling,
            "calendar": ["hour-of-day", "day-of-week"],
        });
        let workspace = Workspace::new(&format!(
            "{PARQUET}[train]\nmemory = false\ncell = \"{cell}\"\nhidden = 6\nlayers = 2\nlookback = 8\nhorizon = 3\n\
             segment = {segment}\nscaling = \"{scaling}\"\ncalendar = [\"hour-of-day\", \"day-of-week\"]\n"
        ));
        let rows = rows();
        workspace.readings("in.parquet", &rows);
        let weights = workspace.path("weights.safetensors");
        reference(&json!({
            "make_weights": weights, "cell": cell, "inputs": 5 * segment, "hidden": 6, "layers": 2, "horizon": 3,
            "prefix": prefix,
        }));
        let adopt = "adopt p.toml --weights weights.safetensors --data in.parquet --out model.safetensors";
        let outcome = workspace.run(adopt).succeeds().says(&["2 series", "nothing at or after 1970-01-03T07:40"]);
        assert!(outcome.stdout.contains("validation") && outcome.stdout.contains("test"), "{outcome:#?}");
        let ours = workspace.run("backfill p.toml --to -").succeeds().stdout;
        let request = json!({ "weights": weights, "settings": settings, "readings": by_id(&rows) });
        assert_same(&ours, &reference(&request), 106);
    }
}

#[test]
fn the_documented_scripts_do_what_they_say() {
    if !python_has(TORCH, "the_documented_scripts_do_what_they_say", false) {
        return;
    }
    let workspace = Workspace::new(&format!(
        "{PARQUET}[train]\nmemory = false\ncell = \"lstm\"\nhidden = 6\nlayers = 2\nlookback = 8\nhorizon = 3\n\
         segment = 1\nscaling = \"window-standard\"\ncalendar = []\n"
    ));
    workspace.readings("in.parquet", &rows());
    let script = |name: &str, arguments: &[&str]| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(name);
        let outcome =
            python().arg(path).args(arguments).current_dir(workspace.folder.path()).output().expect("it runs");
        assert!(outcome.status.success(), "{outcome:?}");
        String::from_utf8(outcome.stdout).expect("it is text")
    };
    script("train.py", &["p.toml", "in.parquet", "weights.safetensors", "1"]);
    workspace
        .run("adopt p.toml --weights weights.safetensors --data in.parquet --out model.safetensors")
        .succeeds();
    workspace.run("backfill p.toml").succeeds();
    let said = script("load.py", &["model.safetensors", "in.parquet", "out.parquet"]);
    assert!(said.contains("106 forecasts, largest relative difference "), "{said}");
}
