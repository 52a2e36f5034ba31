//! Series as the page wants them: found, sorted, and as JSON.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::track::{Said, Track};
use super::{Board, Scores, State};

/// Steps of a sparkline: two days of hours.
const SPARK: i64 = 48;
/// Steps of the forecast behind it.
const SPARK_AHEAD: usize = 24;

/// What the rows of the overview are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    #[default]
    Name,
    State,
    Time,
    Value,
    Next,
    Error,
    Ratio,
    Coverage,
}

/// Which series, and in which order.
#[derive(Clone, Debug, Default)]
pub struct Order {
    pub search: String,
    pub sort: Sort,
    pub descending: bool,
    pub state: Option<State>,
    /// Which of the two horizons the scores are of.
    pub ahead: usize,
}

#[derive(Serialize)]
struct Row<'a> {
    place: usize,
    id: &'a str,
    target: Option<&'a str>,
    unit: Option<&'a str>,
    state: State,
    observed: Option<u64>,
    time_ms: Option<f64>,
    value: Option<f64>,
    next: Option<f32>,
    lower: Option<f32>,
    upper: Option<f32>,
    scores: &'a Scores,
    past: Vec<f32>,
    /// Steps from the last of `past` to the origin of `ahead`, which may be behind it.
    origin: i64,
    ahead: Vec<f32>,
    low: &'a [f32],
    high: &'a [f32],
}

impl Board {
    /// The places of the series that are asked for, in their order.
    pub fn ordered(&self, order: &Order) -> Vec<usize> {
        let words: Vec<String> = order.search.split_whitespace().map(str::to_lowercase).collect();
        let targets = &self.facts.columns.targets;
        let found = |place: &usize| {
            let track = &self.tracks[*place];
            let name = if targets.len() > 1 {
                format!("{} {}", track.name, targets[track.target]).to_lowercase()
            } else {
                track.name.to_lowercase()
            };
            words.iter().all(|word| name.contains(word.as_str()))
        };
        let is_state = |place: &usize| order.state.is_none_or(|state| self.tracks[*place].state == state);
        let places = self.by_name.iter().copied().filter(is_state);
        let mut places: Vec<usize> =
            if words.is_empty() { places.collect() } else { places.filter(found).collect() };
        // Stable: what is alike stays in the order of names.
        match order.sort {
            Sort::Name if order.descending => places.reverse(),
            Sort::Name => {}
            Sort::State => places.sort_by(|a, b| {
                let by = self.tracks[*a].state.cmp(&self.tracks[*b].state);
                if order.descending { by.reverse() } else { by }
            }),
            sort => {
                let key = |place: &usize| self.tracks[*place].key(sort, order.ahead);
                let mut keyed: Vec<(Option<f64>, usize)> =
                    places.iter().map(|place| (key(place), *place)).collect();
                keyed.sort_by(|a, b| compare(a.0, b.0, order.descending));
                places = keyed.into_iter().map(|(_, place)| place).collect();
            }
        }
        places
    }

    /// A row of the overview.
    pub fn row(&self, place: usize, ahead: usize) -> serde_json::Value {
        let track = &self.tracks[place];
        let targets = &self.facts.columns.targets;
        let fan = track.fan.as_ref();
        let list = |list: usize| -> &[f32] {
            let list = fan.and_then(|fan| fan.lists.get(list)).map_or(&[][..], Vec::as_slice);
            &list[..list.len().min(SPARK_AHEAD)]
        };
        let last = track.last.map_or(0, |last| last.step);
        let past = (last - SPARK + 1..=last).map(|step| track.value(step).unwrap_or(f32::NAN));
        let past = if track.last.is_some() { past.collect() } else { vec![] };
        let row = Row {
            place,
            id: &track.name,
            target: (targets.len() > 1).then(|| targets[track.target].as_str()),
            unit: track.unit.as_deref(),
            state: track.state,
            observed: track.observed.map(|steps| steps.min(self.facts.warm)),
            time_ms: track.last.map(|last| last.time as f64 / 1e3),
            value: track.last.map(|last| last.value),
            next: track.next(0),
            lower: track.next(1),
            upper: track.next(2),
            scores: &track.scores[ahead],
            past,
            origin: fan.map_or(0, |fan| fan.origin - last),
            ahead: list(0).to_vec(),
            low: list(1),
            high: list(2),
        };
        serde_json::to_value(row).unwrap_or_default()
    }
}

