//! What a snapshot says of itself. Every batch of it is read, so that damage shows.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;

use crate::state::{self, Head};

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
        self.first.extend(series.iter().flatten().take(room).map(|id| format!("{id:?}")));
        Some(())
    }
}

/// The snapshot for a reader.
pub async fn text(path: &Path) -> Result<String> {
    let no_use =
        || format!("the snapshot {} is of no use: remove it, and the one before it serves", path.display());
    let mut snapshot = state::open_file(path).await.with_context(no_use)?;
    let mut sum = Sum::default();
    while let Some(batch) = snapshot.next().await.with_context(no_use)? {
        sum.add(&batch).context("a column of the state is missing").with_context(no_use)?;
    }
    let Head { format, topic, partition, position, start, lineage } = &snapshot.head;
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{name:<14}{value}");
    };
    line("snapshot", format!("of {topic}/{partition}, format {format}, every digest fits"));
    line("position", format!("{position}: all rows from {start} to below it"));
    let each = snapshot.size.checked_div(sum.ids);
    let each = each.map_or(String::new(), |each| format!(", {each} an id"));
    line("bytes", format!("{}{each}", snapshot.size));
    line("ids", sum.ids.to_string());
    line("", format!("{} with closed steps, {} that (re)start without one", sum.ids - sum.cold, sum.cold));
    line("", format!("{} with a reading that waits for the next one", sum.waiting));
    if let Some((low, high)) = sum.positions {
        line("latest rows", format!("at {low} to {high}"));
        let more = if sum.ids > NAMED as u64 { ", ..." } else { "" };
        line("first ids", format!("{}{more}", sum.first.join(", ")));
    }
    line("lineage", "what the state is a function of, besides the rows:".to_owned());
    for (key, value) in lineage {
        let _ = writeln!(out, "  {key} = {value}");
    }
    Ok(out)
}
