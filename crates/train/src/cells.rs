//! Training of the cells, standalone or on the residuals of the recurrence, and selection of the weight that their output has
//! in the forecast.

use anyhow::Result;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::backtest::BacktestModels;
use super::gram::{BLOCKS, VALIDATION, block_of, bucket_ends};
use super::progress::{Decision, Progress, Report};
use super::settings::TrainConfig;
use super::trainer::{TrainedNetwork, Trainer, TrainerState, checkpoint_identity, read_checkpoint};
use super::training_data::{Samples, TrainingData, group_size};
use super::windows::{Origin, Windows};
use super::{Channel, Split};
use tidecast_core::intervals::{ConformalOffsets, rearrange};
use tidecast_core::model::{BlendWeight, Model};
use tidecast_core::network::{Network, Shape, pinball};

/// Limit of the samples on which an epoch is validated.
const VALIDATION_SAMPLES_MAX: usize = 20_000;
/// Limit of the output values in memory at once: 256 MiB.
pub const OUTPUT_VALUES_MAX: usize = 64 << 20;

/// Candidate blend weights are multiples of 1 / WEIGHT_STEPS.
const WEIGHT_STEPS: usize = 20;
/// Largest relative loss, on every held-out period, at which a candidate is accepted: a smaller gain may be chance.
const MIN_IMPROVEMENT: f64 = 0.99;
/// Least number of horizons in a held-out period: forecasts overlap, and fewer horizons are a single weather pattern.
const HORIZONS_MIN: i64 = 10;

/// Cells that are part of the forecast.
pub struct TrainedCells {
    pub network: Network,
    pub blend_weights: Vec<BlendWeight>,
    pub epoch: usize,
}

/// Result of training cells.
pub struct CellResult {
    /// None where the cells do not improve the forecast.
    pub cells: Option<TrainedCells>,
    pub decisions: Vec<Decision>,
    /// False after an interruption.
    pub is_complete: bool,
}

/// Selection of a trial: the weights of the cells' forecast, and the losses of their quantiles relative to constant ones.
#[derive(Serialize, Deserialize)]
struct Acceptance {
    blend_weights: Vec<BlendWeight>,
    quantile_losses: Vec<f64>,
}

impl Acceptance {
    fn accepts_quantiles(&self) -> bool {
        !self.quantile_losses.is_empty() && self.quantile_losses.iter().all(|loss| *loss <= MIN_IMPROVEMENT)
    }

    fn rejects_all(&self) -> bool {
        self.blend_weights.iter().all(|bucket| bucket.weight == 0.0) && !self.accepts_quantiles()
    }

    fn apply(self, trained: TrainedNetwork) -> TrainedCells {
        let accepts_quantiles = self.accepts_quantiles();
        let network = if accepts_quantiles { trained.network } else { trained.network.without_quantiles() };
        TrainedCells { network, blend_weights: self.blend_weights, epoch: trained.epoch }
    }

    fn decisions(&self, quantiles: usize) -> Vec<Decision> {
        if quantiles == 0 {
            return Vec::new();
        }
        let losses: Vec<String> = self.quantile_losses.iter().map(|loss| format!("{loss:.3}")).collect();
        let verb = if self.accepts_quantiles() { "keep" } else { "drop" };
        let reason = if losses.is_empty() {
            format!("fewer than two held-out periods of {HORIZONS_MIN} horizons to evaluate them on")
        } else {
            format!(
                "held-out loss relative to constant quantiles: {}; the limit is {MIN_IMPROVEMENT}",
                losses.join(", ")
            )
        };
        vec![Decision::new(format!("{verb} the {quantiles} quantiles of the cells"), reason)]
    }
}

/// Inputs of the training of cells.
pub struct CellTraining<'a> {
    pub config: &'a TrainConfig,
    pub shape: Shape,
    pub windows: &'a Windows<'a>,
    pub channels: &'a [Channel],
    pub split: Split,
    /// Sampled origins of the training split.
    pub training: &'a [Origin],
    /// Sampled origins of the validation split.
    pub validation: &'a [Origin],
    /// Recurrence models without each block, and last on all blocks; empty without a recurrence.
    pub folds: &'a [Model],
    /// Checkpoint of an interrupted run.
    pub checkpoint: Option<&'a [u8]>,
    /// Identity of this run in checkpoints.
    pub identity: String,
}

