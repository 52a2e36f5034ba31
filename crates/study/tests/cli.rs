//! The program: outputs, stored results and resumption. The library tests the studies at small sizes.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use arrow::array::{Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use tempfile::TempDir;
use tidecast_tables::TableWriter;

/// A pipeline that trains in a moment.
const PIPELINE: &str = r#"
name = "small"
[columns]
series = "sensor"
time = "time"
targets = ["value"]
[grid]
every = "10s"
[forecast]
model = "unused.safetensors"
[source.parquet]
path = "in.parquet"
[sink.parquet]
path = "unused"
[train]
hidden = 4
lookback = 6
horizon = 3
batch_size = 32
"#;
const CONVERGENCE: &str = "convergence --pipeline p.toml --data in.parquet";

fn study(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidecast-study"));
    command.current_dir(folder).args(arguments.split_whitespace());
    command
}

fn run(folder: &Path, arguments: &str) -> (Output, String, String) {
    let output = study(folder, arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    (output, stdout, stderr)
}

fn succeed(folder: &Path, arguments: &str) -> (String, String) {
    let (output, stdout, stderr) = run(folder, arguments);
    assert!(output.status.success(), "{stderr}");
    (stdout, stderr)
}

/// Two series of three hundred steps.
fn write_history(path: &Path) {
    let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let schema = Arc::new(Schema::new(vec![
        Field::new("sensor", DataType::Utf8, false),
        Field::new("time", micros, false),
        Field::new("value", DataType::Float64, false),
    ]));
    let rows = || (0..300i64).flat_map(|step| ["a", "b"].map(|id| (step, id)));
    let times = TimestampMicrosecondArray::from_iter_values(rows().map(|(step, _)| step * 10_000_000));
    let value = |(step, _): (i64, &str)| 20.0 + (step * step * 7919 % 10_007) as f64 / 701.0;
    let rows = RecordBatch::try_new(
        schema.clone(),
        vec![
            Arc::new(StringArray::from_iter_values(rows().map(|(_, id)| id))),
            Arc::new(times.with_timezone("UTC")),
            Arc::new(Float64Array::from_iter_values(rows().map(value))),
        ],
    );
    let mut table = TableWriter::create(path, &schema).unwrap();
    table.write_group(&rows.unwrap()).unwrap();
    table.finish().unwrap();
}

#[test]
fn convergence_stores_results_and_does_not_repeat_trainings() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("p.toml"), PIPELINE).unwrap();
    write_history(&at("in.parquet"));
    let outputs = "--out results --html pages/c.html --svg pages/c.svg";
    let (stdout, stderr) = succeed(folder.path(), &format!("{CONVERGENCE} {outputs}"));
    let stored = fs::read_to_string(at("results/convergence.jsonl")).unwrap();
    // Three cells: two rates each, then three fractions and three seeds.
    assert_eq!(stored.lines().count(), 3 * 2 + 3 * 3 * 3);
    assert_eq!(stderr.matches("validation loss").count(), stored.lines().count());
    for cell in ["gru", "lstm", "lstm-coupled"] {
        let rows = stdout.lines().filter(|line| line.split_whitespace().any(|word| word == cell));
        assert_eq!(rows.count(), 3, "{stdout}");
    }
    let page = fs::read_to_string(at("pages/c.html")).unwrap();
    assert_eq!(page.matches("<svg").count(), 3);
    let figure = fs::read_to_string(at("pages/c.svg")).unwrap();
    // Two charts, each in a nested svg.
    assert!(figure.starts_with("<svg") && figure.matches("<svg").count() == 1 + 2 * 2, "{figure}");

    let (repeated, stderr) = succeed(folder.path(), &format!("{CONVERGENCE} --out results"));
    assert_eq!((repeated, stderr.matches("validation loss").count()), (stdout, 0));
    assert_eq!(fs::read_to_string(at("results/convergence.jsonl")).unwrap(), stored);

    // Fifteen results and the start of a line, as after a crash.
    let cut = stored.match_indices('\n').nth(14).unwrap().0 + 9;
    fs::write(at("results/convergence.jsonl"), &stored[..cut]).unwrap();
    let (json, stderr) = succeed(folder.path(), &format!("{CONVERGENCE} --out results --json"));
    assert_eq!(stderr.matches("validation loss").count(), stored.lines().count() - 15);
    assert_eq!(json.lines().count(), 1);
    let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 9);
}

#[cfg(unix)]
#[test]
fn a_stopped_memory_study_stores_its_finished_trainings() {
    let folder = TempDir::new().unwrap();
    let mut child = study(folder.path(), "memory --out results").stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("recall rnn, gap 10")));
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupt.unwrap().success());
    let stderr = lines.collect::<Vec<_>>().join("\n");
    assert!(!child.wait().unwrap().success());
    for part in ["there are no results", "run the same command to continue"] {
        assert!(stderr.contains(part), "{stderr}");
    }
    let stored = fs::read_to_string(folder.path().join("results/memory.jsonl")).unwrap();
    assert!(
        stored.ends_with('\n') && stored.contains(r#""task":"recall","gap":10,"cell":"rnn""#),
        "{stored}"
    );
}

#[test]
fn a_foreign_result_file_is_not_changed() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("results/memory.jsonl");
    fs::create_dir(path.parent().unwrap()).unwrap();
    fs::write(&path, "id,value\n").unwrap();
    let (output, _, stderr) = run(folder.path(), "memory --out results");
    assert!(!output.status.success() && stderr.contains("line 1 is no result of this study"), "{stderr}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "id,value\n");
}
