//! The time step of a history: the usual interval between the observations of a series.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};

use tidecast_core::schema::{Columns, Observations};
use tidecast_core::time::{DAY, HOUR, MILLISECOND, MINUTE, SECOND, TimeUnit, duration_text};
use tidecast_tables::{ParquetSource, ReadOptions};

use super::columns::ColumnRoles;

/// Rows that are read.
const SAMPLE_ROWS: usize = 200_000;

pub struct TimeStep {
    /// Microseconds.
    pub every: i64,
    /// True if no step has two rows of a series.
    pub one_row_per_step: bool,
    rows: usize,
    series: usize,
}

impl TimeStep {
    /// Reads the first rows. If times are integers, their unit is detected, too, and stored in `roles`.
    pub fn detect(data: &Path, roles: &mut ColumnRoles) -> Result<Self> {
        let columns = Columns {
            series: roles.series.clone(),
            only_series: "all".to_owned(),
            time: roles.time.clone(),
            targets: roles.targets.clone(),
            covariates: vec![],
            future_covariates: vec![],
        };
        let unit = if roles.time_is_integer { detect_unit(data, &columns)? } else { TimeUnit::Milliseconds };
        roles.time_unit = roles.time_is_integer.then_some(unit.name());
        let times = read_times(data, &columns, unit)?;
        let intervals = times.values().flat_map(|times| times.windows(2).map(|pair| pair[1] - pair[0]));
        let every = usual_interval(intervals.filter(|interval| *interval > 0).collect());
        let every = every.context(
            "no series has two observations at different times; name the columns with --time and --series, or give more history",
        )?;
        let one_row_per_step = times.values().all(|times| {
            let steps: BTreeSet<i64> = times.iter().map(|time| time.div_euclid(every)).collect();
            let distinct: BTreeSet<&i64> = times.iter().collect();
            steps.len() == distinct.len()
        });
        Ok(Self { every, one_row_per_step, rows: times.values().map(Vec::len).sum(), series: times.len() })
    }

    pub fn summary(&self) -> String {
        let (rows, series, every) = (self.rows, self.series, duration_text(self.every));
        format!(
            "Generated from the first {rows} rows: {series} series, usually one observation every {every}."
        )
    }
}

/// Usual sampling intervals in microseconds; irregular observations get the nearest one.
const COMMON_INTERVALS: [i64; 21] = [
    MILLISECOND,
    10 * MILLISECOND,
    100 * MILLISECOND,
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
    DAY,
    7 * DAY,
];

/// The most frequent interval if at least a third of all are equal to it; else the common interval nearest to the median.
fn usual_interval(mut intervals: Vec<i64>) -> Option<i64> {
    intervals.sort_unstable();
    let median = *intervals.get(intervals.len() / 2)?;
    let runs = intervals.chunk_by(|a, b| a == b);
    // The shortest of equally frequent ones.
    let mode = runs.max_by_key(|run| (run.len(), -run[0]))?;
    if 3 * mode.len() >= intervals.len() && mode[0] >= MILLISECOND {
        return Some(mode[0]);
    }
    let distance = |interval: &i64| (*interval as f64 / median as f64).ln().abs();
    COMMON_INTERVALS.into_iter().min_by(|a, b| distance(a).total_cmp(&distance(b)))
}

/// The times of each series in order.
fn read_times(data: &Path, columns: &Columns, unit: TimeUnit) -> Result<BTreeMap<String, Vec<i64>>> {
    let options = ReadOptions { time_unit: unit, ..ReadOptions::default() };
    let input = ParquetSource::open(data, columns, options)?;
    let (mut all, mut rows): (BTreeMap<String, Vec<i64>>, _) = (BTreeMap::new(), 0);
    let mut first_problem = None;
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
        first_problem =
            first_problem.or_else(|| batch.malformed.first().map(|malformed| malformed.detail.clone()));
        if rows >= SAMPLE_ROWS {
            break;
        }
    }
    if all.is_empty() {
        let why = first_problem.map_or(String::new(), |problem| format!(": {problem}"));
        bail!(
            "none of the first {rows} rows of {} is usable{why}; name the columns with --time and --series",
            data.display()
        );
    }
    all.values_mut().for_each(|times| times.sort_unstable());
    Ok(all)
}

/// The unit in which the times are between 1973 and 5138; these ranges do not overlap. No integer is too large if it is read
/// as nanoseconds.
fn detect_unit(data: &Path, columns: &Columns) -> Result<TimeUnit> {
    let thousandths = read_times(data, columns, TimeUnit::Nanoseconds)?;
    let latest = thousandths.values().filter_map(|times| times.last()).max().copied().unwrap_or(0);
    let ends = [
        (100_000_000, TimeUnit::Seconds),
        (100_000_000_000, TimeUnit::Milliseconds),
        (100_000_000_000_000, TimeUnit::Microseconds),
    ];
    Ok(ends.into_iter().find(|(end, _)| latest < *end).map_or(TimeUnit::Nanoseconds, |(_, unit)| unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_interval_is_the_step() {
        assert_eq!(usual_interval(vec![]), None);
        assert_eq!(usual_interval(vec![3600 * SECOND, 900 * SECOND, 900 * SECOND]), Some(900 * SECOND));
        // All different, and one very short by chance.
        let jittered: Vec<i64> = (1..50).map(|i| 10 * SECOND + 1000 * i).chain([300]).collect();
        assert_eq!(usual_interval(jittered), Some(10 * SECOND));
        assert_eq!(usual_interval(vec![20; 9]), Some(1000), "no step is shorter than a millisecond");
    }
}
