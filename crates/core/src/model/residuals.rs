//! The quantiles of a model's errors on the validation split, from which its intervals are made.

use super::ModelError;
use crate::intervals::{ConformalOffsets, ErrorQuantiles, POOLED_PROBABILITIES, SERIES_PROBABILITIES};
use crate::network::{Tensor, Tensors};

/// `[POOLED_PROBABILITIES, horizon]`: residual quantiles over all series.
const POOLED: &str = "residual_quantiles";
/// `[series, SERIES_PROBABILITIES, horizon]`
const PER_SERIES: &str = "per_series_residual_quantiles";
/// `[series + 1]`: how strongly volatility scales the bounds; absent when it scales none.
const VOLATILITY_GAIN: &str = "volatility_gain";
/// `[quantile, horizon]`: offsets added to the network's quantiles.
const POOLED_OFFSETS: &str = "quantile_offsets";
/// `[series, quantile, horizon]`
const PER_SERIES_OFFSETS: &str = "per_series_quantile_offsets";

/// The quantiles of the residuals on the validation split.
#[derive(Clone, Debug, PartialEq)]
pub struct ResidualQuantiles {
    pub pooled: ErrorQuantiles,
    /// Of each series of the manifest, or empty.
    pub per_series: Vec<ErrorQuantiles>,
    /// How strongly volatility scales the bounds around a forecast: of each of those series, then of all others.
    pub volatility_gain: Vec<f32>,
    /// Present if the network forecasts quantiles.
    pub offsets: Option<QuantileOffsets>,
}

/// The conformal offsets of the network's quantiles.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantileOffsets {
    pub pooled: ConformalOffsets,
    /// Of each series of the manifest, or empty.
    pub per_series: Vec<ConformalOffsets>,
}

/// Sizes of the residual tensors, as the manifest states them.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub horizon: usize,
    /// Quantiles that the network forecasts.
    pub quantiles: usize,
    /// Series that the manifest lists.
    pub series: usize,
}

impl ResidualQuantiles {
    /// Removes the residual quantiles from the tensors of a file; `None` if it has none.
    pub(super) fn take(tensors: &mut Tensors, sizes: Sizes) -> Result<Option<Self>, ModelError> {
        let Sizes { horizon, quantiles, series } = sizes;
        let Some(Tensor { shape, data }) = tensors.remove(POOLED) else { return Ok(None) };
        let pooled = Some(data).filter(|_| shape == [POOLED_PROBABILITIES, horizon]);
        let pooled = pooled.and_then(|values| ErrorQuantiles::from_values(horizon, values));
        let pooled = pooled.ok_or_else(|| {
            error(
                POOLED,
                format!("[{POOLED_PROBABILITIES}, {horizon}] values that increase with the probability"),
            )
        })?;
        let expected = [series, SERIES_PROBABILITIES.len(), horizon];
        let per_series = split_by_series(tensors.remove(PER_SERIES), expected, |values| {
            ErrorQuantiles::from_values(horizon, values)
        });
        let per_series = per_series.ok_or_else(|| {
            error(PER_SERIES, format!("{expected:?} values that increase with the probability"))
        })?;
        let offsets = if quantiles > 0 { Some(QuantileOffsets::take(tensors, sizes)?) } else { None };
        let expected = per_series.len() + 1;
        let volatility_gain = match tensors.remove(VOLATILITY_GAIN) {
            None => vec![0.0; expected],
            Some(Tensor { shape, data }) => {
                let is_valid =
                    shape == [expected] && data.iter().all(|gain| gain.is_finite() && *gain >= 0.0);
                let error = || error(VOLATILITY_GAIN, format!("[{expected}] numbers of at least 0"));
                Some(data).filter(|_| is_valid).ok_or_else(error)?
            }
        };
        Ok(Some(Self { pooled, per_series, volatility_gain, offsets }))
    }

    /// Adds the residual quantiles to the tensors of a file.
    pub(super) fn insert(&self, horizon: usize, tensors: &mut Tensors) {
        let mut put = |name: &str, shape: Vec<usize>, data: Vec<f32>| {
            if !data.is_empty() {
                tensors.insert(name.to_owned(), Tensor { shape, data });
            }
        };
        put(POOLED, vec![POOLED_PROBABILITIES, horizon], self.pooled.values().to_vec());
        let per_series = self.per_series.iter().flat_map(ErrorQuantiles::values).copied().collect();
        put(PER_SERIES, vec![self.per_series.len(), SERIES_PROBABILITIES.len(), horizon], per_series);
        if self.volatility_gain.iter().any(|gain| *gain > 0.0) {
            put(VOLATILITY_GAIN, vec![self.volatility_gain.len()], self.volatility_gain.clone());
        }
        if let Some(QuantileOffsets { pooled, per_series }) = &self.offsets {
            let quantiles = pooled.values().len() / horizon;
            put(POOLED_OFFSETS, vec![quantiles, horizon], pooled.values().to_vec());
            let values = per_series.iter().flat_map(ConformalOffsets::values).copied().collect();
            put(PER_SERIES_OFFSETS, vec![per_series.len(), quantiles, horizon], values);
        }
    }
}

impl QuantileOffsets {
    fn take(tensors: &mut Tensors, Sizes { horizon, quantiles, series }: Sizes) -> Result<Self, ModelError> {
        let expected = [quantiles, horizon];
        let pooled = tensors.remove(POOLED_OFFSETS).filter(|tensor| tensor.shape == expected);
        let pooled = pooled.and_then(|tensor| ConformalOffsets::from_values(horizon, quantiles, tensor.data));
        let pooled = pooled
            .ok_or_else(|| error(POOLED_OFFSETS, format!("{expected:?} values, [quantile, horizon]")))?;
        let expected = [series, quantiles, horizon];
        let per_series = split_by_series(tensors.remove(PER_SERIES_OFFSETS), expected, |values| {
            ConformalOffsets::from_values(horizon, quantiles, values)
        });
        let per_series = per_series.ok_or_else(|| {
            error(PER_SERIES_OFFSETS, format!("{expected:?} values, [series, quantile, horizon]"))
        })?;
        Ok(Self { pooled, per_series })
    }
}

fn error(name: &'static str, required: String) -> ModelError {
    ModelError::Tensor { name, required }
}

/// The rows of a tensor whose first axis is the series; empty without the tensor, `None` if a row or the shape is wrong.
fn split_by_series<T>(
    tensor: Option<Tensor>,
    expected: [usize; 3],
    parse: impl Fn(Vec<f32>) -> Option<T>,
) -> Option<Vec<T>> {
    let Some(Tensor { shape, data }) = tensor else { return Some(Vec::new()) };
    if shape != expected {
        return None;
    }
    data.chunks_exact(expected[1] * expected[2]).map(|values| parse(values.to_vec())).collect()
}
