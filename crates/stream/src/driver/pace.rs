//! When the next commit is to begin: so early that it has ended `commit.every` after the first row that it takes, but where
//! commits are slow and many rows come, not so soon that they take most of the time. Who is far behind does not read faster by
//! committing more often.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Commit;

/// A commit rests for so many times as long as it took, so that commits take at most a fifth of the time.
const REST: u32 = 4;
/// But for no longer: what waits to be committed waits to be seen.
const LONGEST: Duration = Duration::from_secs(1);
/// Only a commit of at least this part of the rows that one takes at most rests: with fewer nobody is behind, and each is
/// to be seen soon.
const MANY: usize = 8;
/// A commit begins early by as long as they take of late, but rows are gathered for at least this part of `commit.every`.
const GATHERED: u32 = 2;
/// After a slow one, commits are trusted to be quicker by this part each.
const TRUST: u32 = 8;

#[derive(Debug)]
pub struct Pace {
    every: Duration,
    /// Rows of a commit from which on it rests.
    many: usize,
    /// `None` where there is nothing to commit.
    due: Option<Instant>,
    /// Since when a commit is under way, and whether it rests afterwards.
    began: Option<(Instant, bool)>,
    /// Before this, none is due.
    rests_until: Option<Instant>,
    /// How long commits take of late.
    takes: Duration,
}

impl Pace {
    pub fn new(commit: &Commit) -> Self {
        let (due, began, rests_until) = (None, None, None);
        Self { every: commit.every, many: commit.rows / MANY, due, began, rests_until, takes: Duration::ZERO }
    }

    /// There is something to commit.
    pub fn rows(&mut self, now: Instant) {
        let early = self.takes.min(self.every / GATHERED);
        self.due.get_or_insert(now + self.every - early);
    }

    /// There is something to commit that should not wait.
    pub fn at_once(&mut self, now: Instant) {
        self.due.get_or_insert(now);
    }

    pub fn due(&self) -> Option<Instant> {
        self.due.max(self.due.and(self.rests_until))
    }

    /// A commit takes all there is: so many rows.
    pub fn begun(&mut self, now: Instant, rows: usize) {
        (self.due, self.began) = (None, Some((now, rows >= self.many)));
    }

    /// The commit under way has ended.
    pub fn ended(&mut self, now: Instant) {
        if let Some((began, rests)) = self.began.take() {
            let took = now - began;
            self.rests_until = rests.then(|| now + (REST * took).min(LONGEST));
            self.takes = took.max(self.takes - self.takes / TRUST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_that_was_slow_is_followed_by_a_rest() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut pace = Pace::new(&Commit { every: Duration::from_millis(100), rows: 800 });
        assert_eq!(pace.due(), None);
        pace.rows(at(0));
        pace.rows(at(50));
        assert_eq!(pace.due(), Some(at(100)));
        pace.begun(at(100), 100);
        pace.rows(at(110));
        assert_eq!(pace.due(), Some(at(210)));
        pace.ended(at(110));
        assert_eq!(pace.due(), Some(at(210)), "a quick one is not felt");
        pace.begun(at(210), 100);
        pace.ended(at(310));
        assert_eq!(pace.due(), None);
        pace.rows(at(320));
        assert_eq!(pace.due(), Some(at(710)));
        pace.begun(at(710), 800);
        pace.ended(at(9000));
        pace.rows(at(9000));
        assert_eq!(pace.due(), Some(at(10_000)));
        pace.begun(at(10_000), 99);
        pace.ended(at(10_500));
        pace.rows(at(10_500));
        assert_eq!(pace.due(), Some(at(10_550)), "few rows wait for nobody's rest");
    }

    #[test]
    fn a_commit_begins_as_early_as_the_last_were_slow() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut pace = Pace::new(&Commit { every: Duration::from_millis(100), rows: 800 });
        let mut due = |from: u64, took: u64| {
            pace.rows(at(from));
            let due = pace.due().unwrap();
            pace.begun(due, 1);
            pace.ended(due + Duration::from_millis(took));
            (due - at(from)).as_millis()
        };
        assert_eq!([due(0, 40), due(1000, 8), due(2000, 90), due(3000, 0)], [100, 60, 65, 50]);
        assert!((4..60).map(|i| due(1000 * i, 0)).last() >= Some(99), "and late again once they are quick");
    }
}
