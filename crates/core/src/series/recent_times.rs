//! The last accepted times of a series, for the detection of duplicates.
//!
//! Most series have evenly spaced times, which three numbers represent; only irregular ones need a list.

use std::collections::VecDeque;

/// Accepted times retained for the detection of duplicates in closed steps. Redelivery repeats the latest rows; a longer list
/// would cost every series its memory.
pub const RECENT_TIMES_MAX: usize = 64;
const COUNT_MAX: u8 = RECENT_TIMES_MAX as u8;

/// At most [`RECENT_TIMES_MAX`] times, oldest first.
#[derive(Clone, Debug)]
pub struct RecentTimes(Storage);

#[derive(Clone, Debug)]
enum Storage {
    /// `first`, `first + interval`, ...
    Even {
        first: i64,
        interval: i64,
        count: u8,
    },
    Listed(Box<List>),
}

#[derive(Clone, Debug)]
struct List {
    times: VecDeque<i64>,
    /// Length of the evenly spaced run at the end.
    even_count: u8,
}

impl Default for RecentTimes {
    fn default() -> Self {
        Self(Storage::Even { first: 0, interval: 0, count: 0 })
    }
}

impl RecentTimes {
    /// Appends a time; drops the oldest one when full.
    pub fn push(&mut self, time: i64) {
        match &mut self.0 {
            Storage::Even { first, count: count @ 0, .. } => (*first, *count) = (time, 1),
            Storage::Even { first, interval, count: count @ 1 } => {
                (*interval, *count) = (time.wrapping_sub(*first), 2);
            }
            Storage::Even { first, interval, count } if time == nth(*first, *interval, *count) => {
                if *count == COUNT_MAX {
                    *first = first.wrapping_add(*interval);
                } else {
                    *count += 1;
                }
            }
            Storage::Even { .. } => {
                let mut times: VecDeque<i64> = self.iter().collect();
                push_bounded(&mut times, time);
                self.0 = Storage::Listed(Box::new(List { times, even_count: 2 }));
            }
            Storage::Listed(list) => {
                let latest = [2, 1].map(|back| list.times[list.times.len() - back]);
                let is_even = time.wrapping_sub(latest[1]) == latest[1].wrapping_sub(latest[0]);
                list.even_count = if is_even { list.even_count.saturating_add(1) } else { 2 };
                push_bounded(&mut list.times, time);
                if list.even_count >= COUNT_MAX {
                    let (first, second) = (list.times[0], list.times[1]);
                    self.0 = Storage::Even { first, interval: second.wrapping_sub(first), count: COUNT_MAX };
                }
            }
        }
    }

    pub fn contains(&self, time: i64) -> bool {
        self.iter().any(|other| other == time)
    }

    pub fn len(&self) -> usize {
        match &self.0 {
            Storage::Even { count, .. } => usize::from(*count),
            Storage::Listed(list) => list.times.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The times, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = i64> {
        (0..self.len()).map(|i| match &self.0 {
            Storage::Even { first, interval, .. } => nth(*first, *interval, i as u8),
            Storage::Listed(list) => list.times[i],
        })
    }
}

fn nth(first: i64, interval: i64, i: u8) -> i64 {
    first.wrapping_add(interval.wrapping_mul(i64::from(i)))
}

fn push_bounded(times: &mut VecDeque<i64>, time: i64) {
    if times.len() == RECENT_TIMES_MAX {
        times.pop_front();
    }
    times.push_back(time);
}

impl FromIterator<i64> for RecentTimes {
    fn from_iter<T: IntoIterator<Item = i64>>(times: T) -> Self {
        let mut recent = Self::default();
        times.into_iter().for_each(|time| recent.push(time));
        recent
    }
}

/// Compares the times, not their storage.
impl PartialEq for RecentTimes {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_storages_hold_the_last_times() {
        let even = |first: i64, interval: i64, count: i64| (0..count).map(move |i| first + interval * i);
        let all: Vec<i64> = even(0, 10, 100)
            .chain([995, 1003, 1003, 990])
            .chain(even(2000, 10, 40))
            .chain(even(2391, 7, 80))
            .chain([i64::MAX, i64::MIN])
            .chain(even(0, 0, 3))
            .collect();
        let (mut times, mut even_pushes, mut listed_pushes) = (RecentTimes::default(), 0, 0);
        for (i, time) in all.iter().enumerate() {
            times.push(*time);
            let expected = &all[(i + 1).saturating_sub(RECENT_TIMES_MAX)..=i];
            assert!(times.iter().eq(expected.iter().copied()), "{times:?}");
            assert_eq!(times, expected.iter().copied().collect());
            assert!(times.contains(expected[0]) && times.len() == expected.len() && !times.contains(-5));
            match times.0 {
                Storage::Even { .. } => even_pushes += 1,
                Storage::Listed(_) => listed_pushes += 1,
            }
        }
        assert!(even_pushes > 100 && listed_pushes > 60, "{even_pushes} {listed_pushes}");
    }
}
