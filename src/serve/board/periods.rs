//! What the stream scored of its own forecasts of one series: the latest period of each step ahead.

use serde::Serialize;

use crate::forecaster::Scoring;
use crate::table::ScoreRows;

/// Bytes of a period with its shares, as an allocator parts them. Three steps ahead at two levels are 0.3 kB a series; the most,
/// eight at sixteen, 1.2 kB. They come out of the room for steps.
const PERIOD_BYTES: usize = size_of::<Period>() + 16;
const SHARE_BYTES: usize = size_of::<f32>();

/// How forecasts some steps ahead fared in a period.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Period {
    pub ahead: u32,
    pub from_ms: f64,
    pub until_ms: f64,
    pub forecasts: u32,
    /// Mean absolute error, in the unit of the series, and that of the naive forecast.
    pub mae: f32,
    pub naive_mae: f32,
    /// None where the naive forecast was never wrong.
    pub mase: Option<f32>,
    /// Mean of forecast less actual, as everywhere on the page; the rows that go out have actual less forecast.
    pub bias: f32,
    /// Share within each level.
    pub coverage: Box<[f32]>,
    /// Share of actuals exactly on a bound.
    pub ties: f32,
    /// The errors had left their own history.
    pub drift: bool,
}

/// Ascending by the step ahead; only those that were told.
#[derive(Debug, Default)]
pub struct Periods(Vec<Period>);

impl Periods {
    /// Bytes that those of a series can take.
    pub fn bytes(scoring: Option<&Scoring>, levels: usize) -> usize {
        scoring.map_or(0, |scoring| scoring.horizons.len() * (PERIOD_BYTES + levels * SHARE_BYTES))
    }

    /// What is told last is the latest: a step ahead that is not of the plan is not kept.
    pub fn told(&mut self, scoring: &Scoring, rows: &ScoreRows<'_>, row: usize) {
        let ahead = rows.horizons.value(row).unsigned_abs();
        if !scoring.horizons.contains(&(ahead as usize)) {
            return;
        }
        let period = Period {
            ahead,
            from_ms: rows.from.value(row) as f64 / 1e3,
            until_ms: rows.until.value(row) as f64 / 1e3,
            forecasts: rows.forecasts.value(row).unsigned_abs(),
            mae: rows.mae.value(row),
            naive_mae: rows.naive_mae.value(row),
            mase: rows.mase(row),
            bias: -rows.bias.value(row),
            coverage: rows.coverage.iter().map(|share| share.value(row)).collect(),
            ties: rows.ties.value(row),
            drift: rows.drift.value(row),
        };
        match self.0.binary_search_by_key(&ahead, |period| period.ahead) {
            Ok(place) => self.0[place] = period,
            Err(place) => {
                self.0.reserve_exact(1);
                self.0.insert(place, period);
            }
        }
    }

    pub fn all(&self) -> &[Period] {
        &self.0
    }
}
