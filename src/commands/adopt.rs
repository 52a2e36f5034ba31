//! `adopt`: from the tensors of a network that was trained in Python to a model file.

use anyhow::{Context, Result, anyhow};

use super::log::say;
use super::{inspect, prepare, report, train};
use crate::cli::Adopt;
use crate::config::{Pipeline, unread};
use tidecast_core::model::Model;
use tidecast_train::adopt::Adopted;

pub fn adopt(arguments: &Adopt, quiet: bool) -> Result<()> {
    let Adopt { pipeline, weights, data, out } = arguments;
    train::not_over(&[data, pipeline, weights], &[out])?;
    let pipeline = Pipeline::open(pipeline)?;
    // Before the history, which takes longer to read.
    let bytes = prepare::bytes(weights).map_err(|error| {
        let saved = "; safetensors.torch.save_file writes them";
        anyhow!("cannot read {}: {}", weights.display(), unread(weights, &error, saved))
    })?;
    let cannot = || format!("{} cannot be adopted", weights.display());
    let adopted = Adopted::read(&pipeline, &bytes).with_context(cannot)?;
    let read = train::history(&pipeline, data, quiet)?;
    // How long is not known: the network says its forecasts side by side. That time goes on is shown.
    let bar = report::bar(0, "", quiet);
    bar.set_message("scoring the network on what was not learned from");
    let model = adopted.model(&pipeline, &read.history, read.summary);
    bar.finish_and_clear();
    let model = model?;
    let bytes = model.to_bytes();
    // What cannot be read back must not take the place of what can.
    Model::from_bytes(&bytes).with_context(cannot)?;
    train::write_whole(out, &bytes)?;
    train::tell_of_intervals(&model);
    say!(
        "wrote {} ({}); its scores and intervals are honest if nothing at or after {} was learned from",
        out.display(),
        model.hash,
        model.description.data.trained_until
    );
    if !quiet {
        super::print(&inspect::scores(&model.description.scores))?;
    }
    Ok(())
}
