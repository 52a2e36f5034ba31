//! Where learning stands, as bytes, so that it can go on after a kill and end where it would have ended. The bytes are
//! safetensors like a model's: numbers and one text, and nothing executable.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::fit::{Fitted, Learning};
use tidecast_core::model::{Description, Model};
use tidecast_core::network::{Average, Network, Optimizer, Tensors, TensorsError, WeightsError, tensors};

/// The one metadata key.
const KEY: &str = "tidecast-checkpoint";
/// What the tensors of a network are kept for, as prefixes of their names.
const PARTS: [&str; 5] = ["weights.", "average.", "means.", "squares.", "best."];

/// Learning at a moment, and of what.
#[derive(Clone, Copy, Debug)]
pub struct Checkpoint<'a> {
    pub(super) learning: &'a Learning,
    pub(super) of: &'a str,
}

/// Minibatches and targets that could have been gone through: more than centuries of them.
const MOST: u64 = 1 << 53;

/// Why a checkpoint is not one to go on from.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error(transparent)]
    Tensors(#[from] TensorsError),
    #[error("what it says of itself cannot be read: {0}")]
    Head(#[from] serde_json::Error),
    #[error("it is of another recipe, other data or another build")]
    Other,
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error("its counts contradict each other")]
    Impossible,
}

/// The numbers beside the tensors. Those of floating point are kept as bits: no digit may be lost.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    of: String,
    epochs: usize,
    batches: usize,
    loss_sum: u64,
    count: usize,
    steps: u64,
    averaged: u64,
    best: usize,
    validation: Option<u64>,
}

/// What tells apart whatever has to be the same for learning to go on: the recipe with its seed, the data, how it is read,
/// the memories whose leftovers are learned, and the build.
pub(super) fn identity(description: &Description, memories: &[Model]) -> String {
    let mut hash = Sha256::new();
    hash.update(env!("CARGO_PKG_VERSION"));
    hash.update(serde_json::to_vec(description).expect("a description has only plain keys"));
    memories.iter().for_each(|memory| hash.update(&memory.hash));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Checkpoint<'_> {
    pub fn bytes(&self) -> Vec<u8> {
        let Learning { network, average, optimizer, epochs, batches, loss_sum, count, best } = self.learning;
        let (averaged, mean) = average.parts();
        let (steps, means, squares) = optimizer.parts();
        let parts = [network.tensors(), mean, means, squares, best.network.tensors()];
        let named = PARTS.iter().zip(parts).flat_map(|(part, tensors)| {
            tensors.iter().map(move |(name, tensor)| (format!("{part}{name}"), tensor.clone()))
        });
        let head = Head {
            of: self.of.to_owned(),
            epochs: *epochs,
            batches: *batches,
            loss_sum: loss_sum.to_bits(),
            count: *count,
            steps,
            averaged,
            best: best.epoch,
            validation: best.validation.map(f64::to_bits),
        };
        let text = serde_json::to_string(&head).expect("a head has only plain keys");
        tensors::write(&named.collect(), KEY, &text)
    }
}

/// What a checkpoint is of; `None` if the bytes are none.
pub(super) fn of(bytes: &[u8]) -> Option<String> {
    let (_, text) = tensors::read(bytes, KEY).ok()?;
    serde_json::from_str(&text).ok().map(|head: Head| head.of)
}

/// Takes `bytes` up where they left off. `begun` is how learning would begin.
///
/// # Errors
/// If the bytes are damaged or not a checkpoint of what `of` tells apart.
pub(super) fn read(bytes: &[u8], of: &str, begun: &Learning) -> Result<Learning, CheckpointError> {
    let (mut all, text) = tensors::read(bytes, KEY)?;
    let head: Head = serde_json::from_str(&text)?;
    if head.of != of {
        return Err(CheckpointError::Other);
    }
    let counts = head.averaged.max(head.count as u64);
    let kept = head.best <= head.epochs && (head.best == 0) == (head.epochs == 0);
    if !kept || head.steps > head.averaged || counts > MOST {
        return Err(CheckpointError::Impossible);
    }
    let shape = *begun.network.shape();
    // Everything that is kept has a network's names and shapes, and is checked as one.
    let mut take = |part: &str| {
        let names = |name: &String| name.starts_with(part);
        let mine: Vec<String> = all.keys().filter(|name| names(name)).cloned().collect();
        let mine = mine.into_iter().filter_map(|name| all.remove_entry(&name));
        let mine: Tensors = mine.map(|(name, tensor)| (name[part.len()..].to_owned(), tensor)).collect();
        Network::from_tensors(shape, &mine)
    };
    let [weights, average, means, squares, best] = PARTS;
    let network = take(weights)?;
    let average = Average::from_parts(begun.average.decay(), head.averaged, &take(average)?);
    let optimizer = Optimizer::from_parts(&begun.optimizer, head.steps, &take(means)?, &take(squares)?);
    let best = Fitted {
        network: take(best)?,
        epoch: head.best,
        validation: head.validation.map(f64::from_bits),
        complete: false,
    };
    if let Some(name) = all.into_keys().next() {
        return Err(WeightsError::Unexpected { name, expected: PARTS.join(", ") }.into());
    }
    let (epochs, batches, count) = (head.epochs, head.batches, head.count);
    let loss_sum = f64::from_bits(head.loss_sum);
    Ok(Learning { network, average, optimizer, epochs, batches, loss_sum, count, best })
}
