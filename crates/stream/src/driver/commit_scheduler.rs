//! The schedule of commits.
//!
//! A commit starts early enough to end `commit.every` after its first row. If commits are slow and rows many, it starts later,
//! by a pause of at most a second: a consumer that lags does not catch up by committing more often.

use std::time::Duration;

use tokio::time::Instant;

use crate::settings::Commit;

/// The pause after a large commit, as a multiple of its duration: large commits of up to 250 ms take at most a fifth of the
/// time. After longer ones the pause is [`PAUSE_MAX`].
const PAUSE_FACTOR: u32 = 4;
/// Longest pause: uncommitted output is invisible to readers.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A commit of less than 1/8 of the maximum rows needs no pause: the consumer does not lag.
const LARGE_COMMIT_DIVISOR: usize = 8;
/// A commit starts early by the recent latency, but not before 1/2 of `commit.every` has passed.
const EARLY_DIVISOR: u32 = 2;
/// After a slow commit the expected latency decays by 1/8 per commit.
const LATENCY_DECAY_DIVISOR: u32 = 8;

#[derive(Debug)]
pub struct CommitScheduler {
    every: Duration,
    /// Rows from which on a commit is large.
    large_rows: usize,
    /// `None` if there is nothing to commit.
    due: Option<Instant>,
    running: Option<RunningCommit>,
    paused_until: Option<Instant>,
    /// The expected duration of a commit.
    latency: Duration,
}

#[derive(Debug)]
struct RunningCommit {
    started: Instant,
    is_large: bool,
}

impl CommitScheduler {
    pub fn new(commit: &Commit) -> Self {
        Self {
            every: commit.every,
            large_rows: commit.rows / LARGE_COMMIT_DIVISOR,
            due: None,
            running: None,
            paused_until: None,
            latency: Duration::ZERO,
        }
    }

    /// There are rows to commit.
    pub fn on_rows(&mut self, now: Instant) {
        let early = self.latency.min(self.every / EARLY_DIVISOR);
        self.due.get_or_insert(now + self.every - early);
    }

    /// There is something to commit without delay.
    pub fn schedule_now(&mut self, now: Instant) {
        self.due.get_or_insert(now);
    }

    pub fn due(&self) -> Option<Instant> {
        self.due.max(self.due.and(self.paused_until))
    }

    /// A commit of all pending output, from `rows` rows, starts.
    pub fn on_commit_start(&mut self, now: Instant, rows: usize) {
        self.due = None;
        self.running = Some(RunningCommit { started: now, is_large: rows >= self.large_rows });
    }

    /// The running commit has ended.
    pub fn on_commit_end(&mut self, now: Instant) {
        if let Some(RunningCommit { started, is_large }) = self.running.take() {
            let duration = now - started;
            self.paused_until = is_large.then(|| now + (PAUSE_FACTOR * duration).min(PAUSE_MAX));
            self.latency = duration.max(self.latency - self.latency / LATENCY_DECAY_DIVISOR);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_large_commit_is_followed_by_a_pause() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut commits = CommitScheduler::new(&Commit { every: Duration::from_millis(100), rows: 800 });
        assert_eq!(commits.due(), None);
        commits.on_rows(at(0));
        commits.on_rows(at(50));
        assert_eq!(commits.due(), Some(at(100)));
        commits.on_commit_start(at(100), 100);
        commits.on_rows(at(110));
        assert_eq!(commits.due(), Some(at(210)));
        commits.on_commit_end(at(110));
        assert_eq!(commits.due(), Some(at(210)), "a fast commit delays nothing");
        commits.on_commit_start(at(210), 100);
        commits.on_commit_end(at(310));
        assert_eq!(commits.due(), None);
        commits.on_rows(at(320));
        assert_eq!(commits.due(), Some(at(710)));
        commits.on_commit_start(at(710), 800);
        commits.on_commit_end(at(9000));
        commits.on_rows(at(9000));
        assert_eq!(commits.due(), Some(at(10_000)));
        commits.on_commit_start(at(10_000), 99);
        commits.on_commit_end(at(10_500));
        commits.on_rows(at(10_500));
        assert_eq!(commits.due(), Some(at(10_550)), "a small commit causes no pause");
    }

    #[test]
    fn a_commit_starts_earlier_after_slow_commits() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut commits = CommitScheduler::new(&Commit { every: Duration::from_millis(100), rows: 800 });
        let mut delay = |from: u64, duration: u64| {
            commits.on_rows(at(from));
            let due = commits.due().unwrap();
            commits.on_commit_start(due, 1);
            commits.on_commit_end(due + Duration::from_millis(duration));
            (due - at(from)).as_millis()
        };
        assert_eq!([delay(0, 40), delay(1000, 8), delay(2000, 90), delay(3000, 0)], [100, 60, 65, 50]);
        assert!((4..60).map(|i| delay(1000 * i, 0)).last() >= Some(99), "fast commits restore the delay");
    }
}
