//! Scores as values.

use tidecast_core::intervals::{HorizonScores, SeriesScores};

/// Scores of a series some steps ahead.
pub fn scores(horizon: usize) -> SeriesScores {
    let of = HorizonScores {
        horizon,
        forecasts: 24.0,
        mae: 0.5,
        naive_mae: 2.0,
        bias: -0.25,
        ties: 0.0,
        coverage: vec![0.75],
    };
    SeriesScores { horizons: vec![of], drifts: true }
}
