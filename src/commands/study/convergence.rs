//! `study convergence`: how soon each cell learns.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use tempfile::TempDir;

use super::ledger::Ledger;
use crate::cli::StudyConvergence;
use crate::commands::demo::sample;
use crate::commands::log::say;
use crate::commands::{report, stop};
use crate::config::Pipeline;
use crate::dataset::{self, Dataset};
use tidecast_core::network::{CellKind, Shape};
use tidecast_study::closest;
use tidecast_study::convergence::{Learned, Plan, Point, Row, Setting, Training, rows};
use tidecast_study::pages::{convergence_page, convergence_picture, convergence_table};
use tidecast_train::{Progress, Split, Step, train_parts};

const FILE: &str = "convergence.jsonl";

/// ETTh1 as the benchmarks have it: every column a series of its own.
const ETTH1: &str = r#"
name = "etth1"
[columns]
time = "date"
targets = ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"]
[grid]
every = "1h"
complete_after = 1
[forecast]
model = "unused.safetensors"
levels = []
[source.parquet]
path = "ETTh1.parquet"
[sink.parquet]
path = "unused"
[train]
horizon = 24
lookback = 24
"#;

/// A history to learn from.
struct Data {
    name: String,
    pipeline: Pipeline,
    read: Dataset,
}

pub fn study(arguments: &StudyConvergence, quiet: bool) -> Result<()> {
    let how = &arguments.how;
    let plan = if how.full { Plan::full() } else { Plan::quick() };
    let mut ledger = Ledger::open(how.out.as_deref(), FILE)?;
    let stopped = stop::flag("the trainings that are finished are put together")?;
    let bar = report::bar(0, "trainings", quiet);
    let mut all: Vec<Row> = Vec::new();
    for data in histories(arguments)? {
        let study = Study { plan: &plan, data: &data, stopped: &stopped, bar: &bar, quiet };
        all.extend(study.rows(&mut ledger)?);
    }
    bar.finish_and_clear();
    if stopped.load(Ordering::Relaxed) {
        say!("stopped: what follows is of the trainings that were finished");
    }
    if all.is_empty() {
        bail!("stopped before anything could be compared");
    }
    super::deliver(
        how,
        &all,
        &convergence_table(&all).text(),
        || convergence_page(&all),
        || convergence_picture(&all),
    )
}

fn histories(arguments: &StudyConvergence) -> Result<Vec<Data>> {
    let read = |name: &str, mut pipeline: Pipeline, path: &Path| -> Result<Data> {
        // The cells alone are compared, and as the textbook has them: a reading a step.
        pipeline.train.memory = false;
        pipeline.train.segment = 1;
        pipeline.train.cell = pipeline.train.cell.or(Some(CellKind::default()));
        let read = dataset::read(&pipeline, path, |_, _| ())?;
        Ok(Data { name: name.to_string(), pipeline, read })
    };
    if let (Some(file), Some(path)) = (&arguments.pipeline, &arguments.data) {
        let pipeline = Pipeline::open(file)?;
        let name = pipeline.name.clone();
        return Ok(vec![read(&name, pipeline, path)?]);
    }
    let sample = sample::unpack()?;
    let path = sample::history(&sample.pipeline)?.to_path_buf();
    let mut all = vec![read("sensors", sample.pipeline.clone(), &path)?];
    if let Some(path) = etth1() {
        let folder = TempDir::new().context("cannot make a temporary folder")?;
        let pipeline = Pipeline::from_text(&folder.path().join("etth1.toml"), ETTH1, &|_| None)?;
        all.push(read("ETTh1", pipeline, &path)?);
    }
    Ok(all)
}

fn etth1() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("TIDECAST_DATA")?).join("ett/ETTh1.parquet");
    path.is_file().then_some(path)
}

/// A study of one set of data.
struct Study<'a> {
    plan: &'a Plan,
    data: &'a Data,
    stopped: &'a AtomicBool,
    bar: &'a ProgressBar,
    quiet: bool,
}

