//! Synthetic tasks that need memory: the answer at the end of a sequence was seen a known number of steps before.

use serde::{Deserialize, Serialize};

use tidecast_core::network::{Batch, Random};

/// A task, trained on the squared error and judged by an error with a known chance level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// One of four tokens in the first step, then `gap` steps of noise. Which token was it? One-hot; the largest output is the
    /// answer.
    Recall,
    /// A number in [0, 1) and a mark at each of `gap` steps, with one marked step per half. What is the sum of both marked
    /// numbers? (Hochreiter and Schmidhuber, 1997, with numbers in [0, 1).)
    Adding,
    /// Spikes every `gap` or every `gap - 1` steps, with the last one at the end. Which period is it? (Gers and Schmidhuber,
    /// 2000.)
    Timing,
}

/// A batch of sampled sequences.
pub struct SampledSequences {
    pub width: usize,
    pub steps: usize,
    /// `[step][column][input]`
    inputs: Vec<f32>,
    /// `[column][output]`
    pub targets: Vec<f32>,
}

/// Tokens of [`Task::Recall`].
const TOKENS: usize = 4;
/// Minimum number of whole periods in a sequence of [`Task::Timing`].
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

    /// Inputs per step.
    pub fn inputs(self) -> usize {
        match self {
            Self::Recall => TOKENS + 1,
            Self::Adding => 2,
            Self::Timing => 1,
        }
    }

    /// Outputs at the end.
    pub fn outputs(self) -> usize {
        match self {
            Self::Recall => TOKENS,
            Self::Adding | Self::Timing => 1,
        }
    }

    /// Name of [`Task::error`].
    pub fn error_name(self) -> &'static str {
        match self {
            Self::Recall | Self::Timing => "fraction of wrong answers",
            Self::Adding => "mean squared error",
        }
    }

    /// Error of the best answer that ignores the sequence.
    pub fn chance(self) -> f64 {
        match self {
            Self::Recall => 1.0 - 1.0 / TOKENS as f64,
            // Variance of the sum of two numbers, each uniform in [0, 1).
            Self::Adding => 1.0 / 6.0,
            Self::Timing => 0.5,
        }
    }

    /// Largest error that counts as solved: one wrong answer in a hundred, or a sixteenth of chance.
    pub fn solved_error(self) -> f64 {
        0.01
    }

    /// Samples `width` sequences.
    pub fn sample(self, gap: usize, width: usize, random: &mut Random) -> SampledSequences {
        let steps = match self {
            Self::Recall => gap + 1,
            Self::Adding => gap,
            // The length varies from batch to batch, and with it the first spike: counting from the start does not help.
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
                    (1..steps).for_each(|step| put(step, TOKENS, random.uniform(1.0)));
                    targets.extend((0..TOKENS).map(|other| f32::from(u8::from(other == token))));
                }
                Self::Adding => {
                    let half = steps / 2;
                    let marked = [below(half, random), half + below(steps - half, random)];
                    let mut sum = 0.0;
                    for step in 0..steps {
                        let value = random.uniform(0.5) + 0.5;
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
        SampledSequences { width, steps, inputs, targets }
    }

    /// Error of outputs against targets, both `[column][output]`.
    pub fn error(self, outputs: &[f32], targets: &[f32]) -> f64 {
        let size = self.outputs();
        let pairs = outputs.chunks_exact(size).zip(targets.chunks_exact(size));
        let errors = pairs.map(|(outputs, targets)| match self {
            Self::Recall => f64::from(u8::from(argmax(outputs) != argmax(targets))),
            Self::Adding => f64::from(outputs[0] - targets[0]).powi(2),
            Self::Timing => f64::from(u8::from((outputs[0] > 0.5) != (targets[0] > 0.5))),
        });
        errors.sum::<f64>() / (targets.len() / size).max(1) as f64
    }
}

impl SampledSequences {
    pub fn batch(&self) -> Batch<'_> {
        Batch {
            width: self.width,
            steps: self.steps,
            inputs: &self.inputs,
            feedback_inputs: &[],
            future_covariates: &[],
            series: &[],
        }
    }
}

