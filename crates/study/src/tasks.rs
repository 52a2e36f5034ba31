//! Tasks that only a memory solves: what has to be said at the end of a sequence was seen a known number of steps before.

use serde::{Deserialize, Serialize};

use tidecast_core::network::{Batch, Random};

/// What is asked of a network. The loss is the squared error, the score an error whose chance level is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// One of four tokens in the first step, `gap` steps of noise, then: which one was it? As 1-of-4 values; the largest
    /// is the answer.
    Recall,
    /// A number in [0, 1) and a mark at each of `gap` steps. One step of each half is marked; what is the sum of the
    /// two marked numbers? (Hochreiter and Schmidhuber, 1997, in the form with numbers in [0, 1).)
    Adding,
    /// Spikes every `gap` or every `gap - 1` steps, the last one at the end: which? (Gers and Schmidhuber, 2000.)
    Timing,
}

/// Sequences side by side.
pub struct Sequences {
    pub width: usize,
    pub steps: usize,
    /// `[step][column][input]`
    inputs: Vec<f32>,
    /// `[column][output]`
    pub targets: Vec<f32>,
}

/// Tokens of recall.
const TOKENS: usize = 4;
/// Whole periods in a sequence of the timing task, at least.
const PERIODS: usize = 2;

impl Task {
    pub const ALL: [Task; 3] = [Task::Recall, Task::Adding, Task::Timing];

    pub fn name(self) -> &'static str {
        match self {
            Self::Recall => "recall",
            Self::Adding => "adding",
            Self::Timing => "timing",
        }
    }

    /// Inputs of a step.
    pub fn inputs(self) -> usize {
        match self {
            Self::Recall => TOKENS + 1,
            Self::Adding => 2,
            Self::Timing => 1,
        }
    }

    /// Values to be said at the end.
    pub fn outputs(self) -> usize {
        match self {
            Self::Recall => TOKENS,
            Self::Adding | Self::Timing => 1,
        }
    }

    /// What [`Task::error`] measures.
    pub fn measure(self) -> &'static str {
        match self {
            Self::Recall | Self::Timing => "share of wrong answers",
            Self::Adding => "mean squared error",
        }
    }

    /// The error of the best answer that knows nothing of the sequence.
    pub fn chance(self) -> f64 {
        match self {
            Self::Recall => 1.0 - 1.0 / TOKENS as f64,
            // The variance of the sum of two numbers, each uniform in [0, 1).
            Self::Adding => 1.0 / 6.0,
            Self::Timing => 0.5,
        }
    }

    /// At or below this error the task counts as solved: one wrong answer in a hundred, or a sixteenth of chance.
    pub fn solved(self) -> f64 {
        0.01
    }

    /// New sequences of the given gap.
    pub fn draw(self, gap: usize, width: usize, random: &mut Random) -> Sequences {
        let steps = match self {
            Self::Recall => gap + 1,
            Self::Adding => gap,
            // All sequences of a batch are of one length; from batch to batch it changes, and with it the step of the
            // first spike, so that counting from the beginning says nothing.
            Self::Timing => PERIODS * gap + 1 + below(gap, random),
        };
        let mut inputs = vec![0.0; steps * width * self.inputs()];
        let mut targets = Vec::with_capacity(width * self.outputs());
        for column in 0..width {
            let mut put = |step: usize, input: usize, value| {
                inputs[(step * width + column) * self.inputs() + input] = value
            };
            match self {
                Self::Recall => {
                    let token = below(TOKENS, random);
                    put(0, token, 1.0);
                    (1..steps).for_each(|step| put(step, TOKENS, random.within(1.0)));
                    targets.extend((0..TOKENS).map(|other| f32::from(u8::from(other == token))));
                }
                Self::Adding => {
                    let half = steps / 2;
                    let marked = [below(half, random), half + below(steps - half, random)];
                    let mut sum = 0.0;
                    for step in 0..steps {
                        let value = random.within(0.5) + 0.5;
                        put(step, 0, value);
                        if marked.contains(&step) {
                            put(step, 1, 1.0);
                            sum += value;
                        }
                    }
                    targets.push(sum);
                }
                Self::Timing => {
                    let long = below(2, random);
                    let period = gap - 1 + long;
                    (0..steps).rev().step_by(period).for_each(|step| put(step, 0, 1.0));
                    targets.push(long as f32);
                }
            }
        }
        Sequences { width, steps, inputs, targets }
    }

    /// The error of what was said, `[column][output]`.
    pub fn error(self, said: &[f32], targets: &[f32]) -> f64 {
        let outputs = self.outputs();
        let pairs = said.chunks_exact(outputs).zip(targets.chunks_exact(outputs));
        let errors = pairs.map(|(said, targets)| match self {
            Self::Recall => f64::from(u8::from(largest(said) != largest(targets))),
            Self::Adding => f64::from(said[0] - targets[0]).powi(2),
            Self::Timing => f64::from(u8::from((said[0] > 0.5) != (targets[0] > 0.5))),
        });
        errors.sum::<f64>() / (targets.len() / outputs).max(1) as f64
    }
}

