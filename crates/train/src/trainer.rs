//! Training of a network: minibatches in a seeded order, AdamW, gradient clipping, and the moving average of the weights
//! from the epoch with the least validation loss. A checkpoint resumes a run with bit-identical results.

use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::progress::{BatchReport, Progress, Report};
use super::settings::TrainConfig;
use super::training_data::{Buffers, Dropout, TrainingData};
use tidecast_core::model::{Model, ModelManifest};
use tidecast_core::network::{
    AdamW, Gradients, LossAndGradients, LossSum, Moments, Network, Random, Tensors, TensorsError,
    TrainScratch, WeightEma, WeightsError, tensors,
};

/// Final learning rate as a fraction of the largest one.
const FINAL_RATE: f64 = 0.05;

/// A trained network.
#[derive(Clone, Debug)]
pub struct TrainedNetwork {
    pub network: Network,
    /// The epoch of the weights; 0 is the initial network.
    pub epoch: usize,
    pub validation_loss: Option<f64>,
    /// False after an interruption.
    pub is_complete: bool,
}

/// State between two minibatches.
#[derive(Clone, Debug)]
pub struct TrainerState {
    network: Network,
    average: WeightEma,
    optimizer: AdamW,
    /// Completed epochs.
    pub epochs: usize,
    /// Completed minibatches of the current epoch.
    batches: usize,
    /// Loss of the current epoch over `count` targets.
    loss_sum: f64,
    count: usize,
    best: TrainedNetwork,
}

impl TrainerState {
    pub fn new(config: &TrainConfig, network: Network) -> Self {
        Self {
            average: WeightEma::new(&network, config.weight_ema),
            optimizer: AdamW::new(&network, config.learning_rate, config.weight_decay),
            epochs: 0,
            batches: 0,
            loss_sum: 0.0,
            count: 0,
            best: TrainedNetwork {
                network: network.clone(),
                epoch: 0,
                validation_loss: None,
                is_complete: false,
            },
            network,
        }
    }

    fn batch_report(&self, batches: usize) -> BatchReport {
        BatchReport {
            epoch: self.epochs + 1,
            batch: self.batches,
            batches,
            loss: self.loss_sum / self.count.max(1) as f64,
            validation_loss: None,
            best_loss: self.best.validation_loss,
        }
    }
}

/// Trains a network.
pub struct Trainer<'a> {
    config: &'a TrainConfig,
    train: &'a TrainingData<'a>,
    validation: &'a TrainingData<'a>,
    /// Identity of the run in its checkpoints.
    identity: &'a str,
    /// Workspaces between minibatches: each holds the activations of a chunk.
    workspaces: Mutex<Vec<(Buffers, TrainScratch)>>,
}

impl<'a> Trainer<'a> {
    pub fn new(
        config: &'a TrainConfig,
        train: &'a TrainingData<'a>,
        validation: &'a TrainingData<'a>,
        identity: &'a str,
    ) -> Self {
        Self { config, train, validation, identity, workspaces: Mutex::new(Vec::new()) }
    }

    /// Trains until the last epoch, or until the validation loss has not improved for `patience` epochs. Returns the weights
    /// of the best epoch, or the last weights without validation data. `report` may stop the run. The result depends on the
    /// arguments alone, not on the number of threads or on interruptions.
    pub fn run(&self, mut state: TrainerState, report: &mut Report<'_>) -> TrainedNetwork {
        let TrainConfig { epochs, patience, .. } = *self.config;
        while state.epochs < epochs && state.epochs - state.best.epoch < patience {
            let flow = self.run_epoch(&mut state, report);
            let _ = report(Progress::Checkpoint(&|| write_checkpoint(&state, self.identity)));
            if flow.is_break() {
                return state.best;
            }
        }
        TrainedNetwork { is_complete: true, ..state.best }
    }

