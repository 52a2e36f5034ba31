//! The recurrent networks: cells, layers, head, gradients, and the tensors they are stored as; and the linear recurrence.
//!
//! A network maps matrices to matrices and knows neither series nor files, threads or time. It is immutable while it
//! forecasts; what changes (`Scratch`, `State`) is passed in. The result of a column is independent of the batch's width, of
//! the column's position and of its neighbours, bit for bit.
//!
//! From the bottom up: `kernel` and `cells` compute one step of one layer, `forward` and `backward` a tile of columns over all
//! steps, `forecast` and `training` a whole batch.

mod backward;
mod cells;
mod enums;
mod forecast;
mod forward;
mod init;
mod kernel;
mod loss;
#[expect(clippy::module_inception, reason = "the network itself, next to its parts")]
mod network;
mod optimizer;
pub mod recurrence;
mod shape;
mod state;
pub mod tensors;
mod training;
mod weights;

pub use enums::{CellKind, Decoder, Loss, StateKind};
pub use forecast::{Scratch, Sequences};
pub use forward::Batch;
pub use init::{ForgetBias, Random};
pub use loss::{LossSpec, LossSum, LossValue, pinball};
pub use network::{Network, WeightsError};
pub use optimizer::{AdamW, Gradients, Moments, WeightEma};
pub use shape::{
    EMBEDDING_MAX, HIDDEN_MAX, HORIZON_MAX, INPUTS_MAX, LAYERS_MAX, PARAMETERS_MAX, QUANTILES_MAX, Shape,
    ShapeError,
};
pub use state::State;
pub use tensors::{Tensor, Tensors, TensorsError};
pub use training::{LossAndGradients, SequenceGradients, TrainScratch};
