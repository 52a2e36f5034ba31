//! How far apart the readings of a series lie.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::columns::Found;
use crate::config::{Limits, Order, TimeUnit, duration_text};
use tidecast_tables::{ParquetInput, Range};
use tidecast_core::table::{Columns, Observations};

/// Rows that are looked at.
const LOOKED_AT: usize = 200_000;

pub struct Cadence {
    /// Microseconds.
    pub every: i64,
    /// Whether no step of that length has two rows of a series.
    pub alone: bool,
    rows: usize,
    series: usize,
}

impl Cadence {
    /// Looks at the first rows; where times are whole numbers it finds their unit, too, and notes it in `found`.
    pub fn of(data: &Path, found: &mut Found) -> Result<Self> {
        let columns = Columns {
            series: found.series.clone(),
            only_series: "all".to_owned(),
            time: found.time.clone(),
            targets: found.targets.clone(),
            covariates: vec![],
            known_ahead: vec![],
        };
        let unit = if found.is_number { unit_of(data, &columns)? } else { TimeUnit::Milliseconds };
        found.unit = found.is_number.then_some(name_of(unit));
        let times = times(data, &columns, unit)?;
        let ways = times.values().flat_map(|times| times.windows(2).map(|pair| pair[1] - pair[0]));
        let every = step_of(ways.filter(|way| *way > 0).collect());
        let every = every.context(
            "no series has two readings at different times, so that the length of a step shows; name the columns with --time \
             and --series, or give more history",
        )?;
        let alone = times.values().all(|times| {
            let steps: BTreeSet<i64> = times.iter().map(|time| time.div_euclid(every)).collect();
            let distinct: BTreeSet<&i64> = times.iter().collect();
            steps.len() == distinct.len()
        });
        Ok(Self { every, alone, rows: times.values().map(Vec::len).sum(), series: times.len() })
    }

    pub fn summary(&self) -> String {
        let (rows, series, every) = (self.rows, self.series, duration_text(self.every));
        format!("Made from the first {rows} rows: {series} series, mostly a reading each {every}.")
    }
}

/// Steps that clocks have, in microseconds: what is nearest stands for readings that are not quite regular.
const USUAL: [i64; 21] = {
    const SECOND: i64 = 1_000_000;
    const MINUTE: i64 = 60 * SECOND;
    const HOUR: i64 = 60 * MINUTE;
    [
        1_000,
        10_000,
        100_000,
        SECOND,
        2 * SECOND,
        5 * SECOND,
        10 * SECOND,
        15 * SECOND,
        30 * SECOND,
        MINUTE,
        2 * MINUTE,
        5 * MINUTE,
        10 * MINUTE,
        15 * MINUTE,
        30 * MINUTE,
        HOUR,
        3 * HOUR,
        6 * HOUR,
        12 * HOUR,
        24 * HOUR,
        7 * 24 * HOUR,
    ]
};

/// The way between readings that at least a third of them have; else the usual step that is nearest to the middle one.
fn step_of(mut ways: Vec<i64>) -> Option<i64> {
    ways.sort_unstable();
    let middle = *ways.get(ways.len() / 2)?;
    let runs = ways.chunk_by(|a, b| a == b);
    // Of several that are as frequent, the shortest.
    let most = runs.max_by_key(|run| (run.len(), -run[0]))?;
    if 3 * most.len() >= ways.len() && most[0] >= USUAL[0] {
        return Some(most[0]);
    }
    let off = |step: &i64| (*step as f64 / middle as f64).ln().abs();
    USUAL.into_iter().min_by(|a, b| off(a).total_cmp(&off(b)))
}

/// The times of each series in order.
fn times(data: &Path, columns: &Columns, unit: TimeUnit) -> Result<BTreeMap<String, Vec<i64>>> {
    let limits = Limits::default();
    let input = ParquetInput::open(data, columns, unit, Order::File, Range::default(), None, &limits)?;
    let (mut all, mut rows): (BTreeMap<String, Vec<i64>>, _) = (BTreeMap::new(), 0);
    let mut flaw = None;
    for batch in input.batches() {
        let batch = batch?;
        let observations = Observations::new(&batch.rows, columns);
        for i in 0..observations.len() {
            let id = observations.series.map_or("all", |series| series.value(i));
            let time = observations.times.value(i);
            match all.get_mut(id) {
                Some(times) => times.push(time),
                None => drop(all.insert(id.to_owned(), vec![time])),
            }
        }
        rows += observations.len() + batch.malformed.len();
        flaw = flaw.or_else(|| batch.malformed.first().map(|malformed| malformed.detail.clone()));
        if rows >= LOOKED_AT {
            break;
        }
    }
    if all.is_empty() {
        let why = flaw.map_or(String::new(), |flaw| format!(": {flaw}"));
        bail!(
            "none of the first {rows} rows of {} can be used{why}; name the columns with --time and --series",
            data.display()
        );
    }
    all.values_mut().for_each(|times| times.sort_unstable());
    Ok(all)
}

/// The unit in which the times of the data lie between 1973 and 5138: those of the units do not overlap. Read as nanoseconds,
/// whatever they are, none is too large.
fn unit_of(data: &Path, columns: &Columns) -> Result<TimeUnit> {
    let thousandths = times(data, columns, TimeUnit::Nanoseconds)?;
    let latest = thousandths.values().filter_map(|times| times.last()).max().copied().unwrap_or(0);
    let ends = [
        (100_000_000, TimeUnit::Seconds),
        (100_000_000_000, TimeUnit::Milliseconds),
        (100_000_000_000_000, TimeUnit::Microseconds),
    ];
    Ok(ends.into_iter().find(|(end, _)| latest < *end).map_or(TimeUnit::Nanoseconds, |(_, unit)| unit))
}

fn name_of(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Seconds => "s",
        TimeUnit::Milliseconds => "ms",
        TimeUnit::Microseconds => "us",
        TimeUnit::Nanoseconds => "ns",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_what_most_readings_keep_to() {
        let second = 1_000_000;
        assert_eq!(step_of(vec![]), None);
        assert_eq!(step_of(vec![3600 * second, 900 * second, 900 * second]), Some(900 * second));
        // No two alike, and one by chance very short.
        let jittered: Vec<i64> = (1..50).map(|i| 10 * second + 1000 * i).chain([300]).collect();
        assert_eq!(step_of(jittered), Some(10 * second));
        assert_eq!(step_of(vec![20; 9]), Some(1000), "no step is shorter than a millisecond");
    }
}
