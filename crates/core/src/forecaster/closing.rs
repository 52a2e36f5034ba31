//! What the histories tell of: a step that has closed, when all that follows from it has been done to its history.

use compact_str::CompactString;

use super::histories::{SeriesState, TargetState};
pub use crate::series::WindowUpdate;
use crate::series::{ClosedStep, Retention, StepConfig, CovariateWindow, Window};

/// A step that has just closed; the history holds it already.
pub struct StepContext<'a> {
    /// Number of the id in this partition, by first appearance; that of one that gave way is given again.
    pub index: usize,
    pub id: &'a CompactString,
    /// Position of the row that closed the step.
    pub position: i64,
    pub step: i64,
    pub targets: &'a [TargetState],
    /// For each target, how the step went into its window.
    pub entries: &'a [WindowUpdate],
    pub covariates: &'a [CovariateWindow],
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
    Touched(usize, &'a SeriesState),
    /// Rows of the id of this number come soon.
    Coming(usize),
    Closed(&'a StepContext<'a>),
    /// The id of this number is forgotten, after its last steps have closed: the next one to have the number is another.
    Evicted(usize),
}

/// A history without its steps, while a step closes.
pub(super) struct Sides<'a> {
    pub rules: &'a StepConfig,
    pub keep: Retention,
    pub index: usize,
    pub id: &'a CompactString,
    pub position: i64,
    pub targets: &'a mut [TargetState],
    pub covariates: &'a mut [CovariateWindow],
    pub entries: &'a mut Vec<WindowUpdate>,
}

impl Sides<'_> {
    pub fn close(&mut self, closed: ClosedStep<'_>, tell: &mut impl FnMut(Happening<'_>)) {
        let Self { rules, keep, .. } = *self;
        let ClosedStep { step, cold_start: cold, .. } = closed;
        for (track, value) in self.covariates.iter_mut().zip(closed.covariates) {
            if value.is_finite() {
                if cold { *track = CovariateWindow::default(); }
                track.push(rules, keep.steps_max(), step, *value);
            } else if cold {
                *track = CovariateWindow::default();
            }
        }
        self.entries.clear();
        for (target, value) in self.targets.iter_mut().zip(closed.targets) {
            self.entries.push(if value.is_finite() {
                target.running.add(*value);
                if cold { target.window = Window::default(); }
                target.window.push(rules, keep, step, *value)
            } else {
                if cold {
                    target.window = Window::default();
                }
                WindowUpdate::Missing
            });
        }
        tell(Happening::Closed(&StepContext {
            index: self.index,
            id: self.id,
            position: self.position,
            step,
            targets: self.targets,
            entries: self.entries,
            covariates: self.covariates,
            covariate_values: closed.covariates,
            ahead: closed.future,
            cold,
        }));
    }
}
