//! The sample pipeline, embedded in the program so that `demo` runs from any folder.

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::config::Pipeline;
use tidecast_kafka::settings::Brokers;

const PIPELINE: &str = include_str!("../../../pipelines/sensors.toml");
const READINGS: &[u8] = include_bytes!("../../../pipelines/sensors/readings.parquet");
const MODEL: &[u8] = include_bytes!("../../../pipelines/sensors/model.safetensors");

/// The sample in a temporary folder, which is deleted on drop.
pub struct Sample {
    pub pipeline: Pipeline,
    _folder: TempDir,
}

/// Writes the sample with the layout of the repository. Its topics are on the embedded broker.
pub fn unpack() -> Result<Sample> {
    let folder = tempfile::tempdir().context("cannot create a temporary folder for the sample")?;
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
    };
    std::fs::create_dir(folder.path().join("sensors")).context("cannot create the folder of the sample")?;
    write("sensors/readings.parquet", READINGS)?;
    write("sensors/model.safetensors", MODEL)?;
    // The file's variables name external brokers.
    let mut pipeline = Pipeline::from_text(&folder.path().join("sensors.toml"), PIPELINE, &|_| None)?;
    if let Some(source) = &mut pipeline.kafka_source {
        (source.brokers, source.track_lag) = (Brokers::Embedded, true);
    }
    if let Some(sink) = &mut pipeline.kafka_sink {
        sink.brokers = Brokers::Embedded;
    }
    // State would not outlive the embedded broker.
    pipeline.state = None;
    Ok(Sample { pipeline, _folder: folder })
}
