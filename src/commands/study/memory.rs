//! `study memory`: how many steps back each cell remembers.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};
use indicatif::ProgressBar;

use super::ledger::Ledger;
use crate::cli::How;
use crate::commands::log::say;
use crate::commands::{report, stop};
use tidecast_study::pages::{memory_page, memory_picture, memory_table, thread_table};
use tidecast_study::{Findings, Outcome, Plan, Task, Trial, Variant, each};

/// Where finished trainings are kept in `--out`.
const FILE: &str = "memory.jsonl";

pub fn study(how: &How, quiet: bool) -> Result<()> {
    let plan = if how.full { Plan::full() } else { Plan::quick() };
    let mut ledger = Ledger::open(how.out.as_deref(), FILE)?;
    let stopped = stop::flag("the trainings that are finished are put together")?;
    let bar = report::bar(0, "trainings", quiet);
    let tell = |trial: &Trial, outcome: &Outcome| tell(&bar, trial, outcome, quiet);
    let found = findings(plan, &mut ledger, super::threads(), &stopped, tell, |count| bar.inc_length(count));
    bar.finish_and_clear();
    let Some(found) = found? else {
        bail!("stopped while learning rates were chosen: nothing to report{}", kept(how));
    };
    if found.missing > 0 && !quiet {
        say!("{} trainings are missing{}", found.missing, kept(how));
    }
    super::deliver(how, &found, &text(&found), || memory_page(&found), || memory_picture(&found))
}

fn kept(how: &How) -> &'static str {
    if how.out.is_some() { "; the same command goes on from here" } else { "; with --out they would be kept" }
}

/// Does what is not in the ledger yet; `None` if it was stopped before the learning rates were chosen. `finished` is told of
/// every training, `ahead` of how many there will be, as they become known.
fn findings(
    plan: Plan,
    ledger: &mut Ledger<Trial, Outcome>,
    threads: usize,
    stopped: &AtomicBool,
    mut finished: impl FnMut(&Trial, &Outcome),
    mut ahead: impl FnMut(u64),
) -> Result<Option<Findings>> {
    let mut run = |trials: &[Trial]| -> Result<Vec<Option<Outcome>>> {
        let left: Vec<&Trial> = trials.iter().filter(|trial| ledger.find(trial).is_none()).collect();
        ahead(left.len() as u64);
        // A result that cannot be kept ends the study: hours would be lost unseen.
        let mut kept = Ok(());
        let broken = AtomicBool::new(false);
        let over = || stopped.load(Ordering::Relaxed) || broken.load(Ordering::Relaxed);
        each(
            &left,
            threads,
            |trial| trial.run(&over),
            |trial, outcome| {
                finished(trial, outcome);
                if let Err(error) = ledger.add(trial, outcome) {
                    broken.store(true, Ordering::Relaxed);
                    kept = Err(error);
                }
            },
        );
        kept?;
        Ok(trials.iter().map(|trial| ledger.find(trial).cloned()).collect())
    };
    let tuning = plan.tuning();
    let tuned: Option<Vec<Outcome>> = run(&tuning)?.into_iter().collect();
    let Some(tuned) = tuned else { return Ok(None) };
    let trials = plan.trials(&tuning, &tuned);
    let outcomes = run(&trials)?;
    Ok(Some(Findings::of(plan, &trials, &outcomes)))
}

fn tell(bar: &ProgressBar, trial: &Trial, outcome: &Outcome, quiet: bool) {
    let Trial { task, gap, seed, learning_rate, .. } = trial;
    let what = format!(
        "{} {}, gap {gap}, rate {learning_rate}, seed {seed}",
        task.name(),
        Variant::of_trial(trial).name()
    );
    let how = match outcome.solved_after {
        Some(sequences) => format!("solved after {sequences} sequences"),
        None => format!("error {:.4} at the end", outcome.error()),
    };
    bar.inc(1);
    bar.set_message(what.clone());
    if bar.is_hidden() && !quiet {
        say!("{what}: {how}");
    }
}

/// For a terminal.
fn text(found: &Findings) -> String {
    let mut text = String::new();
    for task in Task::ALL {
        text += &format!("{}: {}, chance {:.3}\n\n", task.name(), task.measure(), task.chance());
        text += &memory_table(found, task).text();
        text.push('\n');
        text += &thread_table(found, task).text();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> Plan {
        let gaps = vec![3, 5];
        Plan { gaps, periods: vec![4], hidden: 3, sequences: 64, seeds: 2, rates: vec![0.01, 0.05] }
    }

    /// The findings, and how many trainings were done for them.
    fn study(ledger: &mut Ledger<Trial, Outcome>, threads: usize, most: usize) -> (Option<Findings>, usize) {
        let (stopped, mut done) = (AtomicBool::new(false), 0);
        let count = |_: &Trial, _: &Outcome| {
            done += 1;
            stopped.store(done >= most, Ordering::Relaxed);
        };
        let found = findings(tiny(), ledger, threads, &stopped, count, |_| ()).unwrap();
        (found, done)
    }

    #[test]
    fn what_was_stopped_goes_on_and_finds_the_same() {
        let (whole, all) = study(&mut Ledger::open(None, FILE).unwrap(), 2, usize::MAX);
        let whole = whole.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let open = || Ledger::open(Some(folder.path()), FILE).unwrap();
        let (early, first) = study(&mut open(), 1, 5);
        // What is being done when it is stopped may still be finished.
        assert!(early.is_none() && (5..10).contains(&first), "{first}");
        let (later, second) = study(&mut open(), 1, all - 20);
        assert_eq!(later.unwrap().missing, all - first - second);
        assert!(second >= all - 20 && first + second < all, "{second} of {all}");
        let (last, third) = study(&mut open(), 3, usize::MAX);
        assert_eq!(first + second + third, all);
        assert_eq!(last.as_ref(), Some(&whole));
        let (again, none) = study(&mut open(), 1, usize::MAX);
        assert_eq!((again, none), (Some(whole), 0));
    }

    #[test]
    fn all_is_told_in_words_and_on_the_page() {
        let found = study(&mut Ledger::open(None, FILE).unwrap(), 2, usize::MAX).0.unwrap();
        let (text, html) = (text(&found), memory_page(&found).html());
        for name in ["rnn", "lstm, bias 0", "lstm-peephole, bias 1", "lstm-coupled, chrono", "gru, as drawn"]
        {
            assert!(text.contains(name) && html.contains(name), "{name}\n{text}");
        }
        // Three tasks, three ways of starting.
        assert_eq!(html.matches("<svg").count(), 9);
        // Each of eight charts in its frame.
        assert_eq!(memory_picture(&found).svg().matches("<svg").count(), 1 + 2 * 8);
    }
}
