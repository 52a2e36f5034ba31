//! Which id of a partition has been silent longest: a list of all ids in the order of their latest rows, linked through
//! their numbers. To move one to the end costs the same however many there are, and it is as long as there are ids.

/// The end of the list.
const NONE: u32 = u32::MAX;

/// Two ids never tie: a row has one position and one id. So the order is that of the positions, and any restart finds
/// it again.
#[derive(Debug, Default)]
pub struct Silence {
    before: Vec<u32>,
    after: Vec<u32>,
    first: u32,
    last: u32,
}

impl Silence {
    /// Of ids whose latest rows are at these positions, by number.
    pub fn new(positions: impl Iterator<Item = i64>) -> Self {
        let mut order: Vec<(i64, u32)> = positions.zip(0..).collect();
        order.sort_unstable();
        let (before, after) = (vec![NONE; order.len()], vec![NONE; order.len()]);
        let mut all = Self { before, after, first: NONE, last: NONE };
        order.into_iter().for_each(|(_, index)| all.append(index));
        all
    }

    /// The id that has been silent longest.
    pub fn longest(&self) -> Option<usize> {
        (self.first != NONE).then_some(self.first as usize)
    }

    /// An id has shown a row.
    pub fn heard(&mut self, index: usize) {
        let index = index as u32;
        if self.last != index {
            self.take_out(index);
            self.append(index);
        }
    }

    fn append(&mut self, index: u32) {
        (self.before[index as usize], self.after[index as usize]) = (self.last, NONE);
        match self.last {
            NONE => self.first = index,
            last => self.after[last as usize] = index,
        }
        self.last = index;
    }

    fn take_out(&mut self, index: u32) {
        let (before, after) = (self.before[index as usize], self.after[index as usize]);
        match before {
            NONE => self.first = after,
            before => self.after[before as usize] = after,
        }
        match after {
            NONE => self.last = before,
            after => self.before[after as usize] = before,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_silent_is_that_of_the_least_position() {
        let mut positions = [7, 3, 9, 1, 5];
        let mut silence = Silence::new(positions.iter().copied());
        for (next, i) in (10..).zip([3, 3, 0, 4, 1, 2, 2, 0, 1, 4, 3, 0]) {
            silence.heard(i);
            positions[i] = next;
            let least = (0..5).min_by_key(|i| positions[*i]);
            assert_eq!(silence.longest(), least);
        }
        assert_eq!(Silence::new(std::iter::empty()).longest(), None);
    }

    #[test]
    fn one_alone_stays_the_first_and_the_last() {
        let mut silence = Silence::new([4].into_iter());
        silence.heard(0);
        assert_eq!(silence.longest(), Some(0));
    }
}
