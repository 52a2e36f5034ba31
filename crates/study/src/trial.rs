//! One training of one network on one task, described so that it can be done again and known again.

use serde::{Deserialize, Serialize};

use super::Task;
use tidecast_core::network::{
    CellKind, Decoder, ForgetBias, Lesson, Loss, Network, Optimizer, Random, Scratch, Shape, TrainScratch,
};

/// All that the result of a training depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    pub task: Task,
    pub gap: usize,
    pub cell: CellKind,
    pub bias: ForgetBias,
    pub hidden: usize,
    pub learning_rate: f64,
    /// Most sequences to learn from; each is new.
    pub sequences: usize,
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// Sequences learned from, and the error on held-out ones after them.
    pub curve: Vec<(usize, f64)>,
    /// Sequences until the task was solved.
    pub solved_after: Option<usize>,
}

/// Sequences of a minibatch: half of what fills the kernels, for twice as many steps of the optimiser.
pub const BATCH: usize = 32;
/// Gradients of a longer norm are shortened: a plain network's grow without bound on long sequences.
const CLIP: f64 = 1.0;
/// Held-out sequences: the least error but none is 1/512, well below what counts as solved.
const HELD_OUT: usize = 512;
/// They are the same for every network.
const HELD_OUT_SEED: u64 = 0x7E57;
/// A training whose error was never below this part of chance ...
const SIGN_OF_LEARNING: f64 = 0.9;
/// ... after this part of its sequences is given up. Those that cost the most by far are the long ones that never learn; one
/// that would have begun later counts as not solved, as one does that would have begun after the last sequence.
const GIVEN_UP_AFTER: f64 = 0.4;
/// Times a training is looked at: each costs as much as a minibatch or five, and says no more than so many points.
const LOOKS: usize = 50;

impl Trial {
    pub fn shape(&self) -> Shape {
        Shape { cell: self.cell, hidden: self.hidden, ..shape(self.task) }
    }

    /// Trains until the task is solved, the sequences are used up, or a good part of them has taught nothing. `None` if `stopped` said so before.
    ///
    /// # Panics
    /// If the sizes are those of no network.
    pub fn run(&self, stopped: &dyn Fn() -> bool) -> Option<Outcome> {
        let shape = self.shape();
        let mut network =
            Network::with_forget_bias(shape, self.seed, self.bias).expect("a trial's network exists");
        let mut optimizer = Optimizer::new(&network, self.learning_rate, 0.0);
        let mut scratch = TrainScratch::new(&shape);
        let exam = Exam::new(self.task, self.gap, shape);
        let mut random = Random::new(self.seed.wrapping_mul(0x9E37_79B9).wrapping_add(self.gap as u64));
        let batches = self.sequences.div_ceil(BATCH).max(1);
        let every = batches.div_ceil(LOOKS);
        let mut outcome = Outcome { curve: vec![(0, exam.error(&network))], solved_after: None };
        for batch in 1..=batches {
            if stopped() {
                return None;
            }
            let drawn = self.task.draw(self.gap, BATCH, &mut random);
            let lesson =
                Lesson { targets: &drawn.targets, loss: Loss::Mse, probabilities: &[], factors: &[] };
            let scored = network.loss_and_gradients(&drawn.batch(), &lesson, &mut scratch);
            let mut gradients = scored.gradients;
            gradients.scale(1.0 / scored.count as f32);
            // A step along what is not a number would be the last one.
            if gradients.clip(CLIP).is_finite() {
                optimizer.step(&mut network, &gradients);
            }
            if batch % every == 0 || batch == batches {
                let error = exam.error(&network);
                outcome.curve.push((batch * BATCH, error));
                if error <= self.task.solved() {
                    outcome.solved_after = Some(batch * BATCH);
                    break;
                }
                if batch as f64 >= GIVEN_UP_AFTER * batches as f64 && !outcome.learns(self.task) {
                    break;
                }
            }
        }
        Some(outcome)
    }
}

impl Outcome {
    /// The error at the end.
    pub fn error(&self) -> f64 {
        self.curve.last().map_or(f64::NAN, |(_, error)| *error)
    }

    /// Whether it was ever clearly better than what knows nothing.
    fn learns(&self, task: Task) -> bool {
        self.curve.iter().any(|(_, error)| *error < SIGN_OF_LEARNING * task.chance())
    }
}

/// Held-out sequences; several lengths, where the task has several.
struct Exam {
    task: Task,
    shape: Shape,
    sheets: Vec<super::tasks::Sequences>,
}

impl Exam {
    fn new(task: Task, gap: usize, shape: Shape) -> Self {
        let mut random = Random::new(HELD_OUT_SEED);
        let sheets = (0..HELD_OUT / BATCH).map(|_| task.draw(gap, BATCH, &mut random)).collect();
        Self { task, shape, sheets }
    }

