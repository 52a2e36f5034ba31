//! Queries of the overview: search, filter, sort order, and rows as JSON.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::SeriesView;
use super::entry::{SeriesEntry, SeriesStatus, WindowScores};

/// Past steps of a sparkline: two days of hours.
const SPARKLINE_STEPS: i64 = 48;
/// Forecast steps of a sparkline.
const SPARKLINE_FORECAST_STEPS: usize = 24;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SortKey {
    #[default]
    Name,
    Status,
    Value,
    Next,
    Mae,
    Mase,
    Coverage,
}

/// Which series, in which order.
#[derive(Clone, Debug, Default)]
pub struct ViewQuery {
    /// Words that the name must contain, ignoring case.
    pub search: String,
    pub sort: SortKey,
    pub descending: bool,
    pub status: Option<SeriesStatus>,
    /// Which of the view's two horizons the scores are of.
    pub horizon_index: usize,
}

/// A row of the overview.
#[derive(Serialize)]
pub struct SeriesRow<'a> {
    index: usize,
    pub id: &'a str,
    target: Option<&'a str>,
    unit: Option<&'a str>,
    status: SeriesStatus,
    warmup_steps_observed: Option<u64>,
    time_ms: Option<f64>,
    pub value: Option<f64>,
    /// The forecast of the next step, and its narrowest interval.
    pub next: Option<f32>,
    pub lower: Option<f32>,
    pub upper: Option<f32>,
    pub scores: &'a WindowScores,
}

/// The last steps and the current forecast.
#[derive(Serialize)]
struct Sparkline<'a> {
    past: Vec<f32>,
    /// The forecast's origin relative to the last step of `past`, at most 0.
    origin_offset: i64,
    forecast: &'a [f32],
    lower: &'a [f32],
    upper: &'a [f32],
}

impl SeriesView {
    /// Indices of the matching series, sorted.
    pub fn query(&self, query: &ViewQuery) -> Vec<usize> {
        let words: Vec<String> = query.search.split_whitespace().map(str::to_lowercase).collect();
        let mut matches: Vec<usize> =
            self.by_name.iter().copied().filter(|index| self.matches(*index, query.status, &words)).collect();
        // Stable: equal keys stay in the order of names.
        match query.sort {
            SortKey::Name if query.descending => matches.reverse(),
            SortKey::Name => {}
            SortKey::Status => matches.sort_by(|a, b| {
                let order = self.entries[*a].status.cmp(&self.entries[*b].status);
                if query.descending { order.reverse() } else { order }
            }),
            sort => {
                let key = |index: usize| self.entries[index].sort_value(sort, query.horizon_index);
                let mut keyed: Vec<(Option<f64>, usize)> =
                    matches.iter().map(|index| (key(*index), *index)).collect();
                keyed.sort_by(|a, b| compare(a.0, b.0, query.descending));
                matches = keyed.into_iter().map(|(_, index)| index).collect();
            }
        }
        matches
    }

    fn matches(&self, index: usize, status: Option<SeriesStatus>, words: &[String]) -> bool {
        let entry = &self.entries[index];
        if status.is_some_and(|status| entry.status != status) {
            return false;
        }
        if words.is_empty() {
            return true;
        }
        let name = match self.target_name(entry) {
            Some(target) => format!("{} {target}", entry.id).to_lowercase(),
            None => entry.id.to_lowercase(),
        };
        words.iter().all(|word| name.contains(word.as_str()))
    }

    /// The name of the target, where there is more than one.
    fn target_name(&self, entry: &SeriesEntry) -> Option<&str> {
        let targets = &self.info.columns.targets;
        (targets.len() > 1).then(|| targets[entry.target].as_str())
    }

    pub fn row(&self, index: usize, horizon_index: usize) -> SeriesRow<'_> {
        let entry = &self.entries[index];
        SeriesRow {
            index,
            id: &entry.id,
            target: self.target_name(entry),
            unit: entry.unit.as_deref(),
            status: entry.status,
            warmup_steps_observed: entry.warmup_steps_observed(&self.info),
            time_ms: entry.last.map(|last| last.time as f64 / 1e3),
            value: entry.last.map(|last| last.value),
            next: entry.next(0),
            lower: entry.next(1),
            upper: entry.next(2),
            scores: &entry.scores[horizon_index],
        }
    }

    /// A row of the overview with its sparkline.
    pub fn row_json(&self, index: usize, horizon_index: usize) -> serde_json::Value {
        let mut row = serde_json::to_value(self.row(index, horizon_index)).unwrap_or_default();
        row["sparkline"] = serde_json::to_value(self.entries[index].sparkline()).unwrap_or_default();
        row
    }
}

impl SeriesEntry {
    fn sparkline(&self) -> Sparkline<'_> {
        let list = |list: usize| -> &[f32] {
            let list = self.forecast.as_ref().and_then(|forecast| forecast.lists.get(list));
            let list = list.map_or(&[][..], Vec::as_slice);
            &list[..list.len().min(SPARKLINE_FORECAST_STEPS)]
        };
        let last = self.last.map_or(0, |last| last.step);
        let past = match self.last {
            Some(_) => {
                (last - SPARKLINE_STEPS + 1..=last).map(|step| self.value(step).unwrap_or(f32::NAN)).collect()
            }
            None => vec![],
        };
        Sparkline {
            past,
            origin_offset: self.forecast.as_ref().map_or(0, |forecast| forecast.origin - last),
            forecast: list(0),
            lower: list(1),
            upper: list(2),
        }
    }

    fn sort_value(&self, sort: SortKey, horizon_index: usize) -> Option<f64> {
        let scores = &self.scores[horizon_index];
        match sort {
            SortKey::Name | SortKey::Status => None,
            SortKey::Value => self.last.map(|last| last.value),
            SortKey::Next => self.next(0).map(f64::from),
            SortKey::Mae => scores.mae,
            SortKey::Mase => scores.mase,
            SortKey::Coverage => scores.coverage.first().copied(),
        }
    }
}

/// Series without a value sort last in both directions.
fn compare(a: Option<f64>, b: Option<f64>, descending: bool) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) if descending => b.total_cmp(&a),
        (Some(a), Some(b)) => a.total_cmp(&b),
        (a, b) => b.is_some().cmp(&a.is_some()),
    }
}