impl Track {
    /// What a list of the forecast of now says of the step behind the latest reading, which may be some behind its origin.
    pub fn next(&self, list: usize) -> Option<f32> {
        let (fan, last) = (self.fan.as_ref()?, self.last?);
        let ahead = usize::try_from(last.step - fan.origin).unwrap_or(0);
        fan.lists.get(list)?.get(ahead).copied().filter(|value| value.is_finite())
    }

    fn key(&self, sort: Sort, ahead: usize) -> Option<f64> {
        let scores = &self.scores[ahead];
        match sort {
            Sort::Name | Sort::State => None,
            Sort::Time => self.last.map(|last| last.time as f64),
            Sort::Value => self.last.map(|last| last.value),
            Sort::Next => self.next(0).map(f64::from),
            Sort::Error => scores.error,
            // Of a constant there is none: no forecast can be better than the last value.
            Sort::Ratio => scores.ratio().filter(|ratio| ratio.is_finite()),
            Sort::Coverage => scores.coverage.first().copied(),
        }
    }
}

/// What has no value comes last, whichever way.
fn compare(a: Option<f64>, b: Option<f64>, descending: bool) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) if descending => b.total_cmp(&a),
        (Some(a), Some(b)) => a.total_cmp(&b),
        (a, b) => b.is_some().cmp(&a.is_some()),
    }
}

/// Names with their numbers as numbers: `mote-2` before `mote-10`.
pub fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let (of_a, of_b) = (digits(a), digits(b));
        let by = if of_a > 0 && of_b > 0 {
            let [number_a, number_b] = [&a[..of_a], &b[..of_b]].map(|number| number.trim_start_matches('0'));
            let by = number_a.len().cmp(&number_b.len()).then_with(|| number_a.cmp(number_b));
            (a, b) = (&a[of_a..], &b[of_b..]);
            by
        } else {
            let (mut chars_a, mut chars_b) = (a.chars(), b.chars());
            let (first_a, first_b) = (chars_a.next(), chars_b.next());
            if first_a.is_none() && first_b.is_none() {
                return Ordering::Equal;
            }
            (a, b) = (chars_a.as_str(), chars_b.as_str());
            first_a.cmp(&first_b)
        };
        if by != Ordering::Equal {
            return by;
        }
    }
}

/// What is the same at every message of a series.
pub fn detail(board: &Board, track: &Track) -> serde_json::Value {
    let facts = &board.facts;
    let next = [0, 1, 2].map(|list| track.next(list));
    let fan = track.fan.as_ref().map(|fan| serde_json::json!({ "origin": fan.origin, "lists": fan.lists }));
    serde_json::json!({
        "state": track.state,
        "unit": track.unit.as_deref(),
        "observed": track.observed.map(|steps| steps.min(facts.warm)),
        "time_ms": track.last.map(|last| last.time as f64 / 1e3),
        "value": track.last.map(|last| last.value),
        "last": track.last.map(|last| last.step),
        "closed": track.closed,
        "scores": track.scores,
        "periods": track.periods.all(),
        "drift": track.periods.drift(),
        "next": next,
        "fan": fan,
    })
}

/// The steps from a number on, column by column.
pub fn steps(track: &Track, from: i64) -> serde_json::Value {
    let from = from.max(track.first);
    let steps = track.steps.iter().skip(usize::try_from(from - track.first).unwrap_or(0));
    let values: Vec<f32> = steps.clone().map(|step| step.value).collect();
    let said = |ahead: usize, part: usize| -> Vec<f32> {
        let of = |said: &Said| said[part];
        steps.clone().map(|step| of(&step.said[ahead])).collect()
    };
    let ahead = |ahead: usize| -> Vec<Vec<f32>> { (0..5).map(|part| said(ahead, part)).collect() };
    serde_json::json!({ "from": from, "values": values, "said": [ahead(0), ahead(1)] })
}
