//! What the demo knows of each sensor: its readings, its forecasts, and how far those were off beside a forecast that
//! says "as yesterday at this hour".

use std::collections::{BTreeMap, VecDeque};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Float32Type;

use tidecast_core::series::Grid;
use tidecast_core::table::{Columns, Forecasts, Observations};

const DAY: i64 = 86_400_000_000;

/// Forecasts whose errors are averaged: a week of hours.
const ROLLING: usize = 168;

/// Readings kept of a sensor: more than a forecast and its yesterday span.
const KEPT: usize = 24 * 7;

#[derive(Debug, Default)]
pub struct Sensor {
    /// Values by time.
    readings: BTreeMap<i64, f64>,
    /// Forecasts whose horizon is not over, with their origin.
    pending: VecDeque<(i64, Vec<f32>)>,
    /// Mean absolute errors of finished forecasts: ours, and those of yesterday's values.
    errors: VecDeque<(f64, f64)>,
    /// The latest forecast's origin; forecast, lower and upper bound of its first step.
    pub next: Option<(i64, [f32; 3])>,
}

/// All sensors, by name.
#[derive(Debug)]
pub struct Board {
    grid: Grid,
    pub sensors: BTreeMap<String, Sensor>,
    pub readings: u64,
    pub forecasts: u64,
    /// The latest reading's time.
    pub now: i64,
}

impl Board {
    pub fn new(grid: Grid) -> Self {
        Self { grid, sensors: BTreeMap::new(), readings: 0, forecasts: 0, now: i64::MIN }
    }

    pub fn readings(&mut self, rows: &RecordBatch, columns: &Columns) {
        let observations = Observations::new(rows, columns);
        let (Some(series), Some(values)) = (observations.series, observations.targets.first()) else {
            return;
        };
        for i in 0..observations.len() {
            self.readings += 1;
            let time = observations.times.value(i);
            self.now = self.now.max(time);
            let sensor = self.sensors.entry(series.value(i).to_owned()).or_default();
            sensor.readings.insert(self.grid.start_of(self.grid.step_of(time)), values.value(i));
            if sensor.readings.len() > KEPT {
                sensor.readings.pop_first();
            }
            sensor.settle(self.grid.every);
        }
    }

    pub fn forecasts(&mut self, rows: &RecordBatch) {
        let forecasts = Forecasts::new(rows);
        for i in 0..forecasts.len() {
            self.forecasts += 1;
            let list =
                |list: usize| forecasts.lists[list].value(i).as_primitive::<Float32Type>().values().to_vec();
            let sensor = self.sensors.entry(forecasts.series.value(i).to_owned()).or_default();
            let values = list(0);
            if let (Some(next), true) = (values.first(), forecasts.lists.len() > 2) {
                sensor.next = Some((forecasts.origins.value(i), [*next, list(1)[0], list(2)[0]]));
            }
            sensor.pending.push_back((forecasts.origins.value(i), values));
            sensor.settle(self.grid.every);
        }
    }

    /// The mean over sensors of our error divided by yesterday's, and how many sensors it is over.
    pub fn ratio(&self) -> Option<(f64, usize)> {
        let ratios =
            self.sensors.values().filter_map(|sensor| sensor.error().map(|(ours, naive)| ours / naive));
        let ratios: Vec<f64> = ratios.filter(|ratio| ratio.is_finite()).collect();
        (!ratios.is_empty()).then(|| (ratios.iter().sum::<f64>() / ratios.len() as f64, ratios.len()))
    }
}

impl Sensor {
    /// The last reading that the latest forecast knew; the readings themselves are some moments ahead.
    pub fn last(&self) -> Option<f64> {
        let known = self.next.and_then(|(origin, _)| self.readings.get(&origin));
        known.or_else(|| self.readings.values().next_back()).copied()
    }

    /// Rolling mean absolute errors: ours and yesterday's.
    pub fn error(&self) -> Option<(f64, f64)> {
        let count = self.errors.len() as f64;
        let sum = self.errors.iter().fold((0.0, 0.0), |sum, error| (sum.0 + error.0, sum.1 + error.1));
        (count > 0.0).then(|| (sum.0 / count, sum.1 / count))
    }

    /// Scores the forecasts whose horizon is over.
    fn settle(&mut self, every: i64) {
        let Some((&latest, _)) = self.readings.last_key_value() else { return };
        while let Some((origin, values)) = self.pending.front() {
            if origin + values.len() as i64 * every > latest {
                return;
            }
            let (mut ours, mut naive, mut count) = (0.0, 0.0, 0);
            for (i, forecast) in values.iter().enumerate() {
                let time = origin + (i as i64 + 1) * every;
                let pair = self.readings.get(&time).zip(self.readings.get(&(time - DAY)));
                if let Some((actual, yesterday)) = pair {
                    ours += (actual - f64::from(*forecast)).abs();
                    naive += (actual - yesterday).abs();
                    count += 1;
                }
            }
            if count > 0 {
                self.errors.push_back((ours / f64::from(count), naive / f64::from(count)));
                if self.errors.len() > ROLLING {
                    self.errors.pop_front();
                }
            }
            self.pending.pop_front();
        }
    }
}
