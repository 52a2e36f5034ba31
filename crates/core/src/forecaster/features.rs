//! What the memory's readout reads at an origin, made in one way for training and for serving.

use crate::model::{ModelManifest, RecurrenceSpec};
use crate::series::{StepConfig, Scale, WindowView};

/// Writes the features of one origin: `[states, recent, covariates, known ahead, 1]`. `view` reads at least one value more
/// than there are recent ones, and its scale gives the unit; `ahead` is what is known of the horizon, `[known x horizon]`.
pub fn write(
    manifest: &ModelManifest,
    part: &RecurrenceSpec,
    rules: &StepConfig,
    state: &[f32],
    view: &WindowView<'_>,
    ahead: &[f64],
    out: &mut [f32],
) {
    let (inputs, horizon) = (&manifest.inputs, manifest.horizon);
    // Being linear in the differences, the states of scaled readings are the states in units of the spread.
    let (states, out) = out.split_at_mut(state.len());
    view.scale.apply_spread(state, states);
    let (recent, out) = out.split_at_mut(part.recent_values);
    let (last, before) = view.values.split_last().expect("a window has a value");
    // The latest first.
    let unit = Scale { center: 0.0, ..view.scale };
    recent.iter_mut().zip(before.iter().rev()).for_each(|(out, value)| *out = unit.apply(value - last));
    let (covariates, out) = out.split_at_mut(inputs.covariates.len());
    for ((out, track), moments) in covariates.iter_mut().zip(view.covariates).zip(&inputs.covariates) {
        *out = track.at(rules, view.origin).map_or(0.0, |value| Scale::from(*moments).apply(value));
    }
    let parts = RecurrenceSpec::future_buckets(horizon);
    let (constant, known) = out.split_last_mut().expect("the constant comes last");
    *constant = 1.0;
    for (input, (out, moments)) in known.chunks_mut(parts).zip(&inputs.future_covariates).enumerate() {
        let values = ahead.get(input * horizon..).unwrap_or_default();
        for (part, out) in out.iter_mut().enumerate() {
            let steps = part * horizon / parts..(part + 1) * horizon / parts;
            let known = steps.filter_map(|step| values.get(step).copied()).filter(|value| value.is_finite());
            let (sum, count) = known.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
            // What is not known is at its mean, which is 0.
            *out = if count == 0.0 { 0.0 } else { Scale::from(*moments).apply(sum / count) };
        }
    }
}
