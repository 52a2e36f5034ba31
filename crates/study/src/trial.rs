//! A training of one network on one task, fully described so that it can be repeated and recognized.

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::tasks::{SampledSequences, Task};
use tidecast_core::network::{
    AdamW, CellKind, Decoder, ForgetBias, Loss, LossSpec, Network, Random, Scratch, Shape, TrainScratch,
};

/// Everything that the outcome of a training depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    pub task: Task,
    pub gap: usize,
    pub cell: CellKind,
    pub bias: ForgetBias,
    pub hidden: usize,
    pub learning_rate: f64,
    /// Maximum number of training sequences; each is new.
    pub sequences: usize,
    pub seed: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// Training sequences so far, and the held-out error after them.
    pub curve: Vec<(usize, f64)>,
    /// Sequences until the task was solved; none if it never was.
    pub solved_after: Option<usize>,
}

/// Sequences per minibatch: half of what fills the kernels, for twice as many optimizer steps.
pub const BATCH: usize = 32;
/// Gradient norm limit: the gradients of a plain network grow without bound on long sequences.
const CLIP: f64 = 1.0;
/// Held-out sequences: the smallest positive error is 1/512, well below a solved one.
const HELD_OUT: usize = 512;
/// The same held-out sequences for every network.
const HELD_OUT_SEED: u64 = 0x7E57;
/// A training is abandoned if its error never fell below this fraction of chance ...
const LEARNING_THRESHOLD: f64 = 0.9;
/// ... within this fraction of its sequences: long trainings that never learn would dominate the cost. One that would start
/// learning later counts as unsolved, like one that would start after its last sequence.
const ABANDON_AFTER: f64 = 0.4;
/// Evaluations per training: each costs up to five minibatches and gives one point of the curve.
const EVALUATIONS: usize = 50;

impl Trial {
    pub fn shape(&self) -> Shape {
        Shape { cell: self.cell, hidden: self.hidden, ..shape(self.task) }
    }

    /// Trains until the task is solved, the sequences are used up, or the training is abandoned; none if stopped before.
    ///
    /// # Panics
    /// If no network has these sizes.
    pub fn run(&self, stop: &CancellationToken) -> Option<Outcome> {
        let shape = self.shape();
        let mut network = Network::with_forget_bias(shape, self.seed, self.bias).expect("the shape is valid");
        let mut optimizer = AdamW::new(&network, self.learning_rate, 0.0);
        let mut scratch = TrainScratch::new(&shape);
        let held_out = HeldOut::new(self.task, self.gap, shape);
        let mut random = Random::new(self.seed.wrapping_mul(0x9E37_79B9).wrapping_add(self.gap as u64));
        let batches = self.sequences.div_ceil(BATCH).max(1);
        let every = batches.div_ceil(EVALUATIONS);
        let mut outcome = Outcome { curve: vec![(0, held_out.error(&network))], solved_after: None };
        for batch in 1..=batches {
            if stop.is_cancelled() {
                return None;
            }
            let sampled = self.task.sample(self.gap, BATCH, &mut random);
            let loss =
                LossSpec { targets: &sampled.targets, loss: Loss::Mse, probabilities: &[], dropout: &[] };
            let result = network.loss_and_gradients(&sampled.batch(), &loss, &mut scratch);
            let mut gradients = result.gradients;
            gradients.scale(1.0 / result.count as f32);
            // A step along NaN would be the last one.
            if gradients.clip(CLIP).is_finite() {
                optimizer.step(&mut network, &gradients);
            }
            if batch % every == 0 || batch == batches {
                let error = held_out.error(&network);
                outcome.curve.push((batch * BATCH, error));
                if error <= self.task.solved_error() {
                    outcome.solved_after = Some(batch * BATCH);
                    break;
                }
                if batch as f64 >= ABANDON_AFTER * batches as f64 && !outcome.learns(self.task) {
                    break;
                }
            }
        }
        Some(outcome)
    }
}

impl Outcome {
    /// Error at the end.
    pub fn error(&self) -> f64 {
        self.curve.last().map_or(f64::NAN, |(_, error)| *error)
    }

    /// True if the error was ever clearly below chance.
    fn learns(&self, task: Task) -> bool {
        self.curve.iter().any(|(_, error)| *error < LEARNING_THRESHOLD * task.chance())
    }
}

/// Held-out batches, of several lengths where the task has several.
struct HeldOut {
    task: Task,
    shape: Shape,
    batches: Vec<SampledSequences>,
}

impl HeldOut {
    fn new(task: Task, gap: usize, shape: Shape) -> Self {
        let mut random = Random::new(HELD_OUT_SEED);
        let batches = (0..HELD_OUT / BATCH).map(|_| task.sample(gap, BATCH, &mut random)).collect();
        Self { task, shape, batches }
    }

