//! Reasons for refusing a row, and counters of all rows.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Reason that a row was refused. A refused row changes nothing but a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Not readable as an observation: bad syntax, wrong type, no series or no time.
    Malformed,
    /// For a closed step.
    Late,
    /// At the time of a row in an open step or of a recently accepted row.
    Duplicate,
    /// More than `max_gap` ahead of its series, and not confirmed by a later row.
    TooFar,
    /// Without a finite target.
    NotFinite,
    /// Of a series beyond the limit, or the candidate of an evicted series.
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

    pub fn from_name(name: &str) -> Option<Self> {
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

/// Counters of rows and their effects. Every row is accepted, refused, or pending as a candidate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowCounters {
    pub rows: u64,
    pub forecasts: u64,
    /// Cold restarts of a series after a gap longer than `max_gap`.
    pub restarts: u64,
    /// Series evicted to make room for another.
    pub evictions: u64,
    /// Steps closed early because too many were open.
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
        for (sum, count) in self.refused.iter_mut().zip(other.refused) {
            *sum += count;
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
            for reason in Refusal::ALL.into_iter().filter(|reason| self.refused(*reason) > 0) {
                write!(f, " {}: {}", reason, self.refused(reason))?;
            }
        }
        Ok(())
    }
}
