//! The readout of the linear recurrence: for every step of the horizon a weighted sum of the features at the origin, trained
//! by ridge regression. Immutable while it forecasts; the result of a column is independent of its neighbours, bit for bit.

use crate::network::kernel::packed::{ColumnRange, PackedMatrix, Strided, StridedMut};
use crate::network::kernel::product::{Init, linear};
use crate::network::tensors::{self, Tensor, Tensors};
use crate::simd::Isa;

/// `[horizon, feature]`
const SHARED: &str = "recurrence.readout.weight";
/// `[series, per-series feature, horizon]`
const PER_SERIES: &str = "recurrence.per_series.weight";

/// Limit of the coefficients, as of a network's parameters: 1 GiB.
const COEFFICIENTS_MAX: usize = 256 << 20;

/// The features that have additional coefficients for each of some series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PerSeriesFeatures {
    /// Series with additional coefficients.
    pub series: usize,
    /// Indices into the features.
    pub indices: Vec<usize>,
}

impl PerSeriesFeatures {
    /// Per-series features of a row.
    pub fn count(&self) -> usize {
        self.indices.len()
    }

    /// Copies the per-series features of a row, for the regression.
    pub fn copy(&self, features: &[f32], out: &mut [f32]) {
        for (out, index) in out.iter_mut().zip(&self.indices) {
            *out = features[*index];
        }
    }
}

/// The coefficients of the readout.
#[derive(Clone, Debug)]
pub struct Readout {
    horizon: usize,
    features: usize,
    per_series: PerSeriesFeatures,
    tensors: Tensors,
    /// Horizon x features.
    packed: PackedMatrix,
}

/// Tensors that are not a readout.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadoutError {
    #[error(
        "tensor `{name}` of shape {expected:?} is missing, or has another shape or a number that is not finite"
    )]
    Tensor { name: &'static str, expected: Vec<usize> },
    #[error("it would have {0} coefficients, more than {COEFFICIENTS_MAX} (1 GiB)")]
    TooLarge(usize),
}

impl Readout {
    /// Coefficients as tensors. `shared` is `[horizon][feature]`, `series` is `[series][per-series feature][horizon]`.
    pub fn to_tensors(
        horizon: usize,
        features: usize,
        per_series: &PerSeriesFeatures,
        shared: Vec<f32>,
        series: Vec<f32>,
    ) -> Tensors {
        let mut tensors = Tensors::new();
        tensors.insert(SHARED.into(), Tensor { shape: vec![horizon, features], data: shared });
        if per_series.series * per_series.count() > 0 {
            let shape = vec![per_series.series, per_series.count(), horizon];
            tensors.insert(PER_SERIES.into(), Tensor { shape, data: series });
        }
        tensors
    }

    /// Removes the readout's tensors from those of a file.
    ///
    /// # Errors
    /// If one of them is missing, of another shape, or not finite.
    ///
    /// # Panics
    /// If a per-series feature is not one of the features.
    pub fn take(
        tensors: &mut Tensors,
        horizon: usize,
        features: usize,
        per_series: PerSeriesFeatures,
    ) -> Result<Self, ReadoutError> {
        let copies = per_series.series.saturating_mul(per_series.count());
        let coefficients = horizon.saturating_mul(features.saturating_add(copies));
        if coefficients > COEFFICIENTS_MAX {
            return Err(ReadoutError::TooLarge(coefficients));
        }
        let mut taken = Tensors::new();
        let mut take = |name: &'static str, shape: &[usize]| {
            let data = tensors::take(tensors, name, shape);
            let data = data.ok_or_else(|| ReadoutError::Tensor { name, expected: shape.to_vec() })?;
            taken.insert(name.into(), Tensor { shape: shape.to_vec(), data });
            Ok(())
        };
        take(SHARED, &[horizon, features])?;
        if copies > 0 {
            take(PER_SERIES, &[per_series.series, per_series.count(), horizon])?;
        }
        let all_exist = per_series.indices.iter().all(|index| *index < features);
        assert!(all_exist, "the manifest was validated: per-series features are features");
        let weights = &taken[SHARED].data;
        let ranges =
            [(0, features), (features, 0)].map(|(first, count)| ColumnRange { first, count, blocks: &[0] });
        let weight = |_, step: usize, feature: usize| weights[step * features + feature];
        let packed = PackedMatrix::pack(Isa::widest(), 1, horizon, ranges, |_, _| 0.0, weight);
        Ok(Self { horizon, features, per_series, tensors: taken, packed })
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

    /// Count of fitted numbers.
    pub fn parameters(&self) -> u64 {
        self.tensors.values().map(|tensor| tensor.data.len() as u64).sum()
    }

