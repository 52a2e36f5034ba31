//! Settings and results of the convergence study: validation error against windows and seconds.

use serde::{Deserialize, Serialize};

use crate::Summary;
use tidecast_core::network::CellKind;

/// Size of the convergence study.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub cells: Vec<CellKind>,
    /// Fractions of the training split, its latest part, ascending; the last one is 1.
    pub fractions: Vec<f64>,
    /// Factors on the learning rate of the recipe, tried for every cell.
    pub rates: Vec<f64>,
    /// Epochs on the whole training split; see [`Plan::epochs`].
    pub epochs: usize,
    /// Maximum lookback of a window.
    pub lookback: usize,
    /// The reported seeds are 1 to this.
    pub seeds: u64,
}

/// Everything that the weights of a training depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Name of the data set.
    pub data: String,
    /// Fingerprint of its rows.
    pub fingerprint: String,
    pub recipe: serde_json::Value,
    pub fraction: f64,
}

/// Outcome of a training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearningCurve {
    pub parameters: u64,
    /// One per epoch.
    pub points: Vec<Point>,
    /// Mean absolute error on the test split, in standard deviations of each series.
    pub test: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// Training windows so far, counted once per epoch.
    pub windows: usize,
    /// Wall-clock seconds so far.
    pub seconds: f64,
    /// Scaled loss on the validation split.
    pub validation: f64,
}

/// Varied part of a training.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    pub cell: CellKind,
    pub hidden: usize,
    pub learning_rate: f64,
    pub fraction: f64,
    pub seed: u64,
}

/// One cell on one fraction of a data set, over all seeds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub data: String,
    pub fraction: f64,
    /// Training windows per epoch.
    pub windows_per_epoch: usize,
    pub cell: CellKind,
    pub hidden: usize,
    pub parameters: u64,
    pub learning_rate: f64,
    /// True if the rate is the lowest or highest candidate: a better one may lie beyond.
    pub rate_at_edge: bool,
    pub seeds: usize,
    /// Smallest validation loss of a training.
    pub best_validation: Option<Summary>,
    /// Error on the test split, in standard deviations of each series.
    pub test: Option<Summary>,
    /// Validation loss reached by half of the trainings of every cell; the same for all cells of a fraction.
    pub target: f64,
    /// Fraction of the seeds that reached the target.
    pub reached: f64,
    /// Windows and seconds until the target, over the seeds that reached it.
    pub windows: Option<Summary>,
    pub seconds: Option<Summary>,
    pub curve: Vec<CurvePoint>,
}

/// State after an epoch, over all seeds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CurvePoint {
    pub windows: f64,
    /// Median.
    pub seconds: f64,
    pub validation: Summary,
}

/// Seed of the trainings that choose the learning rate; never reported.
const TUNING_SEED: u64 = 0;

impl Plan {
    /// Takes a quarter of an hour on two cores for a history of fifty thousand steps.
    pub fn quick() -> Self {
        Self {
            cells: vec![CellKind::Gru, CellKind::Lstm, CellKind::LstmCoupled],
            fractions: vec![0.25, 0.5, 1.0],
            rates: vec![1.0, 3.0],
            epochs: 5,
            lookback: 24,
            seeds: 3,
        }
    }

    /// Takes an hour. Windows of a day and a few epochs compare cells; more of either costs hours and helps all cells alike.
    pub fn full() -> Self {
        Self {
            fractions: vec![0.0625, 0.25, 1.0],
            rates: vec![0.5, 1.0, 2.0, 4.0, 8.0, 16.0],
            epochs: 4,
            seeds: 5,
            ..Self::quick()
        }
    }

    /// Epochs on a fraction f of the history: epochs / √f.
    ///
    /// A small fraction needs more epochs to converge, but repeated windows teach less, so its size is only half compensated.
    pub fn epochs(&self, fraction: f64) -> usize {
        (self.epochs as f64 / fraction.sqrt()).round() as usize
    }

    /// Trainings that choose the learning rates. Only the middle fraction is tuned: all would take as long as the reported
    /// trainings.
    pub fn tuning_settings(&self, rate: f64, hidden: impl Fn(CellKind) -> usize) -> Vec<Setting> {
        let fraction = self.fractions[self.fractions.len() / 2];
        let mut settings = Vec::new();
        for &cell in &self.cells {
            let (hidden, seed) = (hidden(cell), TUNING_SEED);
            let setting = |factor| Setting { cell, hidden, learning_rate: rate * factor, fraction, seed };
            settings.extend(self.rates.iter().map(setting));
        }
        settings
    }

    /// Reported trainings, each cell with its best rate of [`Plan::tuning_settings`].
    pub fn settings(&self, tuned: &[(Setting, LearningCurve)]) -> Vec<Setting> {
        let best = |cell: &CellKind| {
            let of_cell = tuned.iter().filter(|(setting, _)| setting.cell == *cell);
            of_cell.min_by(|a, b| a.1.best().total_cmp(&b.1.best())).map(|(setting, _)| setting.clone())
        };
        let best: Vec<Setting> = self.cells.iter().filter_map(best).collect();
        let mut settings = Vec::new();
        for &fraction in &self.fractions {
            for setting in &best {
                settings.extend((1..=self.seeds).map(|seed| Setting { fraction, seed, ..setting.clone() }));
            }
        }
        settings
    }
}

impl LearningCurve {
    /// Smallest validation loss; infinite without an epoch.
    pub fn best(&self) -> f64 {
        self.points.iter().map(|point| point.validation).fold(f64::INFINITY, f64::min)
    }

    /// First point at or below a loss.
    fn reaches(&self, target: f64) -> Option<&Point> {
        self.points.iter().find(|point| point.validation <= target)
    }
}

