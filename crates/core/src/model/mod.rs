//! A trained model, as a value and as a file: the linear recurrence and its readout, the recurrent network, how inputs are
//! made, and the provenance of all of these.
//!
//! The file is safetensors with PyTorch's tensor names and the manifest as JSON under one metadata key. It loads in Python
//! with `safetensors` alone and holds nothing executable. This module maps bytes to values; it opens no files.

mod ensemble;
mod error;
mod manifest;
mod residuals;

pub use ensemble::{EXPERT_COUNT, Ensemble, EnsembleSpec, Expert, MEDIAN_STEPS};
pub use error::ModelError;
pub use manifest::{
    BlendWeight, CellsSpec, DataSummary, ModelManifest, Penalty, RecurrenceSpec, Score, ScoredSplit,
    SeriesKey,
};
pub use residuals::{QuantileOffsets, ResidualQuantiles};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::intervals::{self, Bounds};
use crate::network::recurrence::{self, LinearRecurrence, Readout};
use crate::network::{self, Network, Tensors, WeightsError};

/// The file's only metadata key.
const METADATA_KEY: &str = "tidecast";

/// A trained model. Immutable while it forecasts.
#[derive(Debug)]
pub struct Model {
    pub manifest: ModelManifest,
    pub recurrence: Option<RecurrenceModel>,
    pub cells: Option<Network>,
    /// Quantiles of the errors on the validation split; without them there are no intervals.
    pub residuals: Option<ResidualQuantiles>,
    /// First twelve hexadecimal digits of the file's SHA-256.
    pub hash: String,
}

/// The linear recurrence of a model with its trained readout.
#[derive(Clone, Debug)]
pub struct RecurrenceModel {
    /// `[real, imaginary]`
    pub poles: Vec<[f32; 2]>,
    pub recurrence: LinearRecurrence,
    pub readout: Readout,
    pub ensemble: Option<Ensemble>,
}

/// Only the format. It is parsed first, so that another format is reported as such and not as an unknown field.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

impl Model {
    pub fn new(
        manifest: ModelManifest,
        recurrence: Option<RecurrenceModel>,
        cells: Option<Network>,
        residuals: Option<ResidualQuantiles>,
    ) -> Self {
        let mut model = Self { manifest, recurrence, cells, residuals, hash: String::new() };
        model.hash = hash(&model.to_bytes());
        model
    }

