//! Training data of the cells: samples with targets, read as windows or as sequences along which a state is carried.

use std::ops::Range;

use rayon::prelude::*;

use super::Channel;
use super::backtest::{BacktestModels, backtest};
use super::settings::TrainConfig;
use super::windows::{Origin, Windows};
use tidecast_core::forecaster::InputBatch;
use tidecast_core::network::{
    self, Loss, LossAndGradients, LossSpec, Network, Random, Scratch, Shape, StateKind, TrainScratch,
};
use tidecast_core::series::Scale;

/// Windows per chunk. Fixed, so that gradients are summed in the same order on any number of threads.
const WINDOWS_PER_CHUNK: usize = 64;
/// Windows of a minibatch that one sequence replaces.
const WINDOWS_PER_SEQUENCE: usize = 16;
/// Sequences per chunk: the least width of a fast product.
const SEQUENCES_PER_CHUNK: usize = 8;
/// Least number of minibatches per epoch, unless there are fewer sequences: a sequence has many forecasts, and a short history
/// would make too few updates.
const MINIBATCHES_MIN: usize = 32;
/// Trained steps of a sequence per warm-up step: more would save little, and fewer waste the warm-up.
const TRAINED_PER_WARMUP: usize = 2;
/// Limit of the outputs along the sequences of a chunk: 64 MiB, and the same for their gradients.
const SEQUENCE_OUTPUTS_MAX: usize = 16 << 20;
/// Probability that a window is trained as one of an unknown series. Without it the embedding of unknown series would stay
/// at its initial zeros instead of standing for an average series.
const UNKNOWN_SERIES: f32 = 0.1;

/// Origins with their targets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    pub origins: Vec<Origin>,
    /// Channel of each origin.
    channels: Vec<u32>,
    horizon: usize,
    /// `[origin][horizon]`, NaN where nothing was observed or the window is constant.
    targets: Vec<f32>,
}

impl Samples {
    /// Samples whose targets are the scaled values.
    pub fn values(windows: &Windows<'_>, channels: &[Channel], origins: Vec<Origin>) -> Self {
        let channel_of = channel_by_segment(windows, channels);
        let channels = origins.iter().map(|origin| channel_of[origin.segment as usize]).collect();
        let horizon = windows.manifest.horizon;
        let targets = origins.iter().flat_map(|origin| {
            let view = windows.view(*origin).expect("windows at sampled origins are complete");
            let last = view.values.last().copied().unwrap_or_default();
            scaled_actuals(windows, *origin, windows.manifest.output_scale(view.scale, last))
        });
        let targets = targets.collect();
        Self { origins, channels, horizon, targets }
    }

    /// Samples whose targets are the residuals of models.
    pub fn residuals(
        windows: &Windows<'_>,
        channels: &[Channel],
        models: BacktestModels<'_>,
        origins: &[Origin],
    ) -> Self {
        let horizon = windows.manifest.horizon;
        let by_channel = group_by_channel(windows, channels, origins);
        let targets_of = |(channel, origins): (usize, &Vec<Origin>)| {
            let mut targets = vec![f32::NAN; origins.len() * horizon];
            backtest(windows, channels, channel, models, origins, |forecast| {
                let targets = &mut targets[forecast.index * horizon..][..horizon];
                let actuals = scaled_actuals(windows, forecast.origin, forecast.scale);
                for ((target, actual), value) in targets.iter_mut().zip(actuals).zip(forecast.values) {
                    *target = actual - value;
                }
            });
            targets
        };
        let targets: Vec<Vec<f32>> = by_channel.par_iter().enumerate().map(targets_of).collect();
        let indices = by_channel.iter().enumerate();
        let channels = indices.flat_map(|(channel, origins)| vec![channel as u32; origins.len()]).collect();
        let origins = by_channel.into_iter().flatten().collect();
        Self { origins, channels, horizon, targets: targets.concat() }
    }

    pub fn len(&self) -> usize {
        self.origins.len()
    }

