//! The last accepted times of an id, in which a repeated row is recognised.
//!
//! Most series are read by a clock: their times are evenly apart, and three numbers say them all. Only those of the others
//! are listed.

use std::collections::VecDeque;

/// Accepted times in which a repeated row is recognised after its step has closed. Redelivery repeats the most recent
/// rows of an id; more would cost every series its memory for nothing.
pub const REMEMBERED_TIMES: usize = 64;
const MOST: u8 = REMEMBERED_TIMES as u8;

/// At most [`REMEMBERED_TIMES`] times, oldest first.
#[derive(Clone, Debug)]
pub struct Times(Kept);

#[derive(Clone, Debug)]
enum Kept {
    /// `first`, `first + apart`, ...
    Even {
        first: i64,
        apart: i64,
        count: u8,
    },
    Listed(Box<Listed>),
}

#[derive(Clone, Debug)]
struct Listed {
    times: VecDeque<i64>,
    /// How many of the latest are evenly apart.
    even: u8,
}

impl Default for Times {
    fn default() -> Self {
        Self(Kept::Even { first: 0, apart: 0, count: 0 })
    }
}

impl Times {
    /// Adds the latest one; the oldest gives way.
    pub fn push(&mut self, time: i64) {
        match &mut self.0 {
            Kept::Even { first, count: count @ 0, .. } => (*first, *count) = (time, 1),
            Kept::Even { first, apart, count: count @ 1 } => {
                (*apart, *count) = (time.wrapping_sub(*first), 2);
            }
            Kept::Even { first, apart, count } if time == nth(*first, *apart, *count) => {
                if *count == MOST {
                    *first = first.wrapping_add(*apart);
                } else {
                    *count += 1;
                }
            }
            Kept::Even { .. } => {
                let mut times: VecDeque<i64> = self.iter().collect();
                add(&mut times, time);
                self.0 = Kept::Listed(Box::new(Listed { times, even: 2 }));
            }
            Kept::Listed(listed) => {
                let latest = [2, 1].map(|back| listed.times[listed.times.len() - back]);
                let goes_on = time.wrapping_sub(latest[1]) == latest[1].wrapping_sub(latest[0]);
                listed.even = if goes_on { listed.even.saturating_add(1) } else { 2 };
                add(&mut listed.times, time);
                if listed.even >= MOST {
                    let (first, second) = (listed.times[0], listed.times[1]);
                    self.0 = Kept::Even { first, apart: second.wrapping_sub(first), count: MOST };
                }
            }
        }
    }

    pub fn contains(&self, time: i64) -> bool {
        self.iter().any(|other| other == time)
    }

    pub fn len(&self) -> usize {
        match &self.0 {
            Kept::Even { count, .. } => usize::from(*count),
            Kept::Listed(listed) => listed.times.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = i64> {
        (0..self.len()).map(|i| match &self.0 {
            Kept::Even { first, apart, .. } => nth(*first, *apart, i as u8),
            Kept::Listed(listed) => listed.times[i],
        })
    }
}

fn nth(first: i64, apart: i64, i: u8) -> i64 {
    first.wrapping_add(apart.wrapping_mul(i64::from(i)))
}

fn add(times: &mut VecDeque<i64>, time: i64) {
    if times.len() == REMEMBERED_TIMES {
        times.pop_front();
    }
    times.push_back(time);
}

impl FromIterator<i64> for Times {
    fn from_iter<T: IntoIterator<Item = i64>>(times: T) -> Self {
        let mut all = Self::default();
        times.into_iter().for_each(|time| all.push(time));
        all
    }
}

/// However they are kept.
impl PartialEq for Times {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_the_last_ones_whichever_way_they_are_kept() {
        let even = |first: i64, apart: i64, count: i64| (0..count).map(move |i| first + apart * i);
        let all: Vec<i64> = even(0, 10, 100)
            .chain([995, 1003, 1003, 990])
            .chain(even(2000, 10, 40))
            .chain(even(2391, 7, 80))
            .chain([i64::MAX, i64::MIN])
            .chain(even(0, 0, 3))
            .collect();
        let (mut times, mut was_even) = (Times::default(), [0; 2]);
        for (i, time) in all.iter().enumerate() {
            times.push(*time);
            let expected = &all[(i + 1).saturating_sub(REMEMBERED_TIMES)..=i];
            assert!(times.iter().eq(expected.iter().copied()), "{times:?}");
            assert_eq!(times, expected.iter().copied().collect());
            assert!(times.contains(expected[0]) && times.len() == expected.len() && !times.contains(-5));
            was_even[usize::from(matches!(times.0, Kept::Even { .. }))] += 1;
        }
        assert!(was_even[0] > 60 && was_even[1] > 100, "{was_even:?}");
    }
}
