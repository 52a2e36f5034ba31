//! The errors of loading a model file.

use crate::network::recurrence::ReadoutError;
use crate::network::{TensorsError, WeightsError};

/// A model file that cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error(transparent)]
    Tensors(#[from] TensorsError),
    #[error("the manifest in its metadata cannot be parsed: {0}")]
    Manifest(#[from] serde_json::Error),
    #[error("its manifest has format {found}; this build reads format {supported}")]
    Format { found: u32, supported: u32 },
    #[error("its manifest is inconsistent: {0}")]
    Inconsistent(String),
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error("tensor `{name}` must be {required}")]
    Tensor { name: &'static str, required: String },
    #[error("the readout of the linear recurrence: {0}")]
    Readout(#[from] ReadoutError),
}

impl ModelError {
    /// The error of a tensor that is missing, has another shape or other values.
    pub(super) fn tensor(name: &'static str, shape: impl std::fmt::Debug, values: &str) -> Self {
        Self::Tensor { name, required: format!("{shape:?} {values}") }
    }
}