    fn targets(&self, index: usize) -> &[f32] {
        &self.targets[index * self.horizon..][..self.horizon]
    }

    pub fn filter(&self, is_wanted: impl Fn(&Origin) -> bool) -> Self {
        let indices = (0..self.len()).filter(|index| is_wanted(&self.origins[*index]));
        self.select(&indices.collect::<Vec<_>>())
    }

    pub fn concat(mut self, other: &Self) -> Self {
        self.origins.extend(&other.origins);
        self.channels.extend(&other.channels);
        self.targets.extend(&other.targets);
        self
    }

    fn select(&self, indices: &[usize]) -> Self {
        Self {
            origins: indices.iter().map(|index| self.origins[*index]).collect(),
            channels: indices.iter().map(|index| self.channels[*index]).collect(),
            horizon: self.horizon,
            targets: indices.iter().flat_map(|index| self.targets(*index)).copied().collect(),
        }
    }

    /// Every n-th group of `group` consecutive samples, with the least odd n that leaves at most `max` samples.
    pub fn thin(&self, max: usize, group: usize) -> Self {
        let groups = self.len().div_ceil(group);
        let stride = groups.div_ceil((max / group).max(1)).max(1);
        // Odd: an even stride could select the same hours of every day.
        let stride = stride | usize::from(stride > 1);
        let first = (stride / 2).min(groups.saturating_sub(1));
        let is_selected = |index: &usize| index / group % stride == first;
        self.select(&(0..self.len()).filter(is_selected).collect::<Vec<_>>())
    }
}

/// Origins of each channel, in their order.
pub fn group_by_channel(windows: &Windows<'_>, channels: &[Channel], origins: &[Origin]) -> Vec<Vec<Origin>> {
    let channel_of = channel_by_segment(windows, channels);
    let mut groups = vec![Vec::new(); channels.len()];
    origins.iter().for_each(|origin| groups[channel_of[origin.segment as usize] as usize].push(*origin));
    groups
}

fn channel_by_segment(windows: &Windows<'_>, channels: &[Channel]) -> Vec<u32> {
    let mut channel_of = vec![0; windows.history.segments.len()];
    for (index, channel) in channels.iter().enumerate() {
        channel.segments.iter().for_each(|segment| channel_of[*segment as usize] = index as u32);
    }
    channel_of
}

fn scaled_actuals(windows: &Windows<'_>, origin: Origin, scale: Scale) -> impl Iterator<Item = f32> {
    windows.actuals(origin).map(move |actual| match scale.spread {
        0.0 => f32::NAN,
        _ if actual.is_nan() => f32::NAN,
        _ => scale.apply(actual),
    })
}

/// Samples that are trained as a unit, of `outputs` values each: those of a sequence.
pub fn group_size(config: &TrainConfig, outputs: usize) -> usize {
    match config.state {
        StateKind::Window => 1,
        StateKind::Carried => sequence_samples(config.lookback, outputs),
    }
}

/// Largest number of samples of a sequence with a warm-up of `lookback` steps and `outputs` values per sample.
fn sequence_samples(lookback: usize, outputs: usize) -> usize {
    (TRAINED_PER_WARMUP * lookback).min(SEQUENCE_OUTPUTS_MAX / SEQUENCES_PER_CHUNK / outputs).max(1)
}

/// Samples in the form that the network reads. An item is a window or a sequence.
pub struct TrainingData<'a> {
    windows: &'a Windows<'a>,
    samples: Samples,
    /// Sequences of consecutive samples in time order; none where the network reads windows.
    sequences: Option<Vec<Sequence>>,
}

/// Consecutive steps. The first ones warm up the state; each later one may have a target.
struct Sequence {
    segment: u32,
    /// Index of the first step.
    first: usize,
    /// Steps before the first one with a target.
    burn_in: usize,
    steps: usize,
    samples: Range<usize>,
}

