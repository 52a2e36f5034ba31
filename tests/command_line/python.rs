//! Equality with Python in both directions: numpy computes the forecasts of `backfill` from the model file, and imported
//! weights give the forecasts of Python. With PyTorch, the documented scripts run, too.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tidecast_core::network::CellKind;
use tidecast_core::series::Scaling;

use super::errors::PARQUET;
use super::forecasts::parse_lines;
use super::*;
use crate::harness::SECOND;

const NUMPY: &str = "import numpy, safetensors.numpy";
const TORCH: &str = "import torch, polars, safetensors.torch";

fn python() -> Command {
    Command::new(std::env::var_os("TIDECAST_PYTHON").unwrap_or_else(|| "python3".into()))
}

/// True if Python has these modules. If not, prints that the test is skipped, or fails if Python is required.
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

/// The lines that the reference prints for a request.
fn reference(request: &Value) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/reference.py");
    let (stdin, stdout) = (Stdio::piped(), Stdio::piped());
    let mut child = python().arg(script).stdin(stdin).stdout(stdout).spawn().expect("Python starts");
    child.stdin.take().expect("it is piped").write_all(request.to_string().as_bytes()).expect("it reads");
    let outcome = child.wait_with_output().expect("a child can be waited for");
    assert!(outcome.status.success(), "the reference failed at {request}");
    String::from_utf8(outcome.stdout).expect("JSON is UTF-8")
}

/// On a Saturday morning; without gaps, which the reference does not fill.
fn rows() -> Vec<Row> {
    readings(&["a", "b"], 20_000..20_060)
}

fn by_id(rows: &[Row]) -> Value {
    let mut all: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    rows.iter().for_each(|row| all.entry(&row.series).or_default().push(json!([row.time, row.targets[0]])));
    json!(all)
}

/// Compares the lines of `backfill` with those of the reference.
#[track_caller]
fn assert_same(backfilled: &str, reference: &str, expected: usize) {
    let mut actual = parse_lines(backfilled.lines());
    actual.sort();
    let reference: Vec<(String, i64, f64, Vec<f64>)> =
        reference.lines().map(|line| serde_json::from_str(line).expect("a line of the reference")).collect();
    assert_eq!((actual.len(), reference.len()), (expected, expected));
    for (actual, (series, origin, spread, values)) in actual.iter().zip(reference) {
        assert_eq!((&actual.series, actual.origin), (&series, origin / SECOND));
        assert_eq!(actual.bits[0].len(), values.len());
        for (bits, expected) in actual.bits[0].iter().zip(values) {
            let value = f64::from(f32::from_bits(*bits));
            // The scaled value is an f32, and the sum is rounded to f32.
            let tolerance = 1e-5 * spread + f64::from(f32::EPSILON) * expected.abs();
            assert!((value - expected).abs() <= tolerance, "{series} at {origin}: {value}, not {expected}");
        }
    }
}

#[test]
fn numpy_gives_the_forecasts_of_backfill() {
    if !python_has(NUMPY, "numpy_gives_the_forecasts_of_backfill", true) {
        return;
    }
    let workspace = Workspace::new(PARQUET);
    let rows = rows();
    workspace.write_readings("in.parquet", &rows);
    let cases = [
        (CellKind::Gru, Scaling::WindowStandard, 1),
        (CellKind::Lstm, Scaling::WindowLast, 3),
        (CellKind::Rnn, Scaling::WindowStandard, 2),
    ];
    for (cell, scaling, segment) in cases {
        let case = Case { cell, scaling, segment, lookback: 6, ..Case::default() };
        fs::write(workspace.path("model.safetensors"), case.model().to_bytes()).unwrap();
        let backfilled = workspace.run("backfill p.toml --to -").succeeds().stdout;
        let request = json!({ "model": workspace.path("model.safetensors"), "readings": by_id(&rows) });
        assert_same(&backfilled, &reference(&request), 110);
    }
}

#[test]
fn imported_weights_give_the_forecasts_of_python() {
    if !python_has(NUMPY, "imported_weights_give_the_forecasts_of_python", true) {
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
            "{PARQUET}[train]\nrecurrence = false\ncell = \"{cell}\"\nhidden = 6\nlayers = 2\nlookback = 8\nhorizon = 3\n\
             segment = {segment}\nscaling = \"{scaling}\"\ncalendar = [\"hour-of-day\", \"day-of-week\"]\n"
        ));
        let rows = rows();
        workspace.write_readings("in.parquet", &rows);
        let weights = workspace.path("weights.safetensors");
        reference(&json!({
            "make_weights": weights, "cell": cell, "inputs": 5 * segment, "hidden": 6, "layers": 2, "horizon": 3,
            "prefix": prefix,
        }));
        let import =
            "import-torch p.toml --weights weights.safetensors --data in.parquet --out model.safetensors";
        let outcome =
            workspace.run(import).succeeds().logs(&["2 series", "not trained on data from 1970-01-03T07:40"]);
        assert!(outcome.stdout.contains("validation") && outcome.stdout.contains("test"), "{outcome:#?}");
        let backfilled = workspace.run("backfill p.toml --to -").succeeds().stdout;
        let request = json!({ "weights": weights, "settings": settings, "readings": by_id(&rows) });
        assert_same(&backfilled, &reference(&request), 106);
    }
}

#[test]
fn the_documented_scripts_run() {
    if !python_has(TORCH, "the_documented_scripts_run", false) {
        return;
    }
    let workspace = Workspace::new(&format!(
        "{PARQUET}[train]\nrecurrence = false\ncell = \"lstm\"\nhidden = 6\nlayers = 2\nlookback = 8\nhorizon = 3\n\
         segment = 1\nscaling = \"window-standard\"\ncalendar = []\n"
    ));
    workspace.write_readings("in.parquet", &rows());
    let script = |name: &str, arguments: &[&str]| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(name);
        let outcome = python()
            .arg(path)
            .args(arguments)
            .current_dir(workspace.folder.path())
            .output()
            .expect("it runs");
        assert!(outcome.status.success(), "{outcome:?}");
        String::from_utf8(outcome.stdout).expect("it is text")
    };
    script("train.py", &["p.toml", "in.parquet", "weights.safetensors", "1"]);
    workspace
        .run("import-torch p.toml --weights weights.safetensors --data in.parquet --out model.safetensors")
        .succeeds();
    workspace.run("backfill p.toml").succeeds();
    let output = script("load.py", &["model.safetensors", "in.parquet", "out.parquet"]);
    assert!(output.contains("106 forecasts, largest relative difference "), "{output}");
}
