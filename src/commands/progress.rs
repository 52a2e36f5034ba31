//! Progress messages of a pipeline: a line at intervals, and a summary at the end.

use std::time::{Duration, Instant};

use tidecast_stream::driver::Progress;

use crate::user_info;

/// Interval between two progress messages.
const INTERVAL: Duration = Duration::from_secs(10);

/// Prints the progress of a pipeline.
pub struct ProgressLog {
    quiet: bool,
    started: Instant,
    last_message: Instant,
    /// Rows replayed by the last message.
    replayed: u64,
}

impl ProgressLog {
    pub fn new(quiet: bool) -> Self {
        Self { quiet, started: Instant::now(), last_message: Instant::now(), replayed: 0 }
    }

    /// Prints a message, if one is due.
    pub fn update(&mut self, progress: &Progress) {
        let Some(elapsed) = self.due(Instant::now()) else { return };
        if let Some(replay) = self.replay_progress(progress, elapsed) {
            user_info!(replay_remaining = progress.replay_remaining, "{replay}");
        }
        let Progress { counters, series, .. } = progress;
        let (rows, forecasts, refused) = (counters.rows, counters.forecasts, counters.refused_total());
        user_info!(rows = rows, forecasts = forecasts, refused = refused, "{series} series, {counters}");
    }

    /// The time since the last message, if a message is due.
    fn due(&mut self, now: Instant) -> Option<Duration> {
        let elapsed = now.saturating_duration_since(self.last_message);
        if self.quiet || elapsed < INTERVAL {
            return None;
        }
        self.last_message = now;
        Some(elapsed)
    }

    /// The state of the replay, at the speed since the last message; `None` if it is complete or does not advance.
    fn replay_progress(&mut self, progress: &Progress, elapsed: Duration) -> Option<String> {
        let rows_per_second = (progress.replayed - self.replayed) as f64 / elapsed.as_secs_f64();
        self.replayed = progress.replayed;
        let rows_left = progress.replay_remaining;
        let seconds_left = rows_left as f64 / rows_per_second;
        (rows_per_second > 0.0 && rows_left > 0).then(|| {
            format!(
                "{rows_left} rows left to replay, {rows_per_second:.0} rows/s, about {seconds_left:.0} s left"
            )
        })
    }

    /// Prints the summary.
    pub fn finish(&self, progress: &Progress) {
        if self.quiet {
            return;
        }
        let seconds = self.started.elapsed().as_secs_f64();
        let Progress { counters, series, warm_series, committed, stopped, .. } = progress;
        let (rows, forecasts, refused) = (counters.rows, counters.forecasts, counters.refused_total());
        user_info!(
            rows = rows,
            forecasts = forecasts,
            refused = refused,
            "{series} series, {warm_series} of them warm; {counters}"
        );
        user_info!(
            "{} after {seconds:.1} s, {:.0} rows/s",
            if *stopped { "stopped" } else { "done" },
            counters.rows as f64 / seconds.max(1e-3)
        );
        for (partition, position) in committed {
            let (topic, number, position) = (&partition.topic, partition.number, position.0);
            tracing::info!(%topic, partition = number, position, "committed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replay_progress_is_printed_every_ten_seconds_with_the_latest_speed() {
        let mut log = ProgressLog::new(false);
        let start = log.last_message;
        let mut message = |seconds: u64, replay_remaining, replayed| {
            let elapsed = log.due(start + Duration::from_secs(seconds))?;
            let progress = Progress { replay_remaining, replayed, ..Progress::default() };
            Some(log.replay_progress(&progress, elapsed).unwrap_or_default())
        };
        assert_eq!(message(9, 9000, 1000), None, "not due");
        let line = "6000 rows left to replay, 400 rows/s, about 15 s left";
        assert_eq!(message(10, 6000, 4000).as_deref(), Some(line));
        assert_eq!(message(19, 5000, 5000), None, "not due");
        let line = "2000 rows left to replay, 200 rows/s, about 10 s left";
        assert_eq!(message(30, 2000, 8000).as_deref(), Some(line), "the speed of the last 20 s");
        assert_eq!(message(40, 2000, 8000).as_deref(), Some(""), "no speed without progress");
        assert_eq!(message(50, 0, 10_000).as_deref(), Some(""), "the replay is complete");
        assert!(ProgressLog::new(true).due(start + Duration::from_secs(3600)).is_none(), "quiet");
    }
}
