//! Configuration and model of a pipeline, shared by its partitions.

use std::sync::Arc;

use crate::intervals::CalibrationMode;
use crate::model::Model;
use crate::schema::Columns;
use crate::series::{Capacity, Retention, StepConfig};
use crate::time::{DAY, steps_per};

/// Configuration and model that all partitions of a pipeline share.
#[derive(Clone, Debug)]
pub struct Setup {
    pub columns: Columns,
    pub step_config: StepConfig,
    /// A forecast is issued at every step that is a multiple of this.
    pub every: u32,
    /// Interval levels, ascending, each in (0, 1).
    pub levels: Vec<f64>,
    pub calibration: CalibrationMode,
    /// `None` without scores.
    pub scoring: Option<Scoring>,
    pub model: Arc<Model>,
    /// The length of a step as text, for the output.
    pub step_text: String,
    /// Limits of a partition.
    pub capacity: Capacity,
}

/// Selection of the forecasts that are scored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scoring {
    /// Steps ahead, ascending, from 1 to the model's horizon.
    pub horizons: Vec<usize>,
    /// Steps of a period; its scores are written together.
    pub every: u32,
}

/// Most numbers in the forecasts of one push: 64 MiB, and far below the limit of a list column.
const PUSH_NUMBERS_MAX: usize = 16 << 20;

impl Setup {
    /// The season of the naive forecast in scores: the model's, or a day if the windows span one.
    ///
    /// Without a season the naive forecast repeats the last value.
    pub fn season(&self) -> Option<usize> {
        let (manifest, step_duration) = (&self.model.manifest, self.step_config.grid.every);
        let season = manifest.recurrence.as_ref().map_or(0, |recurrence| recurrence.season());
        let day = steps_per(DAY, step_duration).map(|steps| steps as usize);
        let day = day.filter(|day| *day > 1 && *day <= self.history_steps());
        Some(season).filter(|season| *season > 0).or(day)
    }

    /// True if actuals calibrate intervals or score forecasts.
    pub(super) fn needs_actuals(&self) -> bool {
        !self.levels.is_empty() || self.scoring.is_some()
    }

    /// Past values of a series read at an origin.
    pub(super) fn history_steps(&self) -> usize {
        self.model.manifest.history_steps(self.needs_actuals())
    }

    /// Steps that the windows of a series retain.
    pub fn retention(&self) -> Retention {
        self.model.manifest.retention(&self.step_config, self.needs_actuals())
    }

    /// Rows to push at once, so that the output of a push is bounded for any horizon and number of targets.
    ///
    /// A row usually closes one step, at most a few.
    pub fn rows_per_push(&self) -> usize {
        let lists = 1 + 2 * self.levels.len();
        let numbers = self.columns.targets.len() * lists * self.model.manifest.horizon;
        (PUSH_NUMBERS_MAX / numbers.max(1)).max(1)
    }
}
