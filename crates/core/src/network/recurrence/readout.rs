//! The readout of the memory: for every step of the horizon a weighted sum of what is known at the origin, as learned by
//! ridge regression. Constant while it forecasts; a column's result does not depend on its neighbours, bit for bit.

use super::super::kernel::linear::{Onto, linear};
use super::super::kernel::panels::{Panels, Part};
use super::super::kernel::rows::{Rows, RowsMut};
use super::{Tensor, Tensors};
use crate::simd::Isa;

/// Names of its tensors: `[horizon x features]` and `[series x indices x horizon]`.
const SHARED: &str = "recurrence.readout.weight";
const OWN: &str = "recurrence.per_series.weight";

/// Numbers of the coefficients, at most, as of a network's parameters: 1 GiB.
const NUMBERS_MAX: usize = 256 << 20;

/// What a series has of its own: further coefficients of some features.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PerSeriesFeatures {
    /// Series that have them.
    pub series: usize,
    /// The features with further coefficients.
    pub indices: Vec<usize>,
}

impl PerSeriesFeatures {
    /// PerSeriesFeatures features of a series.
    pub fn features(&self) -> usize {
        self.indices.len()
    }

    /// Writes the own features of a row, for the regression.
    pub fn write(&self, features: &[f32], out: &mut [f32]) {
        for (out, feature) in out.iter_mut().zip(&self.indices) {
            *out = features[*feature];
        }
    }
}

/// The coefficients.
#[derive(Clone, Debug)]
pub struct Readout {
    horizon: usize,
    features: usize,
    own: PerSeriesFeatures,
    tensors: Tensors,
    /// Horizon x features.
    product: Panels,
}

/// Why tensors are not a readout.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadoutError {
    #[error(
        "tensor `{name}` of shape {expected:?} is missing or has another shape or a number that is not finite"
    )]
    Tensor { name: &'static str, expected: Vec<usize> },
    #[error("it would have {0} coefficients, more than {NUMBERS_MAX} (1 GiB)")]
    TooLarge(usize),
}

impl Readout {
    /// Coefficients as tensors: `shared` is `[horizon][feature]`, `own` `[series][own feature][horizon]`.
    pub fn tensors_of(
        horizon: usize,
        features: usize,
        own: &PerSeriesFeatures,
        shared: Vec<f32>,
        series: Vec<f32>,
    ) -> Tensors {
        let mut tensors = Tensors::new();
        tensors.insert(SHARED.into(), Tensor { shape: vec![horizon, features], data: shared });
        if own.series * own.features() > 0 {
            let shape = vec![own.series, own.features(), horizon];
            tensors.insert(OWN.into(), Tensor { shape, data: series });
        }
        tensors
    }

