//! The memory's readout, solved from the sums: every penalty and reading is judged on parts of the history that were not
//! fitted, and what was chosen is fitted again without each of them.

use super::readings::{Reading, Readings};
use super::regression::{BLOCKS, Sums};
use super::shards;
use tidecast_core::model::Penalty;
use tidecast_core::network::memory::{Normal, Own, Penalties, Rows, Solution, least_absolute, solve};

/// Place of the validation part behind the blocks.
const VALIDATION: usize = BLOCKS;

/// A mean square below this is rounding.
const LEAST_ERROR: f64 = 1e-12;

/// Penalties that are tried, as shares of the number of rows.
const RIDGES: [f64; 9] = [0.0001, 0.001, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];
/// Where nothing is there to choose on.
const RIDGE: f64 = 0.1;
/// Weights of the copied states that are tried; 0 is without.
const COPIED: [f64; 2] = [0.0, 0.5];
/// Shares of the coefficients with the least absolute errors that are tried beside those with the least squares.
const SHARES: [f64; 2] = [0.5, 1.0];
/// Something else than usual is only read, and absolute errors are only taken, where that leaves less than this part of the
/// error: less is chance.
const WORTH: f64 = 0.99;
/// And where it leaves no fold and no series with more than this part: one time has its own level and weather, and what fits
/// it need not fit the next.
const HARM: f64 = 1.005;

/// What was chosen for a part of the horizon.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    pub penalty: Penalty,
    pub reading: Reading,
}

/// The readout by fold and part of the horizon: fitted without each block, and last on all.
#[derive(Clone, Debug)]
pub struct Solutions {
    folds: Vec<Vec<Solution>>,
    /// Of the coefficients with the least absolute errors, by part.
    pub absolute: Vec<f64>,
}

/// Coefficients for the whole horizon: `[horizon][feature]` and `[series][own feature][horizon]`.
#[derive(Clone, Debug)]
pub struct Coefficients {
    pub shared: Vec<f32>,
    pub own: Vec<f32>,
}

/// What a fold is fitted on and judged by, a series each; rows only where they are kept.
struct Fold {
    number: usize,
    train: Vec<Normal>,
    judged: Vec<Normal>,
    rows: Vec<Rows>,
}

impl Fold {
    /// The logarithm of each series' mean error, absolute where the rows are there, else squared.
    fn errors(&self, solution: &Solution) -> Vec<Option<f64>> {
        let of = |(number, normal): (usize, &Normal)| {
            let (sum, count) = match self.rows.get(number) {
                None => (normal.squared_errors(solution, number), normal.rows() as f64),
                Some(rows) => {
                    (rows.absolute_errors(normal.targets(), solution, number), rows.ys.len() as f64)
                }
            };
            (count > 0.0).then(|| (sum.iter().sum::<f64>() / count).max(LEAST_ERROR).ln())
        };
        self.judged.iter().enumerate().map(of).collect()
    }
}

/// Logarithms of mean errors, `[fold][series]`.
#[derive(Clone, Debug)]
struct Judged(Vec<Vec<Option<f64>>>);

impl Judged {
    /// None where there is nothing to judge.
    fn mean(&self) -> Option<f64> {
        mean(self.0.iter().flatten().copied())
    }

    /// Whether these errors are worth taking in place of `usual` ones.
    fn gains(&self, usual: &Self) -> bool {
        let way = |fold: usize, series: usize| Some(self.0[fold][series]? - usual.0[fold][series]?);
        let (folds, series) = (self.0.len(), self.0.first().map_or(0, Vec::len));
        let of_fold = |fold: usize| mean((0..series).map(|series| way(fold, series)));
        let of_series = |series: usize| mean((0..folds).map(|fold| way(fold, series)));
        let all = mean((0..folds).flat_map(|fold| (0..series).map(move |series| way(fold, series))));
        let harmless = |change: Option<f64>| change.is_none_or(|change| change <= HARM.ln());
        all.is_some_and(|all| all < WORTH.ln())
            && (0..folds).all(|fold| harmless(of_fold(fold)))
            && (0..series).all(|series| harmless(of_series(series)))
    }
}

