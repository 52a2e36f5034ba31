//! Event streams of the page (server-sent events). Each message holds the changes since the previous one and is built when
//! the client has taken that one, so a slow client costs nothing.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use super::dashboard::Dashboard;
use super::view::{SortKey, ViewQuery};
use tidecast_core::series::Refusal;

/// Interval of the series streams: smooth enough for a moving chart.
const SERIES_INTERVAL: Duration = Duration::from_millis(250);
const PIPELINE_INTERVAL: Duration = Duration::from_secs(1);
/// Shortest time between two sorts of the overview: rows that move more often are unreadable.
const SORT_INTERVAL: Duration = Duration::from_secs(2);
/// Rows of one request: several screens of the largest kind.
const ROWS_MAX: usize = 200;
const ROWS_DEFAULT: usize = 50;
/// Delay before a browser reconnects.
const RETRY: Duration = Duration::from_secs(1);

struct Message {
    event: &'static str,
    data: Value,
}

#[derive(Debug, Deserialize)]
pub struct OverviewQuery {
    #[serde(default)]
    search: String,
    #[serde(default)]
    sort: SortKey,
    #[serde(default)]
    descending: bool,
    status: Option<String>,
    #[serde(default)]
    horizon_index: usize,
    #[serde(default)]
    offset: usize,
    limit: Option<usize>,
}

/// The visible rows and a summary of all series.
pub async fn overview(
    State(dashboard): State<Arc<Dashboard>>,
    Query(query): Query<OverviewQuery>,
) -> Response {
    // An unknown status filters nothing.
    let status = query.status.and_then(|status| serde_json::from_value(Value::String(status)).ok());
    let mut stream = OverviewStream {
        dashboard: dashboard.clone(),
        query: ViewQuery {
            search: query.search,
            sort: query.sort,
            descending: query.descending,
            status,
            horizon_index: query.horizon_index.min(1),
        },
        offset: query.offset,
        limit: query.limit.unwrap_or(ROWS_DEFAULT).min(ROWS_MAX),
        matches: Vec::new(),
        sorted: None,
        sent_versions: HashMap::new(),
    };
    respond(&dashboard, SERIES_INTERVAL, move || stream.message())
}

struct OverviewStream {
    dashboard: Arc<Dashboard>,
    query: ViewQuery,
    offset: usize,
    limit: usize,
    /// Indices of the matching series, sorted.
    matches: Vec<usize>,
    sorted: Option<Sorted>,
    /// Version of each row that the page has, by index.
    sent_versions: HashMap<usize, u64>,
}

/// The state of the view when its series were last sorted.
struct Sorted {
    at: Instant,
    series: usize,
    generation: u64,
}

impl OverviewStream {
    fn message(&mut self) -> Message {
        let process = process(&self.dashboard);
        let view = self.dashboard.view.lock();
        let (series, generation) = (view.entries.len(), view.generation);
        if self.sorted.as_ref().is_some_and(|sorted| sorted.generation != generation) {
            self.sent_versions.clear();
            self.sorted = None;
        }
        let is_current = |sorted: &Sorted| sorted.at.elapsed() < SORT_INTERVAL && sorted.series == series;
        if !self.sorted.as_ref().is_some_and(is_current) {
            self.matches = view.query(&self.query);
            self.sorted = Some(Sorted { at: Instant::now(), series, generation });
        }
        let offset = self.offset.min(self.matches.len());
        let window = &self.matches[offset..self.matches.len().min(offset + self.limit)];
        let is_changed =
            |index: &&usize| self.sent_versions.get(index) != Some(&view.entries[**index].version);
        let rows: Vec<Value> = window
            .iter()
            .filter(is_changed)
            .map(|index| view.row_json(*index, self.query.horizon_index))
            .collect();
        self.sent_versions = window.iter().map(|index| (*index, view.entries[*index].version)).collect();
        let data = json!({
            "process": process,
            "offset": offset,
            "matched": self.matches.len(),
            "series": series,
            "omitted": view.omitted,
            "status_counts": view.status_counts,
            "summary": view.summaries[self.query.horizon_index],
            "event_time_ms": view.event_time.map(|time| time as f64 / 1e3),
            "indices": window,
            "rows": rows,
        });
        Message { event: "overview", data }
    }
}

#[derive(Debug, Deserialize)]
pub struct SeriesQuery {
    id: String,
    #[serde(default)]
    target: String,
}

/// One series: all its steps first, then the changed ones.
pub async fn series(State(dashboard): State<Arc<Dashboard>>, Query(query): Query<SeriesQuery>) -> Response {
    let targets = &dashboard.info.columns.targets;
    let target = targets.iter().position(|target| *target == query.target).unwrap_or(0);
    let mut stream = SeriesStream { dashboard: dashboard.clone(), id: query.id, target, sent: None };
    respond(&dashboard, SERIES_INTERVAL, move || stream.message())
}

