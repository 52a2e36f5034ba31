//! The network's inputs of many windows, made in one way for training and for serving.

use crate::model::ModelManifest;
use crate::network::{Batch, Decoder, Shape};
use crate::series::{StepConfig, WindowView};

/// Windows side by side, each written whole when it is added.
#[derive(Debug, Default)]
pub struct Inputs {
    windows: usize,
    /// `[window][lookback x inputs]`
    past: Vec<f32>,
    /// `[window][(horizon - 1) x inputs]`, only for the recursive decoder.
    future: Vec<f32>,
    /// `[window][horizon x known]`
    known: Vec<f32>,
    /// `[window]`: the number of its series among those of the manifest.
    series: Vec<Option<u32>>,
    /// `past` and `future` as the network takes them, `[step][window][inputs]`; a step of `past` is a segment.
    by_step: [Vec<f32>; 2],
}

impl Inputs {
    /// Adds a window of `manifest.lookback` steps; `ahead` is what is known of its horizon, `[known x horizon]`, and
    /// `own` the number of its series among those of the manifest.
    pub fn add(
        &mut self,
        manifest: &ModelManifest,
        rules: &StepConfig,
        view: &WindowView<'_>,
        ahead: &[f64],
        own: Option<usize>,
    ) {
        let ModelManifest { inputs: spec, lookback, .. } = manifest;
        let shape = shape_of(manifest);
        self.windows += 1;
        // StepBuffer lie one behind the other, so that a segment's inputs are side by side already.
        spec.write(rules, view, grow(&mut self.past, lookback * spec.width()));
        let future = grow(&mut self.future, fed_back(shape) * shape.inputs);
        spec.write_future(rules, view.origin, view.covariates, future);
        self.series.push(own.map(|own| own as u32));
        spec.write_known(ahead, grow(&mut self.known, shape.horizon * shape.known));
    }

    /// Reads a window that was added as one of a series that is not known.
    pub fn hide_series(&mut self, window: usize) {
        self.series[window] = None;
    }

    pub fn len(&self) -> usize {
        self.windows
    }

    pub fn is_empty(&self) -> bool {
        self.windows == 0
    }

    /// All windows as the network takes them.
    pub fn batch(&mut self, manifest: &ModelManifest) -> Batch<'_> {
        let shape = shape_of(manifest);
        let steps = manifest.lookback * manifest.inputs.width() / shape.inputs;
        let [past, future] = &mut self.by_step;
        by_step(&self.past, self.windows, steps, shape.inputs, past);
        by_step(&self.future, self.windows, fed_back(shape), shape.inputs, future);
        Batch { width: self.windows, steps, inputs: past, future, known: &self.known, series: &self.series }
    }

    pub fn clear(&mut self) {
        self.windows = 0;
        self.past.clear();
        self.future.clear();
        self.known.clear();
        self.series.clear();
    }
}

/// # Panics
/// If the model has no cells: nothing reads windows then.
fn shape_of(manifest: &ModelManifest) -> &Shape {
    &manifest.cells.as_ref().expect("inputs are made for cells").network
}

/// StepBuffer whose inputs are partly outputs.
fn fed_back(shape: &Shape) -> usize {
    match shape.decoder {
        Decoder::Direct => 0,
        Decoder::Recursive => shape.horizon - 1,
    }
}

/// Room for `count` more numbers at the end of `all`.
fn grow(all: &mut Vec<f32>, count: usize) -> &mut [f32] {
    let start = all.len();
    all.resize(start + count, 0.0);
    &mut all[start..]
}

/// From `[window][step][inputs]` to `[step][window][inputs]`.
fn by_step(windows: &[f32], width: usize, steps: usize, inputs: usize, out: &mut Vec<f32>) {
    out.clear();
    for step in 0..steps {
        for window in 0..width {
            let start = (window * steps + step) * inputs;
            out.extend_from_slice(&windows[start..start + inputs]);
        }
    }
}
