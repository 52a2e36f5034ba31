//! A mix of simple forecasts with the memory's: for each series and part of the horizon, weights that are not negative and
//! add up to one. Squares are what the memory was fitted by; the mix is what makes it robust where a series is mostly calm
//! and sometimes leaps, since medians and repetitions are not drawn after the leaps.

use super::{MixPart, ModelError};
use crate::network::{Tensor, Tensors};

/// Name of the tensor `[series + 1, parts, experts]`: a series each, and last what stands for all others.
pub(super) const WEIGHTS: &str = "mix.weight";

/// Values of the longest median.
pub const MEDIAN_STEPS: usize = 24;

/// What is mixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expert {
    Memory,
    /// The last value.
    Last,
    /// The median of the last 6 values.
    Median6,
    /// The median of the last [`MEDIAN_STEPS`] values.
    Median24,
    /// The value a season before, or the memory's where the past does not reach back so far.
    Seasonal,
}

impl Expert {
    /// In the order of their weights.
    pub const ALL: [Expert; EXPERTS] =
        [Expert::Memory, Expert::Last, Expert::Median6, Expert::Median24, Expert::Seasonal];
}

/// How many there are.
pub const EXPERTS: usize = 5;

/// Weights by series and part of the horizon.
#[derive(Clone, Debug, PartialEq)]
pub struct Mix {
    pub part: MixPart,
    weights: Vec<f32>,
}

impl Mix {
    /// # Panics
    /// If there are not [`EXPERTS`] weights for each part of each series and of all others.
    pub fn new(part: MixPart, weights: Vec<f32>) -> Self {
        assert!(
            !weights.is_empty() && weights.len().is_multiple_of(part.ends.len() * EXPERTS),
            "weights are whole"
        );
        Self { part, weights }
    }

    pub(super) fn take(tensors: &mut Tensors, part: &MixPart, series: usize) -> Result<Self, ModelError> {
        let expected = [series + 1, part.ends.len(), EXPERTS];
        let found = tensors.remove(WEIGHTS).filter(|tensor| {
            tensor.shape == expected
                && tensor.data.len() == expected.iter().product::<usize>()
                && tensor.data.iter().all(|weight| weight.is_finite() && *weight >= 0.0)
        });
        Ok(Self { part: part.clone(), weights: found.ok_or(ModelError::Mix { expected })?.data })
    }

    pub(super) fn tensor(&self) -> (String, Tensor) {
        let parts = self.part.ends.len();
        let shape = vec![self.weights.len() / (parts * EXPERTS), parts, EXPERTS];
        (WEIGHTS.to_owned(), Tensor { shape, data: self.weights.clone() })
    }

    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The weights of a series, `[part][expert]`; those of all others if it is not known.
    pub fn of(&self, series: Option<usize>) -> &[f32] {
        let size = self.part.ends.len() * EXPERTS;
        let others = self.weights.len() / size - 1;
        &self.weights[series.unwrap_or(others) * size..][..size]
    }
}
