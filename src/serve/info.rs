//! The fixed properties of a running pipeline: names, grid, model, scoring.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::config::{Pipeline, ServeConfig, Units};
use tidecast_core::forecaster::{Scoring, Setup};
use tidecast_core::schema::Columns;
use tidecast_core::series::{Aggregate, Grid, Refusal};
use tidecast_core::time::duration_text;
use tidecast_kafka::settings::Brokers;

/// Longest season that the view uses for its baseline: the view retains too few steps for a longer one.
const SEASON_MAX: usize = 168;
/// Farthest horizon whose forecasts the view scores.
const HORIZON_MAX: usize = 168;

#[derive(Clone, Debug)]
pub struct PipelineInfo {
    pub columns: Columns,
    pub grid: Grid,
    pub aggregate: Aggregate,
    pub complete_after: Option<u32>,
    /// Longest gap, in steps. A row farther away becomes the candidate.
    pub max_gap: i64,
    /// Steps in a forecast.
    pub horizon: usize,
    /// Horizons that the view scores: the first step, and the last step up to [`HORIZON_MAX`].
    pub view_horizons: [usize; 2],
    /// Interval levels of the pipeline, ascending.
    pub levels: Vec<f64>,
    /// Indices into `levels` of the intervals that the view retains: the narrowest and the widest.
    pub view_levels: Vec<usize>,
    pub scoring: Option<Scoring>,
    /// Season of the naive forecast, in steps. Without a season the naive forecast is the last value.
    pub season: Option<usize>,
    /// Observed steps before the first forecast.
    pub warmup_steps: u64,
    pub ready_lag: u64,
    /// Refusal reasons whose messages are written to the rejects topic.
    pub reject_reasons: Vec<Refusal>,
    pub units: Units,
    pub page: PageInfo,
}

/// The JSON of `/api/pipeline`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PageInfo {
    pub name: String,
    pub version: &'static str,
    /// Identifies the process, so that the page detects a restart.
    pub run_id: String,
    pub started_ms: u64,
    pub instance: Option<String>,
    pub brokers: Option<String>,
    pub input_topic: Option<String>,
    pub group: Option<String>,
    pub forecast_output: Option<String>,
    pub rejects_output: Option<String>,
    pub state_location: Option<String>,
    pub step: String,
    pub step_ms: f64,
    pub offset_ms: f64,
    pub horizon: usize,
    pub view_horizons: [usize; 2],
    pub view_levels: Vec<f64>,
    pub season: Option<usize>,
    /// Season of the view's baseline. `None` means the last value.
    pub baseline_season: Option<usize>,
    pub targets: Vec<String>,
    pub warmup_steps: u64,
    /// Name and value pairs; the first is the hash.
    pub model: Vec<(String, String)>,
    pub scoring: Option<ScoringInfo>,
}

/// The scoring of the pipeline's own forecasts.
#[derive(Clone, Debug, Serialize)]
pub struct ScoringInfo {
    pub horizons: Vec<usize>,
    pub period_steps: u32,
    pub levels: Vec<f64>,
    pub output: Option<String>,
}

/// The kind of output that a run writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputKind {
    Topics,
    Files,
    Stdout,
}

/// Names of the outputs of a run.
#[derive(Default)]
struct OutputNames {
    forecasts: Option<String>,
    rejects: Option<String>,
    reject_reasons: Vec<Refusal>,
    scores: Option<String>,
}

impl OutputNames {
    fn new(kind: OutputKind, pipeline: &Pipeline) -> Self {
        let text = |path: &Path| path.display().to_string();
        match kind {
            OutputKind::Topics => {
                let Some(sink) = &pipeline.kafka_sink else { return Self::default() };
                Self {
                    forecasts: Some(sink.topic.clone()),
                    rejects: sink.rejects_topic.clone(),
                    reject_reasons: if sink.rejects_topic.is_some() {
                        sink.reject_reasons.clone()
                    } else {
                        vec![]
                    },
                    scores: sink.scores_topic.clone(),
                }
            }
            OutputKind::Files => Self {
                forecasts: pipeline.parquet_sink.as_ref().map(|sink| text(&sink.path)),
                scores: pipeline.score_sink.as_ref().and_then(|sink| sink.path.as_deref()).map(text),
                ..Self::default()
            },
            OutputKind::Stdout => Self { forecasts: Some("standard output".to_owned()), ..Self::default() },
        }
    }
}

impl PipelineInfo {
    /// `model` describes the model as name and value pairs, its hash first.
    pub fn new(
        pipeline: &Pipeline,
        setup: &Setup,
        config: &ServeConfig,
        model: Vec<(String, String)>,
        output: OutputKind,
    ) -> Self {
        let manifest = &setup.model.manifest;
        let step_config = &pipeline.step_config;
        let levels = pipeline.forecast.levels.clone();
        let outputs = OutputNames::new(output, pipeline);
        let mut info = Self {
            columns: pipeline.columns.clone(),
            grid: step_config.grid,
            aggregate: step_config.aggregate,
            complete_after: step_config.complete_after,
            max_gap: step_config.grid.steps_in(step_config.max_gap).max(1),
            horizon: manifest.horizon,
            view_horizons: [1, manifest.horizon.min(HORIZON_MAX)],
            view_levels: match levels.len() {
                0 => vec![],
                1 => vec![0],
                count => vec![0, count - 1],
            },
            levels,
            scoring: setup.scoring.clone(),
            season: setup.season(),
            warmup_steps: manifest.warmup.max(manifest.lookback as u64),
            ready_lag: config.ready_lag,
            reject_reasons: outputs.reject_reasons.clone(),
            units: config.units.clone(),
            page: PageInfo::default(),
        };
        info.page = info.page(pipeline, model, outputs);
        info
    }

    /// Season of the view's baseline. `None` means that the baseline is the last value.
    pub fn baseline_season(&self) -> Option<usize> {
        self.season.filter(|season| *season <= SEASON_MAX)
    }

    fn page(&self, pipeline: &Pipeline, model: Vec<(String, String)>, outputs: OutputNames) -> PageInfo {
        let source = pipeline.kafka_source.as_ref();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        PageInfo {
            name: pipeline.name.clone(),
            version: env!("CARGO_PKG_VERSION"),
            run_id: format!("{:x}-{:x}", now.as_nanos(), std::process::id()),
            started_ms: now.as_millis() as u64,
            instance: source.map(|source| source.instance.clone()),
            brokers: source.map(|source| match &source.brokers {
                Brokers::Addresses(list) => list.clone(),
                Brokers::Embedded => "embedded in this process".to_owned(),
            }),
            input_topic: source.map(|source| source.topic.clone()),
            group: source.map(|source| source.group.clone()),
            forecast_output: outputs.forecasts,
            rejects_output: outputs.rejects,
            state_location: pipeline.state.as_ref().map(|state| state.location.to_string()),
            step: duration_text(self.grid.every),
            step_ms: self.grid.every as f64 / 1e3,
            offset_ms: self.grid.offset as f64 / 1e3,
            horizon: self.horizon,
            view_horizons: self.view_horizons,
            view_levels: self.view_levels.iter().map(|&i| self.levels[i]).collect(),
            season: self.season,
            baseline_season: self.baseline_season(),
            targets: self.columns.targets.clone(),
            warmup_steps: self.warmup_steps,
            model,
            scoring: self.scoring.as_ref().map(|scoring| ScoringInfo {
                horizons: scoring.horizons.clone(),
                period_steps: scoring.every,
                levels: self.levels.clone(),
                output: outputs.scores,
            }),
        }
    }
}
