//! Which networks are compared on which tasks, and with which learning rates.

use serde::Serialize;

use super::Task;
use super::trial::{Outcome, Trial, matched};
use tidecast_core::network::{CellKind, ForgetBias};

/// A study of memory: its size. Everything else follows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Steps between what must be kept and the answer, ascending; of recall and adding.
    pub gaps: Vec<usize>,
    /// The longer one of the two periods of the timing task, ascending.
    pub periods: Vec<usize>,
    /// Hidden values of the LSTM, whose number of parameters the other cells are given.
    pub hidden: usize,
    /// Most sequences of a training.
    pub sequences: usize,
    /// The seeds that are reported are 1 to this.
    pub seeds: u64,
    /// Learning rates that are tried.
    pub rates: Vec<f64>,
}

/// A network that is compared: a cell and how its gates start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Variant {
    pub cell: CellKind,
    pub start: Start,
}

/// How the gate starts that keeps the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    Zero,
    One,
    /// Memories of up to as many steps as the task is long.
    Chrono,
    /// By PyTorch's distribution, around 0: a plain network, which has no such gate, and the GRU by default.
    AsDrawn,
}

/// The seed of the trainings that choose the learning rate; it is none of those reported.
const TUNING_SEED: u64 = 0;

impl Plan {
    /// Ends within a quarter of an hour on two cores.
    pub fn quick() -> Self {
        Self {
            gaps: vec![10, 50, 200],
            periods: vec![10, 50],
            hidden: 16,
            sequences: 40_000,
            seeds: 3,
            rates: vec![0.003, 0.01, 0.03],
        }
    }

    /// Takes an hour or two; meant to be stopped and taken up again. More sequences would make it a day: what does not learn
    /// within 2500 steps of the optimiser is said not to, whatever it would do later.
    pub fn full() -> Self {
        Self {
            gaps: vec![10, 25, 50, 100, 200, 400],
            periods: vec![10, 25, 50, 100],
            sequences: 80_000,
            seeds: 5,
            rates: vec![0.0003, 0.001, 0.003, 0.01, 0.03, 0.1],
            ..Self::quick()
        }
    }

    pub fn gaps(&self, task: Task) -> &[usize] {
        if task == Task::Timing { &self.periods } else { &self.gaps }
    }

    /// The trainings that choose the learning rate of every variant.
    pub fn tuning(&self) -> Vec<Trial> {
        let each = |(task, variant)| {
            let trial = move |gap| move |&rate: &f64| self.trial(task, gap, variant, rate, TUNING_SEED);
            self.tuned_gaps(task).into_iter().flat_map(move |gap| self.rates.iter().map(trial(gap)))
        };
        pairs().flat_map(each).collect()
    }

    /// The trainings that are reported, given what came of [`Plan::tuning`], in its order.
    pub fn trials(&self, tuning: &[Trial], outcomes: &[Outcome]) -> Vec<Trial> {
        let each = |(task, variant)| {
            let rate = self.rate(task, variant, tuning, outcomes);
            let seeds =
                move |gap| (1..=self.seeds).map(move |seed| self.trial(task, gap, variant, rate, seed));
            self.gaps(task).iter().flat_map(move |&gap| seeds(gap))
        };
        pairs().flat_map(each).collect()
    }

    /// The rate with which a variant solves the task soonest, and of those that never do the one with the least error.
    fn rate(&self, task: Task, variant: Variant, tuning: &[Trial], outcomes: &[Outcome]) -> f64 {
        let worth = |&rate: &f64| {
            let gaps = self.tuned_gaps(task);
            let ours: Vec<Trial> =
                gaps.iter().map(|&gap| self.trial(task, gap, variant, rate, TUNING_SEED)).collect();
            let found = tuning.iter().zip(outcomes).filter(|(trial, _)| ours.contains(trial));
            found.fold((0, 0.0), |(sequences, error), (trial, outcome)| {
                (sequences + outcome.solved_after.unwrap_or(2 * trial.sequences), error + outcome.error())
            })
        };
        let better = |a: &&f64, b: &&f64| {
            let ((sequences, error), (others, other)) = (worth(a), worth(b));
            // What is not a number is the worst.
            sequences.cmp(&others).then(error.total_cmp(&other))
        };
        *self.rates.iter().min_by(better).expect("a plan has a learning rate")
    }

    /// The shortest gap, which tells of those that remember little, and the middle one.
    fn tuned_gaps(&self, task: Task) -> Vec<usize> {
        let gaps = self.gaps(task);
        let mut both = vec![gaps[0], gaps[gaps.len() / 2]];
        both.dedup();
        both
    }

