//! Forecasts of a stream, or their scores, as a growing folder of Parquet files. For inputs that do not end, where [`ParquetOutput`] would
//! never be done.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::ParquetOutput;
use super::partial::Partial;
use crate::config::{self, Delivery, Layout};
use tidecast_stream::{Output, Partition, Position, Positions, Sink};
use tidecast_core::table::positions;

/// A folder with files `TOPIC-PARTITION-POSITION-…`, each with the forecasts, or the scores, that the messages from that
/// position on have triggered. A file is written aside and renamed when it is whole; only then are its positions committed.
///
/// Exactly once: files are cut at fixed multiples of positions and nowhere else, so that one name has one content,
/// whoever writes it, however often. A file that has not come to its end is written anew after a stop. Where the number of
/// positions is changed, the first new file begins in the midst of its own range: names hold the end as well, so that it does
/// not take the place of one that has been committed.
///
/// At least once: every commit closes the files, whatever is in them. A crash between the two leaves forecasts that the
/// next run writes again. Names hold the writer's `instance`, so that nobody replaces what another has written.
pub struct ParquetParts {
    folder: PathBuf,
    instance: String,
    /// Of forecasts.
    layout: Option<Layout>,
    levels: Vec<f64>,
    /// Microseconds from one step of a forecast to the next.
    every: i64,
    /// Positions of a file, where files are cut at multiples.
    cut: Option<i64>,
    open: BTreeMap<Partition, Open>,
}

struct Open {
    /// The first position that does not belong in it.
    end: i64,
    file: ParquetOutput,
}

impl ParquetParts {
    /// # Errors
    /// If the folder cannot be made.
    pub fn create(
        config: &config::ParquetSink,
        levels: &[f64],
        every: i64,
        delivery: Delivery,
        instance: &str,
    ) -> Result<Self> {
        let config::ParquetSink { path, layout, positions } = config;
        let instance = instance.replace(['/', '\\', '.'], "_");
        make(path, &instance)?;
        let cut = match delivery {
            Delivery::ExactlyOnce => Some(*positions as i64),
            Delivery::AtLeastOnce => None,
        };
        let (folder, layout, levels) = (path.clone(), Some(*layout), levels.to_vec());
        Ok(Self { folder, instance, layout, levels, every, cut, open: BTreeMap::new() })
    }

    /// A folder of the scores of forecasts that go to `beside`, cut where its files are.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub fn create_scores(path: &Path, beside: &Self) -> Result<Self> {
        make(path, &beside.instance)?;
        let Self { instance, levels, every, cut, .. } = beside;
        let (instance, levels) = (instance.clone(), levels.clone());
        let (folder, open) = (path.to_path_buf(), BTreeMap::new());
        Ok(Self { folder, instance, layout: None, levels, every: *every, cut: *cut, open })
    }

    /// A file for what is triggered from `first` on. Not every row triggers something, so that the first may lie anywhere in
    /// its file: that nothing before it is missing is for those to see to who write here.
    fn start(&self, partition: &Partition, first: i64) -> Result<Open> {
        let (start, end) = match self.cut {
            None => (first, i64::MAX),
            Some(cut) => (first - first.rem_euclid(cut), first - first.rem_euclid(cut) + cut),
        };
        let topic = partition.topic.replace(['/', '\\'], "_");
        let until = self.cut.map_or_else(|| self.instance.clone(), |_| format!("{end:020}"));
        let path = self.folder.join(format!("{topic}-{}-{start:020}-{until}.parquet", partition.number));
        let file =
            ParquetOutput::create_by(&path, Some(&self.instance), self.layout, &self.levels, self.every)?;
        Ok(Open { end, file })
    }

    async fn close(&mut self, partition: &Partition) -> Result<()> {
        match self.open.remove(partition) {
            Some(mut open) => open.file.finish().await,
            None => Ok(()),
        }
    }
}

/// Makes a folder, or clears the one that is there of what was left unfinished.
fn make(path: &Path, instance: &str) -> Result<()> {
    std::fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
    Partial::sweep(path, instance)
}

impl Sink for ParquetParts {
    async fn write(&mut self, output: Output) -> Result<()> {
        let Output { partition, forecasts, scores, .. } = output;
        let none = (forecasts.slice(0, 0), scores.slice(0, 0));
        let mut rows = if self.layout.is_some() { forecasts } else { scores };
        while let Some(first) = positions(&rows).first().copied() {
            if self.open.get(&partition).is_some_and(|open| open.end <= first) {
                self.close(&partition).await?;
            }
            let mut open = match self.open.remove(&partition) {
                Some(open) => open,
                None => self.start(&partition, first)?,
            };
            let count = positions(&rows).partition_point(|position| *position < open.end);
            let part = rows.slice(0, count);
            let (forecasts, scores) =
                if self.layout.is_some() { (part, none.1.clone()) } else { (none.0.clone(), part) };
            let (rejects, origins) = Default::default();
            let part = Output { partition: partition.clone(), forecasts, scores, rejects, origins };
            open.file.write(part).await?;
            self.open.insert(partition.clone(), open);
            rows = rows.slice(count, rows.num_rows() - count);
        }
        Ok(())
    }

    async fn commit(&mut self, reached: &Positions) -> Result<Positions> {
        let mut durable = Positions::new();
        for (partition, position) in reached {
            let whole = self.cut.map_or(position.0, |cut| position.0 - position.0.rem_euclid(cut));
            if self.open.get(partition).is_some_and(|open| self.cut.is_none() || open.end <= whole) {
                self.close(partition).await?;
            }
            durable.insert(partition.clone(), Position(whole));
        }
        Ok(durable)
    }

    async fn forget(&mut self, partitions: &[Partition]) -> Result<()> {
        self.open.retain(|partition, _| !partitions.contains(partition));
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}
