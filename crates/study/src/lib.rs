//! Textbook claims about recurrent networks, measured with the cells that forecasts are made with.
//!
//! # Memory
//!
//! Claim: a plain network forgets what lies many steps back, an LSTM does not suffer from the distance. Three tasks ([`Task`])
//! ask at the end of a sequence for something seen a known number of steps before. The protocol: one layer; the parameter
//! count of every cell matched as closely as whole sizes allow; squared error, Adam, gradients clipped to norm 1; minibatches
//! of 32 sequences, each sequence new; the learning rate chosen per task, cell and gate initialization on an unreported seed,
//! at the shortest and the middle gap; the error measured 50 times on 512 held-out sequences. A training ends when that error
//! is at most 0.01, which counts as solved, or when two fifths of its sequences left it above nine tenths of chance.
//!
//! # Convergence
//!
//! Claim: a GRU learns in less time and from less data than an LSTM. Both are trained as `tidecast train` trains, on real
//! series and at matched parameter counts, and the validation error is recorded after every epoch with the windows and
//! seconds spent.
//!
//! The outcome of a training is a function of its description, whatever the number of threads; only seconds are measured.

pub mod convergence;
pub mod memory;
mod monitor;
mod pages;
mod result_store;
mod tasks;
mod trial;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;
use tidecast::report::{Figure, Page};
use tidecast::terminal::{json_line, print};

pub use tasks::{SampledSequences, Task};
pub use trial::{Outcome, Trial};

/// Size and outputs of a study.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct StudyOptions {
    /// More gaps, seeds and epochs: hours instead of minutes
    #[arg(long)]
    pub full: bool,

    /// Print one line of JSON instead of tables
    #[arg(long)]
    pub json: bool,

    /// Also write a page with all charts
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// Also write the main charts as one SVG file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,

    /// Folder for the results of finished trainings, which later runs reuse
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,

    /// Print results only
    #[arg(short, long)]
    pub quiet: bool,
}

/// Results of a study in all output formats.
trait Report: Serialize {
    fn text(&self) -> String;
    fn page(&self) -> Page;
    fn figure(&self) -> Figure;
}

/// Writes the requested files and prints the results.
fn publish(report: &impl Report, options: &StudyOptions) -> Result<()> {
    if let Some(path) = &options.html {
        write(path, &report.page().html())?;
    }
    if let Some(path) = &options.svg {
        write(path, &report.figure().svg())?;
    }
    print(&if options.json { json_line(report)? } else { report.text() })
}

fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(path, text))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Median and range of some numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Summary {
    /// None without numbers; NaN counts as the maximum.
    pub fn new(numbers: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = numbers.into_iter().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let is_even = sorted.len().is_multiple_of(2);
        let median = if is_even { (sorted[middle - 1] + sorted[middle]) / 2.0 } else { sorted[middle] };
        Some(Self { median, min, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_has_the_median_and_the_range() {
        assert_eq!(Summary::new([]), None);
        assert_eq!(Summary::new([3.0, 1.0, 2.0]), Some(Summary { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Summary::new([4.0, 1.0]).unwrap().median, 2.5);
        assert!(Summary::new([1.0, f64::NAN]).unwrap().max.is_nan());
    }
}
