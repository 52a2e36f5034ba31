//! What flows to the pages, as server-sent events. A message holds what has changed since the one before it; it is made when the
//! page has taken that one, so that a slow page costs nothing but its own patience.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::board::{self, Order, Sort};
use super::observer::Shared;

/// Four times a second looks like a flow.
const OFTEN: Duration = Duration::from_millis(250);
const SECOND: Duration = Duration::from_secs(1);
/// Rows change places no more often: nobody could read them.
const ORDER_EVERY: Duration = Duration::from_secs(2);
/// Rows that a page may ask for at once: some screens of the largest.
const ROWS_MOST: usize = 200;
/// Before a page asks again after its connection broke.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Debug, Deserialize)]
pub struct OverviewQuery {
    #[serde(default)]
    search: String,
    #[serde(default)]
    sort: Sort,
    #[serde(default)]
    descending: bool,
    state: Option<String>,
    #[serde(default)]
    ahead: usize,
    #[serde(default)]
    from: usize,
    #[serde(default = "some_rows")]
    rows: usize,
}

fn some_rows() -> usize {
    50
}

/// The rows in view, and how everything is.
pub async fn overview(State(shared): State<Arc<Shared>>, Query(query): Query<OverviewQuery>) -> Response {
    let state = query.state.and_then(|state| serde_json::from_value(Value::String(state)).ok());
    let order = Order {
        search: query.search,
        sort: query.sort,
        descending: query.descending,
        state,
        ahead: query.ahead.min(1),
    };
    let mut view = Overview {
        shared: shared.clone(),
        order,
        from: query.from,
        rows: query.rows.min(ROWS_MOST),
        places: Vec::new(),
        ordered: None,
        sent: HashMap::new(),
    };
    stream(shared, OFTEN, move || Some(("overview", view.message())))
}

struct Overview {
    shared: Arc<Shared>,
    order: Order,
    from: usize,
    rows: usize,
    places: Vec<usize>,
    /// When, of how many series, and after how many moves.
    ordered: Option<(Instant, usize, u64)>,
    /// Versions of the rows that the page has.
    sent: HashMap<usize, u64>,
}

impl Overview {
    fn message(&mut self) -> Value {
        let pulse = pulse(&self.shared);
        let board = self.shared.board();
        let (count, moves) = (board.tracks.len(), board.moves);
        if self.ordered.is_some_and(|(_, _, before)| before != moves) {
            self.sent.clear();
            self.ordered = None;
        }
        if self.ordered.is_none_or(|(at, of, _)| at.elapsed() >= ORDER_EVERY || of != count) {
            self.places = board.ordered(&self.order);
            self.ordered = Some((Instant::now(), count, moves));
        }
        let from = self.from.min(self.places.len());
        let window = &self.places[from..self.places.len().min(from + self.rows)];
        let changed =
            window.iter().filter(|place| self.sent.get(place) != Some(&board.tracks[**place].version));
        let rows: Vec<Value> = changed.map(|place| board.row(*place, self.order.ahead)).collect();
        self.sent = window.iter().map(|place| (*place, board.tracks[*place].version)).collect();
        json!({
            "pulse": pulse,
            "from": from,
            "found": self.places.len(),
            "series": count,
            "left_out": board.left_out,
            "states": board.states,
            "overall": board.overall[self.order.ahead],
            "now_ms": board.now.map(|now| now as f64 / 1e3),
            "order": window,
            "rows": rows,
        })
    }
}

#[derive(Debug, Deserialize)]
pub struct SeriesQuery {
    id: String,
    #[serde(default)]
    target: String,
}

