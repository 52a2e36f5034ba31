//! Coverage of the calibrated intervals on data that the model has not seen: `tidecast evaluate` on the sample series and, where
//! they are available, on ETTh1 and ETTm1; one step ahead and at the last step, at 80 and 95 %. Prints the series that miss a
//! limit, then a table next to the uncorrected intervals and two reference conformal methods.
//!
//! `cargo bench --bench intervals [-- --data DIR]`, where DIR contains ETTh1.parquet and ETTm1.parquet. Models of these forecast a
//! day; they are trained on the first half and validated on the next sixth.
//!
//! Limits: the coverage, ties with a bound aside, differs from the level by at most 1.5 points; the coverage of any 500
//! consecutive forecasts is at most 10 points below the level; the mean interval score is at most that of ACI. (The labelled
//! faults of the motes lie before the scored range.)

mod common;

use std::path::{Path, PathBuf};

use common::options::Options;
use common::program::output;
use serde_json::Value;

const COVERAGE_ERROR_MAX: f64 = 0.015;
const ROLLING_SHORTFALL_MAX: f64 = 0.10;

fn main() {
    let options = Options::from_args();
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    println!("{:<10}{:>5}{:>7}  {:<12}", "set", "step", "level", "method");
    for sample in ["sensors", "motes"] {
        print_results(sample, &evaluate(&samples, &format!("{sample}.toml")));
    }
    let Some(data) = options.value("--data").map(PathBuf::from) else {
        return eprintln!("skipped ETTh1 and ETTm1: pass their folder with -- --data DIR");
    };
    for (set, every, horizon) in [("ETTh1", "1h", 24), ("ETTm1", "15m", 96)] {
        let rows = data.join(set).with_extension("parquet").canonicalize().expect("the data set exists");
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("ett.toml"), pipeline(&rows, every, horizon))
            .expect("the folder is writable");
        let rows = rows.to_str().expect("a UTF-8 path");
        output(
            folder.path(),
            &["train", "ett.toml", "--data", rows, "--out", "model.safetensors", "--quiet"],
        );
        print_results(set, &evaluate(folder.path(), "ett.toml"));
    }
}

fn pipeline(rows: &Path, every: &str, horizon: usize) -> String {
    format!(
        r#"
        [columns]
        time = "date"
        targets = ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"]
        [grid]
        every = "{every}"
        complete_after = 1
        [forecast]
        model = "model.safetensors"
        levels = [0.8, 0.95]
        [source.parquet]
        path = "{}"
        [train]
        horizon = {horizon}
        train_fraction = 0.5
        validation_fraction = 0.167
        "#,
        rows.display()
    )
}

fn evaluate(folder: &Path, pipeline: &str) -> Value {
    let json = output(folder, &["evaluate", pipeline, "--json", "--quiet"]);
    serde_json::from_slice(&json).expect("evaluate prints JSON")
}

/// Results of one method at one level and step of one series.
struct Coverage {
    overall: f64,
    min_rolling: Option<f64>,
    interval_score: f64,
}

impl Coverage {
    fn new(intervals: &Value, method: &str) -> Self {
        let mut methods = intervals["methods"].as_array().expect("methods").iter();
        let stats = methods.find(|of| of["method"] == method).expect("all methods are listed");
        let number = |name: &str| stats[name].as_f64();
        let (coverage, ties) = (number("coverage").expect("coverage"), number("ties").expect("ties"));
        Self {
            // (covered - ties) / (all - ties)
            overall: if ties < 1.0 { (coverage - ties) / (1.0 - ties) } else { 1.0 },
            min_rolling: number("min_rolling_coverage"),
            interval_score: number("interval_score").expect("a score"),
        }
    }
}

/// Results of one method over all series.
#[derive(Default)]
struct Summary {
    /// Series that miss the limit of the coverage, and the largest difference.
    off: usize,
    max_error: f64,
    /// Series that miss the limit of the rolling coverage, and the largest shortfall, negative.
    low: usize,
    max_shortfall: f64,
    relative_score: f64,
}

fn print_results(set: &str, report: &Value) {
    let last = report["horizon"].as_u64().expect("a horizon");
    let series = report["series"].as_array().expect("series");
    for step in [1, last] {
        for level in report["levels"].as_array().expect("levels").iter().filter_map(Value::as_f64) {
            for method in ["model", "uncorrected", "ACI", "SF-OGD"] {
                let summary = summarize(set, series, step, level, method);
                println!(
                    "{set:<10}{step:>5}{level:>7}  {method:<12} {:>2} of {} off by more than 1.5 points, at most {:.1}; {:>2} \
                     with 500 forecasts 10 points below, at worst {:+.1}; score {:.3} of ACI",
                    summary.off,
                    series.len(),
                    100.0 * summary.max_error,
                    summary.low,
                    100.0 * summary.max_shortfall,
                    summary.relative_score,
                );
            }
        }
    }
}

/// Summarizes a method; prints the series of the model that miss a limit.
fn summarize(set: &str, series: &[Value], step: u64, level: f64, method: &str) -> Summary {
    let mut summary = Summary { max_shortfall: 1.0, ..Summary::default() };
    for of_series in series {
        let mut intervals = of_series["intervals"].as_array().expect("intervals").iter();
        let is_same = |of: &&Value| of["step"] == step && of["level"].as_f64() == Some(level);
        let Some(intervals) = intervals.find(is_same) else { continue };
        let (coverage, aci) = (Coverage::new(intervals, method), Coverage::new(intervals, "ACI"));
        let (error, rolling) = ((coverage.overall - level).abs(), coverage.min_rolling.unwrap_or(1.0));
        let (is_off, is_low) = (error > COVERAGE_ERROR_MAX, rolling < level - ROLLING_SHORTFALL_MAX);
        summary.off += usize::from(is_off);
        summary.low += usize::from(is_low);
        summary.max_error = summary.max_error.max(error);
        summary.max_shortfall = summary.max_shortfall.min(rolling - level);
        summary.relative_score += coverage.interval_score / aci.interval_score / series.len() as f64;
        if method == "model" && (is_off || is_low) {
            let [id, target] = ["series", "target"].map(|key| of_series[key].as_str().unwrap_or_default());
            println!(
                "  {set} {id}/{target}, step {step}, {level}: {:+.1} points overall, {:+.1} at worst; ACI {:+.1}, {:+.1}",
                100.0 * (coverage.overall - level),
                100.0 * (rolling - level),
                100.0 * (aci.overall - level),
                100.0 * (aci.min_rolling.unwrap_or(1.0) - level),
            );
        }
    }
    summary
}
