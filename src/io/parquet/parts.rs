//! Forecasts of a stream as a growing folder of Parquet files: every commit closes one file a partition. For inputs that
//! do not end, where [`ParquetOutput`] would never be done.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::ParquetOutput;
use crate::config::Layout;
use crate::io::{Output, Partition, Positions, Sink};
use crate::table::positions;

/// A folder with files `TOPIC-PARTITION-POSITION.parquet`, named by the position of the row that triggered the first
/// forecast in it. A file is written aside and renamed when it is committed, before the positions are. After a crash in
/// between the rows are read again; where the state is kept, they begin a file of the same name, which takes the place of
/// the first.
///
/// For one process at a time: two that hand partitions to each other could write over each other's files.
pub struct ParquetParts {
    folder: PathBuf,
    layout: Layout,
    levels: Vec<f64>,
    /// Microseconds from one step of a forecast to the next.
    every: i64,
    open: BTreeMap<Partition, ParquetOutput>,
}

impl ParquetParts {
    /// # Errors
    /// If the folder cannot be made.
    pub fn create(folder: &Path, layout: Layout, levels: &[f64], every: i64) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self { folder: folder.to_owned(), layout, levels: levels.to_vec(), every, open: BTreeMap::new() })
    }

    fn output(&self, partition: &Partition, first: i64) -> Result<ParquetOutput> {
        let name =
            format!("{}-{}-{first:020}.parquet", partition.topic.replace(['/', '\\'], "_"), partition.number);
        ParquetOutput::create(&self.folder.join(name), self.layout, &self.levels, self.every)
    }
}

impl Sink for ParquetParts {
    async fn write(&mut self, output: &Output) -> Result<()> {
        let Some(first) = positions(&output.forecasts).first() else { return Ok(()) };
        let mut file = match self.open.remove(&output.partition) {
            Some(file) => file,
            None => self.output(&output.partition, *first)?,
        };
        file.write(output).await?;
        self.open.insert(output.partition.clone(), file);
        Ok(())
    }

    async fn commit(&mut self, _reached: &Positions) -> Result<()> {
        while let Some((_, mut file)) = self.open.pop_first() {
            file.finish().await?;
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}
