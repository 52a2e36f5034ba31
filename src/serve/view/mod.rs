//! The series of a pipeline, built from its input rows, forecasts and scores. Bounded in memory: a maximum number of series,
//! and per series as many steps as the budget allows.
//!
//! - `entry`  one series: its last steps, their forecasts, the current forecast, its errors
//! - `query`  search, sort order and JSON

mod entry;
mod query;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Float32Type;
use serde::Serialize;

use super::info::PipelineInfo;
use entry::{SeriesBudget, SeriesEntry, SeriesStatus, WindowScores};
pub use query::{SeriesRow, SortKey, ViewQuery};
use tidecast_core::metrics::Mean;
use tidecast_core::schema::{Forecasts, Observations, Scores};

/// Series in the view. Further series are counted only: at that scale a database is the right tool.
const SERIES_MAX: usize = 20_000;
/// Bytes for the steps, forecasts and scored periods of all series together.
const BUDGET_BYTES: usize = 96 << 20;
/// Past steps of a series when few series share the budget: six weeks of hours.
const PAST_STEPS_MAX: usize = 1_008;
/// Past steps of a series when many series share the budget: those of a sparkline. Below that, the view omits series.
const PAST_STEPS_MIN: usize = 48;

/// Series by status.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct StatusCounts {
    pub ok: usize,
    pub late: usize,
    pub silent: usize,
    pub warming: usize,
    pub drifting: usize,
}

/// Means over all series of the view at one horizon.
#[derive(Clone, Debug, Default, Serialize)]
pub struct HorizonSummary {
    pub mase: Option<f64>,
    /// Coverage of each retained interval level.
    pub coverage: Vec<f64>,
    /// Series with a MASE.
    pub series: u64,
}

/// A change of the view.
pub enum ViewUpdate {
    Rows(RowSource, RecordBatch),
    Forecasts(RecordBatch),
    Scores(RecordBatch),
    /// Partition numbers.
    Revoked(Vec<i32>),
}

/// Origin of a batch of rows.
#[derive(Clone, Copy, Debug)]
pub struct RowSource {
    pub partition: i32,
    /// The partition continues from earlier state, so the number of steps observed so far is unknown.
    pub is_resumed: bool,
}

impl ViewUpdate {
    /// Approximate bytes of the rows, without the columns that slices of a batch share.
    pub fn bytes(&self, info: &PipelineInfo) -> usize {
        // 64 bytes for id, times and positions.
        let size = |rows: &RecordBatch, value_bytes: usize| rows.num_rows() * (64 + value_bytes);
        match self {
            Self::Rows(_, rows) => {
                let columns = &info.columns;
                let inputs = columns.targets.len()
                    + columns.covariates.len()
                    + columns.future_covariates.len() * info.horizon;
                size(rows, inputs * size_of::<f64>())
            }
            Self::Forecasts(rows) => {
                size(rows, info.horizon * (1 + 2 * info.levels.len()) * size_of::<f32>())
            }
            Self::Scores(rows) => size(rows, (8 + info.levels.len()) * size_of::<f64>()),
            Self::Revoked(_) => 0,
        }
    }
}

/// The series of one id.
#[derive(Clone, Copy, Debug)]
struct IdEntry {
    /// Index of the first series. An id has one series per target, at consecutive indices.
    first: usize,
    /// Partition of the latest row.
    partition: i32,
}

pub struct SeriesView {
    pub info: Arc<PipelineInfo>,
    pub entries: Vec<SeriesEntry>,
    ids: HashMap<Arc<str>, IdEntry>,
    /// Incremented when series are removed, which invalidates indices.
    pub generation: u64,
    /// Largest number of series that the budget allows.
    series_max: usize,
    /// Number of series that the current budget is sized for.
    planned_series: usize,
    budget: SeriesBudget,
    /// Series of the pipeline that are not in the view, as of the last refresh.
    pub omitted: usize,
    /// A new id was rejected for lack of room since the last refresh.
    has_rejected_id: bool,
    /// Event time, in microseconds, that a tenth of the series have reached: one wrong clock does not move it.
    pub event_time: Option<i64>,
    pub status_counts: StatusCounts,
    pub summaries: [HorizonSummary; 2],
    /// Indices in natural order of names.
    by_name: Vec<usize>,
}