    /// Trains on the remaining minibatches of an epoch and validates.
    fn run_epoch(&self, state: &mut TrainerState, report: &mut Report<'_>) -> ControlFlow<()> {
        let Self { config, train, validation, .. } = *self;
        let order = shuffled(config.seed, state.epochs + 1, train.len());
        let minibatches = order.chunks(train.batch_size(config));
        let batches = minibatches.len();
        let dropout = Dropout { rate: config.dropout, seed: config.seed, epoch: state.epochs + 1 };
        for items in minibatches.skip(state.batches) {
            let batch = state.epochs * batches + state.batches;
            let rate = learning_rate_factor(config.warmup, batch, config.epochs * batches);
            state.optimizer.learning_rate = config.learning_rate * rate;
            let LossAndGradients { loss_sum, count, mut gradients } =
                self.loss_and_gradients(&state.network, items, dropout);
            state.loss_sum += loss_sum;
            state.count += count;
            if count > 0 {
                gradients.scale(1.0 / count as f32);
                gradients.clip(config.gradient_clip);
                state.optimizer.step(&mut state.network, &gradients);
            }
            state.average.add(&state.network);
            state.batches += 1;
            report(Progress::Batch(state.batch_report(batches)))?;
        }
        let network = state.average.network();
        let loss = self.validate(&network).filter(|loss| loss.is_finite());
        let improved = loss.is_some_and(|loss| state.best.validation_loss.is_none_or(|best| loss < best));
        let last = state.batch_report(batches);
        if state.best.epoch == 0 || validation.len() == 0 || improved {
            state.best =
                TrainedNetwork { network, epoch: last.epoch, validation_loss: loss, is_complete: false };
        }
        (state.epochs, state.batches, state.loss_sum, state.count) = (last.epoch, 0, 0.0, 0);
        report(Progress::Batch(BatchReport {
            validation_loss: loss,
            best_loss: state.best.validation_loss,
            ..last
        }))
    }

    /// Loss of a minibatch and its gradients, summed in the order of its chunks.
    fn loss_and_gradients(&self, network: &Network, items: &[usize], dropout: Dropout) -> LossAndGradients {
        let Self { config, train, .. } = *self;
        let of_chunk = |items: &[usize]| {
            let workspace = self.workspaces.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let (mut buffers, mut scratch) =
                workspace.unwrap_or_else(|| (Buffers::default(), TrainScratch::new(network.shape())));
            let result =
                train.loss_and_gradients(network, items, dropout, config.loss, &mut buffers, &mut scratch);
            self.workspaces.lock().unwrap_or_else(PoisonError::into_inner).push((buffers, scratch));
            result
        };
        let chunks: Vec<LossAndGradients> = items.par_chunks(train.chunk_size()).map(of_chunk).collect();
        let empty =
            || LossAndGradients { loss_sum: 0.0, count: 0, gradients: Gradients::zeros(network.shape()) };
        let sum = chunks.into_iter().reduce(|mut sum, next| {
            sum.loss_sum += next.loss_sum;
            sum.count += next.count;
            sum.gradients.add(&next.gradients);
            sum
        });
        sum.unwrap_or_else(empty)
    }

    /// Mean loss on the validation data; none without targets.
    fn validate(&self, network: &Network) -> Option<f64> {
        let Self { config, validation, .. } = *self;
        let shape = network.shape();
        let losses = validation.map_forecasts(network, |targets, outputs| {
            let spec = validation.loss_spec(config.loss, &[], &[]);
            let pairs = outputs.chunks_exact(shape.outputs()).zip(targets.chunks_exact(shape.horizon));
            pairs.map(|(outputs, targets)| spec.evaluate(outputs, targets)).fold(LossSum::default(), add)
        });
        let LossSum { sum, count } = losses.into_iter().fold(LossSum::default(), add);
        (count > 0).then(|| sum / count as f64)
    }
}

fn add(a: LossSum, b: LossSum) -> LossSum {
    LossSum { sum: a.sum + b.sum, count: a.count + b.count }
}

