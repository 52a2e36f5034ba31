//! Reasons for refusing a row, and counters of all rows.

use std::fmt;

use crate::named_enum::named_enum;

named_enum! {
    /// Reason that a row was refused. A refused row changes nothing but a counter.
    #[derive(PartialOrd, Ord, Hash)]
    pub enum Refusal {
        /// Not readable as an observation: bad syntax, wrong type, no series or no time.
        Malformed = "malformed",
        /// For a closed step.
        Late = "late",
        /// At the time of a row in an open step or of a recently accepted row.
        Duplicate = "duplicate",
        /// More than `max_gap` ahead of its series, and not confirmed by a later row.
        TooFar = "too_far",
        /// Without a finite target.
        NotFinite = "not_finite",
        /// A row of a series beyond the limit, or the candidate of an evicted series.
        TooManySeries = "too_many_series",
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
        for (count, effect) in [
            (self.forecasts, "forecasts"),
            (self.restarts, "restarts after a gap"),
            (self.evictions, "evictions"),
            (self.forced_closes, "steps closed early"),
        ] {
            if count > 0 {
                write!(f, ", {count} {effect}")?;
            }
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
