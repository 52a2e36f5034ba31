//! What the histories tell of: a step that has closed, when all that follows from it has been done to its history.

use compact_str::CompactString;

use super::histories::{History, Target};
use crate::series::{ClosedStep, Keep, Rules, Track, Window};

/// A step that has just closed; the history holds it already.
pub struct Closing<'a> {
    /// Number of the id in this partition, by first appearance; that of one that gave way is given again.
    pub index: usize,
    pub id: &'a CompactString,
    /// Position of the row that closed the step.
    pub position: i64,
    pub step: i64,
    pub targets: &'a [Target],
    /// For each target, how the step went into its window.
    pub entries: &'a [Entry],
    pub covariates: &'a [Track],
    /// The values of the covariates in this very step, NaN where there is none.
    pub covariate_values: &'a [f64],
    /// What is known of the coming horizon, `[known x horizon]`; empty if nothing was brought.
    pub ahead: &'a [f64],
    /// The id starts (again) with this step.
    pub cold: bool,
}

/// What rows bring about, in their order.
pub enum Happening<'a> {
    /// The id of this number is about to change: this is how it is before.
    Touched(usize, &'a History),
    /// Rows of the id of this number come soon.
    Coming(usize),
    Closed(&'a Closing<'a>),
    /// The id of this number is forgotten, after its last steps have closed: the next one to have the number is another.
    Evicted(usize),
}

/// How a closed step went into a target's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The target was not observed in it.
    Missing,
    /// The window starts with it.
    Started,
    /// The window grew by so many steps, the last being this one.
    Grew(i64),
}

/// A history without its steps, while a step closes.
pub(super) struct Sides<'a> {
    pub rules: &'a Rules,
    pub keep: Keep,
    pub index: usize,
    pub id: &'a CompactString,
    pub position: i64,
    pub targets: &'a mut [Target],
    pub covariates: &'a mut [Track],
    pub entries: &'a mut Vec<Entry>,
}

impl Sides<'_> {
    pub fn close(&mut self, closed: ClosedStep<'_>, tell: &mut impl FnMut(Happening<'_>)) {
        let Self { rules, keep, .. } = *self;
        let ClosedStep { step, cold, .. } = closed;
        for (track, value) in self.covariates.iter_mut().zip(closed.covariates) {
            if value.is_finite() {
                track.push(rules, keep.most(), step, *value, cold);
            } else if cold {
                *track = Track::default();
            }
        }
        self.entries.clear();
        for (target, value) in self.targets.iter_mut().zip(closed.targets) {
            self.entries.push(if value.is_finite() {
                target.running.add(*value);
                let grew = target.window.push(rules, keep, step, *value, cold);
                grew.map_or(Entry::Started, Entry::Grew)
            } else {
                if cold {
                    target.window = Window::default();
                }
                Entry::Missing
            });
        }
        tell(Happening::Closed(&Closing {
            index: self.index,
            id: self.id,
            position: self.position,
            step,
            targets: self.targets,
            entries: self.entries,
            covariates: self.covariates,
            covariate_values: closed.covariates,
            ahead: closed.ahead,
            cold,
        }));
    }
}
