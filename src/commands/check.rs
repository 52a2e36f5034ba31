//! `check`: validates a pipeline, and prints it with every default filled in.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::Value;

use tidecast_core::forecaster::{RowDiagnostics, SeriesStore, StepContext};
use tidecast_core::schema::format_time;
use tidecast_core::series::{Refusal, Retention, RowCounters};
use tidecast_core::time::duration_text;
use tidecast_kafka::ConnectionError;
use tidecast_tables::RowFilter;

use super::load;
use crate::cli::Check;
use crate::config::{self, ConfigError, Pipeline};
use crate::dataset;
use crate::report::model::{self, ModelJson};
use crate::terminal::{json_line, print};
use crate::user_info;

/// Rows of the history that are pushed through the grid.
const SAMPLE_ROWS: u64 = 200_000;

pub async fn check(arguments: Check) -> Result<()> {
    let Check { pipeline: file, connect, json } = arguments;
    let pipeline = match Pipeline::open(&file) {
        Err(error) if json => {
            print(&json_line(&CheckReport::invalid(&error))?)?;
            return Err(error.into());
        }
        opened => opened?,
    };
    let mut report = CheckReport::new(&pipeline, json);
    report.print_text(pipeline.plan())?;
    check_model(&pipeline, &mut report)?;
    if let Some(source) = &pipeline.parquet_source
        && let Err(error) = check_history(&pipeline, &source.path, &mut report)
    {
        report.add_problem(&pipeline, "source.parquet.path", format!("source.parquet: {error:#}"));
    }
    if connect {
        check_topics(&pipeline, &mut report).await?;
    }
    if json {
        print(&json_line(&report)?)?;
    }
    report.notes.iter().for_each(|note| user_info!("note: {note}"));
    if !report.ok {
        let problems: Vec<String> =
            report.problems.iter().map(|Problem { path, problem }| problem.at(path)).collect();
        bail!("{} would not run:\n  {}", pipeline.file.display(), problems.join("\n  "));
    }
    user_info!("ok");
    Ok(())
}

fn check_model(pipeline: &Pipeline, report: &mut CheckReport) -> Result<()> {
    let model = match load::pipeline_model(pipeline) {
        Ok(model) => model,
        Err(error) => {
            report.add_problem(pipeline, "forecast.model", format!("forecast.model: {error:#}"));
            return Ok(());
        }
    };
    for mismatch in load::find_mismatches(pipeline, &model) {
        report.add_problem(pipeline, mismatch.key, mismatch.text);
    }
    report.print_text(format!("\n# model\n{}", as_comment(&model::text(&model))))?;
    report.model = Some(serde_json::to_value(ModelJson::new(&model))?);
    let (max_gap, trained) = (pipeline.step_config.max_gap, model.manifest.step_config.max_gap);
    if max_gap > trained {
        let (max_gap, trained) = (duration_text(max_gap), duration_text(trained));
        report
            .notes
            .push(format!("grid.max_gap is {max_gap}, but the model was trained with gaps up to {trained}"));
    }
    Ok(())
}