/// The mean of what is there.
fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let (sum, count) = values.flatten().fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    (count > 0.0).then(|| sum / count)
}

impl Sums {
    /// Rows that trained, and rows to choose on.
    pub fn counts(&self) -> (u64, u64) {
        let count = |blocks: std::ops::Range<usize>| {
            let normals =
                self.normals.iter().flat_map(|series| series[blocks.clone()].iter().flatten().flatten());
            normals.map(Normal::rows).sum()
        };
        (count(0..BLOCKS), count(VALIDATION..BLOCKS + 1))
    }

    /// The steps of part `part` of the horizon.
    fn steps(&self, part: usize) -> std::ops::Range<usize> {
        (if part == 0 { 0 } else { self.ends[part - 1] })..self.ends[part]
    }

    /// The sums over some blocks for part `part` of the horizon, a series each.
    fn merged(&self, part: usize, blocks: impl Fn(usize) -> bool) -> Vec<Normal> {
        let steps = self.steps(part);
        let features = self.normals.iter().flatten().flatten().flatten().next().map_or(0, Normal::features);
        let one = |series: &Vec<Vec<Option<Normal>>>| {
            let mut sum = Normal::new(features, steps.len());
            for (_, parts) in series.iter().enumerate().filter(|(block, _)| blocks(*block)) {
                for normal in parts[part..].iter().flatten() {
                    sum.plus_targets(normal, steps.clone());
                }
            }
            sum
        };
        self.normals.iter().map(one).collect()
    }

    /// The rows that are kept of some blocks, with the targets of part `part`, a series each.
    fn kept(&self, part: usize, blocks: impl Fn(usize) -> bool) -> Vec<Rows> {
        let horizon = self.ends.last().copied().unwrap_or(0);
        let one = |series: &Vec<Rows>| {
            let mut kept = Rows::default();
            for (_, rows) in series.iter().enumerate().filter(|(block, _)| blocks(*block)) {
                kept.xs.extend_from_slice(&rows.xs);
                kept.ys.extend(rows.ys.chunks(horizon).flat_map(|row| &row[self.steps(part)]));
            }
            kept
        };
        self.rows.iter().map(one).collect()
    }

    fn folds(&self, part: usize) -> Vec<Fold> {
        let fold = |fold: usize| Fold {
            number: fold,
            train: self.merged(part, |block| block < BLOCKS && block != fold),
            judged: self.merged(part, |block| block == fold),
            rows: self.kept(part, |block| block == fold),
        };
        let usable = |fold: &Fold| rows(&fold.train) > 0 && rows(&fold.judged) > 0;
        (0..=BLOCKS).map(fold).filter(usable).collect()
    }

    /// Chooses what each part of the horizon reads and its penalties: those with the least error on parts of the history
    /// that were not fitted. These are the validation part, fitted on all training blocks, and each training block, fitted on
    /// the others: one part of a year alone misleads. What is averaged are the logarithms of the mean errors of each series
    /// and fold, so that a restless one counts no more than others.
    pub fn choose(&self, own: &Own, readings: &Readings) -> Vec<Held> {
        // A single series has nothing to share.
        let copied = if own.series < 2 || own.copied.is_empty() { &COPIED[..1] } else { &COPIED[..] };
        let penalties =
            || RIDGES.into_iter().flat_map(|ridge| copied.iter().map(move |copied| (ridge, *copied)));
        let tried: Vec<_> = readings
            .offered()
            .into_iter()
            .flat_map(|reading| penalties().map(move |penalty| (reading, penalty)))
            .collect();
        let of_part = |part: usize| {
            let held = |(reading, (ridge, copied))| {
                let until = self.ends[part];
                Held { penalty: Penalty { until, ridge, copied }, reading }
            };
            let folds = self.folds(part);
            let judge = |i: usize| {
                let errors = folds.iter().map(|fold| {
                    Some(fold.errors(&self.solve(&fold.train, own, &held(tried[i]), readings)?))
                });
                let judged = Judged(errors.collect::<Option<_>>()?);
                Some((judged.mean()?, judged, tried[i]))
            };
            let found = shards::each(tried.len(), || (), |(), i| judge(i));
            let least = |reading: Reading| {
                let of_reading = found.iter().flatten().filter(|(.., tried)| tried.0 == reading);
                of_reading.min_by(|(a, ..), (b, ..)| a.total_cmp(b))
            };
            let Some(usual) = least(Reading::States) else { return held((Reading::States, (RIDGE, 0.0))) };
            let others =
                readings.offered().into_iter().filter_map(least).filter(|other| other.1.gains(&usual.1));
            held(others.min_by(|(a, ..), (b, ..)| a.total_cmp(b)).unwrap_or(usual).2)
        };
        (0..self.ends.len()).map(of_part).collect()
    }

