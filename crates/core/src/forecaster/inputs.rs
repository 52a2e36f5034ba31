//! Inputs of the network's window and of the recurrence's readout, built by the same code in training and serving.

use super::states::extend_zeroed;
use crate::model::{ModelManifest, RecurrenceSpec};
use crate::network::{Batch, Decoder, Shape};
use crate::series::{Scale, StepConfig, WindowView};

/// Network inputs of many windows.
#[derive(Debug, Default)]
pub struct InputBatch {
    windows: usize,
    /// `[window][lookback x input]`
    past: Vec<f32>,
    /// `[window][(horizon - 1) x input]`, only for the recursive decoder.
    decoder: Vec<f32>,
    /// Future covariates, `[window][horizon x covariate]`.
    future: Vec<f32>,
    /// Index of each window's series in the model.
    series: Vec<Option<u32>>,
    /// `past` transposed for the network, `[segment][window][input]`.
    past_by_step: Vec<f32>,
    /// `decoder` transposed for the network, `[step][window][input]`.
    decoder_by_step: Vec<f32>,
}

impl InputBatch {
    /// Adds a window of `lookback` steps; `future` are its future covariates, `[covariate x horizon]`, and `series_idx` is
    /// the index of its series in the model.
    pub fn add(
        &mut self,
        manifest: &ModelManifest,
        config: &StepConfig,
        view: &WindowView<'_>,
        future: &[f64],
        series_idx: Option<usize>,
    ) {
        let ModelManifest { inputs: spec, lookback, .. } = manifest;
        let shape = shape_of(manifest);
        self.windows += 1;
        // The steps of a segment are contiguous, so that they are the inputs of one step of the network.
        spec.write_window(config, view, extend_zeroed(&mut self.past, lookback * spec.width()));
        let decoder = extend_zeroed(&mut self.decoder, decoder_steps(shape) * shape.inputs);
        spec.write_decoder(config, view.origin, view.covariates, decoder);
        self.series.push(series_idx.map(|series| series as u32));
        spec.write_future(future, extend_zeroed(&mut self.future, shape.horizon * shape.future_covariates));
    }

    /// Treats the series of a window as unknown to the model.
    pub fn mask_series(&mut self, window: usize) {
        self.series[window] = None;
    }

    pub fn len(&self) -> usize {
        self.windows
    }

    pub fn is_empty(&self) -> bool {
        self.windows == 0
    }

    /// All windows in the network's layout.
    pub fn batch(&mut self, manifest: &ModelManifest) -> Batch<'_> {
        let shape = shape_of(manifest);
        let steps = manifest.lookback * manifest.inputs.width() / shape.inputs;
        transpose(&self.past, self.windows, steps, shape.inputs, &mut self.past_by_step);
        transpose(&self.decoder, self.windows, decoder_steps(shape), shape.inputs, &mut self.decoder_by_step);
        Batch {
            width: self.windows,
            steps,
            inputs: &self.past_by_step,
            feedback_inputs: &self.decoder_by_step,
            future_covariates: &self.future,
            series: &self.series,
        }
    }

    pub fn clear(&mut self) {
        self.windows = 0;
        self.past.clear();
        self.decoder.clear();
        self.future.clear();
        self.series.clear();
    }
}

/// # Panics
/// If the model has no cells: only they read windows.
fn shape_of(manifest: &ModelManifest) -> &Shape {
    &manifest.cells.as_ref().expect("only cells read windows").network
}

/// Steps whose inputs contain earlier outputs.
fn decoder_steps(shape: &Shape) -> usize {
    match shape.decoder {
        Decoder::Direct => 0,
        Decoder::Recursive => shape.horizon - 1,
    }
}

/// From `[window][step][input]` to `[step][window][input]`.
fn transpose(windows: &[f32], width: usize, steps: usize, inputs: usize, out: &mut Vec<f32>) {
    out.clear();
    for step in 0..steps {
        for window in 0..width {
            let start = (window * steps + step) * inputs;
            out.extend_from_slice(&windows[start..start + inputs]);
        }
    }
}

/// An origin as the recurrence's readout reads it.
pub struct ReadoutView<'a> {
    /// State of the recurrence.
    pub state: &'a [f32],
    /// A window with at least one value more than `recent_values`; its scale is the unit.
    pub window: &'a WindowView<'a>,
    /// Future covariates, `[covariate x horizon]`.
    pub future: &'a [f64],
}

/// Writes the features of one origin: `[states, recent values, covariates, future covariates, 1]`.
pub fn write_readout_features(
    manifest: &ModelManifest,
    spec: &RecurrenceSpec,
    config: &StepConfig,
    origin: &ReadoutView<'_>,
    out: &mut [f32],
) {
    let (inputs, horizon, view) = (&manifest.inputs, manifest.horizon, origin.window);
    // States are linear in the differences: the states of scaled values are the scaled states.
    let (states, out) = out.split_at_mut(origin.state.len());
    view.scale.apply_spread(origin.state, states);
    let (recent, out) = out.split_at_mut(spec.recent_values);
    let (last, before) = view.values.split_last().expect("a window has a value");
    // Latest first.
    let unit = Scale { center: 0.0, ..view.scale };
    recent.iter_mut().zip(before.iter().rev()).for_each(|(out, value)| *out = unit.apply(value - last));
    let (covariates, out) = out.split_at_mut(inputs.covariates.len());
    for ((out, window), moments) in covariates.iter_mut().zip(view.covariates).zip(&inputs.covariates) {
        *out = window.at(config, view.origin).map_or(0.0, |value| Scale::from(*moments).apply(value));
    }
    let buckets = RecurrenceSpec::future_buckets(horizon);
    let (constant, future) = out.split_last_mut().expect("the constant is the last feature");
    *constant = 1.0;
    let covariates = future.chunks_mut(buckets).zip(&inputs.future_covariates);
    for (covariate, (out, moments)) in covariates.enumerate() {
        let values = origin.future.get(covariate * horizon..).unwrap_or_default();
        for (bucket, out) in out.iter_mut().enumerate() {
            let steps = bucket * horizon / buckets..(bucket + 1) * horizon / buckets;
            let known = steps.filter_map(|step| values.get(step).copied()).filter(|value| value.is_finite());
            let (sum, count) = known.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
            // An unknown value is at its mean, 0.
            *out = if count == 0.0 { 0.0 } else { Scale::from(*moments).apply(sum / count) };
        }
    }
}