    fn error(&self, network: &Network) -> f64 {
        let mut scratch = Scratch::new(&self.shape);
        let errors = self.sheets.iter().map(|sheet| {
            let mut said = vec![0.0; sheet.targets.len()];
            network.forecast(&sheet.batch(), &mut scratch, &mut said);
            self.task.error(&said, &sheet.targets)
        });
        errors.sum::<f64>() / self.sheets.len() as f64
    }
}

/// A network for a task, but for its cell and size.
fn shape(task: Task) -> Shape {
    Shape {
        cell: CellKind::Lstm,
        inputs: task.inputs(),
        hidden: 1,
        layers: 1,
        horizon: task.outputs(),
        known: 0,
        quantiles: 0,
        embedding: 0,
        series: 0,
        decoder: Decoder::Direct,
    }
}

/// The hidden size with which a network of `cell` has about as many parameters as an LSTM with `reference` hidden values.
pub fn matched(task: Task, cell: CellKind, reference: usize) -> usize {
    closest(Shape { hidden: reference, ..shape(task) }, cell)
}

/// The hidden size with which a network of another cell comes closest to the parameters of `reference`.
pub fn closest(reference: Shape, cell: CellKind) -> usize {
    let aim = reference.parameters();
    // A plain network has a quarter of an LSTM's weights for its size, and so at most twice its size.
    let sizes = 1..=4 * reference.hidden;
    let off = |hidden: &usize| Shape { cell, hidden: *hidden, ..reference }.parameters().abs_diff(aim);
    sizes.min_by_key(off).expect("there are sizes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(task: Task, cell: CellKind, gap: usize) -> Trial {
        let hidden = matched(task, cell, 16);
        let bias = ForgetBias::One;
        Trial { task, gap, cell, bias, hidden, learning_rate: 0.01, sequences: 4_000, seed: 1 }
    }

    #[test]
    fn an_lstm_recalls_over_ten_steps_and_not_without_learning() {
        let trial = trial(Task::Recall, CellKind::Lstm, 10);
        let outcome = trial.run(&|| false).unwrap();
        assert!(outcome.error() <= trial.task.solved(), "{outcome:?}");
        assert_eq!(outcome.solved_after, outcome.curve.last().map(|(sequences, _)| *sequences));
        let (sequences, error) = outcome.curve[0];
        assert!(sequences == 0 && (error - trial.task.chance()).abs() < 0.15, "{outcome:?}");
    }

    #[test]
    fn the_first_bias_decides_what_is_recalled_over_fifty_steps() {
        let trial = |bias| Trial { bias, sequences: 6_000, ..trial(Task::Recall, CellKind::Lstm, 50) };
        let closed = trial(ForgetBias::Zero).run(&|| false).unwrap();
        assert!(closed.solved_after.is_none() && closed.error() > 0.5, "{closed:?}");
        let spread = trial(ForgetBias::Chrono { longest: 51 }).run(&|| false).unwrap();
        assert!(spread.solved_after.is_some(), "{spread:?}");
    }

    #[test]
    fn a_trial_says_all_that_its_outcome_depends_on() {
        let first = Trial { sequences: 320, ..trial(Task::Adding, CellKind::Gru, 12) };
        let again: Trial = serde_json::from_str(&serde_json::to_string(&first).unwrap()).unwrap();
        assert_eq!(first, again);
        let outcome = first.run(&|| false).unwrap();
        assert_eq!(outcome, again.run(&|| false).unwrap());
        assert_eq!(outcome, serde_json::from_str(&serde_json::to_string(&outcome).unwrap()).unwrap());
        let other = Trial { seed: 2, ..first };
        assert_ne!(outcome, other.run(&|| false).unwrap());
    }

    #[test]
    fn what_teaches_nothing_is_given_up() {
        let stuck = Trial { learning_rate: 1e-9, sequences: 3_200, ..trial(Task::Adding, CellKind::Rnn, 10) };
        let outcome = stuck.run(&|| false).unwrap();
        assert_eq!(outcome.curve.last().map(|(sequences, _)| *sequences), Some(1_280), "{outcome:?}");
    }

    #[test]
    fn a_stopped_trial_has_no_outcome() {
        assert_eq!(trial(Task::Adding, CellKind::Rnn, 10).run(&|| true), None);
    }

    #[test]
    fn sizes_are_matched_by_parameters() {
        for task in Task::ALL {
            let aim = Shape { hidden: 16, ..shape(task) }.parameters();
            for &cell in CellKind::ALL {
                let hidden = matched(task, cell, 16);
                let found = Shape { cell, hidden, ..shape(task) }.parameters();
                assert!(found.abs_diff(aim) * 10 <= aim, "{cell} {hidden}: {found}, not {aim}");
            }
            assert_eq!(matched(task, CellKind::Lstm, 16), 16);
        }
    }
}
