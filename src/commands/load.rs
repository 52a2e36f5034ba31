//! From a pipeline file to its parts: the model, the setup of the forecaster, the state store, the bootstrap history.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};

use tidecast_core::forecaster::{Scoring, Setup};
use tidecast_core::intervals::{CalibrationLayout, CalibrationMode, LEVEL_MAX};
use tidecast_core::model::Model;
use tidecast_core::series::Scaling;
use tidecast_core::time::duration_text;
use tidecast_kafka::settings::KafkaSourceConfig;
use tidecast_stream::bootstrap::{BootstrapHistory, HistoryRows};
use tidecast_stream::driver::RejectLimit;
use tidecast_stream::state::{Lineage, SnapshotStore};
use tidecast_tables::{RowFilter, TimeRange};

use crate::config::{Pipeline, read_error};
use crate::dataset;

/// Maximum size of a model file in bytes: twice that of the largest network.
const MODEL_BYTES_MAX: u64 = 4 << 30;

pub fn model(path: &Path) -> Result<Model> {
    let bytes = tensor_file(path).map_err(|error| {
        anyhow!("cannot read the model {}: {}", path.display(), read_error(path, &error, ""))
    })?;
    Model::from_bytes(&bytes).with_context(|| {
        format!("{} is not a tidecast model (`train` and `import-torch` write models)", path.display())
    })
}

pub fn tensor_file(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MODEL_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads the model of a pipeline. If there is none, the error names the command that trains one.
pub fn pipeline_model(pipeline: &Pipeline) -> Result<Model> {
    let path = &pipeline.forecast.model;
    if !path.exists() {
        bail!(
            "model {} does not exist; train one: tidecast train {} --data HISTORY --out {}",
            path.display(),
            pipeline.file.display(),
            path.display()
        );
    }
    model(path)
}

/// Builds what the forecasters of all partitions share. The error names every mismatch of model and pipeline.
pub fn setup(pipeline: &Pipeline) -> Result<Arc<Setup>> {
    let model = pipeline_model(pipeline).with_context(|| pipeline.file.display().to_string())?;
    let mismatches: Vec<String> =
        find_mismatches(pipeline, &model).into_iter().map(|mismatch| mismatch.text).collect();
    if !mismatches.is_empty() {
        bail!(
            "{} does not match its model {}: {}; adapt the pipeline, or train a model for it",
            pipeline.file.display(),
            pipeline.forecast.model.display(),
            mismatches.join("; ")
        );
    }
    let horizon = model.manifest.horizon;
    Ok(Arc::new(Setup {
        columns: pipeline.columns.clone(),
        step_config: pipeline.step_config.clone(),
        every: pipeline.forecast.every,
        levels: pipeline.forecast.levels.clone(),
        calibration: CalibrationMode::Online,
        scoring: pipeline.scores.as_ref().map(|scores| Scoring {
            horizons: scores.horizons.clone().unwrap_or_else(|| CalibrationLayout::default_horizons(horizon)),
            every: scores.every.unwrap_or(horizon as u32),
        }),
        model: Arc::new(model),
        step_text: pipeline.step_text(),
        capacity: pipeline.limits.capacity(),
    }))
}

/// A key of the pipeline that contradicts the model.
pub struct Mismatch {
    pub key: &'static str,
    pub text: String,
}

/// The path of the observations: the argument of `flag`, or else the pipeline's Parquet source.
pub fn input_path(pipeline: &Pipeline, given: Option<PathBuf>, flag: &str) -> Result<PathBuf> {
    let from_pipeline = || pipeline.parquet_source.as_ref().map(|source| source.path.clone());
    given.or_else(from_pipeline).with_context(|| {
        format!("{}: there is no [source.parquet]; add one, or use {flag} PATH", pipeline.file.display())
    })
}

/// Compares a pipeline with its model.
pub fn find_mismatches(pipeline: &Pipeline, model: &Model) -> Vec<Mismatch> {
    let manifest = &model.manifest;
    let (step, trained) = (&pipeline.step_config, &manifest.step_config);
    let mut mismatches = Vec::new();
    let mut compare = |key: &'static str, here: String, trained: String| {
        if here != trained {
            let text = format!("{key} is {here}, but the model was trained with {trained}");
            mismatches.push(Mismatch { key, text });
        }
    };
    let list = |names: &[String]| format!("{names:?}");
    compare("grid.every", duration_text(step.grid.every), duration_text(trained.grid.every));
    compare("grid.aggregate", format!("{:?}", step.aggregate), format!("{:?}", trained.aggregate));
    compare("grid.gap_fill", format!("{:?}", step.gap_fill), format!("{:?}", trained.gap_fill));
    let columns = &pipeline.columns;
    compare("columns.covariates", list(&columns.covariates), list(&manifest.covariates));
    let key = "columns.future_covariates";
    compare(key, list(&columns.future_covariates), list(&manifest.future_covariates));
    if manifest.scaling == Scaling::Fixed {
        // The moments belong to the targets, in their order.
        compare("columns.targets", list(&columns.targets), list(&manifest.targets));
    }
    let levels = &pipeline.forecast.levels;
    if model.residuals.is_none() && !levels.is_empty() {
        let text = "forecast.levels requests intervals, but the model has none, since its history was too short to \
                    validate it; set forecast.levels = []";
        mismatches.push(Mismatch { key: "forecast.levels", text: text.to_owned() });
    }
    if let Some(level) = levels.iter().find(|level| **level > LEVEL_MAX) {
        let text =
            format!("forecast.levels contains {level}, but models have error quantiles up to {LEVEL_MAX}");
        mismatches.push(Mismatch { key: "forecast.levels", text });
    }
    let horizons = pipeline.scores.iter().filter_map(|scores| scores.horizons.as_ref()).flatten();
    if let Some(horizon) = horizons.into_iter().find(|horizon| **horizon > manifest.horizon) {
        let text =
            format!("scores.horizons contains {horizon}, but the model forecasts {} steps", manifest.horizon);
        mismatches.push(Mismatch { key: "scores.horizons", text });
    }
    mismatches
}