    /// # Errors
    /// If the bytes are truncated, too long, not a model, or hold anything but finite numbers of the described shapes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ModelError> {
        let (mut tensors, text) = network::tensors::read(bytes, METADATA_KEY)?;
        let Version { format } = serde_json::from_str(&text)?;
        if format != ModelManifest::FORMAT {
            return Err(ModelError::Format { found: format, supported: ModelManifest::FORMAT });
        }
        let manifest: ModelManifest = serde_json::from_str(&text)?;
        manifest.validate()?;
        let sizes = residuals::Sizes {
            horizon: manifest.horizon,
            quantiles: manifest.probabilities().len(),
            series: manifest.series.len(),
        };
        let residuals = ResidualQuantiles::take(&mut tensors, sizes)?;
        let recurrence = manifest.recurrence.as_ref();
        let recurrence =
            recurrence.map(|spec| RecurrenceModel::take(&mut tensors, spec, &manifest)).transpose()?;
        let cells = manifest.cells.as_ref();
        let cells = cells.map(|spec| Network::from_tensors(spec.network, &tensors)).transpose()?;
        if let (None, Some(name)) = (&cells, tensors.keys().next()) {
            let expected = "no cells, by its manifest".to_owned();
            return Err(WeightsError::Unexpected { name: name.clone(), expected }.into());
        }
        Ok(Self { manifest, recurrence, cells, residuals, hash: hash(bytes) })
    }

    /// The model as a file. Equal models give equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut tensors = self.cells.as_ref().map_or_else(Tensors::new, |cells| cells.tensors().clone());
        if let Some(RecurrenceModel { poles, readout, ensemble, .. }) = &self.recurrence {
            tensors.insert(recurrence::POLES.to_owned(), recurrence::poles_tensor(poles));
            tensors.extend(readout.tensors().clone());
            tensors.extend(ensemble.as_ref().map(Ensemble::tensor));
        }
        if let Some(residuals) = &self.residuals {
            residuals.insert(self.manifest.horizon, &mut tensors);
        }
        let text = serde_json::to_string(&self.manifest)
            .expect("a manifest has only string keys and finite numbers");
        network::tensors::write(&tensors, METADATA_KEY, &text)
    }

    /// Count of fitted numbers.
    pub fn parameters(&self) -> u64 {
        let recurrence = self.recurrence.as_ref().map_or(0, |recurrence| {
            let weights = recurrence.ensemble.as_ref().map_or(0, |ensemble| ensemble.weights().len() as u64);
            recurrence.readout.parameters() + weights
        });
        recurrence + self.cells.as_ref().map_or(0, |cells| cells.shape().parameters())
    }

    /// The bounds of an interval at `level`, relative to the network's quantiles if it has them for that level, else to the
    /// forecast. `series` is an index into the manifest's series.
    ///
    /// # Panics
    /// If the model has no `residuals`: callers check that before they accept levels.
    pub fn bounds(&self, level: f64, series: Option<usize>) -> Bounds {
        let residuals = self.residuals.as_ref().expect("levels need a model with residuals");
        let indices = intervals::bound_indices(self.manifest.probabilities(), level);
        if let (Some(indices), Some(QuantileOffsets { pooled, per_series })) = (indices, &residuals.offsets) {
            return series.and_then(|series| per_series.get(series)).unwrap_or(pooled).bounds(indices);
        }
        residuals.quantiles(series).bounds(level, residuals.gain(series))
    }

    /// The factor by which volatility scales the intervals of a series.
    pub fn volatility_scale(&self, series: Option<usize>, volatility: f32) -> f32 {
        let gain = self.residuals.as_ref().map(|residuals| residuals.gain(series));
        gain.map_or(1.0, |gain| intervals::volatility_scale(gain, volatility))
    }

    /// True if volatility scales the intervals of any series.
    pub fn uses_volatility(&self) -> bool {
        self.residuals.iter().flat_map(|residuals| &residuals.volatility_gain).any(|gain| *gain != 0.0)
    }

    /// The mean absolute residual of a series at a step of the horizon, in the unit of the intervals; the pooled one for a
    /// series without per-series residuals.
    pub fn mean_residual(&self, series: Option<usize>, step: usize) -> f32 {
        let Some(residuals) = &self.residuals else { return 0.0 };
        let mean = residuals.quantiles(series).mean_abs(step);
        if mean > 0.0 { mean } else { residuals.pooled.mean_abs(step) }
    }
}

impl RecurrenceModel {
    /// Removes the recurrence of `spec` from the tensors of a file.
    fn take(
        tensors: &mut Tensors,
        spec: &RecurrenceSpec,
        manifest: &ModelManifest,
    ) -> Result<Self, ModelError> {
        let invalid = || {
            let values = "finite numbers, each pole inside the unit circle";
            ModelError::tensor(recurrence::POLES, format_args!("[poles, 2]"), values)
        };
        let poles = recurrence::take_poles(tensors).ok_or_else(invalid)?;
        let recurrence = LinearRecurrence::new(&poles, spec.window).ok_or_else(invalid)?;
        let states = recurrence.state_len();
        if let Some(index) = spec.per_series_features.iter().find(|index| **index >= states) {
            return Err(ModelError::Inconsistent(format!(
                "per-series feature {index} is not one of the recurrence's {states} states"
            )));
        }
        let features = spec.features(states, &manifest.inputs, manifest.horizon);
        let readout = Readout::take(tensors, manifest.horizon, features, manifest.per_series_features())?;
        let ensemble = spec.ensemble.as_ref();
        let ensemble =
            ensemble.map(|spec| Ensemble::take(tensors, spec, manifest.series.len())).transpose()?;
        Ok(Self { poles, recurrence, readout, ensemble })
    }
}

fn hash(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}