    /// Fits all parts of the horizon without each block and on all of them: by squares and, where rows are kept, by absolute
    /// errors, as far as those err less on what was not fitted. None where the equations have no solution.
    pub fn fit(&self, own: &Own, held: &[Held], readings: &Readings) -> Option<Solutions> {
        let parts = held.len();
        let fit = |number: usize| {
            let (fold, part) = (number / parts, number % parts);
            let trains = |block: usize| block < BLOCKS && block != fold;
            let train = self.merged(part, trains);
            let squares = self.solve(&train, own, &held[part], readings)?;
            let kept = self.kept(part, trains);
            let count: usize = kept.iter().map(|rows| rows.ys.len() / self.steps(part).len()).sum();
            let penalties = self.penalties(&train, own, &held[part], readings);
            let penalties = Penalties { ridge: held[part].penalty.ridge * count as f64, ..penalties };
            let absolute = least_absolute(&kept, self.shared, &penalties, &squares);
            Some((squares, absolute))
        };
        let fitted = shards::each((BLOCKS + 1) * parts, || (), |(), number| fit(number));
        let fitted = fitted.into_iter().collect::<Option<Vec<_>>>()?;
        let share = |part: usize| {
            let folds = self.folds(part);
            let judge = |share: f64| {
                let errors = folds.iter().filter(|fold| !fold.rows.is_empty()).map(|fold| {
                    let (squares, absolute) = &fitted[fold.number * parts + part];
                    Some(fold.errors(&blend(squares, absolute.as_ref()?, share)))
                });
                let judged = Judged(errors.collect::<Option<_>>()?);
                Some((judged.mean()?, judged, share))
            };
            let Some((_, squares, _)) = judge(0.0) else { return 0.0 };
            let others = SHARES.into_iter().filter_map(judge).filter(|other| other.1.gains(&squares));
            others.min_by(|(a, ..), (b, ..)| a.total_cmp(b)).map_or(0.0, |(.., share)| share)
        };
        let absolute = shards::each(parts, || (), |(), part| share(part));
        let blended = fitted.iter().enumerate().map(|(number, (squares, other))| match other {
            Some(other) => blend(squares, other, absolute[number % parts]),
            None => squares.clone(),
        });
        let blended: Vec<Solution> = blended.collect();
        Some(Solutions { folds: blended.chunks(parts).map(<[_]>::to_vec).collect(), absolute })
    }

    fn solve(&self, train: &[Normal], own: &Own, held: &Held, readings: &Readings) -> Option<Solution> {
        solve(train, self.shared, &self.penalties(train, own, held, readings))
    }

    fn penalties(&self, train: &[Normal], own: &Own, held: &Held, readings: &Readings) -> Penalties {
        let (rows, penalty) = (rows(train), &held.penalty);
        let mut squares = vec![0.0; train.first().map_or(0, Normal::features)];
        for normal in train {
            squares.iter_mut().zip(normal.squares()).for_each(|(sum, square)| *sum += square);
        }
        // A feature is brought to a mean square of 1 before its coefficient is held small.
        let scale = |feature: usize| match squares[feature] > 0.0 && readings.reads(held.reading, feature) {
            true => (rows as f64 / squares[feature]).sqrt(),
            false => 0.0,
        };
        let mut scales: Vec<f64> = (0..self.shared).map(scale).collect();
        if own.series > 0 {
            scales.extend(own.copied.iter().map(|feature| penalty.copied * scale(*feature)));
        }
        Penalties { ridge: penalty.ridge * rows as f64, scales }
    }
}

