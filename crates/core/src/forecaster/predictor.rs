//! Forecasts of many origins by all parts of a model: the recurrence's readout, the ensemble, and the cells.

use super::inputs::{InputBatch, ReadoutView, write_readout_features};
use crate::intervals;
use crate::model::{EXPERT_COUNT, Ensemble, Expert, MEDIAN_STEPS, Model, RecurrenceModel};
use crate::network::{Scratch, StateKind};
use crate::series::{RunningStats, Scale, StepConfig, WindowView};

/// Batch of origins and their forecasts.
#[derive(Default)]
pub struct Predictor {
    origins: usize,
    /// `[origin][feature]`; never shrinks.
    features: Vec<f32>,
    /// Index of each origin's series in the model.
    series: Vec<Option<usize>>,
    experts: Vec<ExpertForecasts>,
    inputs: InputBatch,
    scratch: Option<Scratch>,
    /// Outputs of windowed cells, `[origin][output][horizon]`.
    cell_outputs: Vec<f32>,
    /// Quantiles of the last run, `[origin][quantile][horizon]`.
    quantiles: Vec<f32>,
}

/// An origin as the parts of a model read it.
pub struct OriginView<'a> {
    pub window: WindowView<'a>,
    /// Future covariates, `[covariate x horizon]`.
    pub future: &'a [f64],
    /// State of the linear recurrence.
    pub recurrence: &'a [f32],
    /// The last values up to the origin, a season of them where the history is long enough.
    pub history: &'a [f64],
    pub stats: &'a RunningStats,
    /// Index of the series in the model.
    pub series_idx: Option<usize>,
}

impl Predictor {
    pub fn len(&self) -> usize {
        self.origins
    }

    pub fn is_empty(&self) -> bool {
        self.origins == 0
    }

    /// Adds an origin with a window of `lookback` steps; returns the scale of its forecast.
    pub fn add(&mut self, model: &Model, config: &StepConfig, origin: &OriginView<'_>) -> Scale {
        let manifest = &model.manifest;
        self.origins += 1;
        if model.cells.is_some() && !manifest.carries_state() {
            self.inputs.add(manifest, config, &origin.window, origin.future, origin.series_idx);
        }
        let last = origin.window.values.last().copied().unwrap_or_default();
        let scale = manifest.output_scale(origin.window.scale, last);
        let (Some(spec), Some(recurrence)) = (&manifest.recurrence, &model.recurrence) else { return scale };
        let count = recurrence.readout.features();
        let (start, end) = ((self.origins - 1) * count, self.origins * count);
        if self.features.len() < end {
            self.features.resize(end, 0.0);
        }
        let out = &mut self.features[start..end];
        let view = ReadoutView { state: origin.recurrence, window: &origin.window, future: origin.future };
        write_readout_features(manifest, spec, config, &view, out);
        self.series.push(origin.series_idx);
        let ensemble = recurrence.ensemble.as_ref();
        self.experts.push(ExpertForecasts::new(origin.history, origin.stats, scale, ensemble));
        scale
    }

    /// Quantiles of the last [`Predictor::run`], scaled, `[origin][quantile][horizon]`, ascending; empty for a model
    /// without quantiles.
    pub fn quantiles(&self) -> &[f32] {
        &self.quantiles
    }

