//! The parts of a model added up, for many origins at a time: the memory's readout, and the cells beside it or alone.

use super::anchors::ExpertForecasts;
use super::{Inputs, features};
use crate::intervals;
use crate::model::{Model, RecurrenceModel};
use crate::network::{Scratch, StateKind};
use crate::series::{StepConfig, RunningStats, Scale, WindowView};

/// Origins side by side, each written whole when it is added.
#[derive(Default)]
pub struct Predictor {
    origins: usize,
    /// `[origin][feature]`, as many as there ever were at once.
    features: Vec<f32>,
    /// Number of each origin's series among those with coefficients of their own.
    own: Vec<Option<usize>>,
    anchors: Vec<ExpertForecasts>,
    inputs: Inputs,
    scratch: Option<Scratch>,
    /// What the cells say, `[origin][quantity][horizon]`.
    said: Vec<f32>,
    /// Of the origins that were forecast last.
    quantiles: Vec<f32>,
}

/// An origin as the parts of a model read it.
pub struct OriginView<'a> {
    pub window: WindowView<'a>,
    /// What is known of the horizon, `[known x horizon]`.
    pub ahead: &'a [f64],
    /// The state of its memory.
    pub memory: &'a [f32],
    /// The last values, as many as a season has if there are.
    pub past: &'a [f64],
    pub running: &'a RunningStats,
    /// Number of the series among those of the manifest.
    pub own: Option<usize>,
}

impl Predictor {
    pub fn len(&self) -> usize {
        self.origins
    }

    pub fn is_empty(&self) -> bool {
        self.origins == 0
    }

    /// Adds an origin, whose window is `lookback` steps; returns how the forecast is scaled.
    pub fn add(&mut self, model: &Model, rules: &StepConfig, view: &OriginView<'_>) -> Scale {
        let manifest = &model.manifest;
        self.origins += 1;
        if model.cells.is_some() && !manifest.carries_state() {
            self.inputs.add(manifest, rules, &view.window, view.ahead, view.own);
        }
        // What is read out is the way from the last value, in units of the spread.
        let last = view.window.values.last().copied().unwrap_or_default();
        let scale = manifest.output_scale(view.window.scale, last);
        let (Some(part), Some(memory)) = (&manifest.recurrence, &model.recurrence) else { return scale };
        let count = memory.readout.features();
        let (start, end) = ((self.origins - 1) * count, self.origins * count);
        if self.features.len() < end {
            self.features.resize(end, 0.0);
        }
        let out = &mut self.features[start..end];
        features::write(manifest, part, rules, view.memory, &view.window, view.ahead, out);
        self.own.push(view.own);
        self.anchors.push(ExpertForecasts::new(view.past, view.running, scale, memory.ensemble.as_ref()));
        scale
    }

    /// What the memory says alone of each origin that was added, held and, where it has a mix, mixed: scaled, `[origin][horizon]`.
    fn remember(&mut self, memory: &RecurrenceModel, out: &mut [f32]) {
        let features = &self.features[..self.origins * memory.readout.features()];
        memory.readout.forecast(features, &self.own, out);
        let horizon = memory.readout.horizon();
        for ((said, anchors), own) in out.chunks_exact_mut(horizon).zip(&self.anchors).zip(&self.own) {
            anchors.hold(said);
            if let Some(mix) = &memory.ensemble {
                anchors.mix(mix, *own, said);
            }
        }
    }

    /// The learned quantiles of the origins that [`Predictor::run`] forecast last, scaled, `[origin][quantile][horizon]`,
    /// rising with the probability; none of a model that learned none.
    pub fn quantiles(&self) -> &[f32] {
        &self.quantiles
    }

    /// Forecasts all origins, scaled, into `out` `[origin][horizon]`, and forgets them. `carried` is what cells whose state is
    /// carried say of them, `[origin][quantity][horizon]`; cells that read windows are read here.
    pub fn run(&mut self, model: &Model, carried: &[f32], out: &mut Vec<f32>) {
        let horizon = model.manifest.horizon;
        out.clear();
        out.resize(self.origins * horizon, 0.0);
        self.quantiles.clear();
        if let Some(memory) = &model.recurrence {
            self.remember(memory, out);
        }
        if let (Some(network), Some(part)) = (&model.cells, &model.manifest.cells) {
            let outputs = network.shape().outputs();
            let all = match part.state {
                StateKind::Carried => carried,
                StateKind::Window => {
                    let scratch = self.scratch.get_or_insert_with(|| Scratch::new(network.shape()));
                    self.said.resize(self.origins * outputs, 0.0);
                    network.forecast(&self.inputs.batch(&model.manifest), scratch, &mut self.said);
                    &self.said
                }
            };
            assert_eq!(all.len(), self.origins * outputs, "the cells say all of each origin");
            let learned = if outputs > horizon { self.origins } else { 0 };
            for (out, said) in out.chunks_exact(horizon).zip(all.chunks_exact(outputs)).take(learned) {
                let start = self.quantiles.len();
                // Those of what the memory leaves over, above what it says.
                self.quantiles.extend(said[horizon..].iter().zip(out.iter().cycle()).map(|(q, out)| out + q));
                intervals::rearrange(&mut self.quantiles[start..], horizon);
            }
            let mut first = 0;
            for share in &part.blend_weights {
                for (out, said) in out.chunks_exact_mut(horizon).zip(all.chunks_exact(outputs)) {
                    let steps = first..share.end;
                    out[steps.clone()]
                        .iter_mut()
                        .zip(&said[steps])
                        .for_each(|(out, said)| *out += share.weight * said);
                }
                first = share.end;
            }
        }
        self.origins = 0;
        self.own.clear();
        self.anchors.clear();
        self.inputs.clear();
    }
}