/// Reads the first rows of the Parquet source through the grid.
fn check_history(pipeline: &Pipeline, path: &Path, report: &mut CheckReport) -> Result<()> {
    let Pipeline { columns, time_unit, limits, step_config, .. } = pipeline;
    let summary = tidecast_tables::summarize(path, columns, *time_unit)?;
    let times = summary.times.map_or("no times".to_owned(), |(first, last)| {
        format!("{} to {}", format_time(first), format_time(last))
    });
    report.print_text(format!("\n# history\n# {summary}\n# {times}\n"))?;
    report.history = Some(History {
        files: summary.files,
        row_groups: summary.row_groups,
        rows: summary.rows,
        columns: summary.fields.into_iter().collect(),
        first: summary.times.map(|(first, _)| format_time(first)),
        last: summary.times.map(|(_, last)| format_time(last)),
        sample: None,
    });
    let input = dataset::open_parquet(pipeline, path, RowFilter::default())?;
    let (columns, capacity) = (columns.clone(), limits.capacity());
    let mut store =
        SeriesStore::new(columns, step_config.clone(), Retention::new(1), pipeline.train.horizon, capacity);
    let mut counters = RowCounters::default();
    for batch in input.batches() {
        let mut diagnostics = RowDiagnostics::default();
        store.push(&batch?.rows, &mut diagnostics, &mut |_: &StepContext<'_>| ());
        counters.add(&diagnostics.counters);
        if counters.rows >= SAMPLE_ROWS {
            break;
        }
    }
    let series = store.series().len();
    report.print_text(format!("# first rows: {series} series, {counters}\n"))?;
    if let Some(history) = &mut report.history {
        let refused = Refusal::ALL.into_iter().map(|reason| (reason.name(), counters.refused(reason)));
        let refused = refused.filter(|(_, count)| *count > 0).collect();
        history.sample = Some(Sample { rows: counters.rows, series, restarts: counters.restarts, refused });
    }
    if counters.refused(Refusal::TooFar) * 2 > counters.rows {
        let max_gap = duration_text(step_config.max_gap);
        let text = format!(
            "grid.max_gap is {max_gap}, but most rows are farther ahead of the previous row of their series; increase it to \
             the interval of the data"
        );
        report.add_problem(pipeline, "grid.max_gap", text);
    }
    Ok(())
}

async fn check_topics(pipeline: &Pipeline, report: &mut CheckReport) -> Result<()> {
    let (source, sink) = (pipeline.kafka_source.clone(), pipeline.kafka_sink.clone());
    let lookup =
        tokio::task::spawn_blocking(move || tidecast_kafka::check(source.as_ref(), sink.as_ref())).await;
    match lookup.context("the lookup of the topics panicked")? {
        Ok(topics) => {
            report.print_text(format!("\n# topics\n{}", as_comment(&topics.to_string())))?;
            report.topics = Some(Topics {
                source: topics.source.into_iter().map(|topic| (topic.topic, topic.partitions)).collect(),
                sink: topics.sink.into_iter().map(|topic| (topic.topic, topic.partitions)).collect(),
            });
        }
        Err(ConnectionError { table, error }) => report.add_problem(pipeline, table, format!("{error:#}")),
    }
    Ok(())
}

/// The printed plan must remain a pipeline file.
fn as_comment(text: &str) -> String {
    text.lines().map(|line| format!("# {line}\n")).collect()
}

/// The result of `check`, printed as text while it grows, or as JSON at the end.
#[derive(Default, Serialize)]
struct CheckReport {
    kind: &'static str,
    pipeline: String,
    /// True if there are no problems.
    ok: bool,
    /// The pipeline by key, every default filled in; null if its file is invalid.
    plan: Option<Value>,
    /// As `inspect --json` prints it.
    model: Option<Value>,
    history: Option<History>,
    /// With --connect.
    topics: Option<Topics>,
    notes: Vec<String>,
    problems: Vec<Problem>,
    #[serde(skip)]
    json: bool,
}

/// A problem and its file.
#[derive(Serialize)]
struct Problem {
    path: String,
    #[serde(flatten)]
    problem: config::Problem,
}

/// The pipeline's Parquet source.
#[derive(Serialize)]
struct History {
    files: usize,
    row_groups: usize,
    rows: u64,
    /// Names and types, from the first file.
    columns: BTreeMap<String, String>,
    first: Option<String>,
    last: Option<String>,
    sample: Option<Sample>,
}

/// Counters of the first rows.
#[derive(Serialize)]
struct Sample {
    rows: u64,
    series: usize,
    restarts: u64,
    refused: BTreeMap<&'static str, u64>,
}

/// Topics with their partitions; null if `run` will create the topic.
#[derive(Serialize)]
struct Topics {
    source: BTreeMap<String, Option<i32>>,
    sink: BTreeMap<String, Option<i32>>,
}

impl CheckReport {
    fn new(pipeline: &Pipeline, json: bool) -> Self {
        let (file, plan) = (pipeline.file.display().to_string(), Some(pipeline.plan_json()));
        Self { kind: "pipeline", pipeline: file, ok: true, plan, json, ..Self::default() }
    }

    /// The report of an invalid file.
    fn invalid(error: &ConfigError) -> Self {
        let pipeline = error.file.display().to_string();
        let problems = error.problems.iter().cloned();
        let problems = problems.map(|problem| Problem { path: pipeline.clone(), problem }).collect();
        Self { kind: "pipeline", pipeline, problems, json: true, ..Self::default() }
    }

    fn print_text(&self, text: String) -> Result<()> {
        if self.json { Ok(()) } else { print(&text) }
    }

    /// Adds a problem of a key of the pipeline.
    fn add_problem(&mut self, pipeline: &Pipeline, key: &str, text: String) {
        self.ok = false;
        let (path, line) = (pipeline.file.display().to_string(), pipeline.line_of(key));
        self.problems.push(Problem { path, problem: config::Problem { line, text } });
    }
}
