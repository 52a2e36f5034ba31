//! How far apart the readings of a series lie.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};

use super::columns::Found;
use crate::config::{Limits, Order, TimeUnit, duration_text};
use crate::io::parquet::{ParquetInput, Range};
use crate::table::{Columns, Observations};

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
        let mut apart: BTreeMap<i64, usize> = BTreeMap::new();
        for times in times.values() {
            times.windows(2).map(|pair| pair[1] - pair[0]).filter(|way| *way > 0).for_each(|way| {
                *apart.entry(way).or_default() += 1;
            });
        }
        // The most frequent, and of several the shortest.
        let most = apart.iter().max_by_key(|(way, count)| (**count, -**way)).map(|(way, _)| *way);
        let every = most.context("no series has two readings at different times")?;
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

/// The times of each series in order.
fn times(data: &Path, columns: &Columns, unit: TimeUnit) -> Result<BTreeMap<String, Vec<i64>>> {
    let limits = Limits::default();
    let input = ParquetInput::open(data, columns, unit, Order::File, Range::default(), None, &limits)?;
    let (mut all, mut rows): (BTreeMap<String, Vec<i64>>, _) = (BTreeMap::new(), 0);
    for batch in input.batches() {
        let batch = batch?.rows;
        let observations = Observations::new(&batch, columns);
        for i in 0..observations.len() {
            let id = observations.series.map_or("all", |series| series.value(i));
            let time = observations.times.value(i);
            match all.get_mut(id) {
                Some(times) => times.push(time),
                None => drop(all.insert(id.to_owned(), vec![time])),
            }
        }
        rows += observations.len();
        if rows >= LOOKED_AT {
            break;
        }
    }
    all.values_mut().for_each(|times| times.sort_unstable());
    Ok(all)
}

/// The unit in which the times of the data lie between 1973 and 5138: those of the units do not overlap.
fn unit_of(data: &Path, columns: &Columns) -> Result<TimeUnit> {
    let as_micros = times(data, columns, TimeUnit::Microseconds)?;
    let latest = as_micros.values().filter_map(|times| times.last()).max().copied().unwrap_or(0);
    let ends = [
        (100_000_000_000, TimeUnit::Seconds),
        (100_000_000_000_000, TimeUnit::Milliseconds),
        (100_000_000_000_000_000, TimeUnit::Microseconds),
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
