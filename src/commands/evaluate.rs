//! `evaluate`: the forecasts of a history held against what came, beside the baselines.

mod page;
mod text;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use arrow::array::RecordBatch;
use tokio::sync::{mpsc, watch};

use super::log::say;
use super::{prepare, report, stop, train};
use crate::cli::Evaluate;
use crate::config::{Commit, Deleted, Order, Pipeline, Start};
use crate::dataset::{self, Dataset};
use tidecast_stream::driver::{Options, drive};
use tidecast_train::evaluate::{About, Asked, Bands, Baselines, Parts, Scorer, Task, results};
use tidecast_core::forecaster::Setup;
use tidecast_core::intervals::Plan;
use tidecast_tables::{ParquetInput, Range};
use tidecast_stream::{Output, Partition, Positions, Sink};
use tidecast_train::lanes;

/// Nothing is written, so there is nothing to commit in between.
const COMMIT: Commit = Commit { every: std::time::Duration::from_secs(3600), rows: usize::MAX };

pub async fn evaluate(arguments: Evaluate, quiet: bool) -> Result<()> {
    let mut stopped = stop_flag()?;
    let mut pipeline = Pipeline::open(&arguments.pipeline)?;
    if let Some(model) = &arguments.model {
        pipeline.forecast.model.clone_from(model);
    }
    let setup = prepare::setup(&pipeline)?;
    // What rows know ahead has the horizon of the model that reads it.
    pipeline.train.horizon = setup.model.description.horizon;
    let path = data(&pipeline, arguments.data.clone())?;
    if let Some(html) = &arguments.html {
        for read in [&path, &arguments.pipeline, &pipeline.forecast.model] {
            if train::same(read, html) {
                bail!(
                    "{} is read: a page in its place would be the end of it; say another --html",
                    read.display()
                );
            }
        }
    }
    let bar = report::bar(0, "rows read", quiet);
    let read = dataset::read(&pipeline, &path, |rows, of| {
        bar.set_length(of);
        bar.set_position(rows);
    });
    bar.finish_and_clear();
    let Dataset { history, summary, tally } = read?;
    ensure!(!*stopped.borrow(), STOPPED);
    if !quiet {
        say!("{} series, {tally}", history.ids.len());
    }
    if let Some(id) = arguments.series.iter().find(|id| !history.ids.contains(id)) {
        bail!("{} has no series `{id}` with a closed step; {}", path.display(), others(id, &history.ids));
    }

    let description = &setup.model.description;
    let grid = pipeline.rules.grid;
    let asked =
        Asked { since: arguments.since.map(|time| time.0), until: arguments.until.map(|time| time.0) };
    let shares = (pipeline.train.train_part, pipeline.train.validation_part);
    let parts = Parts::of(&history, &description.data, grid, description.horizon, shares, asked)?;
    let lanes = lanes(&history);
    let bar = report::bar(0, "", quiet);
    bar.set_message("fitting the baselines");
    let sizes = (description.lookback, description.horizon);
    let baselines = Baselines::fit(&history, &lanes, &parts, grid.every, sizes, &setup.levels);
    bar.finish_and_clear();
    ensure!(!*stopped.borrow(), STOPPED);

    let task = Task {
        history: &history,
        lanes: &lanes,
        baselines: &baselines,
        parts: &parts,
        grid,
        targets: &pipeline.columns.targets,
        horizon: description.horizon,
        levels: &setup.levels,
        examples: arguments.html.is_some(),
    };
    let horizons = setup.scoring.as_ref().map(|scoring| scoring.horizons.clone());
    let horizons = horizons.unwrap_or_else(|| Plan::horizons_for(description.horizon));
    let (mut scorer, mut bands) = (Scorer::new(task), Bands::new(task, horizons));
    let ids: BTreeSet<String> = arguments.series.iter().cloned().collect();
    let ids = (!ids.is_empty()).then_some(ids);
    let line = Line { pipeline: &pipeline, path: &path, ids, quiet };
    line.forecast(setup.clone(), "rows forecast", &mut stopped, |forecasts| {
        scorer.add(forecasts);
        bands.add(forecasts);
    })
    .await?;
    if !setup.levels.is_empty() {
        // The same line once more, with the intervals that the model knows: others start from them as ours do.
        let own = Arc::new(Setup { corrects: false, scoring: None, ..(*setup).clone() });
        line.forecast(own, "rows forecast again", &mut stopped, |forecasts| bands.add_own(forecasts)).await?;
    }

    let lanes = scorer.finish();
    let about = about(&pipeline, &setup, &baselines, &summary.fingerprint);
    let found = results(&task, &lanes, bands.finish(), about);
    if found.series.is_empty() {
        bail!(
            "no forecast could be scored between {} and {}: {}",
            found.part.scored_from,
            found.part.scored_until,
            "a series forecasts once it is warm, and something has to be observed in its horizon; give more history, or another \
             --since or --until"
        );
    }
    if let Some(path) = &arguments.html {
        train::write_whole(path, page::page(&found, &lanes, grid).as_bytes())?;
    }
    let text = if arguments.json { super::json_line(&found)? } else { text::text(&found) };
    super::print(&text)
}

