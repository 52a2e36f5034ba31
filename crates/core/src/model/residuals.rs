//! The quantiles of a model's errors on the validation split, from which its intervals are made.

use super::error::ModelError;
use crate::intervals::{ConformalOffsets, ErrorQuantiles, POOLED_PROBABILITIES, SERIES_PROBABILITIES};
use crate::network::tensors::{self, Tensor, Tensors};

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
    /// One entry per series of the manifest, or empty.
    pub per_series: Vec<ErrorQuantiles>,
    /// The effect of volatility on the width of the bounds: one entry per series of the manifest, then one for all others.
    pub volatility_gain: Vec<f32>,
    /// Present if the network forecasts quantiles.
    pub offsets: Option<QuantileOffsets>,
}

/// The conformal offsets of the network's quantiles.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantileOffsets {
    pub pooled: ConformalOffsets,
    /// One entry per series of the manifest, or empty.
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

const INCREASING: &str = "values that increase with the probability";

impl ResidualQuantiles {
    /// The quantiles of a series of the manifest, or the pooled ones.
    pub fn quantiles(&self, series: Option<usize>) -> &ErrorQuantiles {
        series.and_then(|series| self.per_series.get(series)).unwrap_or(&self.pooled)
    }

    /// The volatility gain of a series of the manifest, or that of all others.
    pub fn gain(&self, series: Option<usize>) -> f32 {
        let others = self.per_series.len();
        self.volatility_gain[series.filter(|series| *series < others).unwrap_or(others)]
    }

    /// Removes the residual quantiles from the tensors of a file; `None` if it has none.
    pub(super) fn take(tensors: &mut Tensors, sizes: Sizes) -> Result<Option<Self>, ModelError> {
        let Sizes { horizon, quantiles, series } = sizes;
        if !tensors.contains_key(POOLED) {
            return Ok(None);
        }
        let parse = |values| ErrorQuantiles::from_values(horizon, values);
        let pooled =
            take_matrices(tensors, POOLED, &[POOLED_PROBABILITIES, horizon], INCREASING, parse)?.remove(0);
        let shape = [series, SERIES_PROBABILITIES.len(), horizon];
        let per_series = take_matrices(tensors, PER_SERIES, &shape, INCREASING, parse)?;
        let offsets = if quantiles > 0 { Some(QuantileOffsets::take(tensors, sizes)?) } else { None };
        let shape = [per_series.len() + 1];
        let volatility_gain = match tensors.contains_key(VOLATILITY_GAIN) {
            true => tensors::take(tensors, VOLATILITY_GAIN, &shape)
                .filter(|gains| gains.iter().all(|gain| *gain >= 0.0))
                .ok_or_else(|| ModelError::tensor(VOLATILITY_GAIN, shape, "numbers of at least 0"))?,
            false => vec![0.0; per_series.len() + 1],
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
        let parse = |values| ConformalOffsets::from_values(horizon, quantiles, values);
        let shape = [quantiles, horizon];
        let pooled = take_matrices(tensors, POOLED_OFFSETS, &shape, "values", parse)?.pop();
        let pooled = pooled.ok_or_else(|| ModelError::tensor(POOLED_OFFSETS, shape, "values"))?;
        let shape = [series, quantiles, horizon];
        let per_series = take_matrices(tensors, PER_SERIES_OFFSETS, &shape, "values", parse)?;
        Ok(Self { pooled, per_series })
    }
}

/// Removes a tensor whose last two axes are `[probability, horizon]`, and parses each such matrix; none if it is missing.
fn take_matrices<T>(
    tensors: &mut Tensors,
    name: &'static str,
    shape: &[usize],
    values: &str,
    parse: impl Fn(Vec<f32>) -> Option<T>,
) -> Result<Vec<T>, ModelError> {
    if !tensors.contains_key(name) {
        return Ok(Vec::new());
    }
    let size = shape.iter().rev().take(2).product();
    let parse_all = |data: Vec<f32>| data.chunks_exact(size).map(|matrix| parse(matrix.to_vec())).collect();
    let matrices: Option<Vec<T>> = tensors::take(tensors, name, shape).and_then(parse_all);
    matrices.ok_or_else(|| ModelError::tensor(name, shape, values))
}