/// Order of an epoch by Fisher and Yates, uniform up to 2^-40, the bias of the remainder. It follows from seed and epoch, so
/// that a checkpoint does not contain it.
fn shuffled(seed: u64, epoch: usize, count: usize) -> Vec<usize> {
    let mut random = Random::keyed(&[seed, epoch as u64]);
    let mut order: Vec<usize> = (0..count).collect();
    for i in (1..count).rev() {
        order.swap(i, (random.next_u64() % (i as u64 + 1)) as usize);
    }
    order
}

/// Learning rate of minibatch `batch`, from 0, of `batches`, relative to the largest one: a linear rise over the fraction
/// `warmup`, while Adam's moments settle (Goyal et al., "Accurate, large minibatch SGD", 2017), then a cosine decay.
fn learning_rate_factor(warmup: f64, batch: usize, batches: usize) -> f64 {
    let warmup_batches = (warmup * batches as f64).round() as usize;
    if batch < warmup_batches {
        // Above 0 at the first minibatch, below 1 until the end of the rise.
        return (batch + 1) as f64 / (warmup_batches + 1) as f64;
    }
    // From 1 to l while d goes from 0 to 1: l + (1 - l)(1 + cos πd)/2.
    let done = (batch - warmup_batches) as f64 / (batches - warmup_batches).max(1) as f64;
    FINAL_RATE + (1.0 - FINAL_RATE) * (1.0 + (std::f64::consts::PI * done).cos()) / 2.0
}

/// Metadata key of a checkpoint file, which is safetensors like a model.
const CHECKPOINT_KEY: &str = "tidecast-checkpoint";
/// Prefixes of tensor names, by role.
const ROLES: [&str; 5] = ["weights.", "average.", "first_moments.", "second_moments.", "best."];
/// Limit of minibatches and targets in a checkpoint.
const COUNT_MAX: u64 = 1 << 53;

/// Reason why a checkpoint cannot be resumed.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error(transparent)]
    Tensors(#[from] TensorsError),
    #[error("invalid checkpoint metadata: {0}")]
    Metadata(#[from] serde_json::Error),
    #[error("the checkpoint belongs to another configuration, other data or another build")]
    OtherRun,
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error("the counters in the checkpoint are inconsistent")]
    InconsistentCounters,
}

/// Metadata of a checkpoint. Floating point numbers are stored as bits, without loss.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckpointHeader {
    identity: String,
    epochs: usize,
    batches: usize,
    loss_sum: u64,
    count: usize,
    optimizer_steps: u64,
    average_steps: u64,
    best_epoch: usize,
    best_loss: Option<u64>,
}

