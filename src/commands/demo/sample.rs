//! The sample pipeline, carried inside the program so that `demo` runs from any folder.

use std::path::Path;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::config::Pipeline;

const PIPELINE: &str = include_str!("../../../pipelines/sensors.toml");
const READINGS: &[u8] = include_bytes!("../../../pipelines/sensors/readings.parquet");
const MODEL: &[u8] = include_bytes!("../../../pipelines/sensors/model.safetensors");

/// The sample, laid out as in the repository; gone when dropped.
pub struct Sample {
    pub pipeline: Pipeline,
    _folder: TempDir,
}

pub fn unpack() -> Result<Sample> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder for the sample")?;
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).with_context(|| format!("cannot write the sample {}", path.display()))
    };
    std::fs::create_dir(folder.path().join("sensors")).context("cannot make the folder of the sample")?;
    write("sensors/readings.parquet", READINGS)?;
    write("sensors/model.safetensors", MODEL)?;
    // The variables of the file are for real brokers.
    let pipeline = Pipeline::from_text(&folder.path().join("sensors.toml"), PIPELINE, &|_| None)?;
    Ok(Sample { pipeline: embedded(pipeline), _folder: folder })
}

/// The same pipeline with its topics on the broker inside this process.
fn embedded(mut pipeline: Pipeline) -> Pipeline {
    use crate::config::Brokers::Embedded;
    pipeline.kafka_source.iter_mut().for_each(|source| (source.brokers, source.ends) = (Embedded, true));
    pipeline.kafka_sink.iter_mut().for_each(|sink| sink.brokers = Embedded);
    // Nothing of it outlives the process.
    pipeline.state = None;
    pipeline
}

/// Where its readings lie.
pub fn history(pipeline: &Pipeline) -> Result<&Path> {
    let source = pipeline.parquet_source.as_ref().context("the sample has no Parquet source")?;
    Ok(&source.path)
}
