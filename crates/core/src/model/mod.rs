//! A trained model as a value and as a file: the memory and its readout, the cells, how their inputs are made, and where
//! it all came from. The file is safetensors with PyTorch's tensor names and the description as JSON under one metadata
//! key; it loads in Python with `safetensors` alone and holds nothing executable. Bytes in, bytes out: opening files is
//! the caller's.

mod description;
mod errors;
mod mix;

use serde::Deserialize;
use sha2::{Digest, Sha256};

pub use description::{CellsPart, DataSummary, Description, MemoryPart, MixPart, Penalty, Score, Share};

pub use errors::{Corrected, Errors};
pub use mix::{EXPERTS, Expert, MEDIAN_STEPS, Mix};

use crate::intervals::{self, Bounds, PROBABILITIES};
use errors::{CORRECTIONS, OWN_CORRECTIONS, OWN_QUANTILES, QUANTILES, WIDENING};

use crate::network::memory::{self, Memory, POLES, Readout, ReadoutError};
use crate::network::{self, Network, Tensors, TensorsError, WeightsError};

/// The one metadata key of the file.
const KEY: &str = "tidecast";

/// A network with everything around it. Constant once made.
#[derive(Debug)]
pub struct Model {
    pub description: Description,
    pub memory: Option<Remembering>,
    pub cells: Option<Network>,
    /// Errors on the validation part; without them there are no intervals.
    pub errors: Option<Errors>,
    /// First twelve hexadecimal digits of the file's SHA-256.
    pub hash: String,
}

/// The memory of a model and what reads it out.
#[derive(Clone, Debug)]
pub struct Remembering {
    pub poles: Vec<[f32; 2]>,
    pub memory: Memory,
    pub readout: Readout,
    pub mix: Option<Mix>,
}

/// Why bytes are not a model.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error(transparent)]
    Tensors(#[from] TensorsError),
    #[error("the description in its metadata cannot be read: {0}")]
    Description(#[from] serde_json::Error),
    #[error("its description has format {found}; this build reads format {}", Description::FORMAT)]
    Format { found: u32 },
    #[error("its description contradicts itself: {0}")]
    Contradiction(String),
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error("tensor {POLES:?} must be [poles, 2] finite numbers, each pole inside the unit circle")]
    Poles,
    #[error("the memory's readout: {0}")]
    Readout(#[from] ReadoutError),
    #[error("tensor {:?} must be {expected:?} numbers of at least 0", mix::WEIGHTS)]
    Mix { expected: [usize; 3] },
    #[error("tensor {QUANTILES:?} must be {PROBABILITIES} x {horizon} values that rise with the probability")]
    Quantiles { horizon: usize },
    #[error("tensor {WIDENING:?} must be {expected} numbers of at least 0")]
    Widening { expected: usize },
    #[error("tensor {OWN_QUANTILES:?} must be {expected:?} values that rise with the probability")]
    OwnQuantiles { expected: [usize; 3] },
    #[error(
        "tensor {CORRECTIONS:?} must be {expected:?} values, as there are learned quantiles and steps of the horizon"
    )]
    Corrections { expected: [usize; 2] },
    #[error(
        "tensor {OWN_CORRECTIONS:?} must be {expected:?} values, as there are series, learned quantiles and steps"
    )]
    OwnCorrections { expected: [usize; 3] },
}

/// The format alone, read first so that a later format is named instead of its unknown fields.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

impl Model {
    pub fn new(
        description: Description,
        memory: Option<Remembering>,
        cells: Option<Network>,
        errors: Option<Errors>,
    ) -> Self {
        let mut model = Self { description, memory, cells, errors, hash: String::new() };
        model.hash = hash(&model.to_bytes());
        model
    }

