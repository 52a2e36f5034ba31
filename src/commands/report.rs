//! Progress of long work on standard error: a bar where someone watches, a line now and then where nobody does. Whatever else
//! goes there while a bar is drawn goes through [`Beside`], or it would stand in the middle of it.

use std::fmt::{self, Write};
use std::io;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{
    HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle, WeakProgressBar,
};

use super::log::say;
use tidecast_stream::driver::Progress;

/// Between two lines of a run that nobody watches.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// How often a bar shows that time goes on.
const TICK: Duration = Duration::from_millis(500);

/// The latest bar: there is one standard error, and a command draws one at a time.
static DRAWN: Mutex<Option<WeakProgressBar>> = Mutex::new(None);

/// Standard error, for whole lines: a bar makes way for each, and is drawn again below it.
pub struct Beside;

impl io::Write for Beside {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let drawn = DRAWN.lock().expect("no holder panics").as_ref().and_then(WeakProgressBar::upgrade);
        match drawn.filter(|bar| !bar.is_finished()) {
            Some(bar) => bar.suspend(|| io::stderr().write(lines)),
            None => io::stderr().write(lines),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// A bar over `length` things; nothing where it is quiet or standard error is no terminal.
pub fn bar(length: u64, unit: &str, quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr_with_hz(5));
    *DRAWN.lock().expect("no holder panics") = Some(bar.downgrade());
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

/// Rows that are still to be read again, and how many are in a second.
struct Again {
    rows: u64,
    rate: f64,
}

impl fmt::Display for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, rate } = self;
        let left = *rows as f64 / rate;
        write!(f, "{rows} rows left to read again, {rate:.0} rows/s, about {left:.0} s left")
    }
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
        let Some(since) = self.due(Instant::now()) else { return };
        if let Some(again) = self.again(progress, since) {
            say!(again = again.rows, "{again}");
        }
        let Progress { tally, series, .. } = progress;
        let (rows, forecasts, refused) = (tally.rows, tally.forecasts, tally.refused_total());
        say!(rows = rows, forecasts = forecasts, refused = refused, "{series} series, {tally}");
    }

    /// How long it is since the last line, where it is time for the next.
    fn due(&mut self, now: Instant) -> Option<Duration> {
        let since = now.saturating_duration_since(self.told);
        if self.quiet || since < LINE_EVERY {
            return None;
        }
        self.told = now;
        Some(since)
    }

    /// What is left to be read again, as fast as it went since the last line.
    fn again(&mut self, progress: &Progress, since: Duration) -> Option<Again> {
        let Progress { again, reread, .. } = progress;
        let rate = (reread - self.reread) as f64 / since.as_secs_f64();
        self.reread = *reread;
        (rate > 0.0 && *again > 0).then_some(Again { rows: *again, rate })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_again_is_told_every_ten_seconds_at_the_rate_of_the_last_ones() {
        let mut lines = Lines::new(false);
        let start = lines.told;
        let mut told = |seconds: u64, again, reread| {
            let since = lines.due(start + Duration::from_secs(seconds))?;
            let progress = Progress { again, reread, ..Progress::default() };
            Some(lines.again(&progress, since).map_or(String::new(), |again| again.to_string()))
        };
        assert_eq!(told(9, 9000, 1000), None, "not yet");
        let line = "6000 rows left to read again, 400 rows/s, about 15 s left";
        assert_eq!(told(10, 6000, 4000).as_deref(), Some(line));
        assert_eq!(told(19, 5000, 5000), None, "not yet again");
        let line = "2000 rows left to read again, 200 rows/s, about 10 s left";
        assert_eq!(told(30, 2000, 8000).as_deref(), Some(line), "of the last 20 s alone");
        assert_eq!(told(40, 2000, 8000).as_deref(), Some(""), "who stands still has no rate");
        assert_eq!(told(50, 0, 10_000).as_deref(), Some(""), "there is nothing left");
        assert!(Lines::new(true).due(start + Duration::from_secs(3600)).is_none(), "quiet");
    }
}
