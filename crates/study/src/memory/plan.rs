//! The compared networks, their tasks, gaps and learning rates.

use serde::Serialize;

use crate::tasks::Task;
use crate::trial::{Outcome, Trial, matched_hidden};
use tidecast_core::network::{CellKind, ForgetBias};

/// Size of the memory study.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Gaps of recall and adding in steps, ascending.
    pub gaps: Vec<usize>,
    /// The longer of the two periods of timing, ascending.
    pub periods: Vec<usize>,
    /// Hidden size of the LSTM, whose parameter count the other cells match.
    pub hidden: usize,
    /// Maximum number of sequences of a training.
    pub sequences: usize,
    /// The reported seeds are 1 to this.
    pub seeds: u64,
    /// Learning rates to choose from.
    pub rates: Vec<f64>,
}

/// A compared network: cell and gate initialization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Variant {
    pub cell: CellKind,
    pub gate_init: GateInit,
}

/// Initial bias of the gate that retains the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateInit {
    Zero,
    One,
    /// Time constants up to the length of the task.
    Chrono,
    /// PyTorch's distribution around 0: a plain network, which has no such gate, and the usual GRU.
    Default,
}

/// Seed of the trainings that choose the learning rate; never reported.
const TUNING_SEED: u64 = 0;

impl Plan {
    /// Takes a quarter of an hour on two cores.
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

    /// Takes one or two hours. More sequences would make it a day: a network that does not learn within 2500 optimizer steps
    /// counts as not learning.
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

    pub fn task_gaps(&self, task: Task) -> &[usize] {
        if task == Task::Timing { &self.periods } else { &self.gaps }
    }

    /// Trainings that choose the learning rate of every variant.
    pub fn tuning_trials(&self) -> Vec<Trial> {
        let mut trials = Vec::new();
        for (task, variant) in compared() {
            for gap in self.tuning_gaps(task) {
                let trial = |rate: &f64| self.trial(task, gap, variant, *rate, TUNING_SEED);
                trials.extend(self.rates.iter().map(trial));
            }
        }
        trials
    }

    /// Reported trainings, given the outcomes of [`Plan::tuning_trials`].
    pub fn trials(&self, tuning: &[Trial], outcomes: &[Outcome]) -> Vec<Trial> {
        let mut trials = Vec::new();
        for (task, variant) in compared() {
            let rate = self.best_rate(task, variant, tuning, outcomes);
            for &gap in self.task_gaps(task) {
                trials.extend((1..=self.seeds).map(|seed| self.trial(task, gap, variant, rate, seed)));
            }
        }
        trials
    }

    /// The rate that solves the task after the fewest sequences; among rates that never do, the one with the smallest error.
    fn best_rate(&self, task: Task, variant: Variant, tuning: &[Trial], outcomes: &[Outcome]) -> f64 {
        let cost = |&rate: &f64| {
            let gaps = self.tuning_gaps(task);
            let trials: Vec<Trial> =
                gaps.iter().map(|&gap| self.trial(task, gap, variant, rate, TUNING_SEED)).collect();
            let found = tuning.iter().zip(outcomes).filter(|(trial, _)| trials.contains(trial));
            found.fold((0, 0.0), |(sequences, error), (trial, outcome)| {
                (sequences + outcome.solved_after.unwrap_or(2 * trial.sequences), error + outcome.error())
            })
        };
        let compare = |a: &&f64, b: &&f64| {
            let ((sequences, error), (other_sequences, other_error)) = (cost(a), cost(b));
            // total_cmp puts NaN last.
            sequences.cmp(&other_sequences).then(error.total_cmp(&other_error))
        };
        *self.rates.iter().min_by(compare).expect("a plan has a learning rate")
    }

    /// The shortest gap, which separates networks with little memory, and the middle one.
    fn tuning_gaps(&self, task: Task) -> Vec<usize> {
        let gaps = self.task_gaps(task);
        let mut both = vec![gaps[0], gaps[gaps.len() / 2]];
        both.dedup();
        both
    }

