//! The recurrent networks: cells, layers, head, their gradients, and the tensors they are stored as.
//!
//! A network knows matrices of numbers and nothing of series, files, threads or time. It is constant while it
//! forecasts; what changes (`Scratch`, `State`) is passed in. A column's result never depends on the width of
//! the batch, on its place in it or on its neighbours, bit for bit.

mod average;
mod backward;
mod bias;
mod cells;
mod forecast;
mod fused;
mod gradients;
mod kernel;
mod kinds;
mod loss;
pub mod recurrence;
mod model;
mod optimizer;
mod random;
mod run;
mod sequence;
mod shape;
mod state;
pub mod tensors;
mod training;
mod transposed;

#[cfg(test)]
mod tests;

pub use average::WeightEma;
pub use bias::ForgetBias;
pub use forecast::{Batch, Scratch};
pub use gradients::Gradients;
pub use kinds::{CellKind, Decoder, Loss, StateKind, UnknownName};
pub use loss::pinball;
pub use model::{Network, WeightsError};
pub use optimizer::AdamW;
pub use random::Random;
pub use sequence::Sequences;
pub use shape::{
    EMBEDDING_MAX, HIDDEN_MAX, HORIZON_MAX, INPUTS_MAX, LAYERS_MAX, PARAMETERS_MAX, QUANTILES_MAX, Shape,
    ShapeError,
};
pub use state::State;
pub use tensors::{Tensor, Tensors, TensorsError};
pub use training::{LossSpec, LossAndGradients, SequenceGradients, TrainScratch};