    /// Forecasts each column from `features` `[column][feature]` into `out` `[column][horizon]`. `series` selects the additional
    /// coefficients of each column, `None` for none.
    ///
    /// # Panics
    /// If a slice has the wrong length.
    pub fn forecast(&self, features: &[f32], series: &[Option<usize>], out: &mut [f32]) {
        let Self { horizon, features: count, .. } = *self;
        let width = series.len();
        assert_eq!(features.len(), width * count, "features are [column][feature]");
        assert_eq!(out.len(), width * horizon, "out is [column][horizon]");
        // ŷ = W d
        let inputs = [Strided::dense(features, count), Strided::empty()];
        linear(&self.packed, Init::Bias, inputs, width, StridedMut { data: out, stride: horizon });
        let Some(per_series) = self.tensors.get(PER_SERIES) else { return };
        let columns = features.chunks_exact(count).zip(series).zip(out.chunks_exact_mut(horizon));
        columns.for_each(|((features, series), out)| self.add_per_series(per_series, features, *series, out));
    }

    /// ŷ += V_cᵀ o
    fn add_per_series(&self, weights: &Tensor, features: &[f32], series: Option<usize>, out: &mut [f32]) {
        let Some(series) = series else { return };
        let size = self.per_series.count() * self.horizon;
        let weights = weights.data[series * size..][..size].chunks_exact(self.horizon);
        for (index, weights) in self.per_series.indices.iter().zip(weights) {
            let x = features[*index];
            out.iter_mut().zip(weights).for_each(|(out, v)| *out += v * x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Random;

    fn readout(horizon: usize, features: usize) -> Readout {
        let per_series = PerSeriesFeatures { series: 2, indices: vec![0, 2] };
        let mut random = Random::new(9);
        let mut numbers = |count: usize| (0..count).map(|_| random.uniform(1.0)).collect();
        let (shared, series) = (numbers(horizon * features), numbers(2 * 2 * horizon));
        let mut tensors = Readout::to_tensors(horizon, features, &per_series, shared, series);
        Readout::take(&mut tensors, horizon, features, per_series).unwrap()
    }

    fn columns(count: usize, features: usize) -> (Vec<f32>, Vec<Option<usize>>) {
        let mut random = Random::new(4);
        let series = (0..count).map(|i| [None, Some(0), Some(1)][i % 3]);
        ((0..count * features).map(|_| random.uniform(2.0)).collect(), series.collect())
    }

    #[test]
    fn a_forecast_is_the_sum_of_shared_and_per_series_terms() {
        let (readout, (features, series)) = (readout(5, 6), columns(4, 6));
        let mut out = vec![0.0; 20];
        readout.forecast(&features, &series, &mut out);
        for (column, series) in series.iter().enumerate() {
            let x = &features[column * 6..][..6];
            let mut copies = vec![0.0; 2];
            readout.per_series.copy(x, &mut copies);
            for h in 0..5 {
                let shared = &readout.tensors[SHARED].data[h * 6..][..6];
                let mut expected: f32 = shared.iter().zip(x).map(|(w, x)| w * x).sum();
                if let Some(series) = series {
                    let v = |feature: usize| readout.tensors[PER_SERIES].data[(series * 2 + feature) * 5 + h];
                    expected += copies.iter().enumerate().map(|(feature, o)| v(feature) * o).sum::<f32>();
                }
                assert!((out[column * 5 + h] - expected).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn a_column_is_independent_of_the_batch() {
        for (horizon, count) in [(2, 3), (24, 130), (70, 600)] {
            let (readout, (features, series)) = (readout(horizon, count), columns(70, count));
            let mut all = vec![0.0; 70 * horizon];
            readout.forecast(&features, &series, &mut all);
            for width in [1, 5, 8, 13, 64] {
                let first = 70 - width;
                let mut some = vec![0.0; width * horizon];
                readout.forecast(&features[first * count..], &series[first..], &mut some);
                assert_eq!(some, all[first * horizon..]);
            }
        }
    }

    #[test]
    fn invalid_tensors_are_rejected() {
        let mut tensors = readout(2, 3).tensors().clone();
        let per_series = PerSeriesFeatures { series: 2, indices: vec![1, 0, 2] };
        let error = Readout::take(&mut tensors.clone(), 2, 3, per_series.clone()).unwrap_err().to_string();
        assert!(error.contains("`recurrence.per_series.weight` of shape [2, 3, 2]"), "{error}");
        tensors.get_mut(SHARED).unwrap().data[0] = f32::INFINITY;
        assert!(Readout::take(&mut tensors, 2, 3, per_series).is_err());
        let huge = Readout::take(&mut Tensors::new(), 1 << 16, 1 << 16, PerSeriesFeatures::default());
        assert!(matches!(huge, Err(ReadoutError::TooLarge(_))));
    }
}