    fn trial(&self, task: Task, gap: usize, variant: Variant, learning_rate: f64, seed: u64) -> Trial {
        let bias = match variant.gate_init {
            GateInit::Zero => ForgetBias::Zero,
            GateInit::One | GateInit::Default => ForgetBias::One,
            GateInit::Chrono => ForgetBias::Chrono { max_steps: gap + 1 },
        };
        let hidden = matched_hidden(task, variant.cell, self.hidden);
        Trial { task, gap, cell: variant.cell, bias, hidden, learning_rate, sequences: self.sequences, seed }
    }
}

impl Variant {
    /// Variants compared on a task. Timing is what peepholes were made for; there they need few competitors.
    pub fn all(task: Task) -> Vec<Variant> {
        use CellKind::{Gru, Lstm, LstmCoupled, LstmPeephole, LstmPeepholeCoupled, Rnn};
        let cells: &[CellKind] = match task {
            Task::Recall | Task::Adding => &[Rnn, Lstm, LstmPeephole, LstmCoupled, Gru],
            Task::Timing => &[Lstm, LstmPeephole, Gru],
        };
        let gate_inits = |cell| match cell {
            Rnn => &[GateInit::Default][..],
            Gru => &[GateInit::Default, GateInit::Chrono],
            Lstm | LstmPeephole | LstmCoupled | LstmPeepholeCoupled => {
                &[GateInit::Zero, GateInit::One, GateInit::Chrono]
            }
        };
        let variants = |&cell| gate_inits(cell).iter().map(move |&gate_init| Variant { cell, gate_init });
        cells.iter().flat_map(variants).collect()
    }

    pub fn of_trial(trial: &Trial) -> Variant {
        let gate_init = match (trial.bias, trial.cell) {
            (ForgetBias::One, CellKind::Rnn | CellKind::Gru) => GateInit::Default,
            (ForgetBias::Zero, _) => GateInit::Zero,
            (ForgetBias::One, _) => GateInit::One,
            (ForgetBias::Chrono { .. }, _) => GateInit::Chrono,
        };
        Variant { cell: trial.cell, gate_init }
    }

    pub fn name(self) -> String {
        match (self.cell, self.gate_init) {
            (CellKind::Rnn, _) => self.cell.name().into(),
            (cell, gate_init) => format!("{cell}, {}", gate_init.name()),
        }
    }
}

impl GateInit {
    pub fn name(self) -> &'static str {
        match self {
            Self::Zero => "bias 0",
            Self::One => "bias 1",
            Self::Chrono => "chrono",
            Self::Default => "default",
        }
    }
}

/// All tasks with their variants.
fn compared() -> impl Iterator<Item = (Task, Variant)> {
    Task::ALL.into_iter().flat_map(|task| Variant::all(task).into_iter().map(move |variant| (task, variant)))
}

#[cfg(test)]
pub(super) fn tiny() -> Plan {
    Plan { gaps: vec![3, 5], periods: vec![4], hidden: 3, sequences: 64, seeds: 2, rates: vec![0.01, 0.05] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tuning_and_reported_seeds_are_disjoint() {
        for plan in [Plan::quick(), Plan::full(), tiny()] {
            let tuning = plan.tuning_trials();
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
        assert_eq!(tiny().tuning_trials().len(), (12 * 2 + 12 * 2) * 2 + 8 * 2);
    }

    #[test]
    fn the_best_rate_solves_soonest_then_errs_least() {
        let (plan, task) = (tiny(), Task::Adding);
        let (lstm, rnn) = (Variant::all(task)[1], Variant::all(task)[0]);
        let tuning = plan.tuning_trials();
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
        assert_eq!(plan.best_rate(task, lstm, &tuning, &outcomes), 0.05);
        assert_eq!(plan.best_rate(task, rnn, &tuning, &outcomes), 0.01);
    }

    #[test]
    fn a_trial_determines_its_variant() {
        for (task, variant) in compared() {
            assert_eq!(Variant::of_trial(&tiny().trial(task, 3, variant, 0.1, 1)), variant);
        }
    }
}