    fn error(&self, network: &Network) -> f64 {
        let mut scratch = Scratch::new(&self.shape);
        let errors = self.batches.iter().map(|sampled| {
            let mut outputs = vec![0.0; sampled.targets.len()];
            network.forecast(&sampled.batch(), &mut scratch, &mut outputs);
            self.task.error(&outputs, &sampled.targets)
        });
        errors.sum::<f64>() / self.batches.len() as f64
    }
}

/// Shape of a network for a task, with placeholders for cell and hidden size.
fn shape(task: Task) -> Shape {
    Shape {
        cell: CellKind::Lstm,
        inputs: task.inputs(),
        hidden: 1,
        layers: 1,
        horizon: task.outputs(),
        future_covariates: 0,
        quantiles: 0,
        embedding: 0,
        series: 0,
        decoder: Decoder::Direct,
    }
}

/// Hidden size at which a network of `cell` matches the parameter count of an LSTM with `lstm_hidden` units.
pub fn matched_hidden(task: Task, cell: CellKind, lstm_hidden: usize) -> usize {
    closest_hidden(Shape { hidden: lstm_hidden, ..shape(task) }, cell)
}

/// Hidden size at which a network of `cell` comes closest to the parameter count of `reference`.
pub fn closest_hidden(reference: Shape, cell: CellKind) -> usize {
    let target = reference.parameters();
    // A plain network has a quarter of an LSTM's weights at equal size, so at most twice its size.
    let sizes = 1..=4 * reference.hidden;
    let difference =
        |hidden: &usize| Shape { cell, hidden: *hidden, ..reference }.parameters().abs_diff(target);
    sizes.min_by_key(difference).expect("the range is not empty")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(task: Task, cell: CellKind, gap: usize) -> Trial {
        let hidden = matched_hidden(task, cell, 16);
        let bias = ForgetBias::One;
        Trial { task, gap, cell, bias, hidden, learning_rate: 0.01, sequences: 4_000, seed: 1 }
    }

    fn run(trial: &Trial) -> Outcome {
        trial.run(&CancellationToken::new()).unwrap()
    }

    #[test]
    fn an_lstm_learns_to_recall_over_ten_steps() {
        let trial = trial(Task::Recall, CellKind::Lstm, 10);
        let outcome = run(&trial);
        assert!(outcome.error() <= trial.task.solved_error(), "{outcome:?}");
        assert_eq!(outcome.solved_after, outcome.curve.last().map(|(sequences, _)| *sequences));
        let (sequences, error) = outcome.curve[0];
        assert!(sequences == 0 && (error - trial.task.chance()).abs() < 0.15, "{outcome:?}");
    }

    #[test]
    fn recall_over_fifty_steps_depends_on_the_initial_forget_bias() {
        let trial = |bias| Trial { bias, sequences: 6_000, ..trial(Task::Recall, CellKind::Lstm, 50) };
        let zero = run(&trial(ForgetBias::Zero));
        assert!(zero.solved_after.is_none() && zero.error() > 0.5, "{zero:?}");
        let chrono = run(&trial(ForgetBias::Chrono { max_steps: 51 }));
        assert!(chrono.solved_after.is_some(), "{chrono:?}");
    }

    #[test]
    fn equal_trials_have_equal_outcomes() {
        let first = Trial { sequences: 320, ..trial(Task::Adding, CellKind::Gru, 12) };
        let copy: Trial = serde_json::from_str(&serde_json::to_string(&first).unwrap()).unwrap();
        assert_eq!(first, copy);
        let outcome = run(&first);
        assert_eq!(outcome, run(&copy));
        assert_eq!(outcome, serde_json::from_str(&serde_json::to_string(&outcome).unwrap()).unwrap());
        assert_ne!(outcome, run(&Trial { seed: 2, ..first }));
    }

    #[test]
    fn a_training_that_learns_nothing_is_abandoned() {
        let stuck = Trial { learning_rate: 1e-9, sequences: 3_200, ..trial(Task::Adding, CellKind::Rnn, 10) };
        let outcome = run(&stuck);
        assert_eq!(outcome.curve.last().map(|(sequences, _)| *sequences), Some(1_280), "{outcome:?}");
    }

    #[test]
    fn a_stopped_trial_has_no_outcome() {
        let stop = CancellationToken::new();
        stop.cancel();
        assert_eq!(trial(Task::Adding, CellKind::Rnn, 10).run(&stop), None);
    }

    #[test]
    fn hidden_sizes_match_parameter_counts() {
        for task in Task::ALL {
            let target = Shape { hidden: 16, ..shape(task) }.parameters();
            for cell in CellKind::ALL {
                let hidden = matched_hidden(task, cell, 16);
                let found = Shape { cell, hidden, ..shape(task) }.parameters();
                assert!(found.abs_diff(target) * 10 <= target, "{cell} {hidden}: {found}, not {target}");
            }
            assert_eq!(matched_hidden(task, CellKind::Lstm, 16), 16);
        }
    }
}
