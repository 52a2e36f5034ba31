//! A network: its shape and its weights, constant while it is used.

use std::sync::OnceLock;

use super::fused::{PackedHead, PackedLayer};
use super::random::Random;
use super::shape::{EMBEDDING, Slot};
use super::transposed::TransposedWeights;
use super::{ForgetBias, Shape, ShapeError, Tensor, Tensors};

/// A recurrent network. It never changes while it forecasts, and can be shared between threads.
#[derive(Clone, Debug)]
pub struct Network {
    shape: Shape,
    /// The weights under PyTorch's names and in its row order.
    tensors: Tensors,
    /// The same weights as the products read them.
    pub(super) layers: Vec<PackedLayer>,
    pub(super) head: PackedHead,
    /// The same weights as the backward pass reads them, from when they are first asked for.
    transposed: OnceLock<TransposedWeights>,
}

/// Why tensors are not the weights of a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeightsError {
    #[error(transparent)]
    Shape(#[from] ShapeError),
    #[error(
        "tensor `{name}` of shape {expected:?} is missing: the network is described as another than it is"
    )]
    Missing { name: String, expected: Vec<usize> },
    #[error("tensor `{name}` has shape {found:?}, but {expected:?} follows from the network's sizes")]
    Mismatch { name: String, expected: Vec<usize>, found: Vec<usize> },
    #[error("tensor `{name}` has {found} numbers, but its shape {shape:?} holds another number of them")]
    Count { name: String, shape: Vec<usize>, found: usize },
    #[error("tensor `{name}` does not belong to such a network: it has {expected}")]
    Unexpected { name: String, expected: String },
}

impl Network {
    /// A network with random weights, the same for the same seed: PyTorch's distributions, except that the
    /// forget gates start open (bias 1), since otherwise an LSTM forgets within a few steps and is slow to
    /// learn not to.
    pub fn new(shape: Shape, seed: u64) -> Result<Self, ShapeError> {
        Self::with_forget_bias(shape, seed, ForgetBias::One)
    }

    /// As [`Network::new`], but with the forget gates as open as asked.
    pub fn with_forget_bias(shape: Shape, seed: u64, bias: ForgetBias) -> Result<Self, ShapeError> {
        shape.check()?;
        let mut random = Random::new(seed);
        let mut tensors: Tensors =
            shape.slots().into_iter().map(|slot| first_weights(&shape, slot, &mut random)).collect();
        bias.set(&shape, seed, &mut tensors);
        Ok(Self::pack(shape, tensors))
    }

    /// The same network with a head that says 0 until it has learned.
    pub fn silent(mut self) -> Self {
        self.update(|tensors| {
            for (_, tensor) in tensors.iter_mut().filter(|(name, _)| name.starts_with("head.")) {
                tensor.data.fill(0.0);
            }
        });
        self
    }

    /// A network with the given weights: exactly the tensors that `shape` calls for.
    pub fn from_tensors(shape: Shape, tensors: &Tensors) -> Result<Self, WeightsError> {
        shape.check()?;
        let slots = shape.slots();
        for Slot { name, shape: expected } in &slots {
            let tensor = tensors.get(name);
            let Some(tensor) = tensor else {
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
        if let Some(name) = tensors.keys().find(|name| slots.iter().all(|slot| slot.name != **name)) {
            let expected: Vec<_> = slots.iter().map(|slot| slot.name.as_str()).collect();
            return Err(WeightsError::Unexpected { name: name.clone(), expected: expected.join(", ") });
        }
        Ok(Self::pack(shape, tensors.clone()))
    }

    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The weights: `weight_ih_l0` `[gates*hidden, inputs]`, `weight_hh_l0` `[gates*hidden, hidden]`,
    /// `bias_ih_l0`, `bias_hh_l0` `[gates*hidden]`, `peephole_i_l0` `[hidden]`, ..., `head.weight`,
    /// `head.bias`, and `embedding.weight` `[series, embedding]` where series have one.
    pub fn tensors(&self) -> &Tensors {
        &self.tensors
    }

    /// The same network without the quantiles: it forecasts the same, bit for bit, and says nothing else.
    pub fn without_quantiles(&self) -> Self {
        let shape = Shape { quantiles: 0, ..self.shape };
        let mut tensors = self.tensors.clone();
        // The forecast's rows come first.
        for Slot { name, shape } in shape.slots() {
            let tensor = tensors.get_mut(&name).expect("a network has every tensor of its shape");
            tensor.data.truncate(shape.iter().product());
            tensor.shape = shape;
        }
        Self::pack(shape, tensors)
    }

    /// The learned numbers of a series; `None` for one that is not known, which reads zeros.
    ///
    /// Panics when the network has fewer series.
    pub(super) fn embedding(&self, series: Option<u32>) -> Option<&[f32]> {
        let size = self.shape.embedding;
        let all = &self.tensors.get(EMBEDDING)?.data;
        series.map(|series| &all[series as usize * size..][..size])
    }

    /// Changes the weights in place; names and shapes must stay.
    pub(super) fn update(&mut self, change: impl FnOnce(&mut Tensors)) {
        change(&mut self.tensors);
        for (k, layer) in self.layers.iter_mut().enumerate() {
            *layer = PackedLayer::pack(&self.shape, &self.tensors, k);
        }
        self.head = PackedHead::pack(&self.shape, &self.tensors);
        self.transposed = OnceLock::new();
    }

    pub(super) fn transposed(&self) -> &TransposedWeights {
        self.transposed.get_or_init(|| TransposedWeights::pack(self))
    }

    fn pack(shape: Shape, tensors: Tensors) -> Self {
        let layers = (0..shape.layers).map(|k| PackedLayer::pack(&shape, &tensors, k)).collect();
        let head = PackedHead::pack(&shape, &tensors);
        Self { shape, tensors, layers, head, transposed: OnceLock::new() }
    }
}

/// Uniform in ±1/sqrt(n), where n is what one row of the matrix reads: `hidden` for the cells, all inputs for
/// the head. What is learned of each series starts at zero, so that a series that is not known reads what all began with.
fn first_weights(shape: &Shape, slot: Slot, random: &mut Random) -> (String, Tensor) {
    let reads = if slot.name.starts_with("head.") { shape.hidden + shape.head_known() } else { shape.hidden };
    let bound = 1.0 / (reads as f32).sqrt();
    let mut tensor = Tensor::zeros(&slot.shape);
    if slot.name == EMBEDDING {
        return (slot.name, tensor);
    }
    tensor.data.iter_mut().for_each(|weight| *weight = random.within(bound));
    (slot.name, tensor)
}
