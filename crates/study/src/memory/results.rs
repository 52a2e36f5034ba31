//! Results of the memory study: each variant over its seeds, and the gaps it solves.

use serde::Serialize;

use super::plan::{GateInit, Plan, Variant};
use crate::Summary;
use crate::tasks::Task;
use crate::trial::{Outcome, Trial};
use tidecast_core::network::CellKind;

/// One variant on one task at one gap, over all seeds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub task: Task,
    pub gap: usize,
    pub cell: CellKind,
    pub gate_init: GateInit,
    pub hidden: usize,
    pub parameters: u64,
    pub learning_rate: f64,
    /// True if the rate is the lowest or highest candidate: a better one may lie beyond.
    pub rate_at_edge: bool,
    pub seeds: usize,
    /// Error after training.
    pub error: Summary,
    /// Fraction of the seeds that solved the task.
    pub solved: f64,
    /// Sequences until solved, over the seeds that did.
    pub sequences: Option<Summary>,
}

/// Memory span of a variant on a task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Span {
    pub task: Task,
    pub cell: CellKind,
    pub gate_init: GateInit,
    /// The longest gap up to which most seeds solved every gap.
    pub longest_solved: Option<usize>,
    /// The shortest gap that most seeds did not solve.
    pub shortest_unsolved: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemoryResults {
    pub plan: Plan,
    pub rows: Vec<Row>,
    pub spans: Vec<Span>,
    /// Planned trainings without an outcome, because the study was stopped.
    pub missing: usize,
}

impl MemoryResults {
    /// Results of the trials, in the order of the plan.
    pub fn new(plan: Plan, trials: &[Trial], outcomes: &[Option<Outcome>]) -> Self {
        let outcomes = trials.iter().zip(outcomes);
        let finished: Vec<(&Trial, &Outcome)> =
            outcomes.filter_map(|(trial, outcome)| Some((trial, outcome.as_ref()?))).collect();
        // The seeds of a row are adjacent.
        let groups = finished.chunk_by(|a, b| (Trial { seed: b.0.seed, ..a.0.clone() }) == *b.0);
        let rows: Vec<Row> = groups.filter_map(|group| row(&plan, group)).collect();
        let variants = rows.chunk_by(|a, b| (a.task, a.variant()) == (b.task, b.variant()));
        let spans = variants.map(span).collect();
        let missing = trials.len() - finished.len();
        Self { plan, rows, spans, missing }
    }

    pub fn rows_of(&self, task: Task, variant: Variant) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| (row.task, row.variant()) == (task, variant))
    }

    pub fn spans_of(&self, task: Task) -> impl Iterator<Item = &Span> {
        self.spans.iter().filter(move |span| span.task == task)
    }
}

impl Row {
    pub fn variant(&self) -> Variant {
        Variant { cell: self.cell, gate_init: self.gate_init }
    }
}

impl Span {
    pub fn variant(&self) -> Variant {
        Variant { cell: self.cell, gate_init: self.gate_init }
    }

    pub fn text(&self) -> String {
        match (self.longest_solved, self.shortest_unsolved) {
            (None, _) => "solves none of the gaps".into(),
            (Some(solved), None) => format!("solves {solved} steps, the longest gap"),
            (Some(solved), Some(unsolved)) => format!("solves {solved} steps, fails at {unsolved}"),
        }
    }
}

fn row(plan: &Plan, group: &[(&Trial, &Outcome)]) -> Option<Row> {
    let (trial, _) = group.first()?;
    let solved: Vec<f64> =
        group.iter().filter_map(|(_, outcome)| Some(outcome.solved_after? as f64)).collect();
    let variant = Variant::of_trial(trial);
    Some(Row {
        task: trial.task,
        gap: trial.gap,
        cell: variant.cell,
        gate_init: variant.gate_init,
        hidden: trial.hidden,
        parameters: trial.shape().parameters(),
        learning_rate: trial.learning_rate,
        rate_at_edge: [plan.rates.first(), plan.rates.last()].contains(&Some(&trial.learning_rate)),
        seeds: group.len(),
        error: Summary::new(group.iter().map(|(_, outcome)| outcome.error()))?,
        solved: solved.len() as f64 / group.len() as f64,
        sequences: Summary::new(solved),
    })
}

/// Span from the rows of one variant in the order of their gaps.
fn span(rows: &[Row]) -> Span {
    let failed = rows.iter().position(|row| row.solved <= 0.5);
    let solved = failed.unwrap_or(rows.len());
    let Row { task, cell, gate_init, .. } = rows[0];
    Span {
        task,
        cell,
        gate_init,
        longest_solved: solved.checked_sub(1).map(|last| rows[last].gap),
        shortest_unsolved: failed.map(|first| rows[first].gap),
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::tiny;
    use super::*;

    #[test]
    fn a_span_ends_at_the_first_gap_that_most_seeds_fail() {
        let plan = Plan { gaps: vec![10, 50, 200], seeds: 3, ..tiny() };
        let tuning = plan.tuning_trials();
        let unsolved = Outcome { curve: vec![(64, 0.5)], solved_after: None };
        let trials = plan.trials(&tuning, &vec![unsolved.clone(); tuning.len()]);
        // At gap 50, two of three seeds solve it; at 200, one.
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
                unsolved.clone()
            })
        };
        let mut outcomes: Vec<Option<Outcome>> = trials.iter().map(outcome).collect();
        let results = MemoryResults::new(plan.clone(), &trials, &outcomes);
        let span = |cell| {
            let span = results.spans_of(Task::Recall).find(|span| span.cell == cell).unwrap();
            (span.longest_solved, span.shortest_unsolved)
        };
        assert_eq!(span(CellKind::Rnn), (None, Some(10)));
        assert_eq!(span(CellKind::Lstm), (Some(50), Some(200)));
        assert_eq!(span(CellKind::Gru), (Some(200), None));
        outcomes[0] = None;
        let fewer = MemoryResults::new(plan, &trials, &outcomes);
        assert_eq!((fewer.missing, fewer.rows[0].seeds, fewer.rows.len()), (1, 2, results.rows.len()));
    }
}
