//! Output of the program: results on standard output, messages and progress bars on standard error. Everything written to
//! standard error while a bar is drawn goes through [`StderrLines`].

use std::io::{self, Write};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result};
use indicatif::{
    HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle, WeakProgressBar,
};
use serde::Serialize;

pub use tracing;

/// Target of messages to the user. Text logs show only the message, JSON logs also the fields.
pub const USER_TARGET: &str = "tidecast::user";

/// Prints a message to the user, with fields for JSON logs.
#[macro_export]
macro_rules! user_info {
    ($($field:ident = $value:expr,)* $text:literal $($rest:tt)*) => {
        $crate::terminal::tracing::info!(
            target: $crate::terminal::USER_TARGET, $($field = $value,)* $text $($rest)*
        )
    };
}

/// Interval at which a bar is redrawn even without progress.
const TICK: Duration = Duration::from_millis(500);

/// The latest bar: a command draws one at a time.
static BAR: Mutex<Option<WeakProgressBar>> = Mutex::new(None);

/// Standard error for whole lines. A bar is cleared before a line and redrawn below it.
pub struct StderrLines;

impl Write for StderrLines {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let bar = BAR.lock().expect("no panic under the lock").as_ref().and_then(WeakProgressBar::upgrade);
        match bar.filter(|bar| !bar.is_finished()) {
            Some(bar) => bar.suspend(|| io::stderr().write(lines)),
            None => io::stderr().write(lines),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// A progress bar over `length` units; a length of 0 is unknown. Hidden if `quiet` or standard error is not a terminal.
pub fn progress_bar(length: u64, unit: &str, quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr_with_hz(5));
    *BAR.lock().expect("no panic under the lock") = Some(bar.downgrade());
    let unit = unit.to_owned();
    let progress = move |state: &ProgressState, text: &mut dyn std::fmt::Write| {
        let Some(length) = state.len().filter(|length| *length > 0) else { return };
        let percent = 100 * state.pos().min(length) / length;
        let (rate, left) = (state.per_sec(), HumanDuration(state.eta()));
        let _ = write!(text, "{percent} % of {length} {unit}, {rate:.0}/s, {left:#} left");
    };
    let style = ProgressStyle::with_template("{elapsed_precise} {wide_bar} {progress} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).with_key("progress", progress));
    bar.enable_steady_tick(TICK);
    bar
}

/// `value` as one line of JSON.
///
/// # Errors
/// If `value` has no representation in JSON.
pub fn json_line(value: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string(value).context("cannot serialize the result as JSON")?;
    Ok(format!("{text}\n"))
}

/// Writes text to standard output. A closed pipe is not an error: the reader has read enough.
///
/// # Errors
/// If standard output cannot be written.
pub fn print(text: &str) -> Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}
