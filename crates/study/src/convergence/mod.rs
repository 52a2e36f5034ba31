//! The convergence study: how soon each cell learns.

mod results;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail};
use serde::Serialize;
use tidecast::config::Pipeline;
use tidecast::dataset::{self, Dataset};
use tidecast::report::{Figure, Page};
use tidecast_core::model::ScoredSplit;
use tidecast_core::network::{CellKind, Shape};
use tidecast_core::series::GapFill;
use tidecast_train::{BatchReport, Progress, Split, TrainOptions, train_with};
use tokio_util::sync::CancellationToken;

pub use results::{CurvePoint, LearningCurve, Plan, Point, Row, Setting, Training, rows};

use crate::monitor::Monitor;
use crate::pages::{convergence_figure, convergence_page, convergence_table};
use crate::result_store::ResultStore;
use crate::trial::closest_hidden;
use crate::{Report, StudyOptions, publish};

/// File of finished trainings in `--out`.
const FILE: &str = "convergence.jsonl";

/// The sample of this repository.
const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../pipelines/sensors.toml");

/// ETTh1 with every column as a series.
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

/// Options of the convergence study.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ConvergenceOptions {
    #[command(flatten)]
    pub study: StudyOptions,

    /// Pipeline file with the recipe [default: the sample, and ETTh1 if TIDECAST_DATA holds ett/ETTh1.parquet]
    #[arg(long, value_name = "PIPELINE", requires = "data")]
    pub pipeline: Option<PathBuf>,

    /// History of the pipeline: a file, a folder or a pattern
    #[arg(long, value_name = "PATH", requires = "pipeline")]
    pub data: Option<PathBuf>,
}

#[derive(Serialize)]
#[serde(transparent)]
struct ConvergenceResults(Vec<Row>);

/// Runs the study and publishes its results.
///
/// # Errors
/// If the study is stopped before it has results, or a file cannot be read or written.
pub fn run(options: &ConvergenceOptions, stop: &CancellationToken) -> Result<()> {
    let plan = if options.study.full { Plan::full() } else { Plan::quick() };
    let mut store = ResultStore::open(options.study.out.as_deref(), FILE)?;
    let monitor = Monitor::new(options.study.quiet);
    let mut rows: Vec<Row> = Vec::new();
    for data in load(options)? {
        let runner = Runner { plan: &plan, data: &data, stop, monitor: &monitor };
        rows.extend(runner.rows(&mut store)?);
    }
    monitor.close();
    if rows.is_empty() {
        bail!("stopped before two cells could be compared");
    }
    publish(&ConvergenceResults(rows), &options.study)
}

/// A data set with its recipe.
struct Data {
    name: String,
    pipeline: Pipeline,
    dataset: Dataset,
}

impl Data {
    fn read(name: &str, mut pipeline: Pipeline, path: &Path) -> Result<Self> {
        // Cells only, with one value per step as in the textbook.
        pipeline.train.recurrence = false;
        pipeline.train.segment = 1;
        pipeline.train.cell = pipeline.train.cell.or(Some(CellKind::default()));
        let dataset = dataset::read(&pipeline, path, |_, _| ())?;
        Ok(Self { name: name.to_string(), pipeline, dataset })
    }
}

fn load(options: &ConvergenceOptions) -> Result<Vec<Data>> {
    if let (Some(file), Some(path)) = (&options.pipeline, &options.data) {
        let pipeline = Pipeline::open(file)?;
        return Ok(vec![Data::read(&pipeline.name.clone(), pipeline, path)?]);
    }
    let sample = Pipeline::open(Path::new(SAMPLE))?;
    let Some(path) = sample.parquet_source.as_ref().map(|source| source.path.clone()) else {
        bail!("{SAMPLE} has no [source.parquet]");
    };
    let mut all = vec![Data::read("sensors", sample, &path)?];
    if let Some(path) = etth1() {
        let pipeline = Pipeline::from_text(&path.with_extension("toml"), ETTH1, &|_| None)?;
        all.push(Data::read("ETTh1", pipeline, &path)?);
    }
    Ok(all)
}

fn etth1() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("TIDECAST_DATA")?).join("ett/ETTh1.parquet");
    path.is_file().then_some(path)
}

/// Runs the trainings on one data set.
struct Runner<'a> {
    plan: &'a Plan,
    data: &'a Data,
    stop: &'a CancellationToken,
    monitor: &'a Monitor,
}

