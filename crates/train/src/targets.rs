//! What the cells are to say: what came, scaled, or what the memory left over of it.

use super::replay::replay;
use super::shards;
use super::walk::Lane;
use super::windows::{Origin, Windows};
use tidecast_core::model::Model;
use tidecast_core::series::Scale;

/// Origins with their targets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Examples {
    pub origins: Vec<Origin>,
    /// The lane of each.
    pub lanes: Vec<u32>,
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

    /// Those whose origin is wanted.
    pub fn only(&self, wanted: impl Fn(&Origin) -> bool) -> Self {
        let numbers = (0..self.len()).filter(|number| wanted(&self.origins[*number]));
        self.chosen(&numbers.collect::<Vec<_>>())
    }

    pub fn and(mut self, other: &Self) -> Self {
        self.origins.extend(&other.origins);
        self.lanes.extend(&other.lanes);
        self.targets.extend(&other.targets);
        self
    }

    fn chosen(&self, numbers: &[usize]) -> Self {
        Self {
            origins: numbers.iter().map(|number| self.origins[*number]).collect(),
            lanes: numbers.iter().map(|number| self.lanes[*number]).collect(),
            horizon: self.horizon,
            targets: numbers.iter().flat_map(|number| self.targets(*number)).copied().collect(),
        }
    }

    /// One of every n, such that at most `most` are left; `together` that follow one another count as one.
    pub fn thinned(&self, most: usize, together: usize) -> Self {
        let groups = self.len().div_ceil(together);
        let every = groups.div_ceil((most / together).max(1)).max(1);
        // From the middle of each n, and n odd: hours of the day that recur every 24 would be all there is.
        let every = every | usize::from(every > 1);
        let first = (every / 2).min(groups.saturating_sub(1));
        let kept = |number: &usize| number / together % every == first;
        self.chosen(&(0..self.len()).filter(kept).collect::<Vec<_>>())
    }

    /// What came, scaled.
    pub fn new(windows: &Windows<'_>, lanes: &[Lane], origins: Vec<Origin>) -> Self {
        let lane_of = lane_of(windows, lanes);
        let lanes = origins.iter().map(|origin| lane_of[origin.segment as usize]).collect();
        let horizon = windows.description.horizon;
        let targets = origins.iter().flat_map(|origin| {
            let view = windows.view(*origin).expect("origins are where windows are whole");
            let last = view.values.last().copied().unwrap_or_default();
            scaled(windows, *origin, windows.description.said_from(view.scale, last))
        });
        let targets = targets.collect();
        Self { origins, lanes, horizon, targets }
    }

    /// What the memories leave over. `which` says by the step of an origin which of the models forecasts it.
    pub fn left_over(
        windows: &Windows<'_>,
        lanes: &[Lane],
        models: &[Model],
        which: &(dyn Fn(i64) -> usize + Sync),
        origins: &[Origin],
    ) -> Self {
        let horizon = windows.description.horizon;
        let by_lane = by_lane(windows, lanes, origins);
        let found = shards::each(
            lanes.len(),
            || (),
            |(), lane| {
                let origins = &by_lane[lane];
                let mut targets = vec![f32::NAN; origins.len() * horizon];
                replay(windows, (lane, &lanes[lane]), models, which, origins, |said| {
                    let targets = &mut targets[said.number * horizon..][..horizon];
                    let came = scaled(windows, said.origin, said.scale);
                    for ((target, came), said) in targets.iter_mut().zip(came).zip(said.values) {
                        *target = came - said;
                    }
                });
                targets
            },
        );
        let numbers = by_lane.iter().enumerate();
        let lanes = numbers.flat_map(|(lane, origins)| vec![lane as u32; origins.len()]).collect();
        let origins = by_lane.into_iter().flatten().collect();
        Self { origins, lanes, horizon, targets: found.into_iter().flatten().collect() }
    }
}

/// The origins of each lane, in their order.
pub fn by_lane(windows: &Windows<'_>, lanes: &[Lane], origins: &[Origin]) -> Vec<Vec<Origin>> {
    let lane_of = lane_of(windows, lanes);
    let mut by_lane = vec![Vec::new(); lanes.len()];
    origins.iter().for_each(|origin| by_lane[lane_of[origin.segment as usize] as usize].push(*origin));
    by_lane
}

/// The lane of each segment.
fn lane_of(windows: &Windows<'_>, lanes: &[Lane]) -> Vec<u32> {
    let mut lane_of = vec![0; windows.history.segments.len()];
    for (number, lane) in lanes.iter().enumerate() {
        lane.segments.iter().for_each(|segment| lane_of[*segment as usize] = number as u32);
    }
    lane_of
}

fn scaled(windows: &Windows<'_>, origin: Origin, scale: Scale) -> impl Iterator<Item = f32> {
    windows.actuals(origin).map(move |actual| match scale.spread {
        0.0 => f32::NAN,
        _ if actual.is_nan() => f32::NAN,
        _ => scale.apply(actual),
    })
}
