//! How much of its last steps a series keeps.

/// Steps of a window that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// At any time.
    pub steps: usize,
    /// When a step closes, besides: so many of those that fill the gap before it.
    pub filled: usize,
}

impl Keep {
    pub fn new(steps: usize) -> Self {
        Self { steps, filled: 0 }
    }

    /// At most, with what fills a gap.
    pub fn most(self) -> usize {
        self.steps.saturating_add(self.filled)
    }
}