const STOPPED: &str = "stopped before the history was scored; nothing is printed of a part of it";

/// The ids that there are, for whoever named another: the nearest.
fn others(asked: &str, ids: &[String]) -> String {
    // One whose steps have not closed has no name yet.
    let ids = ids.iter().filter(|id| !id.is_empty());
    let like = |id: &&String| strsim::jaro_winkler(id, asked);
    match ids.clone().max_by(|a, b| like(a).total_cmp(&like(b)).then(b.cmp(a))) {
        Some(nearest) => format!("the nearest of the {} there are is `{nearest}`", ids.count()),
        None => "there is none: see to [columns] and [grid]".to_owned(),
    }
}

fn data(pipeline: &Pipeline, data: Option<PathBuf>) -> Result<PathBuf> {
    match (data, &pipeline.parquet_source) {
        (Some(path), _) => Ok(path),
        (None, Some(source)) => Ok(source.path.clone()),
        (None, None) => {
            bail!("{}: there is no [source.parquet]; add one, or say --data PATH", pipeline.file.display())
        }
    }
}

/// The line from a history to whoever takes the forecasts.
struct Line<'a> {
    pipeline: &'a Pipeline,
    path: &'a Path,
    /// The only series.
    ids: Option<BTreeSet<String>>,
    quiet: bool,
}

impl Line<'_> {
    async fn forecast(
        &self,
        setup: Arc<Setup>,
        what: &'static str,
        stopped: &mut watch::Receiver<bool>,
        mut take: impl FnMut(&RecordBatch),
    ) -> Result<()> {
        let Pipeline { columns, time_unit, limits, parquet_source, .. } = self.pipeline;
        let order = parquet_source.as_ref().map_or(Order::File, |source| source.order);
        let (range, ids) = (Range::default(), self.ids.clone());
        let mut source = ParquetInput::open(self.path, columns, *time_unit, order, range, ids, limits)?;
        let bar = report::bar(source.total_rows() as u64, what, self.quiet);
        let options = Options {
            setup,
            commit: COMMIT,
            state: None,
            start: Start::Earliest,
            deleted: Deleted::Fail,
            queue_rows: limits.queue_rows,
            finish: true,
            rejects: None,
        };
        let stop = async move {
            if stopped.wait_for(|stopped| *stopped).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let (forecasts, mut written) = mpsc::channel(2);
        let driven = drive(&mut source, Scores(forecasts), options, stop, |progress| {
            let reached = progress.reached.map_or(0, |position| position.0.max(0) as u64);
            bar.set_position(reached.max(progress.tally.rows));
        });
        let taken = async {
            while let Some(forecasts) = written.recv().await {
                take(&forecasts);
            }
        };
        // The sink, and with it the channel, ends with the drive.
        let (progress, ()) = tokio::join!(async { driven.await.map(|(progress, _)| progress) }, taken);
        bar.finish_and_clear();
        ensure!(!progress?.stopped, STOPPED);
        Ok(())
    }
}

/// Set at the first Ctrl-C.
fn stop_flag() -> Result<watch::Receiver<bool>> {
    let stop = stop::stop("what is being read or fitted is ended first")?;
    let (say, heard) = watch::channel(false);
    tokio::spawn(async move {
        stop.await;
        let _ = say.send(true);
    });
    Ok(heard)
}

fn about(pipeline: &Pipeline, setup: &Setup, baselines: &Baselines, fingerprint: &str) -> About {
    let data = &setup.model.description.data;
    let mut notes = Vec::new();
    notes.push(match data.fingerprint == fingerprint {
        true => "these are the rows that the model was trained on, up to the dates above".to_owned(),
        false => "these are not the very rows that the model was trained on; parts are told by their dates"
            .to_owned(),
    });
    match &baselines.ridge {
        Some(ridge) => notes.push(format!(
            "the ridge reads {} steps and has a penalty of {:.3}",
            ridge.lookback(),
            ridge.penalty
        )),
        None => notes.push("the training part is too short for a ridge".to_owned()),
    }
    if baselines.seasons.day.is_none() {
        notes.push(
            "no day is repeated: the training part has less than two, or a day is no whole number of steps"
                .to_owned(),
        );
    }
    About {
        pipeline: pipeline.name.clone(),
        model: setup.model.hash.clone(),
        every_text: setup.every_text.clone(),
        every: setup.every,
        notes,
    }
}

/// Where forecasts go to be scored.
struct Scores(mpsc::Sender<RecordBatch>);

impl Sink for Scores {
    async fn write(&mut self, output: Output) -> Result<()> {
        self.0.send(output.forecasts).await.context("nobody scores the forecasts any more")
    }

    async fn commit(&mut self, reached: &Positions) -> Result<Positions> {
        Ok(reached.clone())
    }

    async fn forget(&mut self, _partitions: &[Partition]) -> Result<()> {
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}
