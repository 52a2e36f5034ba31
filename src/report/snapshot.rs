//! The content of a snapshot, as text and as JSON. The whole file is read, which verifies every checksum.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use serde::Serialize;

use tidecast_stream::state::{Header, SnapshotReader};

/// Ids that are listed.
const IDS_LISTED: usize = 5;

/// Totals of the rows of a snapshot.
#[derive(Default)]
struct Totals {
    ids: u64,
    /// Ids without a closed step since their (re)start.
    cold: u64,
    /// Ids with a candidate that awaits confirmation.
    candidates: u64,
    positions: Option<PositionRange>,
    first_ids: Vec<String>,
}

/// Positions of the latest rows of all ids.
#[derive(Clone, Copy)]
struct PositionRange {
    min: i64,
    max: i64,
}

impl Totals {
    fn with_closed_steps(&self) -> u64 {
        self.ids - self.cold
    }

    /// Adds a batch; `None` if a column is missing or has another type.
    fn add(&mut self, batch: &RecordBatch) -> Option<()> {
        let series = batch.column_by_name("series")?.as_string_opt::<i32>()?;
        let positions = batch.column_by_name("position")?.as_primitive_opt::<Int64Type>()?;
        let cold = batch.column_by_name("cold_start")?.as_boolean_opt()?;
        let candidates = batch.column_by_name("candidate")?.as_list_opt::<i64>()?;
        self.ids += batch.num_rows() as u64;
        self.cold += cold.true_count() as u64;
        let offsets = candidates.value_offsets();
        self.candidates += offsets.windows(2).filter(|ends| ends[0] < ends[1]).count() as u64;
        for &position in positions.values() {
            let PositionRange { min, max } =
                self.positions.unwrap_or(PositionRange { min: position, max: position });
            self.positions = Some(PositionRange { min: min.min(position), max: max.max(position) });
        }
        let missing = IDS_LISTED - self.first_ids.len();
        self.first_ids.extend(series.iter().flatten().take(missing).map(str::to_owned));
        Some(())
    }
}

/// A fully read snapshot.
pub struct SnapshotReport {
    header: Header,
    bytes: u64,
    totals: Totals,
}

/// The snapshot as JSON.
#[derive(Serialize)]
pub struct SnapshotJson<'a> {
    kind: &'static str,
    format: u32,
    topic: &'a str,
    partition: i32,
    position: i64,
    start: i64,
    bytes: u64,
    ids: u64,
    ids_with_closed_steps: u64,
    cold_ids: u64,
    candidates: u64,
    /// Minimum and maximum position of the latest rows of all ids.
    latest_positions: Option<(i64, i64)>,
    first_ids: &'a [String],
    lineage: BTreeMap<&'a str, &'a str>,
}

impl SnapshotReport {
    /// Reads a snapshot.
    ///
    /// # Errors
    /// If the file cannot be read or is damaged.
    pub async fn read(path: &Path) -> Result<Self> {
        let unusable =
            || format!("snapshot {} is unusable; remove it, and the previous one is used", path.display());
        let mut snapshot = SnapshotReader::open_file(path).await.with_context(unusable)?;
        let mut totals = Totals::default();
        while let Some(batch) = snapshot.next().await.with_context(unusable)? {
            totals.add(&batch).context("a column is missing").with_context(unusable)?;
        }
        Ok(Self { header: snapshot.header, bytes: snapshot.size, totals })
    }

    /// The snapshot for a reader: one line per property.
    pub fn text(&self) -> String {
        let Self { header, bytes, totals } = self;
        let Header { format, topic, partition, position, start, lineage } = header;
        let mut out = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{name:<18}{value}");
        };
        line("snapshot", format!("{topic}/{partition}, format {format}, all checksums match"));
        line("position", format!("{position}: the rows from {start} up to it"));
        let per_id = bytes.checked_div(totals.ids).map_or(String::new(), |bytes| format!(", {bytes} per id"));
        line("bytes", format!("{bytes}{per_id}"));
        line("ids", totals.ids.to_string());
        let closed = totals.with_closed_steps();
        line("", format!("{closed} with closed steps, {} without since their (re)start", totals.cold));
        line("", format!("{} with a candidate that awaits confirmation", totals.candidates));
        if let Some(PositionRange { min, max }) = totals.positions {
            line("latest positions", format!("{min} to {max}"));
            let more = if totals.ids > IDS_LISTED as u64 { ", ..." } else { "" };
            let first: Vec<String> = totals.first_ids.iter().map(|id| format!("{id:?}")).collect();
            line("first ids", format!("{}{more}", first.join(", ")));
        }
        line("lineage", "everything but the rows that determines the state:".to_owned());
        for (key, value) in lineage {
            let _ = writeln!(out, "  {key} = {value}");
        }
        out
    }

    /// The snapshot for a script.
    pub fn json(&self) -> SnapshotJson<'_> {
        let Self { header: Header { format, topic, partition, position, start, lineage }, bytes, totals } =
            self;
        SnapshotJson {
            kind: "snapshot",
            format: *format,
            topic,
            partition: *partition,
            position: *position,
            start: *start,
            bytes: *bytes,
            ids: totals.ids,
            ids_with_closed_steps: totals.with_closed_steps(),
            cold_ids: totals.cold,
            candidates: totals.candidates,
            latest_positions: totals.positions.map(|PositionRange { min, max }| (min, max)),
            first_ids: &totals.first_ids,
            lineage: lineage.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
        }
    }
}
