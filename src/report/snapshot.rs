//! The content of a snapshot, as text and as JSON. The whole file is read, which verifies every checksum.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use serde::{Serialize, Serializer};

use tidecast_stream::state::SnapshotReader;

/// Ids that are listed.
const IDS_LISTED: usize = 5;

/// A fully read snapshot; its JSON description by its fields.
#[derive(Serialize)]
pub struct SnapshotReport {
    kind: &'static str,
    format: u32,
    topic: String,
    partition: i32,
    position: i64,
    start: i64,
    bytes: u64,
    ids: u64,
    ids_with_closed_steps: u64,
    /// Ids without a closed step since their (re)start.
    cold_ids: u64,
    /// Ids with a candidate that awaits confirmation.
    candidates: u64,
    /// Minimum and maximum position of the latest rows of all ids.
    latest_positions: Option<(i64, i64)>,
    first_ids: Vec<String>,
    #[serde(serialize_with = "serialize_as_map")]
    lineage: Vec<(String, String)>,
}

fn serialize_as_map<S: Serializer>(pairs: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    pairs.iter().cloned().collect::<BTreeMap<_, _>>().serialize(serializer)
}

impl SnapshotReport {
    pub async fn read(path: &Path) -> Result<Self> {
        let unusable =
            || format!("snapshot {} is unusable; remove it, and the previous one is used", path.display());
        let mut snapshot = SnapshotReader::open_file(path).await.with_context(unusable)?;
        let header = snapshot.header.clone();
        let mut report = Self {
            kind: "snapshot",
            format: header.format,
            topic: header.topic,
            partition: header.partition,
            position: header.position,
            start: header.start,
            bytes: snapshot.size,
            ids: 0,
            ids_with_closed_steps: 0,
            cold_ids: 0,
            candidates: 0,
            latest_positions: None,
            first_ids: Vec::new(),
            lineage: header.lineage,
        };
        while let Some(batch) = snapshot.next().await.with_context(unusable)? {
            report.add(&batch).context("a column is missing").with_context(unusable)?;
        }
        report.ids_with_closed_steps = report.ids - report.cold_ids;
        Ok(report)
    }

    /// Adds a batch; `None` if a column is missing or has another type.
    fn add(&mut self, batch: &RecordBatch) -> Option<()> {
        let series = batch.column_by_name("series")?.as_string_opt::<i32>()?;
        let positions = batch.column_by_name("position")?.as_primitive_opt::<Int64Type>()?;
        let cold = batch.column_by_name("cold_start")?.as_boolean_opt()?;
        let candidates = batch.column_by_name("candidate")?.as_list_opt::<i64>()?;
        self.ids += batch.num_rows() as u64;
        self.cold_ids += cold.true_count() as u64;
        let offsets = candidates.value_offsets();
        self.candidates += offsets.windows(2).filter(|ends| ends[0] < ends[1]).count() as u64;
        for &position in positions.values() {
            let (min, max) = self.latest_positions.unwrap_or((position, position));
            self.latest_positions = Some((min.min(position), max.max(position)));
        }
        let missing = IDS_LISTED - self.first_ids.len();
        self.first_ids.extend(series.iter().flatten().take(missing).map(str::to_owned));
        Some(())
    }

    /// The snapshot for a reader: one line per property.
    pub fn text(&self) -> String {
        let Self { format, topic, partition, position, start, bytes, ids, candidates, .. } = self;
        let mut out = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{name:<18}{value}");
        };
        line("snapshot", format!("{topic}/{partition}, format {format}, all checksums match"));
        line("position", format!("{position}: the rows from {start} up to it"));
        let per_id = bytes.checked_div(*ids).map_or(String::new(), |bytes| format!(", {bytes} per id"));
        line("bytes", format!("{bytes}{per_id}"));
        line("ids", ids.to_string());
        let (closed, cold) = (self.ids_with_closed_steps, self.cold_ids);
        line("", format!("{closed} with closed steps, {cold} without since their (re)start"));
        line("", format!("{candidates} with a candidate that awaits confirmation"));
        if let Some((min, max)) = self.latest_positions {
            line("latest positions", format!("{min} to {max}"));
            let more = if *ids > IDS_LISTED as u64 { ", ..." } else { "" };
            let first: Vec<String> = self.first_ids.iter().map(|id| format!("{id:?}")).collect();
            line("first ids", format!("{}{more}", first.join(", ")));
        }
        line("lineage", "everything but the rows that determines the state:".to_owned());
        for (key, value) in &self.lineage {
            let _ = writeln!(out, "  {key} = {value}");
        }
        out
    }
}
