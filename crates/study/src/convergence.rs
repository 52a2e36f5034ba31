//! How soon networks learn real series: validation errors against what was seen and what it cost.

use serde::{Deserialize, Serialize};

use super::Spread;
use tidecast_core::network::CellKind;

/// The size of a study of convergence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    pub cells: Vec<CellKind>,
    /// Shares of the training part that are learned from, the latest of it; ascending, the last one is 1.
    pub shares: Vec<f64>,
    /// Factors of the recipe's learning rate that are tried for every cell.
    pub rates: Vec<f64>,
    /// Of the whole history; [`Plan::epochs`] has those of a share.
    pub epochs: usize,
    /// Most steps that a window reads.
    pub lookback: usize,
    /// The seeds that are reported are 1 to this.
    pub seeds: u64,
}

/// All that the weights of a training depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Name of the data, and the fingerprint of its rows.
    pub data: String,
    pub fingerprint: String,
    pub recipe: serde_json::Value,
    pub share: f64,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Learned {
    pub parameters: u64,
    /// After each epoch.
    pub points: Vec<Point>,
    /// Mean absolute error on the test part, in standard deviations of each series.
    pub test: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// Windows learned from so far, those seen twice counted twice.
    pub windows: usize,
    /// Of computing, as the clock of this machine had it.
    pub seconds: f64,
    /// Scaled loss on the validation part.
    pub validation: f64,
}

/// What is varied within a set of data.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    pub cell: CellKind,
    pub hidden: usize,
    pub learning_rate: f64,
    pub share: f64,
    pub seed: u64,
}

/// One cell on one share of a set of data, over all seeds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub data: String,
    pub share: f64,
    /// Readings of that share that a window ends with: each is learned from once an epoch.
    pub learned_from: usize,
    pub cell: CellKind,
    pub hidden: usize,
    pub parameters: u64,
    pub learning_rate: f64,
    /// Whether it is the lowest or the highest that was tried: a still better one may lie beyond.
    pub rate_at_edge: bool,
    pub seeds: usize,
    /// The least validation loss of a training.
    pub best: Option<Spread>,
    /// On the test part, in standard deviations of each series.
    pub test: Option<Spread>,
    /// A validation loss that half of the trainings of every cell reach; the same for all cells of a share.
    pub target: f64,
    /// Share of the seeds that reached it.
    pub reached: f64,
    /// Windows and seconds until it was reached, over the seeds that did.
    pub windows: Option<Spread>,
    pub seconds: Option<Spread>,
    /// After every epoch: windows, seconds (the median), validation loss.
    pub curve: Vec<(f64, f64, Spread)>,
}

/// The seed of the trainings that choose the learning rate; it is none of those reported.
const TUNING_SEED: u64 = 0;

impl Plan {
    /// Ends within a quarter of an hour on two cores, on a history of some fifty thousand steps.
    pub fn quick() -> Self {
        Self {
            cells: vec![CellKind::Gru, CellKind::Lstm, CellKind::LstmCoupled],
            shares: vec![0.25, 0.5, 1.0],
            rates: vec![1.0, 3.0],
            epochs: 5,
            lookback: 24,
            seeds: 3,
        }
    }

    /// Takes an hour; can be stopped and taken up again. A window of a day and a few epochs: what is compared are cells, each
    /// with the same, and longer windows and more epochs cost hours and bring all of them the same little more.
    pub fn full() -> Self {
        Self {
            shares: vec![0.0625, 0.25, 1.0],
            rates: vec![0.5, 1.0, 2.0, 4.0, 8.0, 16.0],
            epochs: 4,
            seeds: 5,
            ..Self::quick()
        }
    }

    /// Passes over a share of the history: a smaller one is read more often, so that it is learned from for long enough, and
    /// less often than would make up for its size, since what is read again teaches less.
    pub fn epochs(&self, share: f64) -> usize {
        (self.epochs as f64 / share.sqrt()).round() as usize
    }

    /// The trainings that choose the learning rates, on the middle share: for all shares they would take as long as what is
    /// reported. `hidden` gives each cell its size.
    pub fn tuning(&self, rate: f64, hidden: impl Fn(CellKind) -> usize) -> Vec<Setting> {
        let share = self.shares[self.shares.len() / 2];
        let of = |&cell: &CellKind| {
            let hidden = hidden(cell);
            let setting = move |factor: &f64| Setting {
                cell,
                hidden,
                learning_rate: rate * factor,
                share,
                seed: TUNING_SEED,
            };
            self.rates.iter().map(setting)
        };
        self.cells.iter().flat_map(of).collect()
    }

    /// The trainings that are reported: each cell with the rate that did best in [`Plan::tuning`].
    pub fn settings(&self, tuning: &[(Setting, Learned)]) -> Vec<Setting> {
        let best = |cell: &CellKind| {
            let ours = tuning.iter().filter(|(setting, _)| setting.cell == *cell);
            ours.min_by(|a, b| a.1.best().total_cmp(&b.1.best())).map(|(setting, _)| setting.clone())
        };
        let tuned: Vec<Setting> = self.cells.iter().filter_map(best).collect();
        let mut settings = Vec::new();
        for &share in &self.shares {
            for setting in &tuned {
                settings.extend((1..=self.seeds).map(|seed| Setting { share, seed, ..setting.clone() }));
            }
        }
        settings
    }
}

impl Learned {
    /// The least validation loss; infinite where there is none.
    pub fn best(&self) -> f64 {
        self.points.iter().map(|point| point.validation).fold(f64::INFINITY, f64::min)
    }

    fn reaches(&self, target: f64) -> Option<&Point> {
        self.points.iter().find(|point| point.validation <= target)
    }
}

