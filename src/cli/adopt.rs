//! What `adopt` can be told.

use std::path::PathBuf;

use clap::Args;

/// Take over a network that was trained in Python and write it as a model file
///
/// Takes the tensors of PyTorch's nn.RNN, nn.LSTM or nn.GRU and of an nn.Linear called `head`, as
/// safetensors.torch.save_file writes them. The cell, its sizes, lookback, horizon, scaling and calendar are those of
/// the pipeline's [train], with memory = false. Nothing is trained: the validation part of the history gives the intervals,
/// and what was not learned from is scored as `train` scores it. `tidecast check` prints every key of [train].
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  tidecast adopt python/sensors.toml --weights /tmp/weights.safetensors \
                        --data pipelines/sensors/readings.parquet --out /tmp/model.safetensors")]
pub struct Adopt {
    /// Pipeline file
    pub pipeline: PathBuf,

    /// Tensors from Python, in a safetensors file
    #[arg(long, value_name = "PATH")]
    pub weights: PathBuf,

    /// History: a file, a folder or a pattern
    #[arg(long, value_name = "PATH")]
    pub data: PathBuf,

    /// Model file to write
    #[arg(long, value_name = "PATH")]
    pub out: PathBuf,
}