/// Input buffers of one thread.
#[derive(Default)]
pub struct Buffers {
    inputs: InputBatch,
    sequences: SequenceBuffers,
    /// Dropout factors of the hidden values that the head reads, `[item][hidden]`.
    factors: Vec<f32>,
    /// `[...][horizon]`, NaN where there is no target.
    targets: Vec<f32>,
}

impl<'a> TrainingData<'a> {
    pub fn new(config: &TrainConfig, windows: &'a Windows<'a>, samples: Samples) -> Self {
        let carries_state = config.state == StateKind::Carried;
        let sequences = carries_state.then(|| cut_sequences(windows, &samples, config.lookback));
        Self { windows, samples, sequences }
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.sequences.as_ref().map_or(self.samples.len(), Vec::len)
    }

    /// Items per chunk, the unit of parallel work.
    pub fn chunk_size(&self) -> usize {
        if self.sequences.is_some() { SEQUENCES_PER_CHUNK } else { WINDOWS_PER_CHUNK }
    }

    /// Items per minibatch.
    pub fn batch_size(&self, config: &TrainConfig) -> usize {
        if self.sequences.is_none() {
            return config.batch_size;
        }
        (config.batch_size / WINDOWS_PER_SEQUENCE).min(self.len() / MINIBATCHES_MIN).max(1)
    }

    /// Loss and gradients of some items.
    pub fn loss_and_gradients(
        &self,
        network: &Network,
        items: &[usize],
        dropout: Dropout,
        loss: Loss,
        buffers: &mut Buffers,
        scratch: &mut TrainScratch,
    ) -> LossAndGradients {
        self.read(network, items, buffers);
        dropout.write_factors(items, network.shape().hidden, &mut buffers.factors);
        for (column, _) in items.iter().enumerate().filter(|(_, item)| dropout.hides_series(**item)) {
            match self.sequences {
                None => buffers.inputs.mask_series(column),
                Some(_) => buffers.sequences.series[column] = None,
            }
        }
        let spec = self.loss_spec(loss, &buffers.targets, &buffers.factors);
        match self.sequences {
            None => network.loss_and_gradients(&buffers.inputs.batch(self.windows.manifest), &spec, scratch),
            Some(_) => {
                network.loss_and_gradients_of_sequences(&buffers.sequences.as_sequences(), &spec, scratch)
            }
        }
    }

