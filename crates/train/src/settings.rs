//! Settings of training.

use std::path::PathBuf;

use serde::Serialize;

use super::SplitFractions;
use tidecast_core::network::{CellKind, Decoder, Loss, StateKind};
use tidecast_core::schema::Columns;
use tidecast_core::series::{Calendar, Scaling, StepConfig};
use tidecast_core::time::{DAY, WEEK, duration_text};

/// Everything that determines a training run, apart from the history.
#[derive(Clone, Debug)]
pub struct TrainingSpec {
    /// The pipeline file, for messages.
    pub file: PathBuf,
    pub columns: Columns,
    pub step_config: StepConfig,
    /// Interval levels, ascending, each between 0 and 1.
    pub levels: Vec<f64>,
    pub train: TrainConfig,
}

impl TrainingSpec {
    /// Length of a step as text, such as "1h".
    pub fn every_text(&self) -> String {
        duration_text(self.step_config.grid.every)
    }
}

/// Hyperparameters. Fields have the names of their keys in `[train]` and are stored in the model file.
#[derive(Clone, Debug, Serialize)]
pub struct TrainConfig {
    /// Adds a linear recurrence over the whole past, read out by ridge regression.
    pub recurrence: bool,
    /// Steps after which the recurrence forgets a value completely; without it values decay.
    pub recurrence_window: Option<usize>,
    /// Cells, trained on the residuals of the recurrence or, without one, on the values. None is no cells.
    pub cell: Option<CellKind>,
    pub hidden: usize,
    pub layers: usize,
    /// Steps of a window. For cells that carry their state: steps of warm-up.
    pub lookback: usize,
    /// Steps per update of the cells.
    pub segment: usize,
    pub horizon: usize,
    pub decoder: Decoder,
    pub state: StateKind,
    pub scaling: Scaling,
    pub calendar: Vec<Calendar>,
    pub loss: Loss,
    /// Trains the cells on the quantiles that bound `forecast.levels`.
    pub quantiles: bool,
    /// Size of a learned embedding of each known series; 0 is none.
    pub embedding: usize,
    pub epochs: usize,
    /// Windows per minibatch.
    pub batch_size: usize,
    /// Largest learning rate.
    pub learning_rate: f64,
    /// Fraction of all minibatches during which the learning rate rises.
    pub warmup: f64,
    pub weight_decay: f64,
    /// Limit of the gradient's norm.
    pub gradient_clip: f64,
    /// Decay, per minibatch, of the exponential moving average of the weights, which is the trained network; 0 is no average.
    pub weight_ema: f64,
    /// Probability that a hidden value is dropped before the head during training.
    pub dropout: f64,
    /// Epochs without an improvement of the validation loss after which training stops.
    pub patience: usize,
    /// Fraction of the history for training.
    pub train_fraction: f64,
    /// Fraction of the history for validation; the rest is the test split.
    pub validation_fraction: f64,
    pub seed: u64,
}

/// Largest number of default recurrent steps of a window: training time grows and gradients vanish with it.
const RECURRENT_STEPS_MAX: usize = 48;
/// Smallest number of default recurrent steps of a window.
const RECURRENT_STEPS_MIN: usize = 12;

impl TrainConfig {
    /// Defaults for a grid with steps of `every` microseconds.
    pub fn for_grid(every: i64) -> Self {
        let state = StateKind::default();
        let lookback = Self::lookback_for(every, state);
        Self {
            recurrence: true,
            recurrence_window: None,
            cell: Some(CellKind::default()),
            hidden: 32,
            layers: 1,
            lookback,
            segment: Self::segment_for(lookback),
            horizon: 24,
            decoder: Decoder::default(),
            state,
            scaling: Scaling::default(),
            calendar: Self::calendar_for(every),
            loss: Loss::default(),
            quantiles: false,
            embedding: 0,
            epochs: 20,
            batch_size: 256,
            learning_rate: Self::learning_rate_for(state),
            warmup: 0.05,
            weight_decay: 0.0,
            gradient_clip: 1.0,
            weight_ema: 0.98,
            dropout: 0.1,
            patience: 4,
            train_fraction: 0.7,
            validation_fraction: 0.1,
            seed: 1,
        }
    }

    /// Default lookback: a day of steps, the shortest window that shows the shape of a day, but at least 24 and at most 168
    /// steps (a week of hours), above which training slows down for little gain. A carried state has at least 96, since only
    /// training pays for its warm-up.
    pub fn lookback_for(every: i64, state: StateKind) -> usize {
        let min = match state {
            StateKind::Window => 24,
            StateKind::Carried => 96,
        };
        (DAY / every.max(1)).clamp(min, 168) as usize
    }

    /// Default learning rate. A sequence trains on many forecasts at once, so that its updates are fewer and may be larger.
    pub fn learning_rate_for(state: StateKind) -> f64 {
        match state {
            StateKind::Window => 0.002,
            StateKind::Carried => 0.01,
        }
    }

    /// Default segment: the shortest one that leaves a moderate number of recurrent steps, or 1 where there is none. Lin et
    /// al., "SegRNN: segment recurrent neural network for long-term time series forecasting", 2023.
    pub fn segment_for(lookback: usize) -> usize {
        let is_moderate = |segment: &usize| {
            lookback.is_multiple_of(*segment)
                && (RECURRENT_STEPS_MIN..=RECURRENT_STEPS_MAX).contains(&(lookback / segment))
        };
        (1..=lookback / RECURRENT_STEPS_MIN).find(is_moderate).unwrap_or(1)
    }

    /// Default calendar inputs: those that vary between steps.
    fn calendar_for(every: i64) -> Vec<Calendar> {
        match every {
            ..DAY => vec![Calendar::HourOfDay, Calendar::DayOfWeek],
            DAY..WEEK => vec![Calendar::DayOfWeek],
            WEEK.. => vec![],
        }
    }

    pub fn split_fractions(&self) -> SplitFractions {
        SplitFractions { train: self.train_fraction, validation: self.validation_fraction }
    }
}
