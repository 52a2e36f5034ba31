//! `import-torch`: from the tensors of a PyTorch network to a model file.

use anyhow::{Context, Result, anyhow};

use tidecast_core::model::Model;
use tidecast_train::import_torch::ImportedNetwork;

use super::{files, load, train};
use crate::cli::ImportTorch;
use crate::config::{Pipeline, read_error};
use crate::report::model;
use crate::terminal::{print, progress_bar};
use crate::user_info;

pub fn import_torch(arguments: &ImportTorch, quiet: bool) -> Result<()> {
    let ImportTorch { pipeline, weights, data, out } = arguments;
    files::check_not_overwritten(&[data, pipeline, weights], &[out], "--out")?;
    let pipeline = Pipeline::open(pipeline)?;
    // Before the history, which takes longer to read.
    let bytes = load::tensor_file(weights).map_err(|error| {
        let hint = "; safetensors.torch.save_file writes such files";
        anyhow!("cannot read {}: {}", weights.display(), read_error(weights, &error, hint))
    })?;
    let cannot_import = || format!("cannot import {}", weights.display());
    let training = pipeline.training();
    let network = ImportedNetwork::from_bytes(&training, &bytes).with_context(cannot_import)?;
    let dataset = train::read_history(&pipeline, data, quiet)?;
    let bar = progress_bar(0, "", quiet);
    bar.set_message("scoring the network on the validation and test splits");
    let model = network.into_model(&training, &dataset.history, dataset.summary);
    bar.finish_and_clear();
    let model = model?;
    let bytes = model.to_bytes();
    // An unreadable model must not replace a good one.
    Model::from_bytes(&bytes).with_context(cannot_import)?;
    files::write_atomically(out, &bytes)?;
    train::note_missing_intervals(&model);
    user_info!(
        "wrote {} ({}); its errors and intervals are valid only if the network was not trained on data from {} on",
        out.display(),
        model.hash,
        model.manifest.data.train_end
    );
    if quiet { Ok(()) } else { print(&model::scores_table(&model.manifest.scores)) }
}
