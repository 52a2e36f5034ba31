//! Compares the output with the expected one, and reports the effect of a fault as one line of JSON.

use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Clone, Copy, Debug, Default)]
pub struct Comparison {
    forecasts: usize,
    lost: usize,
    duplicated: usize,
    different: usize,
    rejects: usize,
    rejects_lost: usize,
    rejects_duplicated: usize,
}

impl Comparison {
    /// Compares forecasts by series, in order.
    pub fn new(expected: &BTreeMap<String, Vec<String>>, actual: &BTreeMap<String, Vec<String>>) -> Self {
        let mut comparison = Self::default();
        for series in expected.keys().chain(actual.keys().filter(|series| !expected.contains_key(*series))) {
            let lines = |all: &BTreeMap<String, Vec<String>>| all.get(series).cloned().unwrap_or_default();
            comparison.add_series(&lines(expected), &lines(actual));
        }
        comparison
    }

    fn add_series(&mut self, expected: &[String], actual: &[String]) {
        self.forecasts += actual.len();
        if expected == actual {
            return;
        }
        let before = self.deviations();
        let (expected, actual) = (by_origin(expected), by_origin(actual));
        self.lost += expected.keys().filter(|origin| !actual.contains_key(*origin)).count();
        for (origin, lines) in &actual {
            self.duplicated += lines.len() - 1;
            let expected = expected.get(origin);
            self.different +=
                lines.iter().filter(|line| expected.is_none_or(|expected| expected[0] != **line)).count();
        }
        // Otherwise complete, but in another order.
        self.different += usize::from(self.deviations() == before);
    }

    pub fn add_rejects(&mut self, sent: &[String], actual: &[String]) {
        let (sent, found) = (count_equal(sent), count_equal(actual));
        self.rejects = actual.len();
        for bytes in sent.keys().chain(found.keys().filter(|bytes| !sent.contains_key(*bytes))) {
            let (sent, found) =
                (sent.get(bytes).copied().unwrap_or(0), found.get(bytes).copied().unwrap_or(0));
            self.rejects_lost += sent.saturating_sub(found);
            self.rejects_duplicated += found.saturating_sub(sent);
        }
    }

    fn deviations(&self) -> usize {
        self.lost + self.duplicated + self.different + self.rejects_lost + self.rejects_duplicated
    }
}

fn by_origin(lines: &[String]) -> BTreeMap<String, Vec<&String>> {
    let mut by_origin = BTreeMap::<String, Vec<&String>>::new();
    for line in lines {
        let fields: serde_json::Value = serde_json::from_str(line).expect("a forecast is JSON");
        let origin = fields["origin"].as_str().expect("an origin is text");
        by_origin.entry(origin.to_owned()).or_default().push(line);
    }
    by_origin
}

fn count_equal(all: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for bytes in all {
        *counts.entry(bytes.as_str()).or_default() += 1;
    }
    counts
}

pub struct Round {
    pub rows: usize,
    pub hit_transaction: bool,
    /// From the fault until all partitions have progressed.
    pub takeover: Duration,
    /// The largest peak memory of a member.
    pub peak_mb: u64,
    /// Of all rounds so far.
    pub comparison: Comparison,
}

/// Prints the effect of a fault. Fails if the output differs, or if no fault hit a transaction.
pub fn report(fault: &str, rounds: &[Round]) {
    let in_transaction = rounds.iter().filter(|round| round.hit_transaction).count();
    let last = rounds.last().expect("a round").comparison;
    let mut takeovers: Vec<u128> = rounds.iter().map(|round| round.takeover.as_millis()).collect();
    takeovers.sort_unstable();
    let line = serde_json::json!({
        "fault": fault,
        "rounds": rounds.len(),
        "faults_in_transaction": in_transaction,
        "rows": rounds.iter().map(|round| round.rows).sum::<usize>(),
        "forecasts_compared": last.forecasts,
        "lost": last.lost,
        "duplicated": last.duplicated,
        "different_bytes": last.different,
        "rejects_compared": last.rejects,
        "rejects_lost": last.rejects_lost,
        "rejects_duplicated": last.rejects_duplicated,
        "peak_mb": rounds.iter().map(|round| round.peak_mb).max(),
        "takeover_ms": { "median": takeovers[takeovers.len() / 2] as u64, "max": takeovers[takeovers.len() - 1] as u64 },
    });
    eprintln!("{line}");
    assert!(last.forecasts > 0, "{fault}: nothing was compared");
    assert!(in_transaction > 0, "{fault}: no fault hit a transaction");
    // All queues are bounded, so a slow component does not increase the memory.
    assert!(rounds.iter().all(|round| round.peak_mb < 400), "{fault}: a member uses too much memory: {line}");
    for (number, round) in rounds.iter().enumerate() {
        assert!(round.comparison.deviations() == 0, "{fault}, round {number}: {:?}", round.comparison);
    }
}
