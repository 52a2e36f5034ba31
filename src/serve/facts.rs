//! What of a pipeline does not change while it runs.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::config::{Brokers, KafkaSource, Pipeline, Serve, Units, duration_text};
use tidecast_core::forecaster::{Scoring, Setup};
use tidecast_core::series::{Aggregate, Grid, Refusal};
use tidecast_core::table::Columns;

/// Steps that a season may have for the board to hold forecasts against it: of longer ones a series keeps too little.
const SEASON_MOST: i64 = 168;
/// Steps ahead at which forecasts are held against what came, at most.
const AHEAD_MOST: usize = 168;

#[derive(Clone, Debug)]
pub struct Facts {
    pub columns: Columns,
    pub grid: Grid,
    pub aggregate: Aggregate,
    pub complete_after: Option<u32>,
    /// Steps; what is farther off is not believed at once.
    pub max_gap: i64,
    pub horizon: usize,
    /// Steps ahead at which forecasts are held against what came: the first, and the last that is kept.
    pub ahead: [usize; 2],
    pub levels: Vec<f64>,
    /// The levels that are shown, by their place: the narrowest and the widest.
    pub shown: Vec<usize>,
    /// Which forecasts the stream scores itself.
    pub scoring: Option<Scoring>,
    /// Steps after which the naive forecast repeats what was, as in the scores of the stream; else it is the last value.
    pub season: Option<i64>,
    /// Observed steps before the first forecast.
    pub warm: u64,
    pub ready_lag: u64,
    /// Reasons whose messages go to the rejects.
    pub rejected: Vec<Refusal>,
    pub units: Units,
    pub page: Page,
}

/// What the page is told once.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Page {
    pub name: String,
    pub version: &'static str,
    /// Of the process: a page that sees another one knows of a restart.
    pub boot: String,
    pub started_ms: u64,
    pub instance: Option<String>,
    pub brokers: Option<String>,
    pub topic: Option<String>,
    pub group: Option<String>,
    pub forecasts: Option<String>,
    pub rejects: Option<String>,
    pub state: Option<String>,
    pub every: String,
    pub every_ms: f64,
    pub offset_ms: f64,
    pub horizon: usize,
    pub ahead: [usize; 2],
    /// Of the levels that are shown.
    pub levels: Vec<f64>,
    /// That of the naive forecast, and of the baseline on the board: where they differ, that is the last value.
    pub season: Option<i64>,
    pub kept_season: Option<i64>,
    pub targets: Vec<String>,
    pub warm: u64,
    pub model: Vec<(String, String)>,
    pub scored: Option<ScoredPage>,
}

/// What the page is told of the scores of the stream.
#[derive(Clone, Debug, Serialize)]
pub struct ScoredPage {
    /// Steps ahead that are scored.
    pub ahead: Vec<usize>,
    /// Steps of a period.
    pub every: u32,
    /// All of them, as the scores have them.
    pub levels: Vec<f64>,
    /// Where they are written.
    pub to: Option<String>,
}

/// Where a run writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    Topics,
    Files,
    Lines,
}

/// Names of what is written to.
#[derive(Default)]
struct Ends {
    forecasts: Option<String>,
    rejects: Option<String>,
    rejected: Vec<Refusal>,
    scores: Option<String>,
}

impl Writes {
    fn ends(self, pipeline: &Pipeline) -> Ends {
        let path = |path: &PathBuf| path.display().to_string();
        match self {
            Self::Topics => {
                let sink = pipeline.kafka_sink.as_ref();
                Ends {
                    forecasts: sink.map(|sink| sink.topic.clone()),
                    rejects: sink.and_then(|sink| sink.rejects.clone()),
                    rejected: sink
                        .filter(|sink| sink.rejects.is_some())
                        .map_or(vec![], |sink| sink.rejected.clone()),
                    scores: sink.and_then(|sink| sink.scores.clone()),
                }
            }
            Self::Files => Ends {
                forecasts: pipeline.parquet_sink.as_ref().map(|sink| path(&sink.path)),
                rejects: None,
                rejected: vec![],
                scores: pipeline.score_sink.as_ref().and_then(|sink| sink.path.as_ref()).map(path),
            },
            Self::Lines => Ends { forecasts: Some("standard output".to_owned()), ..Ends::default() },
        }
    }
}

/// A season that the board keeps enough steps for.
fn kept(season: Option<i64>) -> Option<i64> {
    season.filter(|season| *season <= SEASON_MOST)
}

impl Facts {
    /// Steps after which the board's own baseline repeats what was; without any it is the last value.
    pub fn kept_season(&self) -> Option<i64> {
        kept(self.season)
    }

    pub fn of(
        pipeline: &Pipeline,
        setup: &Setup,
        config: &Serve,
        model: Vec<(String, String)>,
        writes: Writes,
    ) -> Self {
        let description = &setup.model.description;
        let rules = &pipeline.rules;
        let horizon = description.horizon;
        let ahead = [1, horizon.min(AHEAD_MOST)];
        let levels = pipeline.forecast.levels.clone();
        let shown = match levels.len() {
            0 => vec![],
            1 => vec![0],
            more => vec![0, more - 1],
        };
        let season = setup.season().map(|season| season as i64);
        let ends = writes.ends(pipeline);
        let warm = description.warm.max(description.lookback as u64);
        let source = pipeline.kafka_source.as_ref();
        let brokers = |source: &KafkaSource| match &source.brokers {
            Brokers::At(list) => list.clone(),
            Brokers::Embedded => "inside this process".to_owned(),
        };
        let scored = setup.scoring.as_ref().map(|scoring| ScoredPage {
            ahead: scoring.horizons.clone(),
            every: scoring.every,
            levels: levels.clone(),
            to: ends.scores,
        });
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let page = Page {
            name: pipeline.name.clone(),
            version: env!("CARGO_PKG_VERSION"),
            boot: format!("{:x}-{:x}", now.as_nanos(), std::process::id()),
            started_ms: now.as_millis() as u64,
            instance: source.map(|source| source.instance.clone()),
            brokers: source.map(brokers),
            topic: source.map(|source| source.topic.clone()),
            group: source.map(|source| source.group.clone()),
            forecasts: ends.forecasts,
            rejects: ends.rejects,
            state: pipeline.state.as_ref().map(|state| state.place.to_string()),
            every: duration_text(rules.grid.every),
            every_ms: rules.grid.every as f64 / 1e3,
            offset_ms: rules.grid.offset as f64 / 1e3,
            horizon,
            ahead,
            levels: shown.iter().map(|&i| levels[i]).collect(),
            season,
            kept_season: kept(season),
            targets: pipeline.columns.targets.clone(),
            warm,
            model,
            scored,
        };
        Self {
            columns: pipeline.columns.clone(),
            grid: rules.grid,
            aggregate: rules.aggregate,
            complete_after: rules.complete_after,
            max_gap: rules.grid.steps_in(rules.max_gap).max(1),
            horizon,
            ahead,
            levels,
            shown,
            scoring: setup.scoring.clone(),
            season,
            warm,
            ready_lag: config.ready_lag,
            rejected: ends.rejected,
            units: config.units.clone(),
            page,
        }
    }
}