    /// # Errors
    /// If the bytes are truncated, too long, foreign, or hold anything but finite numbers of the described shapes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ModelError> {
        let (mut tensors, text) = network::tensors::read(bytes, KEY)?;
        let Version { format } = serde_json::from_str(&text)?;
        if format != Description::FORMAT {
            return Err(ModelError::Format { found: format });
        }
        let description: Description = serde_json::from_str(&text)?;
        description.check()?;
        let horizon = description.horizon;
        let series = description.series.len();
        let errors = Errors::take(&mut tensors, horizon, description.probabilities().len(), series)?;
        let memory = match &description.memory {
            Some(part) => Some(Remembering::take(&mut tensors, part, &description)?),
            None => None,
        };
        let cells = match &description.cells {
            Some(part) => Some(Network::from_tensors(part.network, &tensors)?),
            None => None,
        };
        if let (None, Some(name)) = (&cells, tensors.keys().next()) {
            let expected = "no cells, by its description".to_owned();
            return Err(WeightsError::Unexpected { name: name.clone(), expected }.into());
        }
        Ok(Self { description, memory, cells, errors, hash: hash(bytes) })
    }

    /// The same model gives the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut all = self.cells.as_ref().map_or_else(Tensors::new, |cells| cells.tensors().clone());
        if let Some(Remembering { poles, readout, mix, .. }) = &self.memory {
            all.insert(POLES.to_owned(), memory::poles_tensor(poles));
            all.extend(readout.tensors().clone());
            all.extend(mix.as_ref().map(Mix::tensor));
        }
        if let Some(errors) = &self.errors {
            errors.insert(self.description.horizon, &mut all);
        }
        let text = serde_json::to_string(&self.description)
            .expect("a description has only plain keys and finite numbers");
        network::tensors::write(&all, KEY, &text)
    }

    /// How many numbers were fitted.
    pub fn parameters(&self) -> u64 {
        let mix = |memory: &Remembering| memory.mix.as_ref().map_or(0, |mix| mix.weights().len() as u64);
        self.memory.as_ref().map_or(0, |memory| memory.readout.parameters() + mix(memory))
            + self.cells.as_ref().map_or(0, |cells| cells.shape().parameters())
    }

    /// The bounds of `level` around a forecast of a series, by its number among those that have coefficients of their own:
    /// counted from the quantiles that the cells learned for it, if they did, or else from the forecast.
    ///
    /// # Panics
    /// If the model was trained without a validation part: whoever asks for levels has checked `errors`.
    pub fn bounds(&self, level: f64, series: Option<usize>) -> Bounds {
        let errors = self.errors.as_ref().expect("levels are only asked of a model with errors");
        let learned = intervals::places(self.description.probabilities(), level);
        if let (Some(places), Some(Corrected { all, own })) = (learned, &errors.corrected) {
            return series.and_then(|series| own.get(series)).unwrap_or(all).bounds(places);
        }
        let (around, beta) = match series.and_then(|series| Some((errors.own.get(series)?, series))) {
            Some((own, series)) => (own, errors.widening[series]),
            None => (&errors.all, errors.widening[errors.own.len()]),
        };
        around.bounds(level, beta)
    }

    /// What the intervals of a series are measured in beside its spread: how much its restlessness widens them.
    pub fn widening(&self, series: Option<usize>, restlessness: f32) -> f32 {
        let Some(errors) = &self.errors else { return 1.0 };
        let beta = series.filter(|series| *series < errors.own.len()).unwrap_or(errors.own.len());
        errors.widening.get(beta).map_or(1.0, |beta| intervals::widening(*beta, restlessness))
    }

    /// Whether restlessness widens any interval.
    pub fn widens(&self) -> bool {
        self.errors.iter().flat_map(|errors| &errors.widening).any(|beta| *beta != 0.0)
    }

    /// The mean size of the errors of a series some steps ahead on the validation part, in that unit; that of all series for
    /// one that made none there.
    pub fn mean_size(&self, series: Option<usize>, step: usize) -> f32 {
        let Some(errors) = &self.errors else { return 0.0 };
        let own = series.and_then(|series| errors.own.get(series)).map(|own| own.mean_size(step));
        own.filter(|size| *size > 0.0).unwrap_or_else(|| errors.all.mean_size(step))
    }
}

impl Remembering {
    fn take(tensors: &mut Tensors, part: &MemoryPart, of: &Description) -> Result<Self, ModelError> {
        let poles = memory::take_poles(tensors).ok_or(ModelError::Poles)?;
        let memory = Memory::new(&poles, part.context).ok_or(ModelError::Poles)?;
        if let Some(copied) = part.copied.iter().find(|copied| **copied >= memory.numbers()) {
            let numbers = memory.numbers();
            let wrong = format!("number {copied} of the memory's state is copied, it has {numbers}");
            return Err(ModelError::Contradiction(wrong));
        }
        let features = part.features(memory.numbers(), &of.inputs, of.horizon);
        let readout = Readout::take(tensors, of.horizon, features, of.own())?;
        let mix = match &part.mix {
            Some(mix) => Some(Mix::take(tensors, mix, of.series.len())?),
            None => None,
        };
        Ok(Self { poles, memory, readout, mix })
    }
}

fn hash(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}