struct SeriesStream {
    dashboard: Arc<Dashboard>,
    id: String,
    target: usize,
    sent: Option<SentSeries>,
}

/// The part of a series that the page has received.
struct SentSeries {
    version: u64,
    /// First step that may still change.
    open_step: i64,
}

impl SeriesStream {
    fn message(&mut self) -> Message {
        let process = process(&self.dashboard);
        let view = self.dashboard.view.lock();
        let Some(entry) = view.find(&self.id, self.target) else {
            self.sent = None;
            let data = json!({ "process": process, "series": view.entries.len(), "omitted": view.omitted });
            return Message { event: "missing", data };
        };
        let from = match &self.sent {
            Some(sent) if sent.version == entry.version => None,
            Some(sent) if sent.open_step >= entry.first_step => Some(sent.open_step),
            _ => Some(entry.first_step),
        };
        let last = entry.last.map(|last| last.step);
        let open_step = entry.closed.or(last).unwrap_or(entry.first_step);
        self.sent = Some(SentSeries { version: entry.version, open_step });
        let data = json!({
            "process": process,
            "first_step": entry.first_step,
            "steps": from.map(|from| entry.steps_json(from)),
            "series": entry.detail_json(&view.info),
        });
        Message { event: "series", data }
    }
}

/// The status of the pipeline, with all retained samples in the first message.
pub async fn pipeline(State(dashboard): State<Arc<Dashboard>>) -> Response {
    let (source, mut is_first) = (dashboard.clone(), true);
    respond(&dashboard, PIPELINE_INTERVAL, move || {
        let samples: Vec<_> = {
            let sampler = source.sampler.lock();
            let skipped = if is_first { 0 } else { sampler.samples.len().saturating_sub(1) };
            sampler.samples.iter().skip(skipped).cloned().collect()
        };
        is_first = false;
        let data = json!({ "process": process(&source), "samples": samples, "status": status(&source) });
        Message { event: "pipeline", data }
    })
}

fn status(dashboard: &Dashboard) -> Value {
    let lags = dashboard.partition_lags();
    let (commits, snapshots) = {
        let sampler = dashboard.sampler.lock();
        (sampler.commits.clone(), sampler.snapshots.clone())
    };
    let status = dashboard.status.lock();
    let partitions: Vec<Value> = (status.partitions.iter())
        .map(|(partition, status)| {
            let lag = lags.get(&partition.number);
            json!({
                "topic": &*partition.topic,
                "partition": partition.number,
                "phase": status.phase,
                "assigned_seconds": status.assigned_at.elapsed().unwrap_or_default().as_secs(),
                "position": status.position,
                "committed": status.committed,
                "end": lag.map(|lag| lag.end),
                "lag_rows": status.lag(lag),
            })
        })
        .collect();
    let refused: Vec<Value> = (Refusal::ALL.iter())
        .map(|reason| {
            let samples: Vec<_> = status.samples.get(reason).into_iter().flatten().rev().collect();
            json!({ "reason": reason.name(), "count": status.rows.refused(*reason), "samples": samples })
        })
        .collect();
    let events: Vec<_> = status.events.iter().rev().collect();
    let counters = &dashboard.counters;
    json!({
        "partitions": partitions,
        "rows": status.rows.rows,
        "forecasts": status.rows.forecasts,
        "refused": refused,
        "gap_resets": status.rows.restarts,
        "evictions": status.rows.evictions,
        "forced_closes": status.rows.forced_closes,
        "series": status.series,
        "assignments": status.assignments,
        "revocations": status.revocations,
        "events": events,
        "dropped_updates": counters.dropped_updates.load(Relaxed),
        "scores": counters.scores.to_json(),
        "commits": commits,
        "snapshots": snapshots,
        "snapshot_failures": counters.snapshot_failures.load(Relaxed),
    })
}

/// The state of the process, part of every message.
fn process(dashboard: &Dashboard) -> Value {
    let not_ready = dashboard.not_ready();
    let sampler = dashboard.sampler.lock();
    json!({
        "run_id": dashboard.info.page.run_id,
        "sample": sampler.samples.back(),
        "idle_seconds": sampler.idle_seconds,
        "not_ready": not_ready,
    })
}

/// Sends a message at once and then one per interval.
fn respond(
    dashboard: &Dashboard,
    every: Duration,
    message: impl FnMut() -> Message + Send + 'static,
) -> Response {
    let Ok(permit) = dashboard.stream_permits.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many open pages: close some\n").into_response();
    };
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let events = unfold((message, ticks, permit), |(mut message, mut ticks, permit)| async move {
        ticks.tick().await;
        let Message { event, data } = message();
        let event = Event::default().event(event).retry(RETRY).data(data.to_string());
        Some((Ok::<_, Infallible>(event), (message, ticks, permit)))
    });
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}