    fn trial(&self, task: Task, gap: usize, variant: Variant, learning_rate: f64, seed: u64) -> Trial {
        let bias = match variant.start {
            Start::Zero => ForgetBias::Zero,
            Start::One | Start::AsDrawn => ForgetBias::One,
            Start::Chrono => ForgetBias::Chrono { longest: gap + 1 },
        };
        let hidden = matched(task, variant.cell, self.hidden);
        Trial { task, gap, cell: variant.cell, bias, hidden, learning_rate, sequences: self.sequences, seed }
    }
}

impl Variant {
    /// Those that are compared on a task. Peepholes were made for timing; there they and their plainest rivals are enough.
    pub fn of(task: Task) -> Vec<Variant> {
        use CellKind::{Gru, Lstm, LstmCoupled, LstmPeephole, Rnn};
        let cells: &[CellKind] = match task {
            Task::Recall | Task::Adding => &[Rnn, Lstm, LstmPeephole, LstmCoupled, Gru],
            Task::Timing => &[Lstm, LstmPeephole, Gru],
        };
        let starts = |cell| match cell {
            Rnn => vec![Start::AsDrawn],
            Gru => vec![Start::AsDrawn, Start::Chrono],
            _ => vec![Start::Zero, Start::One, Start::Chrono],
        };
        cells
            .iter()
            .flat_map(|&cell| starts(cell).into_iter().map(move |start| Variant { cell, start }))
            .collect()
    }

    pub fn of_trial(trial: &Trial) -> Variant {
        let start = match (trial.bias, trial.cell) {
            (ForgetBias::One, CellKind::Rnn | CellKind::Gru) => Start::AsDrawn,
            (ForgetBias::Zero, _) => Start::Zero,
            (ForgetBias::One, _) => Start::One,
            (ForgetBias::Chrono { .. }, _) => Start::Chrono,
        };
        Variant { cell: trial.cell, start }
    }

    pub fn name(self) -> String {
        match (self.cell, self.start) {
            (CellKind::Rnn, _) => self.cell.name().into(),
            (cell, start) => format!("{cell}, {}", start.name()),
        }
    }
}

impl Start {
    pub fn name(self) -> &'static str {
        match self {
            Self::Zero => "bias 0",
            Self::One => "bias 1",
            Self::Chrono => "chrono",
            Self::AsDrawn => "as drawn",
        }
    }
}

fn pairs() -> impl Iterator<Item = (Task, Variant)> {
    Task::ALL.into_iter().flat_map(|task| Variant::of(task).into_iter().map(move |variant| (task, variant)))
}

#[cfg(test)]
pub(super) fn tiny() -> Plan {
    Plan { gaps: vec![3, 5], periods: vec![4], hidden: 3, sequences: 64, seeds: 2, rates: vec![0.01, 0.05] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_seed_is_both_tuned_on_and_reported() {
        for plan in [Plan::quick(), Plan::full(), tiny()] {
            let tuning = plan.tuning();
            let outcome = |_: &Trial| Outcome { curve: vec![(1, 0.5)], solved_after: None };
            let trials = plan.trials(&tuning, &tuning.iter().map(outcome).collect::<Vec<_>>());
            assert!(tuning.iter().all(|trial| trial.seed == TUNING_SEED));
            assert!(trials.iter().all(|trial| trial.seed != TUNING_SEED));
            let mut seen: Vec<&Trial> = Vec::new();
            for trial in tuning.iter().chain(&trials) {
                assert!(!seen.contains(&trial), "twice: {trial:?}");
                seen.push(trial);
            }
        }
        assert_eq!(tiny().tuning().len(), (12 * 2 + 12 * 2) * 2 + 8 * 2);
    }

    #[test]
    fn the_rate_is_that_which_solves_soonest_and_then_errs_least() {
        let (plan, task) = (tiny(), Task::Adding);
        let (lstm, rnn) = (Variant::of(task)[1], Variant::of(task)[0]);
        let tuning = plan.tuning();
        let outcome = |trial: &Trial| {
            let slow = trial.learning_rate < 0.02;
            match trial.cell {
                CellKind::Rnn => {
                    Outcome { curve: vec![(64, if slow { 0.1 } else { 0.2 })], solved_after: None }
                }
                _ => Outcome { curve: vec![(32, 0.0)], solved_after: (!slow || trial.gap < 5).then_some(32) },
            }
        };
        let outcomes: Vec<Outcome> = tuning.iter().map(outcome).collect();
        assert_eq!(plan.rate(task, lstm, &tuning, &outcomes), 0.05);
        assert_eq!(plan.rate(task, rnn, &tuning, &outcomes), 0.01);
    }

    #[test]
    fn a_trial_tells_its_variant() {
        for (task, variant) in pairs() {
            assert_eq!(Variant::of_trial(&tiny().trial(task, 3, variant, 0.1, 1)), variant);
        }
    }
}