/// One series: all of it first, then what changes.
pub async fn series(State(shared): State<Arc<Shared>>, Query(query): Query<SeriesQuery>) -> Response {
    let targets = &shared.facts.columns.targets;
    let target = targets.iter().position(|target| *target == query.target).unwrap_or(0);
    let (own, id) = (shared.clone(), query.id);
    // What the page has: the version, and the step from which it may change.
    let mut sent: Option<(u64, i64)> = None;
    stream(shared, OFTEN, move || {
        let pulse = pulse(&own);
        let board = own.board();
        let Some(track) = board.find(&id, target) else {
            sent = None;
            let (series, left_out) = (board.tracks.len(), board.left_out);
            return Some(("missing", json!({ "pulse": pulse, "series": series, "left_out": left_out })));
        };
        let (now_ms, detail) = (board.now.map(|now| now as f64 / 1e3), board::detail(&board, track));
        let from = match sent {
            Some((version, _)) if version == track.version => None,
            Some((_, from)) if from >= track.first => Some(from),
            _ => Some(track.first),
        };
        let steps = from.map(|from| board::steps(track, from));
        sent =
            Some((track.version, track.closed.or(track.last.map(|last| last.step)).unwrap_or(track.first)));
        let message = json!({ "pulse": pulse, "now_ms": now_ms, "first": track.first, "steps": steps, "series": detail });
        Some(("series", message))
    })
}

/// Where the line stands.
pub async fn pipeline(State(shared): State<Arc<Shared>>) -> Response {
    let own = shared.clone();
    let mut is_first = true;
    stream(shared, SECOND, move || {
        let samples: Vec<_> = {
            let pulse = own.pulse();
            let skip = if is_first { 0 } else { pulse.samples.len().saturating_sub(1) };
            pulse.samples.iter().skip(skip).cloned().collect()
        };
        is_first = false;
        Some(("pipeline", json!({ "pulse": pulse(&own), "samples": samples, "line": line(&own) })))
    })
}

fn line(shared: &Shared) -> Value {
    let ends = shared.ends();
    let (commit, snapshot) = {
        let pulse = shared.pulse();
        (pulse.commit.clone(), pulse.snapshot.clone())
    };
    let line = shared.line();
    let partitions: Vec<Value> = (line.partitions.iter())
        .map(|(partition, stand)| {
            let since = stand.since.elapsed().unwrap_or_default().as_secs();
            json!({
                "topic": &*partition.topic,
                "partition": partition.number,
                "is_reading": stand.is_reading,
                "seconds": since,
                "position": stand.position,
                "committed": stand.committed,
                "end": ends.get(&partition.number).map(|reach| reach.end),
                "lag": stand.lag(ends.get(&partition.number)),
            })
        })
        .collect();
    let refused: Vec<Value> = (tidecast_core::series::Refusal::ALL.iter())
        .map(|reason| {
            let samples: Vec<_> = line.samples.get(reason).into_iter().flatten().rev().collect();
            json!({ "reason": reason.name(), "count": line.tally.refused(*reason), "samples": samples })
        })
        .collect();
    let happened: Vec<_> = line.happened.iter().rev().collect();
    json!({
        "partitions": partitions,
        "readings": line.tally.rows,
        "forecasts": line.tally.forecasts,
        "refused": refused,
        "restarts": line.tally.restarts,
        "evictions": line.tally.evictions,
        "early": line.tally.early,
        "series": line.series,
        "assignments": line.assignments,
        "revocations": line.revocations,
        "happened": happened,
        "missed": shared.counts.unseen.load(std::sync::atomic::Ordering::Relaxed),
        "scored": shared.counts.scored.page(),
        "commits": commit,
        "snapshots": snapshot,
        "snapshots_failed": shared.counts.snapshots_failed.load(std::sync::atomic::Ordering::Relaxed),
    })
}

/// What stands at the top of every page.
fn pulse(shared: &Shared) -> Value {
    let unready = shared.unready();
    let pulse = shared.pulse();
    json!({
        "boot": shared.facts.page.boot,
        "last": pulse.samples.back(),
        "quiet": pulse.quiet,
        "unready": unready,
    })
}

/// Events made by `make` every so often, the first at once.
fn stream(
    shared: Arc<Shared>,
    every: Duration,
    make: impl FnMut() -> Option<(&'static str, Value)> + Send + 'static,
) -> Response {
    let Ok(permit) = shared.viewers.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many pages are open; close some\n").into_response();
    };
    let mut ticks: Interval = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let events = unfold((make, ticks, permit), |(mut make, mut ticks, permit)| async move {
        ticks.tick().await;
        let (name, message) = make()?;
        let event = Event::default().event(name).retry(RETRY).data(message.to_string());
        Some((Ok::<_, Infallible>(event), (make, ticks, permit)))
    });
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}
