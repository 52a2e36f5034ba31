//! Dropout in front of the head: while the network learns, some of the hidden values that the head reads are left out, so
//! that it does not come to rely on a few of them (Srivastava et al., "Dropout: a simple way to prevent neural networks
//! from overfitting", 2014). What is kept is scaled up, so that nothing has to change when the network serves.

use tidecast_core::network::Random;

/// The chance of an example to be read as one of a series that is not known: otherwise what the cells say without knowing the
/// series would be of none, instead of any.
const UNKNOWN: f32 = 0.1;

/// What is left out in one epoch.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// The chance of each hidden value to be left out.
    pub share: f64,
    pub seed: u64,
    pub epoch: usize,
}

impl Dropout {
    /// Factors of the hidden values, `[example][hidden]`; none where nothing is left out. What is left out follows from the
    /// seed, the epoch, the number of the example and the unit, whichever thread asks and whatever is learned beside it.
    pub fn factors(&self, examples: &[usize], hidden: usize, out: &mut Vec<f32>) {
        out.clear();
        if self.share == 0.0 {
            return;
        }
        let (share, kept) = (self.share as f32, (1.0 / (1.0 - self.share)) as f32);
        for number in examples {
            let mut random = Random::keyed(&[self.seed, self.epoch as u64, *number as u64]);
            out.extend((0..hidden).map(|_| if random.unit() < share { 0.0 } else { kept }));
        }
    }

    /// Whether the series of an example is not told in this epoch.
    pub fn hides(&self, example: usize) -> bool {
        // The last number sets the draw apart from those of the factors.
        Random::keyed(&[self.seed, self.epoch as u64, example as u64, 1]).unit() < UNKNOWN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factors(dropout: Dropout, examples: &[usize]) -> Vec<f32> {
        let mut out = vec![7.0];
        dropout.factors(examples, 100, &mut out);
        out
    }

    #[test]
    fn an_example_loses_the_same_units_whatever_is_beside_it() {
        let first = Dropout { share: 0.25, seed: 1, epoch: 3 };
        let all: Vec<usize> = (0..1000).collect();
        let together = factors(first, &all);
        assert_eq!(factors(first, &[17, 4]), [&together[1700..1800], &together[400..500]].concat());
        for other in [Dropout { epoch: 4, ..first }, Dropout { seed: 2, ..first }] {
            let same = factors(other, &all).iter().zip(&together).filter(|(a, b)| a == b).count();
            // Of independent draws 1 - 2 p (1 - p) are the same.
            assert!((0.61..0.64).contains(&(same as f64 / 1e5)), "{same}");
        }
    }

    #[test]
    fn one_series_in_ten_is_hidden_and_others_in_the_next_epoch() {
        let hidden = |epoch| {
            let dropout = Dropout { share: 0.0, seed: 1, epoch };
            (0..10_000).filter(|example| dropout.hides(*example)).collect::<Vec<usize>>()
        };
        assert!((900..1100).contains(&hidden(1).len()), "{}", hidden(1).len());
        assert_ne!(hidden(1), hidden(2));
    }

    #[test]
    fn the_mean_stays() {
        for share in [0.1, 0.5] {
            let factors = factors(Dropout { share, seed: 1, epoch: 1 }, &(0..1000).collect::<Vec<_>>());
            let left_out = factors.iter().filter(|factor| **factor == 0.0).count() as f64 / 1e5;
            let mean = factors.iter().sum::<f32>() / 1e5;
            assert!((left_out - share).abs() < 0.005 && (mean - 1.0).abs() < 0.01, "{left_out} {mean}");
        }
        assert!(factors(Dropout { share: 0.0, seed: 1, epoch: 1 }, &[1, 2]).is_empty());
    }
}
