//! What the cells learn from, as the network reads it: windows, or sequences along which the state is carried.

use super::dropout::Dropout;
use super::sequences::{self, Sequences};
use super::targets::Examples;
use super::windows::Windows;
use crate::settings::Train;
use tidecast_core::forecaster::Inputs;
use tidecast_core::network::{Lesson, Loss, Network, Scored, Scratch, StateKind, TrainScratch};

/// Windows that one thread works on at a time. Fixed, so that sums are added in the same order on any number of threads.
const WINDOWS: usize = 64;
/// Sequences of a minibatch take the place of so many windows each.
const WINDOWS_A_SEQUENCE: usize = 16;
/// Minibatches of an epoch, at least, if there are as many sequences: each has many forecasts, and a short history would be
/// over before anything is learned.
const MINIBATCHES: usize = 32;

/// Examples, each of so many numbers, that are kept or left out as one where there are too many: those of a sequence.
pub fn together(recipe: &Train, outputs: usize) -> usize {
    match recipe.state {
        StateKind::Window => 1,
        StateKind::Carried => sequences::together(recipe.lookback, outputs),
    }
}

/// Windows or sequences.
pub enum Material<'a> {
    Windows(&'a Windows<'a>, Examples),
    Sequences(Sequences<'a>),
}

/// What one thread reads into, used again and again.
#[derive(Default)]
pub struct Buffers {
    inputs: Inputs,
    sequences: sequences::Buffers,
    /// Of what the head reads, `[piece][hidden]`.
    factors: Vec<f32>,
    /// What is to be said, `[...][horizon]`, NaN where nothing is.
    pub targets: Vec<f32>,
}

impl<'a> Material<'a> {
    /// Examples as the recipe has them read.
    pub fn new(recipe: &Train, windows: &'a Windows<'a>, examples: Examples) -> Self {
        match recipe.state {
            StateKind::Window => Self::Windows(windows, examples),
            StateKind::Carried => Self::Sequences(Sequences::new(windows, examples, recipe.lookback)),
        }
    }

    /// Pieces: windows or sequences.
    pub fn len(&self) -> usize {
        match self {
            Self::Windows(_, examples) => examples.len(),
            Self::Sequences(sequences) => sequences.len(),
        }
    }

    /// Pieces that one thread works on at a time.
    pub fn at_once(&self) -> usize {
        match self {
            Self::Windows(..) => WINDOWS,
            Self::Sequences(_) => sequences::AT_ONCE,
        }
    }

    /// Pieces of a minibatch.
    pub fn minibatch(&self, recipe: &Train) -> usize {
        match self {
            Self::Windows(..) => recipe.batch,
            Self::Sequences(all) => (recipe.batch / WINDOWS_A_SEQUENCE).min(all.len() / MINIBATCHES).max(1),
        }
    }

    /// The loss of the pieces with the numbers `chosen`, and its gradients.
    pub fn learn(
        &self,
        network: &Network,
        (chosen, dropout): (&[usize], Dropout),
        loss: Loss,
        buffers: &mut Buffers,
        scratch: &mut TrainScratch,
    ) -> Scored {
        self.read(network, chosen, buffers);
        dropout.factors(chosen, network.shape().hidden, &mut buffers.factors);
        for (place, _) in chosen.iter().enumerate().filter(|(_, piece)| dropout.hides(**piece)) {
            match self {
                Self::Windows(..) => buffers.inputs.hide_series(place),
                Self::Sequences(_) => buffers.sequences.hide_series(place),
            }
        }
        let lesson = self.lesson(loss, &buffers.targets, &buffers.factors);
        match self {
            Self::Windows(windows, _) => {
                network.loss_and_gradients(&buffers.inputs.batch(windows.description), &lesson, scratch)
            }
            Self::Sequences(_) => {
                network.loss_and_gradients_along(&buffers.sequences.sequences(), &lesson, scratch)
            }
        }
    }

    /// What targets teach, `[...][horizon]`.
    pub fn lesson<'l>(&'l self, loss: Loss, targets: &'l [f32], factors: &'l [f32]) -> Lesson<'l> {
        let windows = match self {
            Self::Windows(windows, _) => windows,
            Self::Sequences(sequences) => sequences.windows(),
        };
        Lesson { targets, loss, probabilities: windows.description.probabilities(), factors }
    }

    /// What the network says of the pieces with the numbers `chosen`, `[...][quantity][horizon]`, in the order of the targets in
    /// `buffers`.
    pub fn say(
        &self,
        network: &Network,
        chosen: &[usize],
        buffers: &mut Buffers,
        scratch: &mut Scratch,
        said: &mut Vec<f32>,
    ) {
        self.read(network, chosen, buffers);
        let shape = network.shape();
        said.resize(buffers.targets.len() / shape.horizon * shape.outputs(), 0.0);
        match self {
            Self::Windows(windows, _) => {
                network.forecast(&buffers.inputs.batch(windows.description), scratch, said);
            }
            Self::Sequences(_) => network.forecast_along(&buffers.sequences.sequences(), scratch, said),
        }
    }

    fn read(&self, network: &Network, chosen: &[usize], buffers: &mut Buffers) {
        let Buffers { inputs, sequences, targets, .. } = buffers;
        match self {
            Self::Windows(windows, examples) => {
                inputs.clear();
                targets.clear();
                for number in chosen {
                    windows.read(examples.origins[*number], examples.lanes[*number] as usize, inputs);
                    targets.extend_from_slice(examples.targets(*number));
                }
            }
            Self::Sequences(all) => all.read(network.shape(), chosen, sequences, targets),
        }
    }
}
