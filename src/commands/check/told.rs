//! What `check` finds, as an object for a script.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::config::{ConfigError, Pipeline};
use tidecast_kafka;
use tidecast_tables::Description;
use tidecast_core::series::{Refusal, Tally};
use tidecast_core::table::time_text;

#[derive(Serialize)]
pub struct Told {
    kind: &'static str,
    pipeline: String,
    /// Whether it would run as it should: there are no problems.
    ok: bool,
    /// The pipeline key by key, every default filled in; null where its file cannot be used.
    plan: Option<Value>,
    /// As `inspect --json` tells it.
    pub model: Option<Value>,
    pub history: Option<History>,
    /// With --connect.
    pub topics: Option<Topics>,
    pub notes: Vec<String>,
    problems: Vec<Problem>,
}

/// What is wrong, and where.
#[derive(Clone, Serialize)]
struct Problem {
    path: String,
    /// Null for what concerns the file as a whole.
    line: Option<usize>,
    text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, text } = self;
        match line {
            Some(line) => write!(f, "{path}:{line}: {text}"),
            None => write!(f, "{path}: {text}"),
        }
    }
}

/// The pipeline's Parquet source.
#[derive(Serialize)]
pub struct History {
    files: usize,
    row_groups: usize,
    rows: u64,
    /// Names and types, as in the first file.
    columns: BTreeMap<String, String>,
    first: Option<String>,
    last: Option<String>,
    pub beginning: Option<Beginning>,
}

/// What becomes of its first rows.
#[derive(Serialize)]
pub struct Beginning {
    rows: u64,
    series: usize,
    restarts: u64,
    refused: BTreeMap<&'static str, u64>,
}

/// Topics by name, with their partitions; null for one that a run will make.
#[derive(Serialize)]
pub struct Topics {
    reads: BTreeMap<String, i32>,
    writes: BTreeMap<String, Option<i32>>,
}

impl Told {
    pub fn new(pipeline: &Pipeline) -> Self {
        Self::with(&pipeline.file, Some(pipeline.plan_values()), Vec::new())
    }

    /// Of a file that is no pipeline.
    pub fn unusable(error: &ConfigError) -> Self {
        let path = error.file.display().to_string();
        let problem = |of: &crate::config::Problem| Problem {
            path: path.clone(),
            line: of.line,
            text: of.text.clone(),
        };
        Self::with(&error.file, None, error.problems.iter().map(problem).collect())
    }

    fn with(file: &Path, plan: Option<Value>, problems: Vec<Problem>) -> Self {
        let (pipeline, ok) = (file.display().to_string(), problems.is_empty());
        Self {
            kind: "pipeline",
            pipeline,
            ok,
            plan,
            model: None,
            history: None,
            topics: None,
            notes: vec![],
            problems,
        }
    }

    /// Takes note of what is wrong with what a key of the pipeline says, or names.
    pub fn problem(&mut self, pipeline: &Pipeline, key: &str, text: String) {
        self.ok = false;
        let (path, line) = (pipeline.file.display().to_string(), pipeline.line_of(key));
        self.problems.push(Problem { path, line, text });
    }

    /// What is wrong, a line each; none if all is well.
    pub fn problems(&self) -> Vec<String> {
        self.problems.iter().map(Problem::to_string).collect()
    }
}

impl History {
    pub fn of(found: &Description) -> Self {
        Self {
            files: found.files,
            row_groups: found.row_groups,
            rows: found.rows,
            columns: found.fields.iter().cloned().collect(),
            first: found.times.map(|(first, _)| time_text(first)),
            last: found.times.map(|(_, last)| time_text(last)),
            beginning: None,
        }
    }
}

impl Beginning {
    pub fn of(series: usize, tally: &Tally) -> Self {
        let refused = Refusal::ALL.into_iter().map(|reason| (reason.name(), tally.refused(reason)));
        let refused = refused.filter(|(_, count)| *count > 0).collect();
        Self { rows: tally.rows, series, restarts: tally.restarts, refused }
    }
}

impl Topics {
    pub fn of(report: kafka::Report) -> Self {
        Self { reads: report.source.into_iter().collect(), writes: report.sink.into_iter().collect() }
    }
}
