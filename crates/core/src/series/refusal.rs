//! Why a row was not used, and how often.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The reason a row was refused. A refused row changes nothing but its count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Could not be read as an observation: bad syntax, wrong type, no series or no time.
    Malformed,
    /// Belongs to a step that has closed.
    Late,
    /// Repeats the time of a row in an open step, or of one of the last accepted rows.
    Duplicate,
    /// Ahead of its series by more than `max_gap`, and no later row agreed with it.
    TooFar,
    /// No target has a finite value.
    NotFinite,
    /// Would start one series more than the limit allows, or was held as the candidate of one that gave way to another.
    TooManySeries,
}

impl Refusal {
    pub const ALL: [Refusal; 6] = [
        Refusal::Malformed,
        Refusal::Late,
        Refusal::Duplicate,
        Refusal::TooFar,
        Refusal::NotFinite,
        Refusal::TooManySeries,
    ];

    /// The reason of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Refusal::Malformed => "malformed",
            Refusal::Late => "late",
            Refusal::Duplicate => "duplicate",
            Refusal::TooFar => "too_far",
            Refusal::NotFinite => "not_finite",
            Refusal::TooManySeries => "too_many_series",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Counts of what became of the rows: every row is either used, refused, or held as a candidate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowCounters {
    pub rows: u64,
    pub forecasts: u64,
    /// RecentTimes a series started again cold after a gap longer than `max_gap`.
    pub restarts: u64,
    /// Ids that were forgotten because another one needed their place.
    pub evictions: u64,
    /// StepBuffer that closed before their time because too many were open.
    pub forced_closes: u64,
    refused: [u64; Refusal::ALL.len()],
}

impl RowCounters {
    pub fn refuse(&mut self, reason: Refusal) {
        self.refused[reason as usize] += 1;
    }

    pub fn refused(&self, reason: Refusal) -> u64 {
        self.refused[reason as usize]
    }

    pub fn refused_total(&self) -> u64 {
        self.refused.iter().sum()
    }

    pub fn add(&mut self, other: &RowCounters) {
        self.rows += other.rows;
        self.forecasts += other.forecasts;
        self.restarts += other.restarts;
        self.evictions += other.evictions;
        self.forced_closes += other.forced_closes;
        for (mine, theirs) in self.refused.iter_mut().zip(other.refused) {
            *mine += theirs;
        }
    }
}

impl fmt::Display for RowCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows", self.rows)?;
        if self.forecasts > 0 {
            write!(f, ", {} forecasts", self.forecasts)?;
        }
        if self.restarts > 0 {
            write!(f, ", {} restarts after a gap", self.restarts)?;
        }
        if self.evictions > 0 {
            write!(f, ", {} evictions", self.evictions)?;
        }
        if self.forced_closes > 0 {
            write!(f, ", {} steps closed early", self.forced_closes)?;
        }
        if self.refused_total() > 0 {
            write!(f, ", refused")?;
            for reason in Refusal::ALL.into_iter().filter(|r| self.refused(*r) > 0) {
                write!(f, " {}: {}", reason, self.refused(reason))?;
            }
        }
        Ok(())
    }
}
