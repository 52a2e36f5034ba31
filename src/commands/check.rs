//! `check`: whether a pipeline would run, and what it is with every default filled in.

use anyhow::{Context, Result, bail};

use super::prepare;
use crate::cli::Check;
use crate::config::{Pipeline, duration_text};
use crate::forecaster::{Histories, Unused};
use crate::io::kafka;
use crate::io::parquet::{self, ParquetInput, Range};
use crate::series::{Keep, Refusal, Tally};
use crate::table::time_text;

/// Rows that are looked at for the cadence of the data.
const LOOKED_AT: u64 = 200_000;

pub async fn check(arguments: Check) -> Result<()> {
    let pipeline = Pipeline::open(&arguments.pipeline)?;
    super::print(&pipeline.plan())?;
    let mut problems = Vec::new();
    match prepare::model_of(&pipeline) {
        Ok(model) => {
            problems.extend(prepare::disagreements(&pipeline, &model));
            super::print(&format!("\n# its model\n{}", commented(&super::inspect::text(&model))))?;
            let (ours, theirs) = (pipeline.rules.max_gap, model.description.rules.max_gap);
            if ours > theirs {
                eprintln!(
                    "note: gaps of up to {} are filled here, the model has seen them up to {}",
                    duration_text(ours),
                    duration_text(theirs)
                );
            }
        }
        Err(error) => problems.push(format!("{error:#}")),
    }
    if let Some(source) = &pipeline.parquet_source {
        match data(&pipeline, &source.path) {
            Ok(found) => problems.extend(found),
            Err(error) => problems.push(format!("source.parquet: {error:#}")),
        }
    }
    if arguments.connect {
        let (source, sink) = (pipeline.kafka_source.clone(), pipeline.kafka_sink.clone());
        let asked = tokio::task::spawn_blocking(move || kafka::check(source.as_ref(), sink.as_ref()));
        match asked.await.context("asking kafka")? {
            Ok(report) => super::print(&format!("\n# its topics\n{}", commented(&report.to_string())))?,
            Err(error) => problems.push(format!("{error:#}")),
        }
    }
    if !problems.is_empty() {
        bail!("{} would not run as it should:\n  {}", pipeline.file.display(), problems.join("\n  "));
    }
    eprintln!("ok");
    Ok(())
}

/// The plan is a pipeline file; whatever is said besides must not make it another one.
fn commented(text: &str) -> String {
    text.lines().map(|line| format!("# {line}\n")).collect()
}

/// What is wrong with the Parquet source: its columns, or a cadence that the grid cannot follow.
fn data(pipeline: &Pipeline, path: &std::path::Path) -> Result<Vec<String>> {
    let Pipeline { columns, time_unit, limits, rules, .. } = pipeline;
    let found = parquet::describe(path, columns, *time_unit)?;
    let times = found.times.map_or("no times".to_owned(), |(first, last)| {
        format!("{} to {}", time_text(first), time_text(last))
    });
    super::print(&format!("\n# its history\n# {found}\n# {times}\n"))?;
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
    super::print(&format!("# its first rows: {} series, {tally}\n", histories.all().len()))?;
    let mut problems = Vec::new();
    if tally.refused(Refusal::TooFar) * 2 > tally.rows {
        problems.push(format!(
            "grid.max_gap is {}: most rows are farther ahead of the one before them than that; the data's own cadence is longer",
            duration_text(rules.max_gap)
        ));
    }
    Ok(problems)
}
