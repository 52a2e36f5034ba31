//! The ensemble: a convex combination of the linear recurrence's forecast with simple forecasts.
//!
//! The recurrence minimises squared errors, which outliers dominate. Medians and repeated values are robust to them, so the
//! weights improve series that are mostly flat and sometimes jump.

use serde::{Deserialize, Serialize};

use super::error::ModelError;
use crate::network::tensors::{self, Tensor, Tensors};

/// Name of the weight tensor `[series + 1, bucket, expert]`; the last row serves every other series.
const WEIGHTS: &str = "ensemble.weight";

/// Window of the longest median, in steps.
pub const MEDIAN_STEPS: usize = 24;

/// A forecast in the ensemble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expert {
    Recurrence,
    /// The last value.
    Last,
    /// The median of the last 6 values.
    Median6,
    /// The median of the last [`MEDIAN_STEPS`] values.
    Median24,
    /// The value one season before; the recurrence's where the history is shorter than that.
    Seasonal,
}

impl Expert {
    /// All experts, in the order of their weights.
    pub const ALL: [Expert; EXPERT_COUNT] =
        [Expert::Recurrence, Expert::Last, Expert::Median6, Expert::Median24, Expert::Seasonal];
}

pub const EXPERT_COUNT: usize = 5;

/// The horizon buckets of the ensemble, and its seasonal expert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnsembleSpec {
    /// Ends of the horizon buckets, exclusive; after the last one the forecast is that of the recurrence.
    pub bucket_ends: Vec<usize>,
    /// Period of the seasonal expert, in steps.
    pub season: Option<usize>,
}

/// The weights of the experts, by series and horizon bucket.
#[derive(Clone, Debug, PartialEq)]
pub struct Ensemble {
    pub spec: EnsembleSpec,
    /// `[series + 1][bucket][expert]`
    weights: Vec<f32>,
}

impl Ensemble {
    /// # Panics
    /// If `weights` is not `[series + 1][bucket][expert]`.
    pub fn new(spec: EnsembleSpec, weights: Vec<f32>) -> Self {
        assert!(
            !weights.is_empty() && weights.len().is_multiple_of(spec.bucket_ends.len() * EXPERT_COUNT),
            "weights are [series + 1][bucket][expert]"
        );
        Self { spec, weights }
    }

    /// Removes the weights of an ensemble over `series` series from the tensors of a file.
    pub(super) fn take(
        tensors: &mut Tensors,
        spec: &EnsembleSpec,
        series: usize,
    ) -> Result<Self, ModelError> {
        let shape = [series + 1, spec.bucket_ends.len(), EXPERT_COUNT];
        let weights = tensors::take(tensors, WEIGHTS, &shape);
        let weights = weights.filter(|weights| weights.iter().all(|weight| *weight >= 0.0));
        let error = || ModelError::tensor(WEIGHTS, shape, "numbers of at least 0");
        Ok(Self { spec: spec.clone(), weights: weights.ok_or_else(error)? })
    }

    /// The name and value of the weight tensor.
    pub(super) fn tensor(&self) -> (String, Tensor) {
        let buckets = self.spec.bucket_ends.len();
        let shape = vec![self.weights.len() / (buckets * EXPERT_COUNT), buckets, EXPERT_COUNT];
        (WEIGHTS.to_owned(), Tensor { shape, data: self.weights.clone() })
    }

    /// All weights, `[series + 1][bucket][expert]`.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The weights of a series, `[bucket][expert]`; those of all other series for `None`.
    pub fn weights_of(&self, series: Option<usize>) -> &[f32] {
        let size = self.spec.bucket_ends.len() * EXPERT_COUNT;
        let others = self.weights.len() / size - 1;
        &self.weights[series.unwrap_or(others) * size..][..size]
    }
}
