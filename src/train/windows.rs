//! Windows of a history: which there are in a part of it, and what the network reads and should say at each.

use super::{History, Segment};
use crate::forecaster::Inputs;
use crate::model::Description;
use crate::series::{Rules, Scale, WindowView};

/// A window by its last step: a place in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    pub segment: u32,
    pub place: u32,
}

/// Where the training part and the validation part end, as step numbers; the test part is the rest. All ends are
/// exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    pub first: i64,
    pub train_end: i64,
    pub validation_end: i64,
    pub end: i64,
}

impl Split {
    /// Cuts the time where the given parts of all observed steps are past. Not parts of the time between the first and
    /// the last step: one clock that was wrong for two rows would move those.
    pub fn of(history: &History, train_part: f64, validation_part: f64) -> Option<Self> {
        let mut steps: Vec<i64> = history.segments.iter().flat_map(Segment::observed_steps).collect();
        steps.sort_unstable();
        let (first, last) = (*steps.first()?, *steps.last()?);
        let at = |part: f64| steps.get((steps.len() as f64 * part) as usize).copied().unwrap_or(last + 1);
        let (train_end, validation_end) = (at(train_part), at(train_part + validation_part));
        Some(Self { first, train_end, validation_end, end: last + 1 })
    }
}

/// The windows whose whole horizon lies in `steps` and whose origin lies at or after `from`; each can be read whole, was
/// observed at its origin, and has something observed to compare with.
pub fn origins(history: &History, description: &Description, from: i64, until: i64) -> Vec<Origin> {
    let (lookback, horizon) = (description.lookback, description.network.horizon);
    let mut origins = Vec::new();
    for (number, segment) in history.segments.iter().enumerate() {
        let observed = &segment.observed;
        let horizon_of = |place: usize| observed[(place + 1).min(observed.len())..].iter().take(horizon);
        for (place, seen) in observed.iter().enumerate().skip(lookback - 1) {
            let step = segment.step(place);
            let inside = step >= from && step + (horizon as i64) < until;
            if inside && *seen && horizon_of(place).any(|seen| *seen) {
                origins.push(Origin { segment: number as u32, place: place as u32 });
            }
        }
    }
    origins
}

/// Reads windows of a history.
#[derive(Clone, Copy)]
pub struct Windows<'a> {
    pub history: &'a History,
    pub description: &'a Description,
    pub rules: &'a Rules,
}

impl<'a> Windows<'a> {
    /// Adds the window to `inputs`; returns how it was scaled.
    pub fn read(&self, origin: Origin, inputs: &mut Inputs) -> Scale {
        let segment = &self.history.segments[origin.segment as usize];
        let (place, lookback) = (origin.place as usize, self.description.lookback);
        let past = place + 1 - lookback..place + 1;
        let (values, observed) = (&segment.values[past.clone()], &segment.observed[past]);
        let fixed = self.description.moments(segment.target);
        let scale = Scale::at_origin(self.description.scaling, values, &segment.running[place], fixed);
        let period = &self.history.periods[segment.period];
        let step = segment.step(place);
        let view = WindowView { values, observed, covariates: &period.covariates, origin: step, scale };
        let ahead = period.ahead.get(&step).map_or(&[][..], Vec::as_slice);
        inputs.add(self.description, self.rules, &view, ahead);
        scale
    }

    /// What came in the horizon, NaN where nothing was observed.
    pub fn actuals(&self, origin: Origin) -> impl Iterator<Item = f64> + 'a {
        let segment = &self.history.segments[origin.segment as usize];
        let place = origin.place as usize;
        (place + 1..=place + self.description.network.horizon).map(move |at| match segment.observed.get(at) {
            Some(true) => segment.values[at],
            _ => f64::NAN,
        })
    }

    /// What the network should say, scaled; NaN where nothing was observed or nothing varies.
    pub fn targets(&self, origin: Origin, scale: Scale) -> impl Iterator<Item = f32> + 'a {
        self.actuals(origin).map(move |actual| match scale.spread {
            0.0 => f32::NAN,
            _ if actual.is_nan() => f32::NAN,
            _ => scale.apply(actual),
        })
    }
}
