//! Progress of long work on standard error: a bar where someone watches, a line now and then where nobody does.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::log::say;
use crate::drive::Progress;

/// Between two lines of a run that nobody watches.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// A bar over `length` things; nothing where it is quiet or standard error is no terminal.
pub fn bar(length: u64, unit: &str, quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr_with_hz(5));
    let template = format!(
        "{{elapsed_precise}} {{wide_bar}} {{percent}} % of {{len}} {unit}, {{per_sec}}, {{eta}} left {{msg}}"
    );
    bar.set_style(ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// Tells how a run is getting on.
pub struct Lines {
    quiet: bool,
    started: Instant,
    told: Instant,
    /// Since when states are made up from rows that are read again, and how many there were.
    again: Option<(Instant, u64)>,
}

impl Lines {
    pub fn new(quiet: bool) -> Self {
        Self { quiet, started: Instant::now(), told: Instant::now(), again: None }
    }

    pub fn tell(&mut self, progress: &Progress) {
        let Progress { tally, series, again, .. } = progress;
        self.again = match self.again {
            None if *again > 0 => Some((Instant::now(), *again)),
            // More partitions came meanwhile.
            Some((_, all)) if *again > all => Some((Instant::now(), *again)),
            Some((since, all)) if *again == 0 => {
                let seconds = since.elapsed().as_secs_f64();
                tracing::info!(
                    rows = all,
                    "caught up after {seconds:.1} s: the state is that of what is committed"
                );
                None
            }
            same => same,
        };
        if self.quiet || self.told.elapsed() < LINE_EVERY {
            return;
        }
        self.told = Instant::now();
        if let Some((since, all)) = self.again {
            let rate = (all - again) as f64 / since.elapsed().as_secs_f64().max(1e-3);
            let left = *again as f64 / rate.max(1.0);
            say!(
                again = again,
                "{series} series, {again} of {all} rows left to read again, {rate:.0} rows/s, about {left:.0} s left"
            );
            return;
        }
        let (rows, forecasts, refused) = (tally.rows, tally.forecasts, tally.refused_total());
        say!(rows = rows, forecasts = forecasts, refused = refused, "{series} series, {tally}");
    }

    /// The summary at the end.
    pub fn end(&self, progress: &Progress) {
        if self.quiet {
            return;
        }
        let seconds = self.started.elapsed().as_secs_f64();
        let Progress { tally, series, warm, committed, stopped, .. } = progress;
        let (rows, forecasts, refused) = (tally.rows, tally.forecasts, tally.refused_total());
        say!(
            rows = rows,
            forecasts = forecasts,
            refused = refused,
            "{series} series, {warm} of them warm; {tally}"
        );
        say!(
            "{} after {seconds:.1} s, {:.0} rows/s",
            if *stopped { "stopped" } else { "done" },
            tally.rows as f64 / seconds.max(1e-3)
        );
        for (partition, position) in committed {
            tracing::info!(topic = %partition.topic, partition = partition.number, position = position.0, "committed");
        }
    }
}