impl SeriesView {
    pub fn new(info: Arc<PipelineInfo>) -> Self {
        let smallest = SeriesBudget::new(&info, PAST_STEPS_MIN).bytes(&info);
        Self {
            series_max: (BUDGET_BYTES / smallest).min(SERIES_MAX),
            planned_series: 0,
            budget: SeriesBudget::new(&info, PAST_STEPS_MAX),
            info,
            entries: Vec::new(),
            ids: HashMap::new(),
            generation: 0,
            omitted: 0,
            has_rejected_id: false,
            event_time: None,
            status_counts: StatusCounts::default(),
            summaries: Default::default(),
            by_name: Vec::new(),
        }
    }

    pub fn apply(&mut self, update: &ViewUpdate) {
        match update {
            ViewUpdate::Rows(source, rows) => self.add_rows(*source, rows),
            ViewUpdate::Forecasts(rows) => self.add_forecasts(rows),
            ViewUpdate::Scores(rows) => self.add_scores(rows),
            ViewUpdate::Revoked(partitions) => self.remove_partitions(partitions),
        }
    }

    fn add_rows(&mut self, source: RowSource, rows: &RecordBatch) {
        let info = self.info.clone();
        let observations = Observations::new(rows, &info.columns);
        for row in 0..observations.len() {
            let id = match observations.series {
                Some(series) if series.is_valid(row) => series.value(row),
                Some(_) => continue,
                None => &info.columns.only_series,
            };
            if !observations.times.is_valid(row) {
                continue;
            }
            let time = observations.times.value(row);
            for (target, values) in observations.targets.iter().enumerate() {
                // A series without a value takes no room.
                if !values.is_valid(row) || !values.value(row).is_finite() {
                    continue;
                }
                let Some(first) = self.find_or_insert(id, source) else { break };
                self.entries[first + target].observe(&info, time, values.value(row), self.budget);
            }
        }
    }

    fn add_forecasts(&mut self, rows: &RecordBatch) {
        let info = self.info.clone();
        let forecasts = Forecasts::new(rows);
        // The forecast, then lower and upper bound of each retained level.
        let lists: Vec<usize> = [0]
            .into_iter()
            .chain(info.view_levels.iter().flat_map(|level| [1 + 2 * level, 2 + 2 * level]))
            .collect();
        for row in 0..forecasts.len() {
            let (id, target) = (forecasts.series.value(row), forecasts.targets.value(row));
            let Some(index) = self.index_of(id, target) else { continue };
            let lists: Vec<_> = lists.iter().map(|&list| forecasts.lists[list].value(row)).collect();
            let lists: Vec<&[f32]> =
                lists.iter().map(|list| &list.as_primitive::<Float32Type>().values()[..]).collect();
            let origin = forecasts.origins.value(row);
            self.entries[index].set_forecast(&info, origin, &lists, self.budget);
        }
    }

    fn add_scores(&mut self, rows: &RecordBatch) {
        let info = self.info.clone();
        let Some(scoring) = &info.scoring else { return };
        let scores = Scores::new(rows);
        for row in 0..scores.len() {
            if let Some(index) = self.index_of(scores.series.value(row), scores.targets.value(row)) {
                self.entries[index].periods.set(scoring, &scores, row);
            }
        }
    }

    /// Index of a series in the view. Forecasts and scores follow the rows that they were computed from, so their series exists
    /// unless it was omitted.
    fn index_of(&self, id: &str, target: &str) -> Option<usize> {
        let target = self.info.columns.targets.iter().position(|name| name == target)?;
        Some(self.ids.get(id)?.first + target)
    }

    /// Index of the first series of an id, which is inserted if there is room.
    fn find_or_insert(&mut self, id: &str, source: RowSource) -> Option<usize> {
        if let Some(entry) = self.ids.get_mut(id) {
            entry.partition = source.partition;
            return Some(entry.first);
        }
        let series = self.entries.len() + self.info.columns.targets.len();
        if series > self.series_max {
            self.has_rejected_id = true;
            return None;
        }
        self.plan_budget(series);
        let id: Arc<str> = id.into();
        let first = self.entries.len();
        for (target, name) in self.info.columns.targets.iter().enumerate() {
            let unit = self.info.units.find(&id, name).map(Arc::from);
            let mut entry = SeriesEntry::new(id.clone(), target, unit);
            entry.observed_steps = (!source.is_resumed).then_some(0);
            self.entries.push(entry);
        }
        self.ids.insert(id, IdEntry { first, partition: source.partition });
        Some(first)
    }

    fn remove_partitions(&mut self, partitions: &[i32]) {
        self.retain(|_, id| !partitions.contains(&id.partition));
    }

