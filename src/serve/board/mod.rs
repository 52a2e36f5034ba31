//! Every series as it stands, made up from what goes into the line and what comes out of it. In bounded memory: so many
//! series, and of each as many steps as fit.
//!
//! - `track`   one series: its last steps, what was forecast for them, and the forecast of now
//! - `scores`  how far off its forecasts were, as seen here
//! - `periods` how far off they were, as the stream scored them itself
//! - `rows`    series as the page wants them: found, sorted, as JSON

mod periods;
mod rows;
mod scores;
mod track;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Float32Type;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::facts::Facts;
use super::observer::{Seen, Shared};
use tidecast_core::table::{Forecasts, Observations, ScoreRows};
use periods::Periods;
pub use rows::{Order, Sort, detail, steps};
pub use scores::Scores;
pub use track::Track;

/// Series that are shown. The others are counted: who has more wants them in a database.
const SERIES_MOST: usize = 20_000;
/// Bytes for the steps, the forecasts and the scored periods of all series together.
const BYTES: usize = 96 << 20;
/// Past steps of a series, however few there are: six weeks of hours.
const STEPS_MOST: usize = 1_008;
/// Past steps of a series, however many there are: those of a sparkline. Where not even these fit, fewer series are shown.
const STEPS_LEAST: usize = 48;

/// How a series is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing comes any more.
    Silent,
    /// Its errors have left their own history.
    Drifting,
    /// Behind the others.
    Late,
    /// Not forecast yet, or not any more since a gap.
    Cold,
    Ok,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct States {
    pub ok: usize,
    pub late: usize,
    pub silent: usize,
    pub cold: usize,
    pub drifting: usize,
}

pub struct Board {
    pub facts: Arc<Facts>,
    pub tracks: Vec<Track>,
    ids: HashMap<Arc<str>, Place>,
    /// How often series have left: places are others' since then.
    pub moves: u64,
    /// Series that there can be, those that there is room for as it is shared out now, and what each of these has.
    most: usize,
    planned: usize,
    room: Room,
    /// Series that there is no room for, as of the last look; whether one of them has come since.
    pub left_out: usize,
    is_short: bool,
    /// The time that one in ten series has reached: one wrong clock does not move it.
    pub now: Option<i64>,
    pub states: States,
    /// Of each horizon: the mean over series of the error in units of the baseline's, the share of values within each
    /// interval, and how many series those are of.
    pub overall: [Overall; 2],
    /// Places by name.
    by_name: Vec<usize>,
}

/// Where the series of an id are.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The first of them, one for each target.
    first: usize,
    /// The partition that its latest row came from.
    partition: i32,
}

/// Where rows come from.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    pub partition: i32,
    /// From a state that others left, or an earlier run: nobody here saw what its series know.
    pub goes_on: bool,
}

/// What a series may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Steps, those ahead that forecasts are kept for among them.
    pub steps: usize,
    /// Steps of the forecast of now.
    pub fan: usize,
}

impl Room {
    fn new(facts: &Facts, past: usize) -> Self {
        Self { steps: past + facts.ahead[1], fan: past.min(facts.horizon) }
    }

    /// What a series takes that has all of it.
    fn bytes(&self, facts: &Facts) -> usize {
        let fan = (1 + 2 * facts.shown.len()) * (size_of::<Vec<f32>>() + self.fan * size_of::<f32>());
        let periods = Periods::bytes(facts.scoring.as_ref(), facts.levels.len());
        self.steps * track::STEP_BYTES + fan + periods
    }
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Overall {
    pub ratio: Option<f64>,
    pub coverage: Vec<f64>,
    pub series: usize,
}

/// Shows the board what comes, until nothing more does.
pub async fn keep(shared: Arc<Shared>, mut seen: mpsc::UnboundedReceiver<Seen>) {
    while let Some(seen) = seen.recv().await {
        shared.show(&seen);
    }
}

impl Board {
    pub fn new(facts: Arc<Facts>) -> Self {
        let least = Room::new(&facts, STEPS_LEAST).bytes(&facts);
        Self {
            most: (BYTES / least).min(SERIES_MOST),
            planned: 0,
            room: Room::new(&facts, STEPS_MOST),
            facts,
            tracks: Vec::new(),
            ids: HashMap::new(),
            moves: 0,
            left_out: 0,
            is_short: false,
            now: None,
            states: States::default(),
            overall: Default::default(),
            by_name: Vec::new(),
        }
    }

