//! The recipe of training.

use std::path::PathBuf;

use tidecast_core::network::StateKind;
use tidecast_core::series::Rules;
use tidecast_core::table::Columns;
use tidecast_core::time::duration_text;

/// What a model is trained for, and the recipe.
#[derive(Clone, Debug)]
pub struct TrainingSpec {
    /// The pipeline file, for messages.
    pub file: PathBuf,
    pub columns: Columns,
    pub rules: Rules,
    /// Interval levels, ascending, each in (0, 1).
    pub levels: Vec<f64>,
    pub train: Train,
}

impl TrainingSpec {
    /// The text of a step's length, as it stands in every forecast: "1h".
    pub fn every_text(&self) -> String {
        duration_text(self.rules.grid.every)
    }
}

/// The recipe of training.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Train {
    /// Whether there is a memory: a linear recurrence over the whole past, read out by ridge regression.
    pub memory: bool,
    /// Steps after which the memory forgets altogether; without it, it fades.
    pub context: Option<usize>,
    /// The cells that learn what the memory leaves over, or everything without one.
    pub cell: Option<tidecast_core::network::CellKind>,
    pub hidden: usize,
    pub layers: usize,
    /// Steps of the past that a window reads. With a carried state: after so many it is taken to be as if carried all along.
    pub lookback: usize,
    /// Steps of the lookback that the cells read at once.
    pub segment: usize,
    pub horizon: usize,
    pub decoder: tidecast_core::network::Decoder,
    pub state: tidecast_core::network::StateKind,
    pub scaling: tidecast_core::series::Scaling,
    pub calendar: Vec<tidecast_core::series::Calendar>,
    pub loss: tidecast_core::network::Loss,
    /// Whether the cells learn the quantiles that bound `forecast.levels`.
    pub quantiles: bool,
    /// Learned numbers of each known series that the cells read at every step; 0 is without.
    pub embedding: usize,
    pub epochs: usize,
    pub batch: usize,
    pub learning_rate: f64,
    /// Share of all minibatches over which the learning rate rises before it falls.
    pub warmup: f64,
    pub weight_decay: f64,
    pub clip: f64,
    /// How much of the running mean of the weights is kept each minibatch; the mean is what serves. 0 is without.
    pub average: f64,
    /// The chance of a hidden value to be left out of what the head reads, while it learns.
    pub dropout: f64,
    /// Epochs without a better validation loss after which training stops.
    pub patience: usize,
    /// Share of the history, in time, that trains; then comes the validation part; what is left is never seen.
    pub train_part: f64,
    pub validation_part: f64,
    pub seed: u64,
}

/// Steps of the recurrence in a window, at most, where the recipe is silent: what training costs grows with them, and
/// gradients fade over more.
const RECURRENCES_MOST: usize = 48;
/// At least: with fewer there is little left to be recurrent.
const RECURRENCES_LEAST: usize = 12;

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;
const WEEK: i64 = 7 * DAY;

impl Train {
    /// The recipe for a grid of steps of `every` microseconds where the file says nothing.
    pub fn for_grid(every: i64) -> Self {
        Self {
            memory: true,
            context: None,
            cell: Some(Default::default()),
            hidden: 32,
            layers: 1,
            lookback: Self::lookback_for(every, Default::default()),
            segment: Self::segment_for(Self::lookback_for(every, Default::default())),
            horizon: 24,
            decoder: Default::default(),
            state: Default::default(),
            scaling: Default::default(),
            calendar: Self::calendar_for(every),
            loss: Default::default(),
            quantiles: false,
            embedding: 0,
            epochs: 20,
            batch: 256,
            learning_rate: Self::learning_rate_for(Default::default()),
            warmup: 0.05,
            weight_decay: 0.0,
            clip: 1.0,
            average: 0.98,
            dropout: 0.1,
            patience: 4,
            train_part: 0.7,
            validation_part: 0.1,
            seed: 1,
        }
    }

    /// A day of steps: the shortest history that shows a day's shape. At least 24 steps, for there has to be a history at
    /// all; at most 168 (a week of hours), past which training slows and little is gained. A carried state has four times
    /// as many at least, since only training pays for them.
    pub fn lookback_for(every: i64, state: StateKind) -> usize {
        let least = match state {
            StateKind::Window => 24,
            StateKind::Carried => 96,
        };
        (DAY / every.max(1)).clamp(least, 168) as usize
    }

    /// Along a sequence many forecasts are learned from at once, so that steps are few and may be long.
    pub fn learning_rate_for(state: StateKind) -> f64 {
        match state {
            StateKind::Window => 0.002,
            StateKind::Carried => 0.01,
        }
    }

    /// The shortest segment that cuts a lookback into a moderate number of steps; single steps where none does. Segments
    /// are what Lin et al. read long windows by, "SegRNN: segment recurrent neural network for long-term time series
    /// forecasting", 2023.
    pub fn segment_for(lookback: usize) -> usize {
        let cuts = |segment: &usize| {
            lookback.is_multiple_of(*segment)
                && (RECURRENCES_LEAST..=RECURRENCES_MOST).contains(&(lookback / segment))
        };
        (1..=lookback / RECURRENCES_LEAST).find(cuts).unwrap_or(1)
    }

    /// The calendar inputs that differ from one step to the next.
    fn calendar_for(every: i64) -> Vec<tidecast_core::series::Calendar> {
        use tidecast_core::series::Calendar::{DayOfWeek, HourOfDay};
        match every {
            ..DAY => vec![HourOfDay, DayOfWeek],
            DAY..WEEK => vec![DayOfWeek],
            WEEK.. => vec![],
        }
    }
}

impl Default for Train {
    fn default() -> Self {
        Self::for_grid(HOUR)
    }
}
