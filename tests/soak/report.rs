//! What a fault has done to the output: one line of JSON each.

use std::collections::BTreeMap;
use std::time::Duration;

/// What was to be seen and what was seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Comparison {
    pub compared: usize,
    pub lost: usize,
    pub twice: usize,
    pub different: usize,
    /// Of the rejects: wanted and come, lost, twice.
    pub rejects: usize,
    pub rejects_lost: usize,
    pub rejects_twice: usize,
}

impl Comparison {
    /// Forecasts by series, in their order.
    pub fn of(expected: &BTreeMap<String, Vec<String>>, seen: &BTreeMap<String, Vec<String>>) -> Self {
        let mut comparison = Self::default();
        for series in expected.keys().chain(seen.keys().filter(|series| !expected.contains_key(*series))) {
            let nothing = Vec::new();
            let wanted = expected.get(series).unwrap_or(&nothing);
            let came = seen.get(series).unwrap_or(&nothing);
            comparison.compared += came.len();
            if wanted == came {
                continue;
            }
            let count = |lines: &[String]| {
                lines.iter().fold(BTreeMap::<String, Vec<String>>::new(), |mut by, line| {
                    by.entry(origin(line)).or_default().push(line.clone());
                    by
                })
            };
            let (wanted, came) = (count(wanted), count(came));
            comparison.lost += wanted.keys().filter(|origin| !came.contains_key(*origin)).count();
            for (origin, lines) in &came {
                comparison.twice += lines.len() - 1;
                let right = wanted.get(origin);
                comparison.different +=
                    lines.iter().filter(|line| right.is_none_or(|right| right[0] != **line)).count();
            }
            // All there, but in another order: that is a difference, too.
            comparison.different +=
                usize::from(comparison.lost + comparison.twice + comparison.different == 0);
        }
        comparison
    }

    pub fn add_rejects(&mut self, sent: &[String], came: &[String]) {
        let count = |all: &[String]| {
            all.iter().fold(BTreeMap::<String, usize>::new(), |mut by, bytes| {
                *by.entry(bytes.clone()).or_default() += 1;
                by
            })
        };
        let (wanted, found) = (count(sent), count(came));
        self.rejects = came.len();
        for bytes in wanted.keys().chain(found.keys().filter(|bytes| !wanted.contains_key(*bytes))) {
            let (wanted, found) =
                (wanted.get(bytes).copied().unwrap_or(0), found.get(bytes).copied().unwrap_or(0));
            self.rejects_lost += wanted.saturating_sub(found);
            self.rejects_twice += found.saturating_sub(wanted);
        }
    }

    fn is_clean(&self) -> bool {
        self.lost + self.twice + self.different + self.rejects_lost + self.rejects_twice == 0
    }
}

fn origin(line: &str) -> String {
    let fields: serde_json::Value = serde_json::from_str(line).expect("a forecast is JSON");
    fields["origin"].as_str().expect("an origin is text").to_owned()
}

pub struct Round {
    pub rows: usize,
    pub strikes: u64,
    /// Strikes that fell within a transaction.
    pub within: u64,
    pub takeover: Duration,
    /// The most memory that a member has ever had.
    pub peak_mb: u64,
    /// Of all rounds up to this one.
    pub comparison: Comparison,
}

/// Prints what came of a fault, and fails where it did any harm, or could not have.
pub fn report(fault: &str, rounds: &[Round]) {
    let sum = |of: &dyn Fn(&Round) -> u64| rounds.iter().map(of).sum::<u64>();
    let (strikes, within) = (sum(&|round| round.strikes), sum(&|round| round.within));
    let last = rounds.last().expect("a round").comparison;
    let mut takeovers: Vec<u128> = rounds.iter().map(|round| round.takeover.as_millis()).collect();
    takeovers.sort_unstable();
    let line = serde_json::json!({
        "fault": fault,
        "rounds": rounds.len(),
        "strikes": strikes,
        "strikes_in_transaction": within,
        "rows": sum(&|round| round.rows as u64),
        "forecasts_compared": last.compared,
        "lost": last.lost,
        "twice": last.twice,
        "different_bytes": last.different,
        "rejects_compared": last.rejects,
        "rejects_lost": last.rejects_lost,
        "rejects_twice": last.rejects_twice,
        "peak_mb": rounds.iter().map(|round| round.peak_mb).max(),
        "takeover_ms": { "median": takeovers[takeovers.len() / 2] as u64, "most": takeovers[takeovers.len() - 1] as u64 },
    });
    eprintln!("{line}");
    assert!(last.compared > 0, "{fault}: nothing was compared");
    assert!(strikes == 0 || within > 0, "{fault}: never struck within a transaction");
    // Flat, whatever is slow: what waits is bounded.
    assert!(rounds.iter().all(|round| round.peak_mb < 400), "{fault}: a member grew: {line}");
    for (number, round) in rounds.iter().enumerate() {
        assert!(round.comparison.is_clean(), "{fault}, round {number}: {:?}", round.comparison);
    }
}
