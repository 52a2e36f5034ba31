//! What a model's intervals are made of, and the tensors it is kept as: how far forecasts, and quantiles if they were
//! learned, lay from what came on times that were not learned from.

use super::ModelError;
use crate::intervals::{Corrections, ErrorQuantiles, OWN_PROBABILITIES, PROBABILITIES};
use crate::network::{Tensor, Tensors};

/// Name of the tensor `[PROBABILITIES x horizon]` beside those of the network.
pub(super) const QUANTILES: &str = "error_quantiles";
/// Name of the tensor `[series x OWN_PROBABILITIES x horizon]` of the series that have coefficients of their own.
pub(super) const OWN_QUANTILES: &str = "own_error_quantiles";
/// Name of the tensor `[quantile x horizon]` of what is added to learned quantiles.
pub(super) const CORRECTIONS: &str = "quantile_corrections";
/// Name of the tensor `[series x quantile x horizon]` of the series that have coefficients of their own.
pub(super) const OWN_CORRECTIONS: &str = "own_quantile_corrections";

/// Name of the tensor `[series + 1]` of how much restlessness widens the bounds; a file without it widens none.
pub(super) const WIDENING: &str = "error_widening";

/// Errors on times that were not learned from.
#[derive(Clone, Debug, PartialEq)]
pub struct Errors {
    pub all: ErrorQuantiles,
    /// Of each series that has coefficients of its own, or none.
    pub own: Vec<ErrorQuantiles>,
    /// How much restlessness widens the bounds around a forecast: of each of those series, then of all others.
    pub widening: Vec<f32>,
    /// Where quantiles were learned.
    pub corrected: Option<Corrected>,
}

/// The corrections of learned quantiles.
#[derive(Clone, Debug, PartialEq)]
pub struct Corrected {
    pub all: Corrections,
    /// Of each series that has coefficients of its own, or none.
    pub own: Vec<Corrections>,
}

impl Errors {
    /// Takes the errors out of the tensors of a file with so many learned quantiles, of which so many series may have their
    /// own.
    pub(super) fn take(
        tensors: &mut Tensors,
        horizon: usize,
        quantiles: usize,
        series: usize,
    ) -> Result<Option<Self>, ModelError> {
        let Some(Tensor { shape, data }) = tensors.remove(QUANTILES) else { return Ok(None) };
        let all = Some(data).filter(|_| shape == [PROBABILITIES, horizon]);
        let all = all.and_then(|values| ErrorQuantiles::from_values(horizon, values));
        let all = all.ok_or(ModelError::Quantiles { horizon })?;
        let expected = [series, OWN_PROBABILITIES.len(), horizon];
        let own = each(tensors.remove(OWN_QUANTILES), expected, |values| {
            ErrorQuantiles::from_values(horizon, values)
        });
        let own = own.ok_or(ModelError::OwnQuantiles { expected })?;
        let corrected =
            if quantiles > 0 { Some(Corrected::take(tensors, horizon, quantiles, series)?) } else { None };
        let widening = match tensors.remove(WIDENING) {
            None => vec![0.0; own.len() + 1],
            Some(Tensor { shape, data }) => {
                let expected = own.len() + 1;
                let sound = shape == [expected] && data.iter().all(|beta| beta.is_finite() && *beta >= 0.0);
                Some(data).filter(|_| sound).ok_or(ModelError::Widening { expected })?
            }
        };
        Ok(Some(Self { all, own, widening, corrected }))
    }

    pub(super) fn insert(&self, horizon: usize, tensors: &mut Tensors) {
        let mut put = |name: &str, shape: Vec<usize>, data: Vec<f32>| {
            if !data.is_empty() {
                tensors.insert(name.to_owned(), Tensor { shape, data });
            }
        };
        put(QUANTILES, vec![PROBABILITIES, horizon], self.all.values().to_vec());
        let own = self.own.iter().flat_map(ErrorQuantiles::values).copied().collect();
        put(OWN_QUANTILES, vec![self.own.len(), OWN_PROBABILITIES.len(), horizon], own);
        if self.widening.iter().any(|beta| *beta > 0.0) {
            put(WIDENING, vec![self.widening.len()], self.widening.clone());
        }
        if let Some(Corrected { all, own }) = &self.corrected {
            let quantiles = all.values().len() / horizon;
            put(CORRECTIONS, vec![quantiles, horizon], all.values().to_vec());
            let each = own.iter().flat_map(Corrections::values).copied().collect();
            put(OWN_CORRECTIONS, vec![own.len(), quantiles, horizon], each);
        }
    }
}

impl Corrected {
    fn take(
        tensors: &mut Tensors,
        horizon: usize,
        quantiles: usize,
        series: usize,
    ) -> Result<Self, ModelError> {
        let expected = [quantiles, horizon];
        let all = tensors.remove(CORRECTIONS).filter(|tensor| tensor.shape == expected);
        let all = all.and_then(|tensor| Corrections::from_values(horizon, quantiles, tensor.data));
        let all = all.ok_or(ModelError::Corrections { expected })?;
        let expected = [series, quantiles, horizon];
        let own = each(tensors.remove(OWN_CORRECTIONS), expected, |values| {
            Corrections::from_values(horizon, quantiles, values)
        });
        Ok(Self { all, own: own.ok_or(ModelError::OwnCorrections { expected })? })
    }
}

/// What a tensor holds of each series, nothing of any without the tensor; `None` if it is not what is expected.
fn each<T>(
    tensor: Option<Tensor>,
    expected: [usize; 3],
    of: impl Fn(Vec<f32>) -> Option<T>,
) -> Option<Vec<T>> {
    let Some(Tensor { shape, data }) = tensor else { return Some(Vec::new()) };
    if shape != expected {
        return None;
    }
    data.chunks_exact(expected[1] * expected[2]).map(|values| of(values.to_vec())).collect()
}
