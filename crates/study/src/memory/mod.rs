//! The memory study: how many steps back each cell remembers.

mod plan;
mod results;

use std::sync::Mutex;

use anyhow::{Result, bail};
use rayon::iter::{ParallelBridge, ParallelIterator};
use tidecast::report::{Figure, Page};
use tokio_util::sync::CancellationToken;

pub use plan::{GateInit, Plan, Variant};
pub use results::{MemoryResults, Row, Span};

use crate::monitor::Monitor;
use crate::pages::{memory_figure, memory_page, memory_table, span_table};
use crate::result_store::ResultStore;
use crate::tasks::Task;
use crate::trial::{Outcome, Trial};
use crate::{Report, StudyOptions, publish};

/// File of finished trainings in `--out`.
const FILE: &str = "memory.jsonl";

type Store = Mutex<ResultStore<Trial, Outcome>>;

/// Runs the study and publishes its results.
///
/// # Errors
/// If the study is stopped before it has results, or a file cannot be read or written.
pub fn run(options: &StudyOptions, stop: &CancellationToken) -> Result<()> {
    let plan = if options.full { Plan::full() } else { Plan::quick() };
    let store = Mutex::new(ResultStore::open(options.out.as_deref(), FILE)?);
    let monitor = Monitor::new(options.quiet);
    let runner = Runner {
        store: &store,
        stop,
        planned: &|count| monitor.expect(count),
        finished: &|trial, outcome| {
            monitor.finished(&label(trial), &result(outcome));
        },
    };
    let results = runner.run(plan);
    monitor.close();
    let next_step = match options.out {
        Some(_) => "run the same command to continue",
        None => "--out stores finished trainings",
    };
    let Some(results) = results? else {
        bail!("stopped before the learning rates were chosen, so there are no results; {next_step}");
    };
    if results.missing > 0 && !options.quiet {
        eprintln!("{} trainings are missing; {next_step}", results.missing);
    }
    publish(&results, options)
}

/// Runs trainings in parallel and stores their outcomes.
struct Runner<'a> {
    store: &'a Store,
    stop: &'a CancellationToken,
    /// Receives the number of trainings to run.
    planned: &'a (dyn Fn(usize) + Sync),
    /// Receives every finished training.
    finished: &'a (dyn Fn(&Trial, &Outcome) + Sync),
}

impl Runner<'_> {
    /// Runs the trainings of a plan that are not stored yet; none if stopped before the learning rates were chosen.
    fn run(&self, plan: Plan) -> Result<Option<MemoryResults>> {
        let tuning = plan.tuning_trials();
        let tuned: Option<Vec<Outcome>> = self.outcomes(&tuning)?.into_iter().collect();
        let Some(tuned) = tuned else { return Ok(None) };
        let trials = plan.trials(&tuning, &tuned);
        let outcomes = self.outcomes(&trials)?;
        Ok(Some(MemoryResults::new(plan, &trials, &outcomes)))
    }

    /// Outcomes of the trials, in their order; none for trials that were stopped.
    fn outcomes(&self, trials: &[Trial]) -> Result<Vec<Option<Outcome>>> {
        let stored = |trial: &Trial| self.store.lock().expect("no panic under the lock").get(trial).cloned();
        let pending: Vec<&Trial> = trials.iter().filter(|trial| stored(trial).is_none()).collect();
        (self.planned)(pending.len());
        pending.into_iter().par_bridge().try_for_each(|trial| {
            let Some(outcome) = trial.run(self.stop) else { return Ok(()) };
            (self.finished)(trial, &outcome);
            let added = self.store.lock().expect("no panic under the lock").add(trial, &outcome);
            // Without storage, hours of training would be lost unnoticed.
            added.inspect_err(|_| self.stop.cancel())
        })?;
        Ok(trials.iter().map(stored).collect())
    }
}

fn label(trial: &Trial) -> String {
    let Trial { task, gap, seed, learning_rate, .. } = trial;
    let variant = Variant::of_trial(trial).name();
    format!("{} {variant}, gap {gap}, rate {learning_rate}, seed {seed}", task.name())
}

fn result(outcome: &Outcome) -> String {
    match outcome.solved_after {
        Some(sequences) => format!("solved after {sequences} sequences"),
        None => format!("error {:.4} at the end", outcome.error()),
    }
}

impl Report for MemoryResults {
    fn text(&self) -> String {
        let mut text = String::new();
        for task in Task::ALL {
            text += &format!("{}: {}, chance {:.3}\n\n", task.name(), task.error_name(), task.chance());
            text += &format!("{}\n", memory_table(self, task).text());
            text += &format!("{}\n", span_table(self, task).text());
        }
        text
    }

    fn page(&self) -> Page {
        memory_page(self)
    }

    fn figure(&self) -> Figure {
        memory_figure(self)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::plan::tiny;
    use super::*;

    /// Results, and the number of trainings run; stops after `limit` trainings.
    fn study(folder: Option<&Path>, threads: usize, limit: usize) -> (Option<MemoryResults>, usize) {
        let (stop, count) = (CancellationToken::new(), AtomicUsize::new(0));
        let store = Mutex::new(ResultStore::open(folder, FILE).unwrap());
        let finished = |_: &Trial, _: &Outcome| {
            if count.fetch_add(1, Ordering::Relaxed) + 1 >= limit {
                stop.cancel();
            }
        };
        let runner = Runner { store: &store, stop: &stop, planned: &|_| (), finished: &finished };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let results = pool.install(|| runner.run(tiny())).unwrap();
        (results, count.load(Ordering::Relaxed))
    }

    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        let one = study(None, 1, usize::MAX).0.unwrap();
        assert_eq!(study(None, 3, usize::MAX).0.as_ref(), Some(&one));
        assert_eq!((one.rows.len(), one.missing), (12 * 2 * 2 + 8, 0));
        assert!(one.rows.iter().all(|row| row.seeds == 2));
    }

    #[test]
    fn a_stopped_study_resumes_with_equal_results() {
        let (whole, all) = study(None, 2, usize::MAX);
        let folder = tempfile::tempdir().unwrap();
        let path = Some(folder.path());
        assert_eq!(study(path, 1, 5), (None, 5));
        let (partial, second) = study(path, 1, all - 20);
        assert_eq!((partial.unwrap().missing, second), (15, all - 20));
        assert_eq!(study(path, 3, usize::MAX), (whole.clone(), 15));
        assert_eq!(study(path, 1, usize::MAX), (whole, 0));
    }

    #[test]
    fn text_page_and_figure_show_every_variant() {
        let results = study(None, 2, usize::MAX).0.unwrap();
        let (text, html) = (results.text(), results.page().html());
        for name in ["rnn", "lstm, bias 0", "lstm-peephole, bias 1", "lstm-coupled, chrono", "gru, default"] {
            assert!(text.contains(name) && html.contains(name), "{name}\n{text}");
        }
        // Three tasks, three gate initializations.
        assert_eq!(html.matches("<svg").count(), 9);
        // Eight charts, each in a nested svg.
        assert_eq!(results.figure().svg().matches("<svg").count(), 1 + 2 * 8);
    }
}