impl Study<'_> {
    fn rows(&self, ledger: &mut Ledger<Training, Learned>) -> Result<Vec<Row>> {
        let reference = self.reference();
        let hidden = |cell| closest(reference, cell);
        let tuning = self.plan.tuning(self.data.pipeline.train.learning_rate, hidden);
        let tuned = self.learn(ledger, &tuning)?;
        if tuned.len() < tuning.len() {
            return Ok(Vec::new());
        }
        let done = self.learn(ledger, &self.plan.settings(&tuned))?;
        Ok(rows(&self.data.name, &tuning, &done))
    }

    /// The network of the recipe, whose number of parameters all cells are given.
    fn reference(&self) -> Shape {
        let Pipeline { train, rules, columns, .. } = &self.data.pipeline;
        let mask = usize::from(rules.gaps == tidecast_core::series::Gaps::Missing);
        Shape {
            cell: train.cell.unwrap_or_default(),
            inputs: 1 + mask + columns.covariates.len() + 2 * train.calendar.len(),
            hidden: train.hidden,
            layers: train.layers,
            horizon: train.horizon,
            known: columns.known_ahead.len(),
            quantiles: 0,
            embedding: 0,
            series: 0,
            decoder: train.decoder,
        }
    }

    /// Each training after the other: every one has all threads, so that its seconds mean the same.
    fn learn(
        &self,
        ledger: &mut Ledger<Training, Learned>,
        settings: &[Setting],
    ) -> Result<Vec<(Setting, Learned)>> {
        let trainings: Vec<(Pipeline, Training)> =
            settings.iter().map(|setting| self.training(setting)).collect();
        let left = trainings.iter().filter(|(_, training)| ledger.find(training).is_none()).count();
        self.bar.inc_length(left as u64);
        for ((pipeline, training), setting) in trainings.iter().zip(settings) {
            if ledger.find(training).is_some() {
                continue;
            }
            let Some(learned) = self.one(pipeline, setting.share)? else { break };
            self.tell(setting, &learned);
            ledger.add(training, &learned)?;
        }
        let found = trainings.iter().zip(settings);
        let found = found
            .filter_map(|((_, training), setting)| Some((setting.clone(), ledger.find(training)?.clone())));
        Ok(found.collect())
    }

    fn training(&self, setting: &Setting) -> (Pipeline, Training) {
        let mut pipeline = self.data.pipeline.clone();
        let recipe = &mut pipeline.train;
        recipe.cell = Some(setting.cell);
        recipe.hidden = setting.hidden;
        recipe.learning_rate = setting.learning_rate;
        recipe.seed = setting.seed;
        recipe.epochs = self.plan.epochs(setting.share);
        // All curves of a share are of one length.
        recipe.patience = recipe.epochs;
        recipe.lookback = recipe.lookback.min(self.plan.lookback);
        let training = Training {
            data: self.data.name.clone(),
            fingerprint: self.data.read.summary.fingerprint.clone(),
            recipe: serde_json::to_value(&pipeline.train).unwrap_or_default(),
            share: setting.share,
        };
        (pipeline, training)
    }

    /// `None` if it was stopped.
    fn one(&self, pipeline: &Pipeline, share: f64) -> Result<Option<Learned>> {
        let Dataset { history, summary, .. } = &self.data.read;
        let recipe = &pipeline.train;
        let mut split = Split::of(history, recipe.train_part, recipe.validation_part)?;
        split.first = split.train_end - ((split.train_end - split.first) as f64 * share) as i64;
        let (mut epochs, mut stopped) = (Vec::new(), false);
        let started = Instant::now();
        let mut watch = |progress: Progress<'_>| {
            if let Progress::Step(Step { validation: Some(validation), .. }) = progress {
                epochs.push((started.elapsed().as_secs_f64(), validation));
            }
            stopped = stopped || self.stopped.load(Ordering::Relaxed);
            if stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let (model, outcome) = train_parts(pipeline, history, summary.clone(), split, &mut watch)?;
        if stopped {
            return Ok(None);
        }
        let point = |(i, (seconds, validation)): (usize, (f64, f64))| Point {
            windows: outcome.trained * (i + 1),
            seconds,
            validation,
        };
        let test = model.description.scores.iter().find(|score| score.part == "test").map(|score| score.mae);
        let points = epochs.into_iter().enumerate().map(point).collect();
        Ok(Some(Learned { parameters: model.parameters(), points, test }))
    }

    fn tell(&self, setting: &Setting, learned: &Learned) {
        let Setting { cell, share, learning_rate, seed, .. } = setting;
        let data = &self.data.name;
        let what = format!(
            "{data} {cell}, {:.0} % of the history, rate {learning_rate}, seed {seed}",
            100.0 * share
        );
        self.bar.inc(1);
        self.bar.set_message(what.clone());
        if self.bar.is_hidden() && !self.quiet {
            let seconds = learned.points.last().map_or(0.0, |point| point.seconds);
            say!("{what}: validation loss {:.4} after {seconds:.1} s", learned.best());
        }
    }
}