    /// Forecasts all origins, scaled, into `out` `[origin][horizon]`, and removes them.
    ///
    /// `carried` are the outputs of cells with carried state, `[origin][output][horizon]`; windowed cells run here.
    pub fn run(&mut self, model: &Model, carried: &[f32], out: &mut Vec<f32>) {
        let horizon = model.manifest.horizon;
        out.clear();
        out.resize(self.origins * horizon, 0.0);
        self.quantiles.clear();
        if let Some(recurrence) = &model.recurrence {
            self.run_recurrence(recurrence, out);
        }
        if let (Some(network), Some(spec)) = (&model.cells, &model.manifest.cells) {
            let outputs = network.shape().outputs();
            let cells = match spec.state {
                StateKind::Carried => carried,
                StateKind::Window => {
                    let scratch = self.scratch.get_or_insert_with(|| Scratch::new(network.shape()));
                    self.cell_outputs.resize(self.origins * outputs, 0.0);
                    network.forecast(&self.inputs.batch(&model.manifest), scratch, &mut self.cell_outputs);
                    &self.cell_outputs
                }
            };
            assert_eq!(cells.len(), self.origins * outputs, "the cells have all outputs of each origin");
            if outputs > horizon {
                for (out, cells) in out.chunks_exact(horizon).zip(cells.chunks_exact(outputs)) {
                    let start = self.quantiles.len();
                    // Relative to the recurrence, whose residuals the cells model.
                    self.quantiles
                        .extend(cells[horizon..].iter().zip(out.iter().cycle()).map(|(q, out)| out + q));
                    intervals::rearrange(&mut self.quantiles[start..], horizon);
                }
            }
            let mut start = 0;
            for blend in &spec.blend_weights {
                for (out, cells) in out.chunks_exact_mut(horizon).zip(cells.chunks_exact(outputs)) {
                    let steps = start..blend.end;
                    let values = out[steps.clone()].iter_mut().zip(&cells[steps]);
                    values.for_each(|(out, cell)| *out += blend.weight * cell);
                }
                start = blend.end;
            }
        }
        self.origins = 0;
        self.series.clear();
        self.experts.clear();
        self.inputs.clear();
    }

    /// Forecasts of the recurrence, clamped and blended with the experts: scaled, `[origin][horizon]`.
    fn run_recurrence(&mut self, recurrence: &RecurrenceModel, out: &mut [f32]) {
        let features = &self.features[..self.origins * recurrence.readout.features()];
        recurrence.readout.forecast(features, &self.series, out);
        let horizon = recurrence.readout.horizon();
        for ((out, experts), series_idx) in out.chunks_exact_mut(horizon).zip(&self.experts).zip(&self.series)
        {
            experts.clamp(out);
            if let Some(ensemble) = &recurrence.ensemble {
                experts.blend(ensemble, *series_idx, out);
            }
        }
    }
}

/// How far a forecast may leave the observed range, as a fraction of that range.
const RANGE_MARGIN: f64 = 0.1;

/// Simple forecasts of one origin, and the range of its forecast: differences from the last value, in spreads.
#[derive(Clone, Debug, Default)]
pub struct ExpertForecasts {
    min: f32,
    max: f32,
    /// Over the last 6 and the last [`MEDIAN_STEPS`] values.
    medians: [f32; 2],
    /// By step of the blended part of the horizon; empty where the history is shorter than a season.
    seasonal: Vec<f32>,
}

impl ExpertForecasts {
    /// `history` ends with the last value and spans a season if it can; `scale` is centered on the last value.
    pub fn new(history: &[f64], stats: &RunningStats, scale: Scale, ensemble: Option<&Ensemble>) -> Self {
        let range = stats.max - stats.min;
        let bounds =
            [stats.min - RANGE_MARGIN * range, stats.max + RANGE_MARGIN * range].map(|b| scale.apply(b));
        let [min, max] = [bounds[0].min(0.0), bounds[1].max(0.0)];
        let Some(ensemble) = ensemble else { return Self { min, max, ..Self::default() } };
        let median = |count: usize| scale.apply(median(&history[history.len().saturating_sub(count)..]));
        let blended = ensemble.spec.bucket_ends.last().copied().unwrap_or(0);
        // ŷ(t + h) = y(t + h - s), for h up to s
        let start = ensemble.spec.season.and_then(|season| history.len().checked_sub(season));
        let seasonal = start.map_or(Vec::new(), |start| {
            history[start..].iter().take(blended).map(|value| scale.apply(*value)).collect()
        });
        Self { min, max, medians: [median(6), median(MEDIAN_STEPS)], seasonal }
    }

