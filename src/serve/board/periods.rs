//! What the stream scored of its own forecasts of one series: the latest period of each step ahead.

use serde::Serialize;

use tidecast_core::forecaster::Scoring;
use tidecast_core::table::ScoreRows;

/// Bytes of a period with its shares, as an allocator parts them. Five steps ahead at two levels are 0.4 kB a series; the most,
/// eight at sixteen, 1.1 kB. They come out of the room for steps.
const PERIOD_BYTES: usize = size_of::<Period>() + 16;
const SHARE_BYTES: usize = size_of::<f32>();

/// How forecasts some steps ahead fared in a period.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Period {
    pub ahead: u32,
    pub from_ms: f64,
    pub until_ms: f64,
    pub forecasts: u32,
    /// Mean absolute error, in the unit of the series.
    pub mae: f32,
    /// The same over that of the naive forecast; none where that was never wrong.
    pub mase: Option<f32>,
    /// Mean of actual less forecast.
    pub bias: f32,
    /// Share within each level.
    pub coverage: Box<[f32]>,
}

#[derive(Debug, Default)]
pub struct Periods {
    /// Ascending by the step ahead; only those that were told.
    latest: Vec<Period>,
    /// Whether the errors had left their own history at the end of the latest; none before the first.
    drift: Option<bool>,
}

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
            mase: rows.mase(row),
            bias: rows.bias.value(row),
            coverage: rows.coverage.iter().map(|share| share.value(row)).collect(),
        };
        self.drift = Some(rows.drift.value(row));
        match self.latest.binary_search_by_key(&ahead, |period| period.ahead) {
            Ok(place) => self.latest[place] = period,
            Err(place) => {
                self.latest.reserve_exact(1);
                self.latest.insert(place, period);
            }
        }
    }

    pub fn all(&self) -> &[Period] {
        &self.latest
    }

    pub fn drift(&self) -> Option<bool> {
        self.drift
    }
}
