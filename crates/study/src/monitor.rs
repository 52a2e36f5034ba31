//! Progress of a study: a bar, or a line per finished training.

use indicatif::ProgressBar;
use tidecast::terminal::progress_bar;

pub struct Monitor {
    bar: ProgressBar,
    quiet: bool,
}

impl Monitor {
    pub fn new(quiet: bool) -> Self {
        Self { bar: progress_bar(0, "trainings", quiet), quiet }
    }

    /// Adds trainings to the expected ones.
    pub fn expect(&self, trainings: usize) {
        self.bar.inc_length(trainings as u64);
    }

    /// Reports a finished training.
    pub fn finished(&self, training: &str, result: &str) {
        self.bar.inc(1);
        self.bar.set_message(training.to_owned());
        if self.bar.is_hidden() && !self.quiet {
            eprintln!("{training}: {result}");
        }
    }

    pub fn close(&self) {
        self.bar.finish_and_clear();
    }
}
