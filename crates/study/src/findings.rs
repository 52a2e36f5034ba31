//! What a study of memory found: each variant over all its seeds, and where it loses the thread.

use serde::Serialize;

use super::Task;
use super::plan::{Plan, Start, Variant};
use super::trial::{Outcome, Trial};
use tidecast_core::network::CellKind;

/// One variant on one task at one gap, over all seeds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub task: Task,
    pub gap: usize,
    pub cell: CellKind,
    pub start: Start,
    pub hidden: usize,
    pub parameters: u64,
    pub learning_rate: f64,
    /// Whether it is the lowest or the highest that was tried: a still better one may lie beyond.
    pub rate_at_edge: bool,
    pub seeds: usize,
    /// Of the errors after training, over the seeds.
    pub error: Spread,
    /// Share of the seeds that solved it.
    pub solved: f64,
    /// Sequences until it was solved, over the seeds that did.
    pub sequences: Option<Spread>,
}

/// The middle of some numbers and their ends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub lowest: f64,
    pub highest: f64,
}

/// How far a variant remembers on a task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Thread {
    pub task: Task,
    pub cell: CellKind,
    pub start: Start,
    /// The longest gap up to which most seeds solved every gap.
    pub holds: Option<usize>,
    /// The shortest gap that most seeds did not solve.
    pub loses: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Findings {
    pub plan: Plan,
    pub rows: Vec<Row>,
    pub threads: Vec<Thread>,
    /// Trainings that were planned and are not in it, since the study was stopped.
    pub missing: usize,
}

impl Spread {
    /// `None` of no numbers. What is not a number counts as the highest.
    pub fn of(numbers: &[f64]) -> Option<Self> {
        let mut sorted = numbers.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let (lowest, highest) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let even = sorted.len().is_multiple_of(2);
        let median = if even { (sorted[middle - 1] + sorted[middle]) / 2.0 } else { sorted[middle] };
        Some(Self { median, lowest, highest })
    }
}

impl Findings {
    /// Of the trainings that were done, in the order of the plan.
    pub fn of(plan: Plan, trials: &[Trial], outcomes: &[Option<Outcome>]) -> Self {
        let done: Vec<(&Trial, &Outcome)> = trials
            .iter()
            .zip(outcomes)
            .filter_map(|(trial, outcome)| Some((trial, outcome.as_ref()?)))
            .collect();
        let mut rows: Vec<Row> = Vec::new();
        // The seeds of one row follow each other.
        for group in done.chunk_by(|a, b| (Trial { seed: b.0.seed, ..a.0.clone() }) == *b.0) {
            rows.extend(row(&plan, group));
        }
        let mut threads: Vec<Thread> = Vec::new();
        for group in rows.chunk_by(|a, b| (a.task, a.cell, a.start) == (b.task, b.cell, b.start)) {
            threads.push(thread(group));
        }
        let missing = trials.len() - done.len();
        Self { plan, rows, threads, missing }
    }

    pub fn rows_of(&self, task: Task, variant: Variant) -> impl Iterator<Item = &Row> {
        let wanted = (task, variant.cell, variant.start);
        self.rows.iter().filter(move |row| (row.task, row.cell, row.start) == wanted)
    }

    pub fn threads_of(&self, task: Task) -> impl Iterator<Item = &Thread> {
        self.threads.iter().filter(move |thread| thread.task == task)
    }
}

fn row(plan: &Plan, group: &[(&Trial, &Outcome)]) -> Option<Row> {
    let (trial, _) = group.first()?;
    let errors: Vec<f64> = group.iter().map(|(_, outcome)| outcome.error()).collect();
    let solved: Vec<f64> =
        group.iter().filter_map(|(_, outcome)| Some(outcome.solved_after? as f64)).collect();
    let variant = Variant::of_trial(trial);
    Some(Row {
        task: trial.task,
        gap: trial.gap,
        cell: variant.cell,
        start: variant.start,
        hidden: trial.hidden,
        parameters: trial.shape().parameters(),
        learning_rate: trial.learning_rate,
        rate_at_edge: [plan.rates.first(), plan.rates.last()].contains(&Some(&trial.learning_rate)),
        seeds: group.len(),
        error: Spread::of(&errors)?,
        solved: solved.len() as f64 / group.len() as f64,
        sequences: Spread::of(&solved),
    })
}

