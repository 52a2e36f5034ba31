//! Training from a history, backtests, baselines and evaluation.
//!
//! Training reads the history through the same series and inputs as serving. The readout of the linear recurrence is fitted in
//! closed form. The cells are then trained on its residuals, and held-out data decide how much of their output is used.
//!
//! - `settings`: hyperparameters
//! - `history`: the history on its grid, channels, splits
//! - `windows`: origins, inputs and actual values
//! - `backtest`: forecasts at origins of the history
//! - `plan`: choices before training
//! - `gram`, `readout_fit`: fit of the readout
//! - `ensemble`: weights of the readout and simple experts
//! - `training_data`, `trainer`, `cells`: training of the cells
//! - `scores`: scores, residual quantiles and examples
//! - `run`: a training run from history to model
//! - `import_torch`: cells that were trained in PyTorch
//! - `evaluate`: forecasts against observed values and baselines
//!
//! The crate uses neither files nor terminals. It uses threads, but no result depends on their number.

mod backtest;
mod cells;
mod ensemble;
pub mod evaluate;
mod gram;
mod history;
pub mod import_torch;
mod plan;
mod progress;
mod readout_fit;
mod run;
mod scores;
mod settings;
mod trainer;
mod training_data;
mod windows;

pub use backtest::{StateRunner, scan_states};
pub use history::{
    Channel, CovariateSpan, History, HistoryRecorder, Seasons, Segment, Split, SplitFractions,
};
pub use progress::{BatchReport, Decision, Progress};
pub use run::{TrainOptions, TrainingReport, train, train_with};
pub use scores::{EXAMPLE_LEVEL, ExampleForecast, ExampleRank, ExampleSeries};
pub use settings::{TrainConfig, TrainingSpec};
pub use windows::{Origin, Windows};