    /// Loss on `targets`, `[...][horizon]`.
    pub fn loss_spec<'b>(&'b self, loss: Loss, targets: &'b [f32], dropout: &'b [f32]) -> LossSpec<'b> {
        LossSpec { targets, loss, probabilities: self.windows.manifest.probabilities(), dropout }
    }

    /// Calls `visit` with the targets of each chunk of all items, `[...][horizon]`, and the outputs of the network,
    /// `[...][quantity][horizon]`; returns the results in order.
    pub fn map_forecasts<R: Send>(
        &self,
        network: &Network,
        visit: impl Fn(&[f32], &mut Vec<f32>) -> R + Sync,
    ) -> Vec<R> {
        let items: Vec<usize> = (0..self.len()).collect();
        let shape = network.shape();
        let workspace = || (Buffers::default(), Scratch::new(shape), Vec::new());
        let chunks = items.par_chunks(self.chunk_size()).map_init(workspace, |workspace, items| {
            let (buffers, scratch, outputs) = workspace;
            self.read(network, items, buffers);
            outputs.resize(buffers.targets.len() / shape.horizon * shape.outputs(), 0.0);
            match self.sequences {
                None => network.forecast(&buffers.inputs.batch(self.windows.manifest), scratch, outputs),
                Some(_) => {
                    network.forecast_sequences(&buffers.sequences.as_sequences(), scratch, outputs);
                }
            }
            visit(&buffers.targets, outputs)
        });
        chunks.collect()
    }

    fn read(&self, network: &Network, items: &[usize], buffers: &mut Buffers) {
        if let Some(sequences) = &self.sequences {
            let sequences: Vec<&Sequence> = items.iter().map(|item| &sequences[*item]).collect();
            return self.read_sequences(network.shape(), &sequences, buffers);
        }
        let Buffers { inputs, targets, .. } = buffers;
        inputs.clear();
        targets.clear();
        for item in items {
            let channel = self.samples.channels[*item] as usize;
            self.windows.write_window(self.samples.origins[*item], channel, inputs);
            targets.extend_from_slice(self.samples.targets(*item));
        }
    }

    /// Writes some sequences; the targets become `[step][column][horizon]`, NaN where a step has no sample.
    fn read_sequences(&self, shape: &Shape, sequences: &[&Sequence], buffers: &mut Buffers) {
        let Buffers { sequences: out, targets, .. } = buffers;
        let width = sequences.len();
        // All columns share the shortest burn-in: outputs in the rest of a longer one have no target.
        let burn_in = sequences.iter().map(|sequence| sequence.burn_in).min().unwrap_or(0);
        let steps = sequences.iter().map(|sequence| sequence.steps).max().unwrap_or(0);
        (out.width, out.burn_in, out.steps) = (width, burn_in, steps);
        let covariates = shape.horizon * shape.future_covariates;
        reset(&mut out.inputs, steps * width * shape.inputs, 0.0);
        reset(&mut out.future_covariates, (steps - burn_in) * width * covariates, 0.0);
        reset(targets, (steps - burn_in) * width * shape.horizon, f32::NAN);
        out.series.clear();
        for (column, sequence) in sequences.iter().enumerate() {
            let channel = self.samples.channels[sequence.samples.start] as usize;
            out.series.push(self.windows.series_index(channel).map(|series| series as u32));
            reset(&mut out.column, sequence.steps * shape.inputs, 0.0);
            let indices = sequence.first..sequence.first + sequence.steps;
            self.windows.write_steps(sequence.segment, indices, &mut out.column);
            for (step, inputs) in out.column.chunks_exact(shape.inputs).enumerate() {
                out.inputs[(step * width + column) * shape.inputs..][..shape.inputs].copy_from_slice(inputs);
            }
            for sample in sequence.samples.clone() {
                let origin = self.samples.origins[sample];
                let step = origin.index as usize - sequence.first - burn_in;
                let position = step * width + column;
                targets[position * shape.horizon..][..shape.horizon]
                    .copy_from_slice(self.samples.targets(sample));
                let out = &mut out.future_covariates[position * covariates..][..covariates];
                self.windows.manifest.inputs.write_future(self.windows.future(origin), out);
            }
        }
    }
}

/// Inputs of sequences, one per column.
#[derive(Default)]
struct SequenceBuffers {
    width: usize,
    steps: usize,
    burn_in: usize,
    /// Inputs of one sequence, `[step][input]`.
    column: Vec<f32>,
    /// `[step][column][input]`
    inputs: Vec<f32>,
    /// `[forecast][column][horizon][covariate]`
    future_covariates: Vec<f32>,
    series: Vec<Option<u32>>,
}

impl SequenceBuffers {
    fn as_sequences(&self) -> network::Sequences<'_> {
        let Self { width, steps, burn_in, .. } = *self;
        let Self { inputs, future_covariates, series, .. } = self;
        network::Sequences { width, steps, burn_in, inputs, future_covariates, series }
    }
}

/// Cuts consecutive samples into sequences with a warm-up of `lookback` steps, or fewer at the start of a segment.
fn cut_sequences(windows: &Windows<'_>, samples: &Samples, lookback: usize) -> Vec<Sequence> {
    let outputs = windows.manifest.cells.as_ref().map_or(1, |cells| cells.network.outputs());
    let steps_max = sequence_samples(lookback, outputs);
    let mut sequences: Vec<Sequence> = Vec::new();
    for (sample, origin) in samples.origins.iter().enumerate() {
        let index = origin.index as usize;
        if let Some(sequence) = sequences.last_mut() {
            let steps = (index + 1).wrapping_sub(sequence.first);
            let follows = index >= sequence.first + sequence.steps && steps <= sequence.burn_in + steps_max;
            if sequence.segment == origin.segment && follows {
                sequence.steps = steps;
                sequence.samples.end = sample + 1;
                continue;
            }
        }
        let burn_in = index.min(lookback);
        let (segment, first, steps) = (origin.segment, index - burn_in, burn_in + 1);
        sequences.push(Sequence { segment, first, burn_in, steps, samples: sample..sample + 1 });
    }
    sequences
}