/// One row for each share and cell, in the order of the trainings; `tuning` are those that chose the rates.
pub fn rows(data: &str, tuning: &[Setting], done: &[(Setting, Learned)]) -> Vec<Row> {
    let rates = || tuning.iter().map(|setting| setting.learning_rate);
    let edges = [rates().fold(f64::INFINITY, f64::min), rates().fold(0.0, f64::max)];
    let same_share = |a: &(Setting, Learned), b: &(Setting, Learned)| a.0.share == b.0.share;
    let mut rows = Vec::new();
    for of_share in done.chunk_by(same_share) {
        let cells: Vec<&[(Setting, Learned)]> = of_share.chunk_by(|a, b| a.0.cell == b.0.cell).collect();
        let bests = |group: &[(Setting, Learned)]| {
            Spread::of(&group.iter().map(|(_, learned)| learned.best()).collect::<Vec<_>>())
        };
        // The cell that does worst by its median sets the mark, so that every cell comes to it.
        let target = cells.iter().filter_map(|group| bests(group)).map(|best| best.median);
        let target = target.fold(f64::NEG_INFINITY, f64::max);
        rows.extend(cells.into_iter().map(|group| row(data, group, target, bests(group))));
    }
    rows.iter_mut().for_each(|row| row.rate_at_edge = edges.contains(&row.learning_rate));
    rows
}

fn row(data: &str, group: &[(Setting, Learned)], target: f64, best: Option<Spread>) -> Row {
    let (setting, learned) = &group[0];
    let reached: Vec<&Point> = group.iter().filter_map(|(_, learned)| learned.reaches(target)).collect();
    let spread =
        |of: fn(&Point) -> f64| Spread::of(&reached.iter().map(|point| of(point)).collect::<Vec<_>>());
    let tests: Vec<f64> = group.iter().filter_map(|(_, learned)| learned.test).collect();
    let epochs = group.iter().map(|(_, learned)| learned.points.len()).min().unwrap_or(0);
    let curve = (0..epochs).filter_map(|epoch| {
        let points: Vec<&Point> = group.iter().map(|(_, learned)| &learned.points[epoch]).collect();
        let of =
            |of: fn(&Point) -> f64| Spread::of(&points.iter().map(|point| of(point)).collect::<Vec<_>>());
        Some((points[0].windows as f64, of(|point| point.seconds)?.median, of(|point| point.validation)?))
    });
    Row {
        data: data.to_string(),
        share: setting.share,
        learned_from: learned.points.first().map_or(0, |point| point.windows),
        cell: setting.cell,
        hidden: setting.hidden,
        parameters: learned.parameters,
        learning_rate: setting.learning_rate,
        rate_at_edge: false,
        seeds: group.len(),
        best,
        test: Spread::of(&tests),
        target,
        reached: reached.len() as f64 / group.len() as f64,
        windows: spread(|point| point.windows as f64),
        seconds: spread(|point| point.seconds),
        curve: curve.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(validations: [f64; 3], seconds: f64) -> Learned {
        let point = |(i, validation): (usize, f64)| Point {
            windows: 100 * (i + 1),
            seconds: seconds * (i + 1) as f64,
            validation,
        };
        let points = validations.into_iter().enumerate().map(point).collect();
        Learned { parameters: 7, points, test: Some(validations[2]) }
    }

    #[test]
    fn the_mark_is_one_that_every_cell_reaches() {
        let setting = |cell, seed| Setting { cell, hidden: 2, learning_rate: 0.1, share: 1.0, seed };
        let done = [
            (setting(CellKind::Gru, 1), learned([3.0, 1.0, 0.5], 2.0)),
            (setting(CellKind::Gru, 2), learned([2.0, 1.2, 0.9], 4.0)),
            (setting(CellKind::Gru, 3), learned([0.9, 0.8, 0.7], 3.0)),
            (setting(CellKind::Lstm, 1), learned([4.0, 2.0, 1.5], 1.0)),
            (setting(CellKind::Lstm, 2), learned([4.0, 2.0, 1.0], 1.0)),
            (setting(CellKind::Lstm, 3), learned([4.0, 0.9, f64::INFINITY], 1.0)),
        ];
        let tuning = [Setting { learning_rate: 0.3, ..done[0].0.clone() }, done[3].0.clone()];
        let rows = rows("x", &tuning, &done);
        assert!(rows.len() == 2 && rows.iter().all(|row| row.rate_at_edge));
        assert!(rows.iter().all(|row| row.target == 1.0));
        assert_eq!(rows[0].windows, Some(Spread { median: 200.0, lowest: 100.0, highest: 300.0 }));
        assert_eq!((rows[0].reached, rows[0].seconds.unwrap().highest), (1.0, 12.0));
        assert_eq!((rows[1].reached * 3.0).round(), 2.0);
        assert_eq!(rows[1].curve[0], (100.0, 1.0, Spread { median: 4.0, lowest: 4.0, highest: 4.0 }));
    }

    #[test]
    fn each_cell_has_the_rate_that_did_best() {
        let plan = Plan { seeds: 2, ..Plan::quick() };
        let tuning: Vec<(Setting, Learned)> = (plan.tuning(0.01, |_| 4).into_iter())
            .map(|setting| {
                let faster = setting.learning_rate > 0.02;
                let good = faster == (setting.cell == CellKind::Gru);
                (setting, learned([1.0, 1.0, if good { 0.5 } else { 0.6 }], 1.0))
            })
            .collect();
        assert_eq!(tuning.len(), 6);
        let settings = plan.settings(&tuning);
        assert_eq!(settings.len(), 3 * 3 * 2);
        for setting in settings {
            assert_eq!(setting.learning_rate > 0.02, setting.cell == CellKind::Gru);
            assert!(setting.seed != TUNING_SEED);
        }
    }
}
