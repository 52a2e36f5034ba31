//! What a snapshot says of itself. Every batch of it is read, so that damage shows.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use serde::Serialize;

use tidecast_stream::state::{self, Head};

/// Ids that are named.
const NAMED: usize = 5;

/// What its rows add up to.
#[derive(Default)]
struct Sum {
    ids: u64,
    /// Ids none of whose steps has closed yet since they started.
    cold: u64,
    /// Ids that wait for a second reading to agree with their first one or one far ahead.
    waiting: u64,
    positions: Option<(i64, i64)>,
    first: Vec<String>,
}

impl Sum {
    fn closed(&self) -> u64 {
        self.ids - self.cold
    }

    /// `None` if a column is not there, or of another type.
    fn add(&mut self, batch: &RecordBatch) -> Option<()> {
        let series = batch.column_by_name("series")?.as_string_opt::<i32>()?;
        let positions = batch.column_by_name("position")?.as_primitive_opt::<Int64Type>()?;
        let cold = batch.column_by_name("cold")?.as_boolean_opt()?;
        let candidates = batch.column_by_name("candidate")?.as_list_opt::<i64>()?;
        self.ids += batch.num_rows() as u64;
        self.cold += cold.true_count() as u64;
        let waiting = candidates.value_offsets().windows(2).filter(|ends| ends[0] < ends[1]).count();
        self.waiting += waiting as u64;
        for position in positions.values() {
            let (low, high) = self.positions.unwrap_or((*position, *position));
            self.positions = Some((low.min(*position), high.max(*position)));
        }
        let room = NAMED - self.first.len();
        self.first.extend(series.iter().flatten().take(room).map(str::to_owned));
        Some(())
    }
}

/// A snapshot that was read to its end.
pub struct Read {
    head: Head,
    size: u64,
    sum: Sum,
}

/// The snapshot for a script.
#[derive(Serialize)]
pub struct Told<'a> {
    kind: &'static str,
    format: u32,
    topic: &'a str,
    partition: i32,
    position: i64,
    start: i64,
    bytes: u64,
    ids: u64,
    /// Ids with closed steps, and those that (re)start without one.
    closed: u64,
    cold: u64,
    waiting: u64,
    /// Positions of the latest rows of all ids, the first and the last of them.
    latest: Option<(i64, i64)>,
    first_ids: &'a [String],
    lineage: BTreeMap<&'a str, &'a str>,
}

/// Reads all of a snapshot.
///
/// # Errors
/// If it cannot be read, or is damaged.
pub async fn read(path: &Path) -> Result<Read> {
    let no_use =
        || format!("the snapshot {} is of no use: remove it, and the one before it serves", path.display());
    let mut snapshot = state::open_file(path).await.with_context(no_use)?;
    let mut sum = Sum::default();
    while let Some(batch) = snapshot.next().await.with_context(no_use)? {
        sum.add(&batch).context("a column of the state is missing").with_context(no_use)?;
    }
    Ok(Read { head: snapshot.head, size: snapshot.size, sum })
}

impl Read {
    /// The snapshot for a reader.
    pub fn text(&self) -> String {
        let Self { head, size, sum } = self;
        let Head { format, topic, partition, position, start, lineage } = head;
        let mut out = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{name:<14}{value}");
        };
        line("snapshot", format!("of {topic}/{partition}, format {format}, every digest fits"));
        line("position", format!("{position}: all rows from {start} to below it"));
        let each = size.checked_div(sum.ids).map_or(String::new(), |each| format!(", {each} an id"));
        line("bytes", format!("{size}{each}"));
        line("ids", sum.ids.to_string());
        line("", format!("{} with closed steps, {} that (re)start without one", sum.closed(), sum.cold));
        line("", format!("{} with a reading that waits for the next one", sum.waiting));
        if let Some((low, high)) = sum.positions {
            line("latest rows", format!("at {low} to {high}"));
            let more = if sum.ids > NAMED as u64 { ", ..." } else { "" };
            let first: Vec<String> = sum.first.iter().map(|id| format!("{id:?}")).collect();
            line("first ids", format!("{}{more}", first.join(", ")));
        }
        line("lineage", "what the state is a function of, besides the rows:".to_owned());
        for (key, value) in lineage {
            let _ = writeln!(out, "  {key} = {value}");
        }
        out
    }

    /// The snapshot for a script.
    pub fn told(&self) -> Told<'_> {
        let Self { head: Head { format, topic, partition, position, start, lineage }, size, sum } = self;
        Told {
            kind: "snapshot",
            format: *format,
            topic,
            partition: *partition,
            position: *position,
            start: *start,
            bytes: *size,
            ids: sum.ids,
            closed: sum.closed(),
            cold: sum.cold,
            waiting: sum.waiting,
            latest: sum.positions,
            first_ids: &sum.first,
            lineage: lineage.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
        }
    }
}