    /// Removes ids and compacts the series of the others.
    fn retain(&mut self, is_retained: impl Fn(&[SeriesEntry], &IdEntry) -> bool) {
        let mut removed = vec![false; self.entries.len()];
        let targets = self.info.columns.targets.len();
        self.ids.retain(|_, id| {
            let range = id.first..id.first + targets;
            let is_retained = is_retained(&self.entries[range.clone()], id);
            removed[range].fill(!is_retained);
            is_retained
        });
        if !removed.contains(&true) {
            return;
        }
        let mut new_indices: Vec<usize> = Vec::with_capacity(removed.len());
        let mut next = 0;
        for is_removed in &removed {
            new_indices.push(next);
            next += usize::from(!is_removed);
        }
        self.by_name.retain(|index| !removed[*index]);
        self.by_name.iter_mut().for_each(|index| *index = new_indices[*index]);
        self.ids.values_mut().for_each(|id| id.first = new_indices[id.first]);
        let mut removed = removed.into_iter();
        self.entries.retain(|_| !removed.next().unwrap_or_default());
        self.entries.shrink_to_fit();
        self.generation += 1;
    }

    /// The series of an id and a target index.
    pub fn find(&self, id: &str, target: usize) -> Option<&SeriesEntry> {
        let first = self.ids.get(id)?.first;
        self.entries.get(first + target).filter(|_| target < self.info.columns.targets.len())
    }

    /// Divides the budget among `series` series and a quarter more, so that it is seldom divided again. Existing series shrink to
    /// the new budget.
    fn plan_budget(&mut self, series: usize) {
        if series <= self.planned_series {
            return;
        }
        self.planned_series = (series + series / 4).min(self.series_max);
        let bytes_max = BUDGET_BYTES / self.planned_series;
        let fits = |past: &usize| SeriesBudget::new(&self.info, *past).bytes(&self.info) <= bytes_max;
        let past_steps = (PAST_STEPS_MIN..=PAST_STEPS_MAX).rev().find(fits).unwrap_or(PAST_STEPS_MIN);
        let budget = SeriesBudget::new(&self.info, past_steps);
        if budget != self.budget {
            self.budget = budget;
            self.entries.iter_mut().for_each(|entry| entry.shrink(budget));
        }
    }

    /// Updates event time, series statuses and summaries. Runs once a second. `known_ids` is the number of ids of the pipeline.
    pub fn refresh(&mut self, known_ids: usize) {
        let mut times: Vec<i64> = self.entries.iter().filter_map(SeriesEntry::confirmed_time).collect();
        if !times.is_empty() {
            // With fewer than ten series this is the latest time.
            let rank = times.len() - 1 - times.len() / 10;
            self.event_time = Some(*times.select_nth_unstable(rank).1);
        }
        let targets = self.info.columns.targets.len();
        let is_full = self.entries.len() + targets > self.series_max;
        self.omitted = if is_full { known_ids.saturating_sub(self.ids.len()) * targets } else { 0 };
        // Silent series give way to new ones.
        if std::mem::take(&mut self.has_rejected_id) {
            self.retain(|entries, _| {
                entries.iter().any(|entry| entry.last.is_some() && entry.status != SeriesStatus::Silent)
            });
        }
        let mut counts = StatusCounts::default();
        for entry in &mut self.entries {
            entry.update_status(&self.info, self.event_time);
            match entry.status {
                SeriesStatus::Ok => counts.ok += 1,
                SeriesStatus::Late => counts.late += 1,
                SeriesStatus::Silent => counts.silent += 1,
                SeriesStatus::Warming => counts.warming += 1,
                SeriesStatus::Drifting => counts.drifting += 1,
            }
        }
        self.status_counts = counts;
        self.summaries = [0, 1].map(|horizon_index| self.summarize(horizon_index));
        if self.by_name.len() != self.entries.len() {
            self.by_name = (0..self.entries.len()).collect();
            let entry = |index: &usize| &self.entries[*index];
            self.by_name.sort_by(|a, b| entry(a).cmp_names(entry(b)));
        }
    }

    fn summarize(&self, horizon_index: usize) -> HorizonSummary {
        let scores: Vec<&WindowScores> =
            self.entries.iter().map(|entry| &entry.scores[horizon_index]).collect();
        let mase: Mean = scores.iter().filter_map(|scores| scores.mase).collect();
        let coverage = (0..self.info.view_levels.len()).filter_map(|level| {
            let coverage = scores.iter().filter_map(|scores| scores.coverage.get(level).copied());
            coverage.collect::<Mean>().value()
        });
        HorizonSummary { mase: mase.value(), coverage: coverage.collect(), series: mase.count }
    }
}

#[cfg(test)]
mod tests;
