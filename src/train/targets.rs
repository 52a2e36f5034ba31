//! What the cells are to say: what came, scaled, or what the memory left over of it.

use super::shards;
use super::walk::{Lane, walk};
use super::windows::{Origin, Windows};
use crate::forecaster::write_features;
use crate::model::{MemoryPart, Remembering};
use crate::network::memory::OwnSlot;
use crate::series::Scale;

/// Origins read out at once.
const WIDTH: usize = 64;

/// Origins with their targets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Examples {
    pub origins: Vec<Origin>,
    horizon: usize,
    /// `[origin][horizon]`, NaN where nothing was observed or nothing varies.
    targets: Vec<f32>,
}

impl Examples {
    pub fn len(&self) -> usize {
        self.origins.len()
    }

    pub fn targets(&self, number: usize) -> &[f32] {
        &self.targets[number * self.horizon..][..self.horizon]
    }

    /// One of every n, such that at most `most` are left.
    pub fn thinned(&self, most: usize) -> Self {
        let every = self.len().div_ceil(most.max(1)).max(1);
        // From the middle of each n, and n odd: hours of the day that recur every 24 would be all there is.
        let every = every | usize::from(every > 1);
        let numbers: Vec<usize> = (every / 2..self.len()).step_by(every).collect();
        Self {
            origins: numbers.iter().map(|number| self.origins[*number]).collect(),
            horizon: self.horizon,
            targets: numbers.iter().flat_map(|number| self.targets(*number)).copied().collect(),
        }
    }

    /// What came, scaled.
    pub fn new(windows: &Windows<'_>, origins: Vec<Origin>) -> Self {
        let horizon = windows.description.horizon;
        let targets = origins.iter().flat_map(|origin| {
            let scale = windows.view(*origin).expect("origins are where windows are whole").scale;
            scaled(windows, *origin, scale)
        });
        let targets = targets.collect();
        Self { origins, horizon, targets }
    }

    /// What each origin's memory leaves over. `memory_of` gives the readout by the step of the origin.
    pub fn left_over(
        windows: &Windows<'_>,
        lanes: &[Lane],
        part: &MemoryPart,
        memory_of: &(dyn Fn(i64) -> usize + Sync),
        readouts: &[Remembering],
        origins: &[Origin],
    ) -> Self {
        let horizon = windows.description.horizon;
        let by_lane = by_lane(windows, lanes, origins);
        let found = shards::each(
            lanes.len(),
            || (),
            |(), number| {
                let mut of_lane =
                    LeftOver { windows, part, readouts, own: own(part, number), targets: Vec::new() };
                let origins = &by_lane[number];
                let mut waiting = vec![Waiting::default(); readouts.len()];
                let memory = readouts.first().map(|first| &first.memory);
                of_lane.targets.resize(origins.len() * horizon, f32::NAN);
                let mut done = 0;
                walk(windows.history, &lanes[number], memory, origins, |origin, state| {
                    let which = memory_of(
                        windows.history.segments[origin.segment as usize].step(origin.place as usize),
                    );
                    of_lane.add(&mut waiting[which], origin, state, done);
                    done += 1;
                    if waiting[which].places.len() == WIDTH {
                        of_lane.flush(which, &mut waiting[which]);
                    }
                });
                waiting.iter_mut().enumerate().for_each(|(which, waiting)| of_lane.flush(which, waiting));
                of_lane.targets
            },
        );
        let origins = by_lane.into_iter().flatten().collect();
        Self { origins, horizon, targets: found.into_iter().flatten().collect() }
    }
}

/// The number of a lane among the series that have coefficients of their own.
pub fn own(part: &MemoryPart, lane: usize) -> Option<usize> {
    // Lanes and own series are listed in the same order, or there are no own ones.
    (lane < part.own.len()).then_some(lane)
}

/// The origins of each lane, in their order.
pub fn by_lane(windows: &Windows<'_>, lanes: &[Lane], origins: &[Origin]) -> Vec<Vec<Origin>> {
    let mut lane_of = vec![0; windows.history.segments.len()];
    for (number, lane) in lanes.iter().enumerate() {
        lane.segments.iter().for_each(|segment| lane_of[*segment as usize] = number);
    }
    let mut by_lane = vec![Vec::new(); lanes.len()];
    origins.iter().for_each(|origin| by_lane[lane_of[origin.segment as usize]].push(*origin));
    by_lane
}

fn scaled(windows: &Windows<'_>, origin: Origin, scale: Scale) -> impl Iterator<Item = f32> {
    windows.actuals(origin).map(move |actual| match scale.spread {
        0.0 => f32::NAN,
        _ if actual.is_nan() => f32::NAN,
        _ => scale.apply(actual),
    })
}

/// Origins that wait to be read out.
#[derive(Clone, Default)]
struct Waiting {
    features: Vec<f32>,
    slots: Vec<OwnSlot>,
    /// Places of their targets, which hold what came already.
    places: Vec<usize>,
}

struct LeftOver<'a> {
    windows: &'a Windows<'a>,
    part: &'a MemoryPart,
    readouts: &'a [Remembering],
    own: Option<usize>,
    targets: Vec<f32>,
}

impl LeftOver<'_> {
    fn add(
        &mut self,
        waiting: &mut Waiting,
        origin: Origin,
        state: &crate::network::memory::MemoryState,
        number: usize,
    ) {
        let (windows, part) = (self.windows, self.part);
        let view = windows.view(origin).expect("origins are where windows are whole");
        let last = view.values.last().copied().unwrap_or_default();
        let scale = Scale { center: last, ..view.scale };
        let horizon = windows.description.horizon;
        let targets = &mut self.targets[number * horizon..][..horizon];
        targets.iter_mut().zip(scaled(windows, origin, scale)).for_each(|(to, from)| *to = from);
        let start = waiting.features.len();
        waiting.features.resize(start + self.readouts[0].readout.features(), 0.0);
        let out = &mut waiting.features[start..];
        let ahead = windows.ahead(origin);
        write_features(windows.description, part, windows.rules, state, &view, ahead, out);
        let time = windows.rules.grid.start_of(view.origin);
        let slot = part.season.map_or(0, |season| season.slot(time));
        waiting.slots.push(OwnSlot { series: self.own, slot });
        waiting.places.push(number);
    }

    fn flush(&mut self, which: usize, waiting: &mut Waiting) {
        let horizon = self.windows.description.horizon;
        let readout = &self.readouts[which].readout;
        let mut said = vec![0.0; waiting.places.len() * horizon];
        readout.forecast(&waiting.features, &waiting.slots, &mut readout.scratch(), &mut said);
        for (place, said) in waiting.places.iter().zip(said.chunks_exact(horizon)) {
            let targets = &mut self.targets[place * horizon..][..horizon];
            targets.iter_mut().zip(said).for_each(|(target, said)| *target -= said);
        }
        *waiting = Waiting::default();
    }
}