impl Runner<'_> {
    fn rows(&self, store: &mut ResultStore<Training, LearningCurve>) -> Result<Vec<Row>> {
        let reference = self.reference_shape();
        let rate = self.data.pipeline.train.learning_rate;
        let tuning = self.plan.tuning_settings(rate, |cell| closest_hidden(reference, cell));
        let tuned = self.learn(store, &tuning)?;
        if tuned.len() < tuning.len() {
            return Ok(Vec::new());
        }
        let finished = self.learn(store, &self.plan.settings(&tuned))?;
        Ok(rows(&self.data.name, &tuning, &finished))
    }

    /// Network of the recipe, whose parameter count all cells match.
    fn reference_shape(&self) -> Shape {
        let Pipeline { train, step_config, columns, .. } = &self.data.pipeline;
        let mask = usize::from(step_config.gap_fill == GapFill::Missing);
        Shape {
            cell: train.cell.unwrap_or_default(),
            inputs: 1 + mask + columns.covariates.len() + 2 * train.calendar.len(),
            hidden: train.hidden,
            layers: train.layers,
            horizon: train.horizon,
            future_covariates: columns.future_covariates.len(),
            quantiles: 0,
            embedding: 0,
            series: 0,
            decoder: train.decoder,
        }
    }

    /// Curves of the settings, as far as they were not stopped. Trainings run one at a time on all threads, so that their
    /// seconds are comparable.
    fn learn(
        &self,
        store: &mut ResultStore<Training, LearningCurve>,
        settings: &[Setting],
    ) -> Result<Vec<(Setting, LearningCurve)>> {
        let trainings: Vec<(Pipeline, Training)> =
            settings.iter().map(|setting| self.training(setting)).collect();
        self.monitor.expect(trainings.iter().filter(|(_, training)| store.get(training).is_none()).count());
        for ((pipeline, training), setting) in trainings.iter().zip(settings) {
            if store.get(training).is_some() {
                continue;
            }
            let Some(curve) = self.train(pipeline, setting.fraction)? else { break };
            let seconds = curve.points.last().map_or(0.0, |point| point.seconds);
            let result = format!("validation loss {:.4} after {seconds:.1} s", curve.best());
            self.monitor.finished(&self.label(setting), &result);
            store.add(training, &curve)?;
        }
        let curves = trainings.iter().zip(settings);
        let curves = curves
            .filter_map(|((_, training), setting)| Some((setting.clone(), store.get(training)?.clone())));
        Ok(curves.collect())
    }

    fn training(&self, setting: &Setting) -> (Pipeline, Training) {
        let mut pipeline = self.data.pipeline.clone();
        let recipe = &mut pipeline.train;
        recipe.cell = Some(setting.cell);
        recipe.hidden = setting.hidden;
        recipe.learning_rate = setting.learning_rate;
        recipe.seed = setting.seed;
        recipe.epochs = self.plan.epochs(setting.fraction);
        // No early stop: all curves of a fraction have the same length.
        recipe.patience = recipe.epochs;
        recipe.lookback = recipe.lookback.min(self.plan.lookback);
        let training = Training {
            data: self.data.name.clone(),
            fingerprint: self.data.dataset.summary.fingerprint.clone(),
            recipe: serde_json::to_value(&pipeline.train).unwrap_or_default(),
            fraction: setting.fraction,
        };
        (pipeline, training)
    }

    /// Trains on the latest fraction of the training split; none if stopped.
    fn train(&self, pipeline: &Pipeline, fraction: f64) -> Result<Option<LearningCurve>> {
        let Dataset { history, summary, .. } = &self.data.dataset;
        let recipe = &pipeline.train;
        let mut split = Split::new(history, recipe.split_fractions())?;
        split.first = split.train_end - ((split.train_end - split.first) as f64 * fraction) as i64;
        let mut epochs = Vec::new();
        let started = Instant::now();
        let options = TrainOptions { split: Some(split), checkpoint: None };
        let mut on_progress = |progress: Progress<'_>| {
            if let Progress::Batch(BatchReport { validation_loss: Some(validation), .. }) = progress {
                epochs.push((started.elapsed().as_secs_f64(), validation));
            }
            if self.stop.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let (model, outcome) =
            train_with(&pipeline.training(), history, summary.clone(), options, &mut on_progress)?;
        if self.stop.is_cancelled() {
            return Ok(None);
        }
        let point = |(epoch, (seconds, validation))| Point {
            windows: outcome.training_windows * (epoch + 1),
            seconds,
            validation,
        };
        let test = model.manifest.scores.iter().find(|score| score.split == ScoredSplit::Test);
        Ok(Some(LearningCurve {
            parameters: model.parameters(),
            points: epochs.into_iter().enumerate().map(point).collect(),
            test: test.map(|score| score.mae),
        }))
    }

    fn label(&self, setting: &Setting) -> String {
        let Setting { cell, fraction, learning_rate, seed, .. } = setting;
        let percent = 100.0 * fraction;
        format!("{} {cell}, {percent:.0} % of the history, rate {learning_rate}, seed {seed}", self.data.name)
    }
}

impl Report for ConvergenceResults {
    fn text(&self) -> String {
        convergence_table(&self.0).text()
    }

    fn page(&self) -> Page {
        convergence_page(&self.0)
    }

    fn figure(&self) -> Figure {
        convergence_figure(&self.0)
    }
}
