//! Progress of long work on standard error: a bar where someone watches, a line now and then where nobody does.

use std::fmt::Write;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::log::say;
use crate::drive::Progress;

/// Between two lines of a run that nobody watches.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// How often a bar shows that time goes on.
const TICK: Duration = Duration::from_millis(500);

/// A bar over `length` things; nothing where it is quiet or standard error is no terminal.
pub fn bar(length: u64, unit: &str, quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr_with_hz(5));
    let unit = unit.to_owned();
    // While it is not known how long it takes, only that it goes on.
    let far = move |state: &ProgressState, text: &mut dyn Write| {
        let Some(length) = state.len().filter(|length| *length > 0) else { return };
        let percent = 100 * state.pos().min(length) / length;
        let (rate, left) = (state.per_sec(), HumanDuration(state.eta()));
        let _ = write!(text, "{percent} % of {length} {unit}, {rate:.0}/s, {left:#} left");
    };
    let style = ProgressStyle::with_template("{elapsed_precise} {wide_bar} {far} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).with_key("far", far));
    bar.enable_steady_tick(TICK);
    bar
}

/// Tells how a run is getting on.
pub struct Lines {
    quiet: bool,
    started: Instant,
    told: Instant,
    /// Positions that had been read again when that was last told.
    reread: u64,
}

impl Lines {
    pub fn new(quiet: bool) -> Self {
        Self { quiet, started: Instant::now(), told: Instant::now(), reread: 0 }
    }

    pub fn tell(&mut self, progress: &Progress) {
        let since = self.told.elapsed();
        if self.quiet || since < LINE_EVERY {
            return;
        }
        self.told = Instant::now();
        let Progress { tally, series, again, reread, .. } = progress;
        let rate = (reread - self.reread) as f64 / since.as_secs_f64();
        self.reread = *reread;
        if rate > 0.0 && *again > 0 {
            let left = *again as f64 / rate;
            say!(again = again, "{again} rows left to read again, {rate:.0} rows/s, about {left:.0} s left");
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