impl CellTraining<'_> {
    /// Trains the cells.
    pub fn run(&self, report: &mut Report<'_>) -> Result<CellResult> {
        if self.folds.is_empty() { self.train_standalone(report) } else { self.train_on_residuals(report) }
    }

    fn train_standalone(&self, report: &mut Report<'_>) -> Result<CellResult> {
        let samples = |origins: &[Origin]| Samples::values(self.windows, self.channels, origins.to_vec());
        let (train, validation) = (samples(self.training), samples(self.validation));
        let blend_weights = vec![BlendWeight { end: self.shape.horizon, weight: 1.0 }];
        let TrainedNetwork { network, epoch, is_complete, .. } =
            self.fit(&train, &validation, &self.identity, self.checkpoint, report)?;
        let cells = TrainedCells { network, blend_weights, epoch };
        Ok(CellResult { cells: Some(cells), decisions: Vec::new(), is_complete })
    }

    /// Trains twice: a trial without the last block selects the weight of the cells on data it has not seen, then cells are
    /// trained on all blocks. The second run is skipped where the trial rejects forecast and quantiles.
    fn train_on_residuals(&self, report: &mut Report<'_>) -> Result<CellResult> {
        let residuals = |select: &(dyn Fn(i64) -> usize + Sync), origins: &[Origin]| {
            let models = BacktestModels { models: self.folds, select };
            Samples::residuals(self.windows, self.channels, models, origins)
        };
        let train = residuals(&|step| block_of(self.split, step), self.training);
        let validation = residuals(&|_| VALIDATION, self.validation);
        // Checkpoints of the second run carry the result of the trial.
        let final_prefix = format!("{} final ", self.identity);
        let resumed = self.checkpoint.and_then(checkpoint_identity);
        let resumed =
            resumed.and_then(|identity| serde_json::from_str(identity.strip_prefix(&final_prefix)?).ok());
        let (acceptance, checkpoint): (Acceptance, _) = match resumed {
            Some(acceptance) => (acceptance, self.checkpoint),
            None => {
                let (trial, acceptance) = self.run_trial(&train, &validation, report)?;
                let is_rejected = trial.epoch == 0 || acceptance.rejects_all();
                if is_rejected || !trial.is_complete {
                    let decisions = acceptance.decisions(self.shape.quantiles);
                    let is_complete = trial.is_complete;
                    let cells = (!is_rejected).then(|| acceptance.apply(trial));
                    return Ok(CellResult { cells, decisions, is_complete });
                }
                (acceptance, None)
            }
        };
        let identity = final_prefix + &serde_json::to_string(&acceptance)?;
        let trained = self.fit(&train, &validation, &identity, checkpoint, report)?;
        let (decisions, is_complete) = (acceptance.decisions(self.shape.quantiles), trained.is_complete);
        Ok(CellResult { cells: Some(acceptance.apply(trained)), decisions, is_complete })
    }

    /// Trains without the last block, and selects the weight of the cells on that block and on both halves of the validation
    /// split.
    fn run_trial(
        &self,
        train: &Samples,
        validation: &Samples,
        report: &mut Report<'_>,
    ) -> Result<(TrainedNetwork, Acceptance)> {
        let Split { first, train_end, validation_end, .. } = self.split;
        let history = self.windows.history;
        let step = |origin: &Origin| history.segments[origin.segment as usize].step(origin.index as usize);
        let is_last_block = |origin: &Origin| block_of(self.split, step(origin)) == BLOCKS - 1;
        let other_blocks = train.filter(|origin| !is_last_block(origin));
        let outputs = self.shape.outputs();
        let samples_max = VALIDATION_SAMPLES_MAX.min(OUTPUT_VALUES_MAX / outputs).max(1);
        let last_block = train.filter(is_last_block).thin(samples_max, group_size(self.config, outputs));
        let middle = (train_end + validation_end) / 2;
        let early = validation.filter(|origin| step(origin) < middle);
        let late = validation.filter(|origin| step(origin) >= middle);
        let identity = format!("{} trial", self.identity);
        let held_out = last_block.clone().concat(validation);
        let trial = self.fit(&other_blocks, &held_out, &identity, self.checkpoint, report)?;
        let steps_min = ((train_end - first) / BLOCKS as i64).min((validation_end - train_end) / 2);
        let data =
            [last_block, early, late].map(|samples| TrainingData::new(self.config, self.windows, samples));
        let periods = HeldOutPeriods {
            network: &trial.network,
            data: data.iter().filter(|data| data.len() > 0).collect(),
            steps_min,
        };
        let blend_weights = periods.select_blend_weights(self.config);
        let quantile_losses = periods.quantile_losses(self.windows, &blend_weights);
        Ok((trial, Acceptance { blend_weights, quantile_losses }))
    }

    fn fit(
        &self,
        train: &Samples,
        validation: &Samples,
        identity: &str,
        checkpoint: Option<&[u8]>,
        report: &mut Report<'_>,
    ) -> Result<TrainedNetwork> {
        let Self { config, shape, windows, .. } = *self;
        let network = Network::new(shape, config.seed)?;
        // A correction of the last value or of a recurrence starts from zero.
        let is_correction = windows.manifest.recurrence.is_some() || windows.manifest.carries_state();
        let network = if is_correction { network.with_zero_head() } else { network };
        let mut state = TrainerState::new(config, network);
        match checkpoint.map(|bytes| read_checkpoint(bytes, identity, &state)) {
            Some(Ok(resumed)) => {
                let _ = report(Progress::Resumed { epochs: resumed.epochs });
                state = resumed;
            }
            Some(Err(error)) => {
                let _ = report(Progress::CheckpointIgnored { reason: error.to_string() });
            }
            None => {}
        }
        let train = TrainingData::new(config, windows, train.clone());
        let validation = validation.thin(VALIDATION_SAMPLES_MAX, group_size(config, shape.outputs()));
        let validation = TrainingData::new(config, windows, validation);
        Ok(Trainer::new(config, &train, &validation, identity).run(state, report))
    }
}

