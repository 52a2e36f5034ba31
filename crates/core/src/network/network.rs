//! A network: its shape and its weights.

use std::sync::OnceLock;

use super::init::initial_tensors;
use super::shape::{EMBEDDING, TensorSpec};
use super::weights::{HeadWeights, LayerWeights, TransposedWeights};
use super::{ForgetBias, Shape, ShapeError, Tensors};

/// A recurrent network. Immutable while it forecasts, and shared between threads.
#[derive(Clone, Debug)]
pub struct Network {
    shape: Shape,
    /// The weights with PyTorch's names and row order.
    tensors: Tensors,
    /// The same weights in the layout of the forward products.
    pub(super) layers: Vec<LayerWeights>,
    pub(super) head: HeadWeights,
    /// The same weights in the layout of the backward products, packed on first use.
    transposed: OnceLock<TransposedWeights>,
}

/// Tensors that are not the weights of the described network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeightsError {
    #[error(transparent)]
    Shape(#[from] ShapeError),
    #[error("tensor `{name}` of shape {expected:?} is missing: the file is not of the described network")]
    Missing { name: String, expected: Vec<usize> },
    #[error("tensor `{name}` has shape {found:?}, but the network's sizes require {expected:?}")]
    Mismatch { name: String, expected: Vec<usize>, found: Vec<usize> },
    #[error("tensor `{name}` has {found} numbers, which do not fill its shape {shape:?}")]
    Count { name: String, shape: Vec<usize>, found: usize },
    #[error("tensor `{name}` is not part of such a network, which has {expected}")]
    Unexpected { name: String, expected: String },
}

impl Network {
    /// A network with random weights, the same for the same seed.
    ///
    /// The weights have PyTorch's distributions, except that the forget gates have a bias of 1: otherwise an LSTM forgets within
    /// a few steps and is slow to learn not to.
    ///
    /// # Errors
    /// If `shape` is out of range.
    pub fn new(shape: Shape, seed: u64) -> Result<Self, ShapeError> {
        Self::with_forget_bias(shape, seed, ForgetBias::One)
    }

    /// As [`Network::new`], with another bias of the forget gates.
    ///
    /// # Errors
    /// If `shape` is out of range.
    pub fn with_forget_bias(shape: Shape, seed: u64, bias: ForgetBias) -> Result<Self, ShapeError> {
        shape.check()?;
        Ok(Self::pack(shape, initial_tensors(&shape, seed, bias)))
    }

    /// A network with the given weights, which must be exactly the tensors of `shape`.
    ///
    /// # Errors
    /// If `shape` is out of range, or a tensor is missing, of another shape, or not part of the network.
    pub fn from_tensors(shape: Shape, tensors: &Tensors) -> Result<Self, WeightsError> {
        shape.check()?;
        let specs = shape.tensor_specs();
        for TensorSpec { name, shape: expected } in &specs {
            let Some(tensor) = tensors.get(name) else {
                return Err(WeightsError::Missing { name: name.clone(), expected: expected.clone() });
            };
            if tensor.shape != *expected {
                let (name, found) = (name.clone(), tensor.shape.clone());
                return Err(WeightsError::Mismatch { name, expected: expected.clone(), found });
            }
            if tensor.data.len() != expected.iter().product::<usize>() {
                let found = tensor.data.len();
                return Err(WeightsError::Count { name: name.clone(), shape: expected.clone(), found });
            }
        }
        if let Some(name) = tensors.keys().find(|name| specs.iter().all(|spec| spec.name != **name)) {
            let expected: Vec<_> = specs.iter().map(|spec| spec.name.as_str()).collect();
            return Err(WeightsError::Unexpected { name: name.clone(), expected: expected.join(", ") });
        }
        Ok(Self::pack(shape, tensors.clone()))
    }

    fn pack(shape: Shape, tensors: Tensors) -> Self {
        let layers = (0..shape.layers).map(|k| LayerWeights::pack(&shape, &tensors, k)).collect();
        let head = HeadWeights::pack(&shape, &tensors);
        Self { shape, tensors, layers, head, transposed: OnceLock::new() }
    }

    /// The same network with a head of zeros: it forecasts 0 until it is trained.
    pub fn with_zero_head(mut self) -> Self {
        self.update(|tensors| {
            for (_, tensor) in tensors.iter_mut().filter(|(name, _)| name.starts_with("head.")) {
                tensor.data.fill(0.0);
            }
        });
        self
    }

    /// The same network without quantiles; its point forecasts are the same, bit for bit.
    pub fn without_quantiles(&self) -> Self {
        let shape = Shape { quantiles: 0, ..self.shape };
        let mut tensors = self.tensors.clone();
        // The rows of the point forecast come first.
        for TensorSpec { name, shape } in shape.tensor_specs() {
            let tensor = tensors.get_mut(&name).expect("a network has every tensor of its shape");
            tensor.data.truncate(shape.iter().product());
            tensor.shape = shape;
        }
        Self::pack(shape, tensors)
    }

    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The weights: `weight_ih_l0` `[gates * hidden, inputs]`, `weight_hh_l0` `[gates * hidden, hidden]`, `bias_ih_l0` and
    /// `bias_hh_l0` `[gates * hidden]`, `peephole_i_l0` `[hidden]`, ..., `head.weight`, `head.bias`, and `embedding.weight`
    /// `[series, embedding]` if series have embeddings.
    pub fn tensors(&self) -> &Tensors {
        &self.tensors
    }

    /// The embedding of a series; `None` for an unknown series, which reads zeros.
    ///
    /// # Panics
    /// If the network has fewer series.
    pub(super) fn embedding(&self, series: Option<u32>) -> Option<&[f32]> {
        let size = self.shape.embedding;
        let all = &self.tensors.get(EMBEDDING)?.data;
        series.map(|series| &all[series as usize * size..][..size])
    }

    /// Changes the weights in place. `change` must leave names and shapes as they are.
    pub(super) fn update(&mut self, change: impl FnOnce(&mut Tensors)) {
        change(&mut self.tensors);
        for (k, layer) in self.layers.iter_mut().enumerate() {
            *layer = LayerWeights::pack(&self.shape, &self.tensors, k);
        }
        self.head = HeadWeights::pack(&self.shape, &self.tensors);
        self.transposed = OnceLock::new();
    }

    pub(super) fn transposed(&self) -> &TransposedWeights {
        self.transposed.get_or_init(|| TransposedWeights::pack(&self.shape, &self.layers, &self.head))
    }
}
