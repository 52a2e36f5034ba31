//! The words of a beginning.

use std::path::PathBuf;

use clap::Args;

/// Write a pipeline file to start from, made for the columns and the cadence of a Parquet history
///
/// Looks at the schema and the first rows: which column is the time, which the id, which are measured, and how far apart
/// the readings of a series lie. What it chose stands in the file with a comment; nothing is overwritten.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tidecast init history/readings.parquet\n  \
                        tidecast init history/ --out plant.toml --time at --series machine --target kilowatts")]
pub struct Init {
    /// History: a file, a folder or a pattern
    pub data: PathBuf,

    /// Pipeline file to write
    #[arg(long, value_name = "PATH", default_value = "pipeline.toml")]
    pub out: PathBuf,

    /// Column of the times [default: the one that looks like it]
    #[arg(long, value_name = "COLUMN")]
    pub time: Option<String>,

    /// Column of the ids [default: the one that looks like it, if there is one]
    #[arg(long, value_name = "COLUMN")]
    pub series: Option<String>,

    /// Column to be forecast; may be given several times [default: all that are measured]
    #[arg(long = "target", value_name = "COLUMN")]
    pub targets: Vec<String>,
}
