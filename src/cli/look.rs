//! The words of what only looks.

use std::path::PathBuf;

use clap::Args;

/// Say whether a pipeline would run, and print it with every default filled in
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tidecast check pipelines/sensors.toml\n  \
                        tidecast check pipelines/sensors.toml --connect\n  \
                        tidecast check pipelines/sensors.toml --json | jq .plan.grid.every")]
pub struct Check {
    /// Pipeline file
    pub pipeline: PathBuf,

    /// Also ask the brokers for the topics
    #[arg(long)]
    pub connect: bool,

    /// Print all of it as one line of JSON: the plan key by key, and the problems with their file and line
    #[arg(long)]
    pub json: bool,
}

/// Print what a model or a snapshot says of itself: network, recipe and scores; or position, lineage and ids
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tidecast inspect pipelines/sensors/model.safetensors\n  \
                        tidecast inspect pipelines/sensors/model.safetensors --json | jq .scores\n  \
                        tidecast inspect 'pipelines/state/sensors/sensor-readings@0@00000000000000120000-0123456789ab-\
                        00000000000000000000.arrow'")]
pub struct Inspect {
    /// Model file, or snapshot of a state folder
    pub file: PathBuf,

    /// Print it as one line of JSON
    #[arg(long)]
    pub json: bool,
}
