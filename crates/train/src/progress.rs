//! Events of a training run.

use std::ops::ControlFlow;

/// Callback for events, which may stop the run.
pub type Report<'r> = dyn FnMut(Progress<'_>) -> ControlFlow<()> + 'r;

/// A choice that was made during training, with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub action: String,
    pub reason: String,
}

impl Decision {
    pub fn new(action: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { action: action.into(), reason: reason.into() }
    }
}

/// Event during training.
#[derive(Clone)]
pub enum Progress<'a> {
    /// Decisions from the grid and the history, or from results so far.
    Decided(&'a [Decision]),
    /// The rows of the readout are being gathered.
    GatheringRows,
    /// The readout was fitted.
    ReadoutFitted { rows: u64 },
    /// Training of the cells continues after the epochs of the checkpoint.
    Resumed { epochs: usize },
    /// The checkpoint cannot be resumed; training of the cells starts over.
    CheckpointIgnored { reason: String },
    /// A minibatch of the cells is done.
    Batch(BatchReport),
    /// State of the run after an epoch or an interruption. Called, it is serialized in the format of a checkpoint file.
    Checkpoint(&'a dyn Fn() -> Vec<u8>),
}

/// Progress of the cells after a minibatch.
#[derive(Clone, Copy, Debug)]
pub struct BatchReport {
    /// From 1.
    pub epoch: usize,
    /// Minibatches of the epoch so far.
    pub batch: usize,
    /// Minibatches per epoch.
    pub batches: usize,
    /// Mean training loss of the epoch so far, on scaled values.
    pub loss: f64,
    /// Validation loss, after the last minibatch of an epoch.
    pub validation_loss: Option<f64>,
    /// Best validation loss so far.
    pub best_loss: Option<f64>,
}