fn reset(values: &mut Vec<f32>, len: usize, value: f32) {
    values.clear();
    values.resize(len, value);
}

/// Dropout before the head (Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014) and
/// dropout of the series' identity, of one epoch. Draws depend on the seed, the epoch and the item, not on threads or
/// minibatches.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// Probability that a hidden value is dropped.
    pub rate: f64,
    pub seed: u64,
    pub epoch: usize,
}

impl Dropout {
    /// Writes the factors of the hidden values, `[item][hidden]`; none without dropout. Retained values are scaled up, so
    /// that nothing changes when serving.
    fn write_factors(&self, items: &[usize], hidden: usize, out: &mut Vec<f32>) {
        out.clear();
        if self.rate == 0.0 {
            return;
        }
        let (rate, retained) = (self.rate as f32, (1.0 / (1.0 - self.rate)) as f32);
        for item in items {
            let mut random = Random::keyed(&[self.seed, self.epoch as u64, *item as u64]);
            out.extend((0..hidden).map(|_| if random.unit() < rate { 0.0 } else { retained }));
        }
    }

    /// True if the series of an item is hidden.
    fn hides_series(&self, item: usize) -> bool {
        // The last element of the key separates this draw from those of the factors.
        Random::keyed(&[self.seed, self.epoch as u64, item as u64, 1]).unit() < UNKNOWN_SERIES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factors(dropout: Dropout, items: &[usize]) -> Vec<f32> {
        let mut out = vec![7.0];
        dropout.write_factors(items, 100, &mut out);
        out
    }

    #[test]
    fn dropout_of_an_item_does_not_depend_on_its_minibatch() {
        let first = Dropout { rate: 0.25, seed: 1, epoch: 3 };
        let all: Vec<usize> = (0..1000).collect();
        let together = factors(first, &all);
        assert_eq!(factors(first, &[17, 4]), [&together[1700..1800], &together[400..500]].concat());
        for other in [Dropout { epoch: 4, ..first }, Dropout { seed: 2, ..first }] {
            let same = factors(other, &all).iter().zip(&together).filter(|(a, b)| a == b).count();
            // Independent draws agree with probability 1 - 2 p (1 - p).
            assert!((0.61..0.64).contains(&(same as f64 / 1e5)), "{same}");
        }
    }

    #[test]
    fn one_item_in_ten_has_a_hidden_series_and_epochs_differ() {
        let hidden = |epoch| {
            let dropout = Dropout { rate: 0.0, seed: 1, epoch };
            (0..10_000).filter(|item| dropout.hides_series(*item)).collect::<Vec<usize>>()
        };
        assert!((900..1100).contains(&hidden(1).len()), "{}", hidden(1).len());
        assert_ne!(hidden(1), hidden(2));
    }

    #[test]
    fn dropout_preserves_the_mean() {
        for rate in [0.1, 0.5] {
            let factors = factors(Dropout { rate, seed: 1, epoch: 1 }, &(0..1000).collect::<Vec<_>>());
            let dropped = factors.iter().filter(|factor| **factor == 0.0).count() as f64 / 1e5;
            let mean = factors.iter().sum::<f32>() / 1e5;
            assert!((dropped - rate).abs() < 0.005 && (mean - 1.0).abs() < 0.01, "{dropped} {mean}");
        }
        assert!(factors(Dropout { rate: 0.0, seed: 1, epoch: 1 }, &[1, 2]).is_empty());
    }
}
