//! The words of what only looks.

use std::path::PathBuf;

use clap::Args;

/// Say whether a pipeline would run, and print it with every default filled in
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tidecast check pipelines/sensors.toml\n  \
                        tidecast check pipelines/sensors.toml --connect")]
pub struct Check {
    /// Pipeline file
    pub pipeline: PathBuf,

    /// Also ask the brokers for the topics
    #[arg(long)]
    pub connect: bool,
}

/// Print what a model or a snapshot says of itself: network, recipe and scores; or position, lineage and ids
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tidecast inspect pipelines/sensors/model.safetensors\n  \
                        tidecast inspect 'state/sensors/sensor-readings@0@00000000000000120000-0123456789ab-\
                        00000000000000000000.arrow'")]
pub struct Inspect {
    /// Model file, or snapshot of a state folder
    pub file: PathBuf,
}