impl Sequences {
    pub fn batch(&self) -> Batch<'_> {
        Batch {
            width: self.width,
            steps: self.steps,
            inputs: &self.inputs,
            future: &[],
            known: &[],
            series: &[],
        }
    }
}

/// One of the numbers below `count`.
fn below(count: usize, random: &mut Random) -> usize {
    (random.next_u64() % count as u64) as usize
}

/// The first of the largest; what is not a number is never it.
fn largest(values: &[f32]) -> usize {
    (0..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(task: Task, gap: usize) -> Sequences {
        task.draw(gap, 2000, &mut Random::new(5))
    }

    impl Sequences {
        fn column(&self, task: Task, column: usize, input: usize) -> Vec<f32> {
            let place = |step: usize| (step * self.width + column) * task.inputs() + input;
            (0..self.steps).map(|step| self.inputs[place(step)]).collect()
        }
    }

    #[test]
    fn a_token_stands_in_the_first_step_and_nowhere_else() {
        let drawn = draw(Task::Recall, 7);
        assert_eq!(drawn.steps, 8);
        let mut seen = [0; TOKENS];
        for column in 0..drawn.width {
            let targets = &drawn.targets[column * TOKENS..][..TOKENS];
            for (token, target) in targets.iter().enumerate() {
                let input = drawn.column(Task::Recall, column, token);
                assert_eq!((input[0], input[1..].iter().sum()), (*target, 0.0));
                seen[token] += *target as usize;
            }
            let noise = drawn.column(Task::Recall, column, TOKENS);
            assert!(noise[0] == 0.0 && noise[1..].iter().all(|x| *x != 0.0 && x.abs() <= 1.0));
        }
        assert!(
            seen.iter().sum::<usize>() == 2000 && seen.iter().all(|n| (400..600).contains(n)),
            "{seen:?}"
        );
    }

    #[test]
    fn the_sum_is_that_of_one_mark_in_each_half() {
        let drawn = draw(Task::Adding, 9);
        for column in 0..drawn.width {
            let (values, marks) =
                (drawn.column(Task::Adding, column, 0), drawn.column(Task::Adding, column, 1));
            let marked: Vec<usize> = (0..9).filter(|step| marks[*step] == 1.0).collect();
            assert!(marked.len() == 2 && marked[0] < 4 && marked[1] >= 4, "{marked:?}");
            assert_eq!(drawn.targets[column], values[marked[0]] + values[marked[1]]);
        }
    }

    #[test]
    fn spikes_come_at_one_of_two_periods_and_last_at_the_end() {
        let (mut random, mut phases) = (Random::new(1), std::collections::BTreeSet::new());
        for _ in 0..50 {
            let drawn = Task::Timing.draw(10, 20, &mut random);
            for column in 0..20 {
                let input = drawn.column(Task::Timing, column, 0);
                let spikes: Vec<usize> = (0..drawn.steps).filter(|step| input[*step] == 1.0).collect();
                let period = if drawn.targets[column] == 1.0 { 10 } else { 9 };
                assert!(spikes.windows(2).all(|pair| pair[1] - pair[0] == period) && spikes.len() > PERIODS);
                assert!(spikes[spikes.len() - 1] == drawn.steps - 1 && spikes[0] < period);
                phases.insert((period, spikes[0]));
            }
        }
        assert!(phases.len() > 15, "{phases:?}");
    }

    #[test]
    fn errors_are_those_that_chance_makes() {
        for task in Task::ALL {
            let drawn = draw(task, 10);
            let outputs = task.outputs();
            let mean = drawn.targets.iter().sum::<f32>() / drawn.targets.len() as f32;
            let blind = vec![if task == Task::Timing { 0.0 } else { mean }; 2000 * outputs];
            let error = task.error(&blind, &drawn.targets);
            assert!((error - task.chance()).abs() < 0.05 * task.chance(), "{} {error}", task.name());
            assert_eq!(task.error(&drawn.targets, &drawn.targets), 0.0);
            let nothing = vec![f32::NAN; 2000 * outputs];
            let error = task.error(&nothing, &drawn.targets);
            assert!(error.is_nan() || error > task.solved(), "{}", task.name());
        }
    }
}