impl Solutions {
    /// The coefficients of all parts of the horizon, as fitted without block `without`.
    pub fn coefficients(&self, without: Option<usize>, own: &Own) -> Coefficients {
        let parts = &self.folds[without.unwrap_or(BLOCKS)];
        let owned = own.features();
        let shared = parts.iter().flat_map(|solution| &solution.shared).map(|w| *w as f32).collect();
        let steps = |solution: &Solution| solution.own.first().map_or(0, |own| own.len() / owned);
        let horizon: usize = parts.iter().map(steps).sum();
        let mut series = vec![0.0; own.series * owned * horizon];
        let mut first = 0;
        for solution in parts.iter().filter(|_| owned > 0) {
            for (c, coefficients) in solution.own.iter().enumerate() {
                for (place, v) in coefficients.iter().enumerate() {
                    let (target, feature) = (place / owned, place % owned);
                    series[(c * owned + feature) * horizon + first + target] = *v as f32;
                }
            }
            first += steps(solution);
        }
        Coefficients { shared, own: series }
    }
}

/// (1 - share) of the first, and a share of the second.
fn blend(first: &Solution, second: &Solution, share: f64) -> Solution {
    let both = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (1.0 - share) * a + share * b).collect();
    let own = first.own.iter().zip(&second.own).map(|(a, b)| both(a, b)).collect();
    Solution { shared: both(&first.shared, &second.shared), own }
}

fn rows(normals: &[Normal]) -> u64 {
    normals.iter().map(Normal::rows).sum()
}

#[cfg(test)]
mod tests {
    use super::readings::RECENT;
    use super::*;
    use tidecast_core::network::Random;

    /// Some states, the latest values and a constant; what comes depends on the first state and the latest value, and leaps
    /// by as much as `leap` in one row of five.
    fn sums(states: usize, rows: usize, leap: f32) -> (Sums, Readings) {
        let shared = states + RECENT + 1;
        let mut random = Random::new(7);
        let blocks: Vec<Rows> = (0..=BLOCKS)
            .map(|_| {
                let mut block = Rows::default();
                for row in 0..rows {
                    let mut x: Vec<f32> = (0..shared).map(|_| random.within(1.0)).collect();
                    x[shared - 1] = 1.0;
                    let far = if row % 5 == 0 { leap * random.within(1.0).abs() } else { 0.0 };
                    block.ys.push(x[states] + x[0] + 0.3 * random.within(1.0) + far);
                    block.xs.extend(x);
                }
                block
            })
            .collect();
        let normal = |block: &Rows| {
            let mut normal = Normal::new(shared, 1);
            normal.add(&block.xs, &block.ys);
            vec![Some(normal)]
        };
        let normals = vec![blocks.iter().map(normal).collect()];
        let readings = Readings { plain: 1, states, recent: RECENT, keep: Some(1) };
        (Sums { ends: vec![1], shared, normals, rows: vec![blocks] }, readings)
    }

    #[test]
    fn absolute_errors_are_taken_where_there_are_leaps() {
        let absolute = |leap: f32| {
            let (sums, readings) = sums(2, 300, leap);
            let held = sums.choose(&Own::default(), &readings);
            sums.fit(&Own::default(), &held, &readings).unwrap().absolute[0]
        };
        assert_eq!(absolute(0.0), 0.0);
        assert!(absolute(30.0) > 0.0);
    }

    #[test]
    fn few_rows_read_less_than_many() {
        let reading = |rows: usize| {
            let (sums, readings) = sums(200, rows, 0.0);
            sums.choose(&Own::default(), &readings)[0].reading
        };
        assert_eq!(reading(30), Reading::Plain);
    }
}
