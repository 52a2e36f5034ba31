//! For how long the stream has been past the newest good snapshot of a partition: what a restart would have to read again.
//! Only time in which the line went on counts. While it stood still nothing was read, and nothing could be kept either.

use std::time::Duration;

use tokio::time::Instant;

use crate::Position;

/// From one look to the next, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks within the shortest limits.
const LOOKS: u32 = 10;
/// More than the loop ever waits for a store or a commit between two looks: what is longer is a process that was stopped.
const STALL: Duration = Duration::from_secs(60);
/// One stall uses up no more than this part of the limit: then the store can still be tried.
const STALLS: u32 = 4;

/// When to look, and how much time a look counts.
#[derive(Debug)]
pub struct Clock {
    most: Duration,
    looked: Instant,
}

impl Clock {
    pub fn new(most: Duration, now: Instant) -> Self {
        Self { most, looked: now }
    }

    /// When to look next.
    pub fn due(&self) -> Instant {
        self.looked + LOOK_EVERY.min(self.most / LOOKS)
    }

    /// Looks now, if it is time; returns how much has passed.
    pub fn look(&mut self, now: Instant) -> Option<Duration> {
        let passed = (self.due() <= now).then(|| now - self.looked)?;
        self.looked = now;
        Some(passed.min(STALL).min(self.most / STALLS))
    }

    pub fn is_over(&self, age: Duration) -> bool {
        age > self.most
    }
}

/// That of one partition.
#[derive(Debug, Default)]
pub struct Age {
    /// The newest good snapshot at the last look.
    saved: Option<Position>,
    /// How long the stream has been past it; `None` where it is not.
    past: Option<Duration>,
    /// The snapshot that was begun last, and the same for it.
    begun: Option<(Position, Option<Duration>)>,
}

impl Age {
    /// A snapshot of this position begins.
    pub fn begin(&mut self, position: Position) {
        self.begun = Some((position, None));
    }

    /// A look: `passed` after the last one the stream is at `next`, and all below `saved` is safe. Returns for how long the
    /// stream has been past it.
    pub fn look(&mut self, passed: Duration, next: Position, saved: Position) -> Option<Duration> {
        if self.saved != Some(saved) {
            self.saved = Some(saved);
            // What came while the snapshot was taken has waited since then.
            let begun = self.begun.take_if(|(position, _)| *position == saved);
            self.past = begun.and_then(|(_, past)| past);
        }
        // It counts from the first look that finds it past: before, it may have been quiet for long.
        let longer = |past: Option<Duration>| Some(past.map_or(Duration::ZERO, |past| past + passed));
        self.past = if next == saved { None } else { longer(self.past) };
        if let Some((position, past)) = &mut self.begun
            && *position != next
        {
            *past = longer(*past);
        }
        self.past
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn only_a_stream_that_is_past_its_snapshot_grows_old() {
        let (mut age, at) = (Age::default(), Position);
        let mut look = |passed, next, saved| age.look(seconds(passed), at(next), at(saved));
        assert_eq!([look(50, 7, 7), look(50, 7, 7)], [None, None]);
        assert_eq!(look(5000, 8, 7), Some(seconds(0)), "it was quiet until now");
        assert_eq!([look(1, 8, 7), look(2, 9, 7)], [Some(seconds(1)), Some(seconds(3))]);
        assert_eq!([look(1, 9, 9), look(5000, 10, 9)], [None, Some(seconds(0))]);
    }

    #[test]
    fn what_came_while_a_snapshot_was_taken_is_as_old_as_that() {
        let (mut age, at) = (Age::default(), Position);
        age.look(seconds(1), at(5), at(0));
        age.look(seconds(9), at(5), at(0));
        age.begin(at(5));
        assert_eq!(age.look(seconds(1), at(5), at(0)), Some(seconds(10)));
        assert_eq!(age.look(seconds(1), at(6), at(0)), Some(seconds(11)));
        assert_eq!(age.look(seconds(3), at(6), at(0)), Some(seconds(14)));
        assert_eq!(age.look(seconds(1), at(6), at(5)), Some(seconds(4)));
    }

    #[test]
    fn a_process_that_stood_still_has_time_left() {
        let start = Instant::now();
        let mut clock = Clock::new(seconds(3600), start);
        assert_eq!(clock.look(start), None);
        assert_eq!(clock.look(start + seconds(2)), Some(seconds(2)));
        assert_eq!(clock.look(start + seconds(9000)), Some(STALL));
        assert_eq!(clock.due(), start + seconds(9001));
        let mut short = Clock::new(seconds(4), start);
        assert_eq!(short.look(start + seconds(9000)), Some(seconds(1)));
        assert!(short.is_over(seconds(5)) && !short.is_over(seconds(4)));
    }
}