/// Periods of the history that a network was not trained on. A candidate must gain on each of them: what fits the level of
/// one period need not fit the next.
struct HeldOutPeriods<'a> {
    network: &'a Network,
    data: Vec<&'a TrainingData<'a>>,
    /// Steps of the shortest period.
    steps_min: i64,
}

/// Targets of a period, `[...][horizon]`, and the outputs, `[...][quantity][horizon]`.
struct PeriodOutputs {
    targets: Vec<f32>,
    outputs: Vec<f32>,
}

/// A forecast that quantile offsets are added to: a multiple of an output of the network.
#[derive(Clone, Copy)]
struct QuantileBase {
    factor: f32,
    output: usize,
}

impl HeldOutPeriods<'_> {
    /// The weight of each bucket with the least loss, relative to no cells.
    fn select_blend_weights(&self, config: &TrainConfig) -> Vec<BlendWeight> {
        let ends = bucket_ends(self.network.shape().horizon);
        let losses: Vec<_> = self.data.iter().map(|data| self.blend_losses(config, data, &ends)).collect();
        let select = |bucket: usize| {
            let log_loss = |step: usize| {
                let ratios = losses.iter().map(|of| of[bucket][step] / of[bucket][0].max(f64::MIN_POSITIVE));
                let (sum, worst) = ratios.fold((0.0, 0.0f64), |(sum, worst), r| (sum + r.ln(), worst.max(r)));
                (step == 0 || worst <= MIN_IMPROVEMENT).then_some(sum)
            };
            let is_long_enough = ends[bucket] as i64 * HORIZONS_MIN <= self.steps_min;
            let steps = if is_long_enough { WEIGHT_STEPS } else { 0 };
            let accepted = (0..=steps).filter_map(|step| Some((step, log_loss(step)?)));
            accepted.min_by(|(_, a), (_, b)| a.total_cmp(b)).map_or(0, |(step, _)| step)
        };
        let buckets = ends.iter().enumerate();
        buckets.map(|(bucket, end)| BlendWeight { end: *end, weight: weight_at(select(bucket)) }).collect()
    }

    /// Losses of a period, `[bucket][candidate weight]`.
    fn blend_losses(
        &self,
        config: &TrainConfig,
        data: &TrainingData<'_>,
        ends: &[usize],
    ) -> Vec<[f64; WEIGHT_STEPS + 1]> {
        let Shape { horizon, .. } = *self.network.shape();
        let bucket_of = |step: usize| ends.iter().position(|end| step < *end).unwrap_or(ends.len() - 1);
        let zeros = || vec![[0.0; WEIGHT_STEPS + 1]; ends.len()];
        let chunks = data.map_forecasts(self.network, |targets, outputs| {
            let outputs = outputs.chunks_exact(self.network.shape().outputs());
            let forecasts = outputs.flat_map(|output| &output[..horizon]);
            let mut sums = zeros();
            for (i, (forecast, target)) in
                forecasts.zip(targets).enumerate().filter(|(_, (_, t))| !t.is_nan())
            {
                for (step, sum) in sums[bucket_of(i % horizon)].iter_mut().enumerate() {
                    *sum += config.loss.value(weight_at(step) * forecast - target).value;
                }
            }
            sums
        });
        let mut sums = zeros();
        for losses in &chunks {
            for (sums, losses) in sums.iter_mut().zip(losses) {
                sums.iter_mut().zip(losses).for_each(|(sum, loss)| *sum += loss);
            }
        }
        sums
    }

    /// Pinball loss of the learned quantiles on each period, relative to that of quantiles at a constant distance from the
    /// blended forecast. Offsets of both are estimated on the other periods, as they would be when serving. Empty without
    /// quantiles or with too little data.
    fn quantile_losses(&self, windows: &Windows<'_>, blend_weights: &[BlendWeight]) -> Vec<f64> {
        let Shape { horizon, .. } = *self.network.shape();
        let probabilities = windows.manifest.probabilities();
        let is_too_short = horizon as i64 * HORIZONS_MIN > self.steps_min;
        if self.data.len() < 2 || probabilities.is_empty() || is_too_short {
            return Vec::new();
        }
        let periods: Vec<PeriodOutputs> = self.data.iter().map(|data| self.outputs(data)).collect();
        let losses = |task: usize| {
            let (quantile, step) = (task / horizon, task % horizon);
            let weight = blend_weights.iter().find(|bucket| step < bucket.end).map_or(0.0, |of| of.weight);
            let constant = QuantileBase { factor: weight, output: step };
            let learned = QuantileBase { factor: 1.0, output: (quantile + 1) * horizon + step };
            [constant, learned]
                .map(|base| offset_losses(&periods, base, horizon, step, probabilities[quantile]))
        };
        let losses: Vec<[Vec<f64>; 2]> =
            (0..probabilities.len() * horizon).into_par_iter().map(losses).collect();
        let sum = |base: usize, period: usize| losses.iter().map(|of| of[base][period]).sum::<f64>();
        let ratio = |period| sum(1, period) / sum(0, period).max(f64::MIN_POSITIVE);
        // JSON cannot store infinity in a checkpoint.
        (0..periods.len()).map(|period| ratio(period).min(f64::MAX)).collect()
    }

    fn outputs(&self, data: &TrainingData<'_>) -> PeriodOutputs {
        let shape = self.network.shape();
        let chunks = data.map_forecasts(self.network, |targets, outputs| {
            let sort = |output: &mut [f32]| rearrange(&mut output[shape.horizon..], shape.horizon);
            outputs.chunks_exact_mut(shape.outputs()).for_each(sort);
            (targets.to_vec(), outputs.clone())
        });
        let (targets, outputs): (Vec<_>, Vec<_>) = chunks.into_iter().unzip();
        PeriodOutputs { targets: targets.concat(), outputs: outputs.concat() }
    }
}