/// Of rows in the order of their gaps.
fn thread(rows: &[Row]) -> Thread {
    let lost = rows.iter().position(|row| row.solved <= 0.5);
    let held = lost.unwrap_or(rows.len());
    let Row { task, cell, start, .. } = rows[0];
    Thread {
        task,
        cell,
        start,
        holds: held.checked_sub(1).map(|last| rows[last].gap),
        loses: lost.map(|first| rows[first].gap),
    }
}

impl Thread {
    pub fn variant(&self) -> Variant {
        Variant { cell: self.cell, start: self.start }
    }

    pub fn text(&self) -> String {
        match (self.holds, self.loses) {
            (None, _) => "solves none of the gaps".into(),
            (Some(holds), None) => format!("holds over {holds} steps, the longest tried"),
            (Some(holds), Some(loses)) => format!("holds over {holds} steps, loses the thread at {loses}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{plan, spread};

    #[test]
    fn medians_and_ends() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, lowest: 1.0, highest: 3.0 }));
        assert_eq!(Spread::of(&[4.0, 1.0]).unwrap().median, 2.5);
        assert!(Spread::of(&[1.0, f64::NAN]).unwrap().highest.is_nan());
    }

    fn findings(threads: usize) -> Findings {
        let plan = plan::tiny();
        let run = |trials: &[Trial]| spread::each(trials, threads, |trial| trial.run(&|| false), |_, _| ());
        let tuning = plan.tuning();
        let tuned: Vec<Outcome> = run(&tuning).into_iter().flatten().collect();
        let trials = plan.trials(&tuning, &tuned);
        let outcomes = run(&trials);
        Findings::of(plan, &trials, &outcomes)
    }

    #[test]
    fn the_findings_are_the_same_on_any_number_of_threads() {
        let one = findings(1);
        assert_eq!(one, findings(3));
        assert_eq!((one.rows.len(), one.missing), (12 * 2 * 2 + 8, 0));
        assert!(one.rows.iter().all(|row| row.seeds == 2));
    }

    #[test]
    fn the_thread_is_lost_at_the_first_gap_that_most_seeds_fail() {
        let plan = Plan { gaps: vec![10, 50, 200], seeds: 3, ..plan::tiny() };
        let tuning = plan.tuning();
        let none = Outcome { curve: vec![(64, 0.5)], solved_after: None };
        let trials = plan.trials(&tuning, &vec![none.clone(); tuning.len()]);
        // At gap 50 two of three seeds solve it, at 200 one.
        let outcome = |trial: &Trial| {
            let solved = match (trial.cell, trial.gap) {
                (CellKind::Rnn, _) => false,
                (CellKind::Gru, _) => true,
                (_, 10) => true,
                (_, 50) => trial.seed <= 2,
                _ => trial.seed == 1,
            };
            Some(if solved {
                Outcome { curve: vec![(32, 0.0)], solved_after: Some(32) }
            } else {
                none.clone()
            })
        };
        let mut outcomes: Vec<Option<Outcome>> = trials.iter().map(outcome).collect();
        let found = Findings::of(plan.clone(), &trials, &outcomes);
        let of = |cell| {
            let thread = found.threads_of(Task::Recall).find(|thread| thread.cell == cell).unwrap();
            (thread.holds, thread.loses)
        };
        assert_eq!(of(CellKind::Rnn), (None, Some(10)));
        assert_eq!(of(CellKind::Lstm), (Some(50), Some(200)));
        assert_eq!(of(CellKind::Gru), (Some(200), None));
        outcomes[0] = None;
        let fewer = Findings::of(plan, &trials, &outcomes);
        assert_eq!((fewer.missing, fewer.rows[0].seeds, fewer.rows.len()), (1, 2, found.rows.len()));
    }
}
