//! What of all that is at hand a readout reads. A short history cannot teach what every feature is worth, so that less may
//! say more; which, is found on parts of the history that were not fitted.

/// Values before the last one that every readout reads as they are.
pub const RECENT: usize = 23;

/// Multiplications of a pass over the rows of all steps up to which some of the rows are kept: what takes passes over them
/// is then a matter of seconds.
const SMALL: f64 = 3e9;
/// Numbers of the rows that are kept, at most: 64 MiB, a few times over while they are fitted.
const NUMBERS: f64 = 16_777_216.0;

/// Of a pass over those that are kept; of more rows, one of every n.
const KEPT: f64 = 3e8;

/// Features that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// States and all recent values.
    Everything,
    /// States and the latest values.
    States,
    /// All recent values.
    Window,
    /// The plain decays and the latest values.
    Plain,
    /// The latest values.
    Latest,
}

impl Reading {
    /// Whether it reads more than the latest of the recent values.
    pub fn is_long(self) -> bool {
        matches!(self, Self::Everything | Self::Window)
    }

    pub fn words(self) -> &'static str {
        match self {
            Self::Everything => "its states and all recent values",
            Self::States => "its states and the latest values",
            Self::Window => "all recent values",
            Self::Plain => "the plain decays and the latest values",
            Self::Latest => "the latest values",
        }
    }
}

/// Where the features lie, and what is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readings {
    /// Numbers of the state that are plain decays; they come first.
    pub plain: usize,
    /// Numbers of the state.
    pub states: usize,
    /// Recent values.
    pub recent: usize,
    /// Every how many rows one is kept; none where there are too many.
    pub keep: Option<usize>,
}

impl Readings {
    /// What is tried, the default first. A history whose rows are too many to keep can teach all there is.
    pub fn offered(&self) -> Vec<Reading> {
        use Reading::{Everything, Latest, Plain, States, Window};
        let possible = |reading: &Reading| match reading {
            States => true,
            Everything | Window => self.keep.is_some() && self.recent > RECENT,
            Plain => self.keep.is_some() && self.plain < self.states,
            Latest => self.keep.is_some(),
        };
        [States, Everything, Window, Plain, Latest].into_iter().filter(possible).collect()
    }

    /// Whether `reading` reads a feature; those that are neither states nor recent values it reads in any case.
    pub fn reads(&self, reading: Reading, feature: usize) -> bool {
        if feature < self.states {
            let plain = feature < self.plain;
            return match reading {
                Reading::Everything | Reading::States => true,
                Reading::Plain => plain,
                Reading::Window | Reading::Latest => false,
            };
        }
        let place = feature - self.states;
        place < RECENT || place >= self.recent || reading.is_long()
    }
}

/// Every how many rows one is kept of so many, each with so many features and targets; none if that is too much.
pub fn keep(rows: usize, features: usize, targets: usize) -> Option<f64> {
    let pass = rows as f64 * features as f64 * targets as f64;
    let numbers = rows as f64 * (features + targets) as f64;
    (pass <= SMALL).then_some((pass / KEPT).max(numbers / NUMBERS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_reads_its_groups_and_what_is_known_besides() {
        let readings = Readings { plain: 2, states: 5, recent: RECENT + 4, keep: Some(1) };
        let read = |reading| {
            let all = (0..5 + RECENT + 4 + 2).filter(|feature| readings.reads(reading, *feature));
            all.count() - 2 - RECENT
        };
        let counts = readings.offered().into_iter().map(read).collect::<Vec<_>>();
        assert_eq!(counts, [5, 9, 4, 2, 0]);
    }

    #[test]
    fn a_long_history_reads_its_states_and_the_latest_values() {
        let readings = Readings { plain: 2, states: 5, recent: RECENT, keep: None };
        assert_eq!(readings.offered(), [Reading::States]);
        assert_eq!(keep(100_000_000, 100, 24), None);
        assert!(keep(3000, 400, 12).is_some_and(|every| every < 1.0));
    }
}