    pub fn rows(&mut self, origin: Origin, rows: &RecordBatch) {
        let facts = self.facts.clone();
        let observations = Observations::new(rows, &facts.columns);
        for i in 0..observations.len() {
            let id = match observations.series {
                Some(series) if series.is_valid(i) => series.value(i),
                Some(_) => continue,
                None => &facts.columns.only_series,
            };
            if !observations.times.is_valid(i) {
                continue;
            }
            let time = observations.times.value(i);
            for (target, values) in observations.targets.iter().enumerate() {
                // One that never says anything takes no place.
                if !values.is_valid(i) || !values.value(i).is_finite() {
                    continue;
                }
                let Some(first) = self.place(id, origin) else { break };
                self.tracks[first + target].observe(&facts, time, values.value(i), self.room);
            }
        }
    }

    pub fn forecasts(&mut self, rows: &RecordBatch) {
        let facts = self.facts.clone();
        let forecasts = Forecasts::new(rows);
        // The forecast, then lower and upper of the levels that are shown.
        let lists: Vec<usize> = [0]
            .into_iter()
            .chain(facts.shown.iter().flat_map(|level| [1 + 2 * level, 2 + 2 * level]))
            .collect();
        for i in 0..forecasts.len() {
            let name = forecasts.targets.value(i);
            let target = facts.columns.targets.iter().position(|target| target == name);
            // It comes behind the rows that it is of.
            let place = self.ids.get(forecasts.series.value(i)).map(|place| place.first);
            let Some((first, target)) = place.zip(target) else { continue };
            let lists: Vec<_> = lists.iter().map(|&list| forecasts.lists[list].value(i)).collect();
            let lists: Vec<&[f32]> =
                lists.iter().map(|list| &list.as_primitive::<Float32Type>().values()[..]).collect();
            self.tracks[first + target].forecast(&facts, forecasts.origins.value(i), &lists, self.room);
        }
    }

    /// What the stream scored itself, of the series that are held: a score comes behind the rows that it is of.
    pub fn scores(&mut self, rows: &RecordBatch) {
        let facts = self.facts.clone();
        let Some(scoring) = &facts.scoring else { return };
        let scores = ScoreRows::new(rows);
        for row in 0..scores.len() {
            let name = scores.targets.value(row);
            let target = facts.columns.targets.iter().position(|target| target == name);
            let first = self.ids.get(scores.series.value(row)).map(|place| place.first);
            if let Some((first, target)) = first.zip(target) {
                self.tracks[first + target].periods.told(scoring, &scores, row);
            }
        }
    }

    /// Where the series of an id begin, of which a partition has a row; `None` where there is no room.
    fn place(&mut self, id: &str, origin: Origin) -> Option<usize> {
        if let Some(place) = self.ids.get_mut(id) {
            place.partition = origin.partition;
            return Some(place.first);
        }
        let series = self.tracks.len() + self.facts.columns.targets.len();
        if series > self.most {
            self.is_short = true;
            return None;
        }
        self.plan(series);
        let targets = &self.facts.columns.targets;
        let id: Arc<str> = id.into();
        let first = self.tracks.len();
        for (target, name) in targets.iter().enumerate() {
            let unit = self.facts.units.of(&id, name).map(Arc::from);
            let mut track = Track::new(id.clone(), target, unit);
            track.observed = (!origin.goes_on).then_some(0);
            self.tracks.push(track);
        }
        self.ids.insert(id, Place { first, partition: origin.partition });
        Some(first)
    }

    /// Partitions have left: others see their series now.
    pub fn gone(&mut self, partitions: &[i32]) {
        self.retain(|_, place| !partitions.contains(&place.partition));
    }

