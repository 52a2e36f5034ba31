//! The program as a process: exit codes, output and files. Each test runs the real program in a folder of its own, with a
//! small pipeline and a small model of random weights.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tidecast_stream::codec::RowWriter;
use tidecast_stream::driver::OnEndOfInput;
use tidecast_tables::TableWriter;

use crate::broker;
use crate::harness::{Case, Row, row};
use program::{Outcome, Running};

mod backfill;
mod bootstrap;
mod bucket;
mod errors;
mod evaluate;
mod forecasts;
mod import_torch;
mod init;
mod inspection;
mod json;
mod lag;
pub mod program;
mod progress;
mod python;
mod rebalance;
mod rejects;
mod scores;
mod secrets;
mod security;
mod serving;
mod shutdown;
mod stream;
mod threads;
mod train;

/// The pipeline of `Case::default()`.
const PIPELINE: &str = r#"
[columns]
series = "sensor"
time = "time"
time_unit = "s"
targets = ["value"]
[grid]
every = "10s"
max_gap = "1m"
[forecast]
model = "model.safetensors"
levels = [0.8]
"#;

/// A folder with `p.toml` and `model.safetensors`.
pub struct Workspace {
    folder: TempDir,
}

impl Workspace {
    /// The pipeline has `tables` in addition to the common ones.
    pub fn new(tables: &str) -> Self {
        let workspace = Self { folder: TempDir::new().unwrap() };
        fs::write(workspace.path("model.safetensors"), Case::default().model().to_bytes()).unwrap();
        fs::write(workspace.path("p.toml"), format!("{PIPELINE}{tables}")).unwrap();
        workspace
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces text in the pipeline file.
    #[track_caller]
    pub fn change(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.path("p.toml")).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(self.path("p.toml"), text.replace(from, to)).unwrap();
    }

    fn start(&self, line: &str) -> Running {
        Running::start(self.folder.path(), line)
    }

    /// Runs the program to its end; arguments are separated by spaces.
    pub fn run(&self, line: &str) -> Outcome {
        self.start(line).finish()
    }

    /// The same on one core; `None` without `taskset`.
    fn run_on_one_core(&self, line: &str) -> Option<Outcome> {
        Running::start_on_one_core(self.folder.path(), line).map(Running::finish)
    }

    /// The same in a pseudo-terminal, whose content is the standard output; `None` without `script`.
    fn run_in_terminal(&self, line: &str) -> Option<Outcome> {
        Running::start_in_terminal(self.folder.path(), line).map(Running::finish)
    }

    fn write_readings(&self, name: &str, rows: &[Row]) -> PathBuf {
        let path = self.path(name);
        write_readings(&path, rows);
        path
    }

    /// Sorted names of the files in a folder.
    fn files(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(name)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn write_readings(path: &Path, rows: &[Row]) {
    let batch = Case::default().batch(0, rows).project(&[1, 2, 3]).unwrap();
    let mut table = TableWriter::create(path, &batch.schema()).unwrap();
    table.write_group(&batch).unwrap();
    table.finish().unwrap();
}

/// A reading of each id every ten seconds: noise, so all windows differ.
fn readings(ids: &[&str], steps: std::ops::Range<i64>) -> Vec<Row> {
    let value = |id: usize, step: i64| 20.0 + id as f64 + (step * step * 7919 % 10_007) as f64 / 701.0;
    steps
        .flat_map(|step| ids.iter().enumerate().map(move |(i, id)| row(id, 10 * step, value(i, step))))
        .collect()
}

/// The printed forecasts of each series, in order.
type Lines = BTreeMap<String, Vec<String>>;

fn by_series<'a>(lines: impl IntoIterator<Item = &'a str>) -> Lines {
    let mut all = Lines::new();
    for line in lines {
        let fields: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        all.entry(fields["series"].as_str().unwrap().to_string()).or_default().push(line.to_string());
    }
    all
}

/// The lines to expect for these rows, from a forecaster that is called directly, row by row.
fn expected(case: &Case, rows: &[Row], on_end_of_input: OnEndOfInput) -> Lines {
    let mut forecaster = case.forecaster();
    let mut pushed: Vec<_> =
        (0..rows.len()).map(|i| forecaster.push(&case.batch(i as i64, &rows[i..=i])).forecasts).collect();
    if on_end_of_input == OnEndOfInput::CloseSteps {
        pushed.extend(forecaster.finish(1000).map(|output| output.forecasts));
    }
    let mut text = Vec::new();
    for forecasts in pushed {
        let writer = RowWriter::new(&forecasts).unwrap();
        for i in 0..forecasts.num_rows() {
            writer.write(i, &mut text).unwrap();
            text.push(b'\n');
        }
    }
    by_series(String::from_utf8(text).unwrap().lines())
}

/// The tables of a pipeline between these topics, with frequent commits.
fn between(topics: &Topics) -> String {
    let Topics { readings, forecasts, rejects, group } = topics;
    // The shortest session that a broker allows, which a restart after a kill waits for.
    format!(
        r#"
        [source.kafka]
        brokers = "{}"
        topic = "{readings}"
        group = "{group}"
        client = {{ "session.timeout.ms" = "6000", "heartbeat.interval.ms" = "300" }}
        commit = {{ every = "20ms", rows = 500 }}
        [sink.kafka]
        topic = "{forecasts}"
        rejects_topic = "{rejects}"
        "#,
        broker::any()
    )
}

/// Topics and a consumer group of one test.
struct Topics {
    readings: String,
    forecasts: String,
    rejects: String,
    group: String,
}

impl Topics {
    fn new(partitions: i32) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let topic = |name| runtime.block_on(broker::topic(name, partitions));
        let (readings, forecasts) = (topic("readings"), topic("forecasts"));
        Self { readings, forecasts, rejects: topic("rejects"), group: broker::unique("group") }
    }

    /// Sends readings with the series as the key.
    fn send(&self, rows: &[Row]) {
        let messages: Vec<(&str, String)> =
            rows.iter().map(|row| (row.series.as_str(), message(row))).collect();
        broker::produce(&self.readings, None, messages.iter().map(|(key, value)| (*key, value.as_str())));
    }
}

pub fn message(row: &Row) -> String {
    let Row { series, time, targets, .. } = row;
    format!(r#"{{"sensor":"{series}","time":{},"value":{}}}"#, time / 1_000_000, targets[0])
}