/// Hash of everything that determines a run: the manifest with the configuration, its seed and the data's fingerprint, the
/// recurrence models whose residuals are trained on, and the build.
pub fn run_identity(manifest: &ModelManifest, recurrences: &[Model]) -> String {
    let mut hash = Sha256::new();
    hash.update(env!("CARGO_PKG_VERSION"));
    hash.update(serde_json::to_vec(manifest).expect("a manifest has only plain keys"));
    recurrences.iter().for_each(|model| hash.update(&model.hash));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Identity of the run of a checkpoint; none if the bytes are not a checkpoint.
pub fn checkpoint_identity(bytes: &[u8]) -> Option<String> {
    let (_, text) = tensors::read(bytes, CHECKPOINT_KEY).ok()?;
    serde_json::from_str(&text).ok().map(|header: CheckpointHeader| header.identity)
}

fn write_checkpoint(state: &TrainerState, identity: &str) -> Vec<u8> {
    let TrainerState { network, average, optimizer, epochs, batches, loss_sum, count, best } = state;
    let moments = &optimizer.moments;
    let networks =
        [network.tensors(), average.tensors(), &moments.first, &moments.second, best.network.tensors()];
    let named = ROLES.iter().zip(networks).flat_map(|(role, tensors)| {
        tensors.iter().map(move |(name, tensor)| (format!("{role}{name}"), tensor.clone()))
    });
    let header = CheckpointHeader {
        identity: identity.to_owned(),
        epochs: *epochs,
        batches: *batches,
        loss_sum: loss_sum.to_bits(),
        count: *count,
        optimizer_steps: moments.steps,
        average_steps: average.steps(),
        best_epoch: best.epoch,
        best_loss: best.validation_loss.map(f64::to_bits),
    };
    let text = serde_json::to_string(&header).expect("a header has only plain keys");
    tensors::write(&named.collect(), CHECKPOINT_KEY, &text)
}

/// Reads the state of a run from a checkpoint. `initial` is the state at the start of that run.
///
/// # Errors
/// If the bytes are damaged or belong to another run.
pub fn read_checkpoint(
    bytes: &[u8],
    identity: &str,
    initial: &TrainerState,
) -> Result<TrainerState, CheckpointError> {
    let (mut all, text) = tensors::read(bytes, CHECKPOINT_KEY)?;
    let header: CheckpointHeader = serde_json::from_str(&text)?;
    if header.identity != identity {
        return Err(CheckpointError::OtherRun);
    }
    let CheckpointHeader { epochs, batches, count, optimizer_steps, average_steps, best_epoch, .. } = header;
    let has_best = best_epoch <= epochs && (best_epoch == 0) == (epochs == 0);
    let is_bounded = average_steps.max(count as u64) <= COUNT_MAX;
    if !has_best || !is_bounded || optimizer_steps > average_steps {
        return Err(CheckpointError::InconsistentCounters);
    }
    let shape = *initial.network.shape();
    // The tensors of every role have a network's names and shapes, and are validated as one.
    let mut take = |role: &str| {
        let names: Vec<String> = all.keys().filter(|name| name.starts_with(role)).cloned().collect();
        let entries = names.into_iter().filter_map(|name| all.remove_entry(&name));
        let tensors: Tensors =
            entries.map(|(name, tensor)| (name[role.len()..].to_owned(), tensor)).collect();
        Network::from_tensors(shape, &tensors)
    };
    let [weights, average_role, first, second, best] = ROLES;
    let network = take(weights)?;
    let mut average = initial.average.clone();
    average.restore(average_steps, &take(average_role)?);
    let mut optimizer = initial.optimizer.clone();
    let (first, second) = (take(first)?.tensors().clone(), take(second)?.tensors().clone());
    optimizer.moments = Moments { steps: optimizer_steps, first, second };
    let best = TrainedNetwork {
        network: take(best)?,
        epoch: best_epoch,
        validation_loss: header.best_loss.map(f64::from_bits),
        is_complete: false,
    };
    if let Some(name) = all.into_keys().next() {
        return Err(WeightsError::Unexpected { name, expected: ROLES.join(", ") }.into());
    }
    let loss_sum = f64::from_bits(header.loss_sum);
    Ok(TrainerState { network, average, optimizer, epochs, batches, loss_sum, count, best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learning_rate_rises_during_warmup_and_then_decays() {
        let rates: Vec<f64> = (0..100).map(|batch| learning_rate_factor(0.1, batch, 100)).collect();
        assert!((rates[0] - 1.0 / 11.0).abs() < 1e-12 && rates[10] == 1.0, "{rates:?}");
        assert!(rates[..=10].windows(2).all(|pair| pair[0] < pair[1]));
        assert!(rates[10..].windows(2).all(|pair| pair[0] > pair[1]));
        assert!(rates[99] < FINAL_RATE + 0.01, "{}", rates[99]);
    }

    #[test]
    fn learning_rate_without_warmup_starts_at_its_maximum() {
        assert_eq!(learning_rate_factor(0.0, 0, 7), 1.0);
        assert_eq!(learning_rate_factor(0.5, 0, 1), 0.5, "the only minibatch");
    }
}
