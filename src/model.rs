//! A trained model as a value and as a file: the network, how its inputs are made, and where it came from. The file is
//! safetensors with PyTorch's tensor names and the description as JSON under one metadata key; it loads in Python with
//! `safetensors` alone and holds nothing executable. Bytes in, bytes out: opening files is the caller's.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::intervals::{ErrorQuantiles, Offsets, PROBABILITIES};
use crate::network::{self, Network, Shape, Tensor, TensorsError, WeightsError};
use crate::series::{InputSpec, Moments, Rules, Scaling};

/// The one metadata key of the file.
const KEY: &str = "tidecast";
/// The version of the description; a reader refuses any other.
const FORMAT: u32 = 1;
/// Steps a network may read. Every series keeps as many values, and a file may claim any number: this is a month and a
/// half of minutes, more than any recurrent network can make use of.
const LOOKBACK_MAX: usize = 65_536;
/// Name of the tensor `[PROBABILITIES x horizon]` beside those of the network.
const QUANTILES: &str = "error_quantiles";

/// All that is needed to forecast besides the weights, and where those came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    pub format: u32,
    pub network: Shape,
    /// Steps the network reads.
    pub lookback: usize,
    /// How rows became steps in training. A pipeline must have the same step, aggregate and filling of gaps.
    pub rules: Rules,
    pub targets: Vec<String>,
    pub covariates: Vec<String>,
    pub known_ahead: Vec<String>,
    pub inputs: InputSpec,
    pub scaling: Scaling,
    /// Moments of each target in the training part.
    pub moments: Vec<Moments>,
    /// The recipe it was trained by, for the reader; nothing is computed from it.
    pub recipe: serde_json::Value,
    pub data: DataSummary,
    pub scores: Vec<Score>,
}

/// What a model was trained on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSummary {
    /// SHA-256 over all rows as they were read.
    pub fingerprint: String,
    pub rows: u64,
    pub series: usize,
    /// First and last step of the whole history, and the ends of its training and validation parts; RFC 3339.
    pub from: String,
    pub until: String,
    pub trained_until: String,
    pub validated_until: String,
}

/// Errors on one part of the history, in standard deviations of each series, so that series of different units can be
/// averaged. A baseline is left out where the history is too short for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// `validation` or `test`.
    pub part: String,
    pub forecasts: u64,
    pub mae: f64,
    pub repeat_last: f64,
    /// The value one season before.
    pub seasonal_naive: Option<f64>,
    /// Steps of that season.
    pub season: Option<usize>,
}

/// A network with everything around it. Constant once made.
#[derive(Debug)]
pub struct Model {
    pub description: Description,
    pub network: Network,
    /// Errors on the validation part; without them there are no intervals.
    pub errors: Option<ErrorQuantiles>,
    /// First twelve hexadecimal digits of the file's SHA-256.
    pub hash: String,
}

/// Why bytes are not a model.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error(transparent)]
    Tensors(#[from] TensorsError),
    #[error("the description in its metadata cannot be read: {0}")]
    Description(#[from] serde_json::Error),
    #[error("its description has format {found}; this build reads format {FORMAT}")]
    Format { found: u32 },
    #[error("its description contradicts itself: {0}")]
    Contradiction(String),
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error("tensor {QUANTILES:?} must be {PROBABILITIES} x {horizon} values that rise with the probability")]
    Quantiles { horizon: usize },
}

/// The format alone, read first so that a later format is named instead of its unknown fields.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

impl Description {
    pub const FORMAT: u32 = FORMAT;

    /// Training moments of target `target`; a pipeline's further targets share the first one's.
    pub fn moments(&self, target: usize) -> Moments {
        self.moments.get(target).or(self.moments.first()).copied().unwrap_or(Moments { mean: 0.0, sd: 1.0 })
    }

    fn check(&self) -> Result<(), ModelError> {
        let numbers = |what: &str, moments: &[Moments], count: usize| {
            let finite = moments.iter().all(|m| m.mean.is_finite() && m.sd.is_finite() && m.sd >= 0.0);
            (moments.len() != count || !finite).then(|| format!("it needs {count} finite moments of {what}"))
        };
        let (inputs, grid) = (&self.inputs, self.rules.grid);
        let wrong = [
            (self.lookback == 0).then(|| "lookback is 0".to_owned()),
            (self.lookback > LOOKBACK_MAX)
                .then(|| format!("lookback is {}, more than {LOOKBACK_MAX}", self.lookback)),
            (grid.every <= 0 || !(0..grid.every).contains(&grid.offset))
                .then(|| "the grid is impossible".to_owned()),
            (inputs.width() != self.network.inputs).then(|| {
                format!("{} inputs are described, the network has {}", inputs.width(), self.network.inputs)
            }),
            (inputs.known_ahead.len() != self.network.known).then(|| {
                format!(
                    "{} inputs known ahead are described, the network has {}",
                    inputs.known_ahead.len(),
                    self.network.known
                )
            }),
            numbers("covariates", &inputs.covariates, self.covariates.len()),
            numbers("inputs known ahead", &inputs.known_ahead, self.known_ahead.len()),
            numbers("targets", &self.moments, self.targets.len()),
        ];
        wrong.into_iter().flatten().next().map_or(Ok(()), |wrong| Err(ModelError::Contradiction(wrong)))
    }
}

impl Model {
    pub fn new(description: Description, network: Network, errors: Option<ErrorQuantiles>) -> Self {
        let mut model = Self { description, network, errors, hash: String::new() };
        model.hash = hash(&model.to_bytes());
        model
    }

    /// # Errors
    /// If the bytes are truncated, too long, foreign, or hold anything but a finite network of the described shape.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ModelError> {
        let (mut tensors, text) = network::tensors::read(bytes, KEY)?;
        let Version { format } = serde_json::from_str(&text)?;
        if format != FORMAT {
            return Err(ModelError::Format { found: format });
        }
        let description: Description = serde_json::from_str(&text)?;
        description.check()?;
        let horizon = description.network.horizon;
        let errors = match tensors.remove(QUANTILES) {
            Some(Tensor { shape, data }) if shape == [PROBABILITIES, horizon] => {
                Some(ErrorQuantiles::from_values(horizon, data).ok_or(ModelError::Quantiles { horizon })?)
            }
            Some(_) => return Err(ModelError::Quantiles { horizon }),
            None => None,
        };
        let network = Network::from_tensors(description.network, &tensors)?;
        Ok(Self { description, network, errors, hash: hash(bytes) })
    }

    /// The same model gives the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut all = self.network.tensors().clone();
        if let Some(errors) = &self.errors {
            let shape = vec![PROBABILITIES, self.description.network.horizon];
            all.insert(QUANTILES.to_owned(), Tensor { shape, data: errors.values().to_vec() });
        }
        let text = serde_json::to_string(&self.description)
            .expect("a description has only plain keys and finite numbers");
        network::tensors::write(&all, KEY, &text)
    }

    /// How far the bounds of `level` lie from a forecast.
    ///
    /// # Panics
    /// If the model was trained without a validation part: whoever asks for levels has checked `errors`.
    pub fn offsets(&self, level: f64) -> Offsets {
        self.errors.as_ref().expect("levels are only asked of a model with errors").offsets(level)
    }
}

fn hash(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}