    /// Lets ids go, and puts the others together.
    fn retain(&mut self, stays: impl Fn(&[Track], &Place) -> bool) {
        let mut leaving = vec![false; self.tracks.len()];
        let targets = self.facts.columns.targets.len();
        self.ids.retain(|_, place| {
            let of = place.first..place.first + targets;
            let stays = stays(&self.tracks[of.clone()], place);
            leaving[of].fill(!stays);
            stays
        });
        if !leaving.contains(&true) {
            return;
        }
        // Where each of those that stay is then.
        let mut moved: Vec<usize> = Vec::with_capacity(leaving.len());
        let mut stayed = 0;
        for leaves in &leaving {
            moved.push(stayed);
            stayed += usize::from(!leaves);
        }
        self.by_name.retain(|place| !leaving[*place]);
        self.by_name.iter_mut().for_each(|place| *place = moved[*place]);
        self.ids.values_mut().for_each(|place| place.first = moved[place.first]);
        let mut leaving = leaving.into_iter();
        self.tracks.retain(|_| !leaving.next().unwrap_or_default());
        self.tracks.shrink_to_fit();
        self.moves += 1;
    }

    /// The series of an id and target.
    pub fn find(&self, id: &str, target: usize) -> Option<&Track> {
        let first = self.ids.get(id)?.first;
        self.tracks.get(first + target).filter(|_| target < self.facts.columns.targets.len())
    }

    /// Shares the room out among so many series, and a quarter more, so that it is seldom done. Series that came when there was
    /// more of it give back what is no longer theirs.
    fn plan(&mut self, series: usize) {
        if series <= self.planned {
            return;
        }
        self.planned = (series + series / 4).min(self.most);
        let each = BYTES / self.planned;
        let fits = |past: &usize| Room::new(&self.facts, *past).bytes(&self.facts) <= each;
        let past = (STEPS_LEAST..=STEPS_MOST).rev().find(fits).unwrap_or(STEPS_LEAST);
        let room = Room::new(&self.facts, past);
        if room != self.room {
            self.room = room;
            self.tracks.iter_mut().for_each(|track| track.give_back(room));
        }
    }

    /// Once a second: where time stands, how every series is, and all of them together, of so many ids that the line knows.
    pub fn tick(&mut self, known: usize) {
        let mut times: Vec<i64> = self.tracks.iter().filter_map(Track::known_time).collect();
        if !times.is_empty() {
            // Counted from the latest: with fewer than ten series it is the latest itself.
            let rank = times.len() - 1 - times.len() / 10;
            self.now = Some(*times.select_nth_unstable(rank).1);
        }
        let targets = self.facts.columns.targets.len();
        let is_full = self.tracks.len() + targets > self.most;
        self.left_out = if is_full { known.saturating_sub(self.ids.len()) * targets } else { 0 };
        // Who says nothing any more gives way to those who do.
        if std::mem::take(&mut self.is_short) {
            self.retain(|tracks, _| {
                tracks.iter().any(|track| track.last.is_some() && track.state != State::Silent)
            });
        }
        let mut states = States::default();
        for track in &mut self.tracks {
            track.judge(&self.facts, self.now);
            match track.state {
                State::Ok => states.ok += 1,
                State::Late => states.late += 1,
                State::Silent => states.silent += 1,
                State::Cold => states.cold += 1,
                State::Drifting => states.drifting += 1,
            }
        }
        self.states = states;
        self.overall = [0, 1].map(|ahead| self.over_all(ahead));
        if self.by_name.len() != self.tracks.len() {
            self.by_name = (0..self.tracks.len()).collect();
            let name = |place: &usize| (&self.tracks[*place].name, self.tracks[*place].target);
            self.by_name.sort_by(|a, b| rows::natural(name(a).0, name(b).0).then(name(a).1.cmp(&name(b).1)));
        }
    }

    fn over_all(&self, ahead: usize) -> Overall {
        let scores: Vec<&Scores> = self.tracks.iter().map(|track| &track.scores[ahead]).collect();
        let mean = |values: &mut dyn Iterator<Item = f64>| {
            let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
            (count > 0).then(|| (sum / f64::from(count), count as usize))
        };
        let ratio =
            mean(&mut scores.iter().filter_map(|scores| scores.ratio()).filter(|ratio| ratio.is_finite()));
        let coverage = (0..self.facts.shown.len()).filter_map(|level| {
            mean(&mut scores.iter().filter_map(|scores| scores.coverage.get(level).copied()))
        });
        Overall {
            ratio: ratio.map(|(ratio, _)| ratio),
            coverage: coverage.map(|(share, _)| share).collect(),
            series: ratio.map_or(0, |(_, series)| series),
        }
    }
}

#[cfg(test)]
mod tests;