    /// The forecast of `expert` for step `i` of the horizon, where the recurrence forecasts `recurrence`.
    pub fn value(&self, expert: Expert, i: usize, recurrence: f32) -> f32 {
        match expert {
            Expert::Recurrence => recurrence,
            Expert::Last => 0.0,
            Expert::Median6 => self.medians[0],
            Expert::Median24 => self.medians[1],
            Expert::Seasonal => self.seasonal.get(i).copied().unwrap_or(recurrence),
        }
    }

    /// Clamps a forecast to the observed range and its margin.
    pub fn clamp(&self, forecast: &mut [f32]) {
        forecast.iter_mut().for_each(|value| *value = value.clamp(self.min, self.max));
    }

    /// Replaces the recurrence's forecast by the weighted mean of all experts.
    pub fn blend(&self, ensemble: &Ensemble, series_idx: Option<usize>, forecast: &mut [f32]) {
        let weights = ensemble.weights_of(series_idx).chunks_exact(EXPERT_COUNT);
        let mut start = 0;
        for (end, weights) in ensemble.spec.bucket_ends.iter().zip(weights) {
            for (i, value) in forecast.iter_mut().enumerate().take(*end).skip(start) {
                let recurrence = *value;
                let experts = Expert::ALL.iter().zip(weights);
                *value = experts.map(|(expert, w)| w * self.value(*expert, i, recurrence)).sum();
            }
            start = *end;
        }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = [0.0; MEDIAN_STEPS];
    let sorted = &mut sorted[..values.len()];
    sorted.copy_from_slice(values);
    sorted.sort_unstable_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => sorted[count / 2 - 1] + (sorted[count / 2] - sorted[count / 2 - 1]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EnsembleSpec;

    fn experts(history: &[f64]) -> (ExpertForecasts, Ensemble) {
        let spec = EnsembleSpec { bucket_ends: vec![1, 3], season: Some(4) };
        let weights = vec![
            0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.25, 0.0, 0.75, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
            1.0,
        ];
        let ensemble = Ensemble::new(spec, weights);
        let mut stats = RunningStats::default();
        history.iter().for_each(|value| stats.add(*value));
        let scale = Scale { center: *history.last().unwrap(), spread: 2.0 };
        (ExpertForecasts::new(history, &stats, scale, Some(&ensemble)), ensemble)
    }

    #[test]
    fn a_known_series_uses_its_own_weights_and_others_the_shared_ones() {
        let (experts, ensemble) = experts(&[1.0, 9.0, 3.0, 5.0, 2.0, 4.0]);
        let mut known = [8.0f32; 5];
        experts.blend(&ensemble, Some(0), &mut known);
        // The median of six is 3.5; the values one season before are 3, 5, 2.
        let scaled = |value: f64| ((value - 4.0) / 2.0) as f32;
        let second = |seasonal: f64| 0.25 * scaled(3.5) + 0.75 * scaled(seasonal);
        assert_eq!(known, [4.0, second(5.0), second(2.0), 8.0, 8.0]);
        let mut unknown = [8.0f32; 5];
        experts.blend(&ensemble, None, &mut unknown);
        assert_eq!(unknown, [8.0, scaled(5.0), scaled(2.0), 8.0, 8.0]);
    }

    #[test]
    fn forecast_is_clamped_to_the_observed_range() {
        let (experts, _) = experts(&[0.0, 10.0, 4.0]);
        let mut forecast = [9.0, -9.0, 1.0];
        experts.clamp(&mut forecast);
        assert_eq!(forecast, [3.5, -2.5, 1.0]);
    }

    #[test]
    fn the_seasonal_expert_falls_back_to_the_recurrence_on_a_short_history() {
        let (experts, ensemble) = experts(&[1.0, 2.0]);
        let mut forecast = [8.0f32, 6.0];
        experts.blend(&ensemble, None, &mut forecast);
        assert_eq!(forecast, [8.0, 6.0]);
    }
}