pub fn kafka_source(pipeline: &Pipeline) -> Result<&KafkaSourceConfig> {
    pipeline.kafka_source.as_ref().with_context(|| {
        format!("{}: there is no [source.kafka]; add one with brokers and a topic", pipeline.file.display())
    })
}

pub fn reject_limit(pipeline: &Pipeline) -> Option<RejectLimit> {
    let rate = pipeline.limits.reject_rate?;
    Some(RejectLimit { rate, window: pipeline.limits.reject_window, reasons: pipeline.reject_reasons() })
}

/// Opens the state store for a topic with this number of partitions; `None` if the pipeline stores no state.
pub fn state_store(
    pipeline: &Pipeline,
    setup: &Setup,
    partitions: i32,
) -> Result<Option<Arc<SnapshotStore>>> {
    let Some(config) = &pipeline.state else { return Ok(None) };
    let keys = pipeline.state_keys().into_iter().map(|(key, value)| (key.to_owned(), value));
    // Two groups of a topic have different start positions, and so different states.
    let group =
        pipeline.kafka_source.iter().map(|source| ("source.kafka.group".to_owned(), source.group.clone()));
    // Additional partitions move ids between partitions.
    let partition_count = ("partitions of the topic".to_owned(), partitions.to_string());
    let keys = keys.chain(group).chain([partition_count]).collect();
    Ok(Some(Arc::new(SnapshotStore::open(&config.location, Lineage::new(keys, &setup.model.hash))?)))
}

/// The history at `path` from which states are bootstrapped, without the rows from `until` on.
pub fn bootstrap_history(pipeline: &Pipeline, path: &Path, until: Option<i64>) -> BootstrapHistory {
    let (pipeline, path, name) = (pipeline.clone(), path.to_owned(), path.display().to_string());
    let open = move || {
        let filter = RowFilter { times: TimeRange { since: None, until }, ids: None };
        let input = dataset::open_parquet(&pipeline, &path, filter)?;
        let batches = Box::new(input.batches().map(|batch| Ok(batch?.rows)));
        Ok(HistoryRows { total: input.total_rows(), batches })
    };
    BootstrapHistory { name, open: Arc::new(open) }
}
