//! Whether intervals hold what they say: on every sample series, and on ETTh1 and ETTm1 where they are at hand, `tidecast
//! evaluate` forecasts what the model has never seen, by the line that runs live; one step ahead and at the last step, at 80
//! and 95 %, its intervals are held against three bars and beside adaptive conformal inference. One line a series, step and
//! level that misses a bar, then a table.
//!
//! `cargo bench --bench intervals [-- --data DIR]`, where DIR holds ETTh1.parquet and ETTm1.parquet; a model is trained for
//! each, to forecast a day, on the first half; the next sixth validates it.
//!
//! The bars: over all that is scored, the share within is no more than 1.5 points from the level, exact ties with a bound
//! counted apart; of any 500 forecasts in a row, no fewer are within than the level less 10 points; the interval score is, in the
//! mean over the series, no worse than that of ACI. (The faults that the motes' readings are labelled with lie before what is
//! scored.)

#[path = "../words.rs"]
mod words;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use words::Words;

const COVERAGE: f64 = 0.015;
const RECENT: f64 = 0.10;

fn main() {
    let words = Words::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    println!("{:<10}{:>5}{:>7}  {:<12}", "set", "step", "level", "method");
    for sample in ["sensors", "motes"] {
        let pipeline = root.join("pipelines").join(sample).with_extension("toml");
        judge(sample, &evaluate(&pipeline));
    }
    let Some(data) = words.after("--data").map(PathBuf::from) else {
        return eprintln!("ETTh1 and ETTm1 are left out: say where they are with -- --data DIR");
    };
    for (set, every, horizon) in [("ETTh1", "1h", 24), ("ETTm1", "15m", 96)] {
        let folder = tempfile::tempdir().expect("a folder");
        let pipeline = write(folder.path(), &data.join(set).with_extension("parquet"), every, horizon);
        let (readings, model) =
            (data.join(set).with_extension("parquet"), folder.path().join("model.safetensors"));
        tidecast(&["train", text(&pipeline), "--data", text(&readings), "--out", text(&model)]);
        judge(set, &evaluate(&pipeline));
    }
}

fn write(folder: &Path, readings: &Path, every: &str, horizon: usize) -> PathBuf {
    let file = folder.join("ett.toml");
    let readings = readings.canonicalize().expect("the set is there");
    let pipeline = format!(
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
        train_part = 0.5
        validation_part = 0.167
        "#,
        readings.display()
    );
    std::fs::write(&file, pipeline).expect("a folder takes files");
    file
}

fn evaluate(pipeline: &Path) -> Value {
    serde_json::from_slice(&tidecast(&["evaluate", text(pipeline), "--json"])).expect("evaluate says JSON")
}

fn tidecast(words: &[&str]) -> Vec<u8> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidecast"));
    let output = command.args(words).arg("--quiet").stderr(Stdio::inherit()).output();
    let output = output.expect("the program starts");
    assert!(output.status.success(), "{words:?} failed");
    output.stdout
}

/// What one method holds of one level some steps ahead of one series.
struct Held {
    coverage: f64,
    recent: Option<f64>,
    score: f64,
}

impl Held {
    fn of(band: &Value, method: &str) -> Self {
        let all = band["methods"].as_array().expect("methods");
        let found = all.iter().find(|of| of["method"] == method).expect("each is there");
        let number = |name: &str| found[name].as_f64();
        let (coverage, ties) = (number("coverage").expect("a share"), number("ties").expect("a share"));
        Self {
            // (inside - ties) / (all - ties)
            coverage: if ties < 1.0 { (coverage - ties) / (1.0 - ties) } else { 1.0 },
            recent: number("worst_recent"),
            score: number("interval_score").expect("a score"),
        }
    }
}

/// How one method does over all series.
#[derive(Default)]
struct Sum {
    off: usize,
    farthest: f64,
    low: usize,
    lowest: f64,
    ratio: f64,
}

fn judge(set: &str, found: &Value) {
    let last = found["horizon"].as_u64().expect("a horizon");
    let series = found["series"].as_array().expect("series");
    for step in [1, last] {
        for level in found["levels"].as_array().expect("levels").iter().filter_map(Value::as_f64) {
            for method in ["ours", "model's own", "ACI", "SF-OGD"] {
                let mut sum = Sum { lowest: 1.0, ..Sum::default() };
                for one in series {
                    let bands = one["intervals"].as_array().expect("intervals");
                    let same = |band: &&Value| band["step"] == step && band["level"].as_f64() == Some(level);
                    let Some(band) = bands.iter().find(same) else { continue };
                    let (held, aci) = (Held::of(band, method), Held::of(band, "ACI"));
                    let (off, recent) = ((held.coverage - level).abs(), held.recent.unwrap_or(1.0));
                    let misses = [off > COVERAGE, recent < level - RECENT];
                    sum.off += usize::from(misses[0]);
                    sum.low += usize::from(misses[1]);
                    sum.farthest = sum.farthest.max(off);
                    sum.lowest = sum.lowest.min(recent - level);
                    sum.ratio += held.score / aci.score / series.len() as f64;
                    if method == "ours" && misses.contains(&true) {
                        let name = format!("{}/{}", text_of(&one["series"]), text_of(&one["target"]));
                        println!(
                            "  {set} {name}, {step} ahead, {level}: {:+.1} points in all, {:+.1} at worst; ACI {:+.1}, {:+.1}",
                            100.0 * (held.coverage - level),
                            100.0 * (recent - level),
                            100.0 * (aci.coverage - level),
                            100.0 * (aci.recent.unwrap_or(1.0) - level),
                        );
                    }
                }
                println!(
                    "{set:<10}{step:>5}{level:>7}  {method:<12} {:>2} of {} off by more than 1.5 points, at most {:.1}; {:>2} ever \
                     10 below, at worst {:+.1}; score {:.3} of ACI's",
                    sum.off,
                    series.len(),
                    100.0 * sum.farthest,
                    sum.low,
                    100.0 * sum.lowest,
                    sum.ratio,
                );
            }
        }
    }
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain name")
}