    /// Takes the readout's tensors out of those of a file.
    ///
    /// # Errors
    /// If one of them is missing or not as described.
    pub fn take(
        tensors: &mut Tensors,
        horizon: usize,
        features: usize,
        own: PerSeriesFeatures,
    ) -> Result<Self, ReadoutError> {
        let owned = own.series.saturating_mul(own.features());
        let numbers = horizon.saturating_mul(features.saturating_add(owned));
        if numbers > NUMBERS_MAX {
            return Err(ReadoutError::TooLarge(numbers));
        }
        let mut kept = Tensors::new();
        let mut take = |name: &'static str, expected: Vec<usize>| {
            let found = tensors.remove(name).filter(|tensor| {
                tensor.shape == expected
                    && tensor.data.len() == expected.iter().product::<usize>()
                    && tensor.data.iter().all(|number| number.is_finite())
            });
            kept.insert(name.into(), found.ok_or(ReadoutError::Tensor { name, expected })?);
            Ok(())
        };
        take(SHARED, vec![horizon, features])?;
        if owned > 0 {
            take(OWN, vec![own.series, own.features(), horizon])?;
        }
        let copied_exist = own.indices.iter().all(|feature| *feature < features);
        assert!(copied_exist, "what is indices is a feature: the description was checked");
        let weights = &kept[SHARED].data;
        let parts = [(0, features), (features, 0)].map(|(first, count)| Part { first, count, blocks: &[0] });
        let weight = |_, step: usize, feature: usize| weights[step * features + feature];
        let product = Panels::pack(Isa::widest(), (1, horizon), parts, |_, _| 0.0, weight);
        Ok(Self { horizon, features, own, tensors: kept, product })
    }

    pub fn tensors(&self) -> &Tensors {
        &self.tensors
    }

    pub fn horizon(&self) -> usize {
        self.horizon
    }

    /// Features of a column.
    pub fn features(&self) -> usize {
        self.features
    }

    pub fn own(&self) -> &PerSeriesFeatures {
        &self.own
    }

    /// How many numbers were fitted.
    pub fn parameters(&self) -> u64 {
        self.tensors.values().map(|tensor| tensor.data.len() as u64).sum()
    }

    /// Reads out each column: `features` is `[column][feature]`, `series` says whose own coefficients a column takes
    /// (unknown series have none), `out` is `[column][horizon]`.
    ///
    /// # Panics
    /// If a slice has the wrong length.
    pub fn forecast(&self, features: &[f32], series: &[Option<usize>], out: &mut [f32]) {
        let Self { horizon, features: count, .. } = *self;
        let width = series.len();
        assert_eq!(features.len(), width * count, "features are [column][feature]");
        assert_eq!(out.len(), width * horizon, "out is [column][horizon]");
        // ŷ = W d
        let rows = [Rows::dense(features, count), Rows::none()];
        linear(&self.product, Onto::Start, rows, width, RowsMut { numbers: out, stride: horizon });
        let Some(own) = self.tensors.get(OWN) else { return };
        let columns = features.chunks_exact(count).zip(series).zip(out.chunks_exact_mut(horizon));
        columns.for_each(|((features, series), out)| self.add_own(own, features, *series, out));
    }

    /// ŷ += V_cᵀ o
    fn add_own(&self, own: &Tensor, features: &[f32], series: Option<usize>, out: &mut [f32]) {
        let Some(series) = series else { return };
        let size = self.own.features() * self.horizon;
        let coefficients = &own.data[series * size..][..size];
        let of = |feature: usize| &coefficients[feature * self.horizon..][..self.horizon];
        for (place, feature) in self.own.indices.iter().enumerate() {
            let x = features[*feature];
            out.iter_mut().zip(of(place)).for_each(|(out, v)| *out += v * x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Random;

    fn readout(horizon: usize, features: usize) -> Readout {
        let own = PerSeriesFeatures { series: 2, indices: vec![0, 2] };
        let mut random = Random::new(9);
        let mut numbers = |count: usize| (0..count).map(|_| random.within(1.0)).collect();
        let (shared, series) = (numbers(horizon * features), numbers(2 * 2 * horizon));
        let mut tensors = Readout::tensors_of(horizon, features, &own, shared, series);
        Readout::take(&mut tensors, horizon, features, own).unwrap()
    }

    fn columns(count: usize, features: usize) -> (Vec<f32>, Vec<Option<usize>>) {
        let mut random = Random::new(4);
        let series = (0..count).map(|i| [None, Some(0), Some(1)][i % 3]);
        ((0..count * features).map(|_| random.within(2.0)).collect(), series.collect())
    }

    #[test]
    fn it_is_the_sum_of_shared_and_own_terms() {
        let (readout, (features, slots)) = (readout(5, 6), columns(4, 6));
        let mut out = vec![0.0; 20];
        readout.forecast(&features, &slots, &mut out);
        for (column, slot) in slots.iter().enumerate() {
            let x = &features[column * 6..][..6];
            let mut own = vec![0.0; 2];
            readout.own.write(x, &mut own);
            for h in 0..5 {
                let shared = &readout.tensors[SHARED].data[h * 6..][..6];
                let mut expected: f32 = shared.iter().zip(x).map(|(w, x)| w * x).sum();
                if let Some(series) = slot {
                    let v = |feature: usize| readout.tensors[OWN].data[(series * 2 + feature) * 5 + h];
                    expected += own.iter().enumerate().map(|(feature, o)| v(feature) * o).sum::<f32>();
                }
                assert!((out[column * 5 + h] - expected).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn a_column_is_alone() {
        for (horizon, count) in [(2, 3), (24, 130), (70, 600)] {
            let (readout, (features, slots)) = (readout(horizon, count), columns(70, count));
            let mut all = vec![0.0; 70 * horizon];
            readout.forecast(&features, &slots, &mut all);
            for width in [1, 5, 8, 13, 64] {
                let first = 70 - width;
                let mut some = vec![0.0; width * horizon];
                readout.forecast(&features[first * count..], &slots[first..], &mut some);
                assert_eq!(some, all[first * horizon..]);
            }
        }
    }

    #[test]
    fn foreign_tensors_are_refused() {
        let mut tensors = readout(2, 3).tensors().clone();
        let own = PerSeriesFeatures { series: 2, indices: vec![1, 0, 2] };
        let error = Readout::take(&mut tensors.clone(), 2, 3, own.clone()).unwrap_err().to_string();
        assert!(error.contains("`recurrence.per_series.weight` of shape [2, 3, 2]"), "{error}");
        tensors.get_mut(SHARED).unwrap().data[0] = f32::INFINITY;
        assert!(Readout::take(&mut tensors, 2, 3, own).is_err());
        let huge = Readout::take(&mut Tensors::new(), 1 << 16, 1 << 16, PerSeriesFeatures::default());
        assert!(matches!(huge, Err(ReadoutError::TooLarge(_))));
    }
}