/// Pinball loss of one quantile and step on each period, with an offset estimated on the other periods.
fn offset_losses(
    periods: &[PeriodOutputs],
    base: QuantileBase,
    horizon: usize,
    step: usize,
    probability: f64,
) -> Vec<f64> {
    let errors = |period: &PeriodOutputs| -> Vec<f32> {
        let targets = period.targets.chunks_exact(horizon);
        let outputs = period.outputs.chunks_exact(period.outputs.len() / targets.len().max(1));
        let errors =
            targets.zip(outputs).map(|(targets, outputs)| targets[step] - base.factor * outputs[base.output]);
        errors.filter(|error| !error.is_nan()).collect()
    };
    let errors: Vec<Vec<f32>> = periods.iter().map(errors).collect();
    let loss = |held_out: usize| {
        let others = errors.iter().enumerate().filter(|(period, _)| *period != held_out);
        let others: Vec<f32> = others.flat_map(|(_, errors)| errors).copied().collect();
        let Some(offsets) = ConformalOffsets::new(vec![vec![others]], &[probability], 1) else { return 0.0 };
        let offset = offsets.values()[0];
        errors[held_out].iter().map(|error| pinball(probability, offset - error).value).sum()
    };
    (0..periods.len()).map(loss).collect()
}

fn weight_at(step: usize) -> f32 {
    step as f32 / WEIGHT_STEPS as f32
}