/// A random number below `count`.
fn below(count: usize, random: &mut Random) -> usize {
    (random.next_u64() % count as u64) as usize
}

/// Index of the first maximum; NaN is never the maximum.
fn argmax(values: &[f32]) -> usize {
    (0..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(task: Task, gap: usize) -> SampledSequences {
        task.sample(gap, 2000, &mut Random::new(5))
    }

    impl SampledSequences {
        fn column(&self, task: Task, column: usize, input: usize) -> Vec<f32> {
            let index = |step: usize| (step * self.width + column) * task.inputs() + input;
            (0..self.steps).map(|step| self.inputs[index(step)]).collect()
        }
    }

    #[test]
    fn recall_has_its_token_in_the_first_step_only() {
        let sampled = sample(Task::Recall, 7);
        assert_eq!(sampled.steps, 8);
        let mut counts = [0; TOKENS];
        for column in 0..sampled.width {
            let targets = &sampled.targets[column * TOKENS..][..TOKENS];
            for (token, target) in targets.iter().enumerate() {
                let input = sampled.column(Task::Recall, column, token);
                assert_eq!((input[0], input[1..].iter().sum()), (*target, 0.0));
                counts[token] += *target as usize;
            }
            let noise = sampled.column(Task::Recall, column, TOKENS);
            assert!(noise[0] == 0.0 && noise[1..].iter().all(|x| *x != 0.0 && x.abs() <= 1.0));
        }
        assert_eq!(counts.iter().sum::<usize>(), 2000);
        assert!(counts.iter().all(|n| (400..600).contains(n)), "{counts:?}");
    }

    #[test]
    fn adding_marks_one_step_in_each_half() {
        let sampled = sample(Task::Adding, 9);
        for column in 0..sampled.width {
            let (values, marks) =
                (sampled.column(Task::Adding, column, 0), sampled.column(Task::Adding, column, 1));
            let marked: Vec<usize> = (0..9).filter(|step| marks[*step] == 1.0).collect();
            assert!(marked.len() == 2 && marked[0] < 4 && marked[1] >= 4, "{marked:?}");
            assert_eq!(sampled.targets[column], values[marked[0]] + values[marked[1]]);
        }
    }

    #[test]
    fn timing_has_spikes_at_one_of_two_periods_with_the_last_at_the_end() {
        let (mut random, mut phases) = (Random::new(1), std::collections::BTreeSet::new());
        for _ in 0..50 {
            let sampled = Task::Timing.sample(10, 20, &mut random);
            for column in 0..20 {
                let input = sampled.column(Task::Timing, column, 0);
                let spikes: Vec<usize> = (0..sampled.steps).filter(|step| input[*step] == 1.0).collect();
                let period = if sampled.targets[column] == 1.0 { 10 } else { 9 };
                assert!(spikes.windows(2).all(|pair| pair[1] - pair[0] == period) && spikes.len() > PERIODS);
                assert!(spikes[spikes.len() - 1] == sampled.steps - 1 && spikes[0] < period);
                phases.insert((period, spikes[0]));
            }
        }
        assert!(phases.len() > 15, "{phases:?}");
    }

    #[test]
    fn blind_answers_have_the_error_of_chance() {
        for task in Task::ALL {
            let sampled = sample(task, 10);
            let outputs = task.outputs();
            let mean = sampled.targets.iter().sum::<f32>() / sampled.targets.len() as f32;
            let blind = vec![if task == Task::Timing { 0.0 } else { mean }; 2000 * outputs];
            let error = task.error(&blind, &sampled.targets);
            assert!((error - task.chance()).abs() < 0.05 * task.chance(), "{} {error}", task.name());
            assert_eq!(task.error(&sampled.targets, &sampled.targets), 0.0);
            let nan = vec![f32::NAN; 2000 * outputs];
            let error = task.error(&nan, &sampled.targets);
            assert!(error.is_nan() || error > task.solved_error(), "{}", task.name());
        }
    }
}
