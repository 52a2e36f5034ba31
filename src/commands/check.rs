//! `check`: whether a pipeline would run, and what it is with every default filled in.

mod told;

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::log::say;
use super::{inspect, prepare};
use crate::cli::Check;
use crate::config::{Pipeline, duration_text};
use tidecast_core::forecaster::{Histories, Unused};
use tidecast_kafka;
use tidecast_tables::{self, ParquetInput, Range};
use tidecast_core::series::{Keep, Refusal, Tally};
use tidecast_core::table::time_text;
use told::{Beginning, History, Told, Topics};

/// Rows that are looked at for the cadence of the data.
const LOOKED_AT: u64 = 200_000;

pub async fn check(arguments: Check) -> Result<()> {
    let Check { pipeline: file, connect, json } = arguments;
    let pipeline = match Pipeline::open(&file) {
        Err(error) if json => {
            super::print(&super::json_line(&Told::unusable(&error))?)?;
            return Err(error.into());
        }
        opened => opened?,
    };
    let mut told = Told::new(&pipeline);
    // A script reads one object, at the end.
    let say = |text: String| if json { Ok(()) } else { super::print(&text) };
    say(pipeline.plan())?;
    look_at_model(&pipeline, &mut told, &say)?;
    if let Some(source) = &pipeline.parquet_source
        && let Err(error) = look_at_history(&pipeline, &source.path, &mut told, &say)
    {
        told.problem(&pipeline, "source.parquet.path", format!("source.parquet: {error:#}"));
    }
    if connect {
        let (source, sink) = (pipeline.kafka_source.clone(), pipeline.kafka_sink.clone());
        let asked = tokio::task::spawn_blocking(move || kafka::check(source.as_ref(), sink.as_ref()));
        match asked.await.context("asking kafka")? {
            Ok(report) => {
                say(format!("\n# its topics\n{}", commented(&report.to_string())))?;
                told.topics = Some(Topics::of(report));
            }
            Err((table, error)) => told.problem(&pipeline, table, format!("{error:#}")),
        }
    }
    if json {
        super::print(&super::json_line(&told)?)?;
    }
    told.notes.iter().for_each(|note| say!("note: {note}"));
    let problems = told.problems();
    if !problems.is_empty() {
        bail!("{} would not run as it should:\n  {}", pipeline.file.display(), problems.join("\n  "));
    }
    say!("ok");
    Ok(())
}

/// The plan is a pipeline file; whatever is said besides must not make it another one.
fn commented(text: &str) -> String {
    text.lines().map(|line| format!("# {line}\n")).collect()
}

/// Whether there is a model, and what it and the pipeline disagree about.
fn look_at_model(pipeline: &Pipeline, told: &mut Told, say: &impl Fn(String) -> Result<()>) -> Result<()> {
    let model = match prepare::model_of(pipeline) {
        Ok(model) => model,
        Err(error) => {
            told.problem(pipeline, "forecast.model", format!("forecast.model: {error:#}"));
            return Ok(());
        }
    };
    let wrong = prepare::disagreements(pipeline, &model);
    wrong.into_iter().for_each(|(key, text)| told.problem(pipeline, key, text));
    say(format!("\n# its model\n{}", commented(&inspect::text(&model))))?;
    told.model = Some(serde_json::to_value(inspect::Told::of(&model))?);
    let (ours, theirs) = (pipeline.rules.max_gap, model.description.rules.max_gap);
    if ours > theirs {
        told.notes.push(format!(
            "gaps of up to {} are filled here, the model has seen them up to {}",
            duration_text(ours),
            duration_text(theirs)
        ));
    }
    Ok(())
}

/// What is in the Parquet source, and what is wrong with it: its columns, or a cadence that the grid cannot follow.
fn look_at_history(
    pipeline: &Pipeline,
    path: &Path,
    told: &mut Told,
    say: &impl Fn(String) -> Result<()>,
) -> Result<()> {
    let Pipeline { columns, time_unit, limits, rules, .. } = pipeline;
    let found = parquet::describe(path, columns, *time_unit)?;
    let times = found.times.map_or("no times".to_owned(), |(first, last)| {
        format!("{} to {}", time_text(first), time_text(last))
    });
    say(format!("\n# its history\n# {found}\n# {times}\n"))?;
    let history = told.history.insert(History::of(&found));
    let order = pipeline.parquet_source.as_ref().map(|source| source.order).unwrap_or_default();
    let input = ParquetInput::open(path, columns, *time_unit, order, Range::default(), None, limits)?;
    let mut histories = Histories::new(
        columns.clone(),
        rules.clone(),
        Keep::new(1),
        pipeline.train.horizon,
        limits.capacity(),
    );
    let (mut tally, mut unused) = (Tally::default(), Unused::default());
    for batch in input.batches() {
        histories.push(&batch?.rows, &mut tally, &mut unused, |_| ());
        unused = Unused::default();
        if tally.rows >= LOOKED_AT {
            break;
        }
    }
    let series = histories.all().len();
    say(format!("# its first rows: {series} series, {tally}\n"))?;
    history.beginning = Some(Beginning::of(series, &tally));
    if tally.refused(Refusal::TooFar) * 2 > tally.rows {
        let text = format!(
            "grid.max_gap is {}: most rows are farther ahead of the one before them than that; the data's own cadence is longer",
            duration_text(rules.max_gap)
        );
        told.problem(pipeline, "grid.max_gap", text);
    }
    Ok(())
}