/// One row per fraction and cell, in the order of the trainings.
pub fn rows(data: &str, tuning: &[Setting], finished: &[(Setting, LearningCurve)]) -> Vec<Row> {
    let rates = || tuning.iter().map(|setting| setting.learning_rate);
    let edges = [rates().fold(f64::INFINITY, f64::min), rates().fold(0.0, f64::max)];
    let mut rows = Vec::new();
    for fraction in finished.chunk_by(|a, b| a.0.fraction == b.0.fraction) {
        let cells: Vec<&[(Setting, LearningCurve)]> =
            fraction.chunk_by(|a, b| a.0.cell == b.0.cell).collect();
        // The worst median over the cells, so that every cell reaches the target.
        let medians = cells.iter().filter_map(|group| best_validation(group)).map(|best| best.median);
        let target = medians.fold(f64::NEG_INFINITY, f64::max);
        rows.extend(cells.into_iter().map(|group| row(data, group, target)));
    }
    rows.iter_mut().for_each(|row| row.rate_at_edge = edges.contains(&row.learning_rate));
    rows
}

fn best_validation(group: &[(Setting, LearningCurve)]) -> Option<Summary> {
    Summary::new(group.iter().map(|(_, curve)| curve.best()))
}

fn row(data: &str, group: &[(Setting, LearningCurve)], target: f64) -> Row {
    let (setting, first) = &group[0];
    let reached: Vec<&Point> = group.iter().filter_map(|(_, curve)| curve.reaches(target)).collect();
    let epochs = group.iter().map(|(_, curve)| curve.points.len()).min().unwrap_or(0);
    let curve = (0..epochs).filter_map(|epoch| {
        let points = || group.iter().map(|(_, curve)| &curve.points[epoch]);
        Some(CurvePoint {
            windows: first.points[epoch].windows as f64,
            seconds: Summary::new(points().map(|point| point.seconds))?.median,
            validation: Summary::new(points().map(|point| point.validation))?,
        })
    });
    Row {
        data: data.to_string(),
        fraction: setting.fraction,
        windows_per_epoch: first.points.first().map_or(0, |point| point.windows),
        cell: setting.cell,
        hidden: setting.hidden,
        parameters: first.parameters,
        learning_rate: setting.learning_rate,
        rate_at_edge: false,
        seeds: group.len(),
        best_validation: best_validation(group),
        test: Summary::new(group.iter().filter_map(|(_, curve)| curve.test)),
        target,
        reached: reached.len() as f64 / group.len() as f64,
        windows: Summary::new(reached.iter().map(|point| point.windows as f64)),
        seconds: Summary::new(reached.iter().map(|point| point.seconds)),
        curve: curve.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(validations: [f64; 3], seconds: f64) -> LearningCurve {
        let point = |(i, validation): (usize, f64)| Point {
            windows: 100 * (i + 1),
            seconds: seconds * (i + 1) as f64,
            validation,
        };
        let points = validations.into_iter().enumerate().map(point).collect();
        LearningCurve { parameters: 7, points, test: Some(validations[2]) }
    }

    #[test]
    fn every_cell_reaches_the_target() {
        let setting = |cell, seed| Setting { cell, hidden: 2, learning_rate: 0.1, fraction: 1.0, seed };
        let finished = [
            (setting(CellKind::Gru, 1), curve([3.0, 1.0, 0.5], 2.0)),
            (setting(CellKind::Gru, 2), curve([2.0, 1.2, 0.9], 4.0)),
            (setting(CellKind::Gru, 3), curve([0.9, 0.8, 0.7], 3.0)),
            (setting(CellKind::Lstm, 1), curve([4.0, 2.0, 1.5], 1.0)),
            (setting(CellKind::Lstm, 2), curve([4.0, 2.0, 1.0], 1.0)),
            (setting(CellKind::Lstm, 3), curve([4.0, 0.9, f64::INFINITY], 1.0)),
        ];
        let tuning = [Setting { learning_rate: 0.3, ..finished[0].0.clone() }, finished[3].0.clone()];
        let rows = rows("x", &tuning, &finished);
        assert!(rows.len() == 2 && rows.iter().all(|row| row.rate_at_edge));
        assert!(rows.iter().all(|row| row.target == 1.0));
        assert_eq!(rows[0].windows, Some(Summary { median: 200.0, min: 100.0, max: 300.0 }));
        assert_eq!((rows[0].reached, rows[0].seconds.unwrap().max), (1.0, 12.0));
        assert_eq!((rows[1].reached * 3.0).round(), 2.0);
        let validation = Summary { median: 4.0, min: 4.0, max: 4.0 };
        assert_eq!(rows[1].curve[0], CurvePoint { windows: 100.0, seconds: 1.0, validation });
    }

    #[test]
    fn each_cell_gets_its_best_rate() {
        let plan = Plan { seeds: 2, ..Plan::quick() };
        let tuning = plan.tuning_settings(0.01, |_| 4);
        assert_eq!(tuning.len(), 6);
        let outcome = |setting: Setting| {
            let is_best = (setting.learning_rate > 0.02) == (setting.cell == CellKind::Gru);
            (setting, curve([1.0, 1.0, if is_best { 0.5 } else { 0.6 }], 1.0))
        };
        let settings = plan.settings(&tuning.into_iter().map(outcome).collect::<Vec<_>>());
        assert_eq!(settings.len(), 3 * 3 * 2);
        for setting in settings {
            assert_eq!(setting.learning_rate > 0.02, setting.cell == CellKind::Gru);
            assert!(setting.seed != TUNING_SEED);
        }
    }
}
