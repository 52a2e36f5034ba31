//! The loss of a batch and its gradients, by backpropagation through time.

use super::backward::{BackwardPass, InputGradients};
use super::forward::{Batch, ForwardPass, StateColumns, TILE, Tile, check_len};
use super::optimizer::Gradients;
use super::{LossSpec, LossSum, Network, Sequences, Shape, State};

/// Reusable buffers of training. They hold every step of one tile of columns, and grow to the longest batch.
pub struct TrainScratch {
    forward: ForwardPass,
    backward: BackwardPass,
}

/// The loss of a batch and its gradients.
#[derive(Clone, Debug)]
pub struct LossAndGradients {
    /// Sum over all targets that are not NaN.
    pub loss_sum: f64,
    /// Targets that are not NaN.
    pub count: usize,
    /// Gradients of `loss_sum`; divide by `count` for those of the mean.
    pub gradients: Gradients,
}

/// The outputs of a sequence, and the gradients of their product with given numbers.
#[derive(Clone, Debug)]
pub struct SequenceGradients {
    /// `[step][column][hidden]`: the top layer.
    pub outputs: Vec<f32>,
    /// `[step][column][input]`
    pub inputs: Vec<f32>,
    pub gradients: Gradients,
}

impl TrainScratch {
    pub fn new(shape: &Shape) -> Self {
        let head_calls = shape.feedback_steps() + 1;
        let forward = ForwardPass::new(shape, 1, head_calls, 1);
        Self { forward, backward: BackwardPass::new(shape, head_calls, 1) }
    }

    /// Grows the buffers to a batch, and clears the gradients.
    fn begin(&mut self, network: &Network, steps: usize, head_calls: usize, width: usize) {
        let (shape, forward) = (network.shape(), &self.forward);
        assert_eq!(forward.shape, *shape, "the scratch belongs to the network's shape");
        if forward.saved_steps < steps
            || forward.saved_head_calls() < head_calls
            || forward.width < width.min(TILE)
        {
            let steps = steps.max(forward.saved_steps);
            let head_calls = head_calls.max(forward.saved_head_calls());
            let width = width.max(forward.width);
            self.forward = ForwardPass::new(shape, steps, head_calls, width);
            self.backward = BackwardPass::new(shape, head_calls, width);
        }
        self.backward.clear();
    }

    /// Sets the dropout factors of a tile.
    fn set_dropout(&mut self, spec: &LossSpec<'_>, width: usize, tile: Tile) {
        let hidden = self.forward.shape.hidden;
        self.forward.dropout.clear();
        if !spec.dropout.is_empty() {
            self.forward.dropout.extend_from_slice(tile.of(spec.dropout, 0, width, hidden));
        }
    }

    /// The loss of call `i` of the head; writes its derivatives to `doutputs`. `targets` is `[column][horizon]` of the tile, and
    /// `first` the step of the horizon that the call begins with.
    fn evaluate(&mut self, spec: &LossSpec<'_>, i: usize, targets: &[f32], first: usize) -> LossSum {
        let Self { forward, backward } = self;
        let (shape, steps, mut total) = (&forward.shape, forward.shape.head_steps(), LossSum::default());
        for (column, targets) in targets.chunks_exact(shape.horizon).enumerate() {
            let at = i * forward.count + column;
            for (step, target) in targets[first..first + steps].iter().enumerate() {
                if target.is_nan() {
                    continue;
                }
                for quantity in 0..=shape.quantiles {
                    let row = quantity * steps + step;
                    let loss = spec.value(quantity, forward.head.outputs[(row, at)] - target);
                    total.sum += loss.value;
                    backward.doutputs[(row, at)] = loss.derivative;
                }
                total.count += 1;
            }
        }
        total
    }

    fn finish(&self, LossSum { sum, count }: LossSum) -> LossAndGradients {
        LossAndGradients { loss_sum: sum, count, gradients: self.backward.gradients() }
    }
}

fn check_spec(spec: &LossSpec<'_>, shape: &Shape, width: usize) {
    assert_eq!(spec.probabilities.len(), shape.quantiles, "each quantile has its probability");
    let factors = width * shape.hidden;
    assert!(spec.dropout.is_empty() || spec.dropout.len() == factors, "dropout is [column][hidden]");
}

impl Network {
    /// The loss of the forecasts of `batch`, and the gradients of its sum.
    ///
    /// # Panics
    /// If a slice has the wrong length, the batch has no step, or `scratch` belongs to another shape.
    pub fn loss_and_gradients(
        &self,
        batch: &Batch<'_>,
        spec: &LossSpec<'_>,
        scratch: &mut TrainScratch,
    ) -> LossAndGradients {
        let (shape, width, steps) = (self.shape(), batch.width, batch.steps);
        batch.check(shape);
        assert!(steps > 0, "a window has at least one step");
        check_len(spec.targets, width * shape.horizon, "targets", "[column][horizon]");
        check_spec(spec, shape, width);
        let feedback = shape.feedback_steps();
        scratch.begin(self, steps + feedback, feedback + 1, width);
        let mut total = LossSum::default();
        for tile in Tile::all(width) {
            scratch.set_dropout(spec, width, tile);
            scratch.forward.forecast(self, None, batch, tile, &mut []);
            scratch.backward.begin();
            let targets = tile.of(spec.targets, 0, width, shape.horizon);
            for i in 0..=feedback {
                total.merge(scratch.evaluate(spec, i, targets, i));
            }
            self.propagate_back(steps, scratch);
        }
        scratch.finish(total)
    }

    /// From the gradients of all outputs to those of one tile's weights.
    fn propagate_back(&self, steps: usize, scratch: &mut TrainScratch) {
        let TrainScratch { forward, backward } = scratch;
        let (count, feedback) = (forward.count, self.shape().feedback_steps());
        for i in (0..=feedback).rev() {
            backward.head(self, forward, i);
            if i > 0 {
                // forward: value i - 1 was input 0 of the step before value i
                backward.step(self, forward, steps + i - 1, InputGradients::Computed);
                for column in 0..count {
                    backward.doutputs[(0, (i - 1) * count + column)] += backward.dinput(0, column);
                }
            }
        }
        (0..steps).rev().for_each(|step| backward.step(self, forward, step, InputGradients::Skipped));
        backward.accumulate(forward, steps + feedback, feedback + 1);
    }

    /// The loss of all forecasts along `sequences`, and the gradients of its sum, by backpropagation through all steps. Targets
    /// are `[forecast][column][horizon]`.
    ///
    /// # Panics
    /// If a slice has the wrong length, the decoder is not direct, or `scratch` belongs to another shape.
    pub fn loss_and_gradients_of_sequences(
        &self,
        sequences: &Sequences<'_>,
        spec: &LossSpec<'_>,
        scratch: &mut TrainScratch,
    ) -> LossAndGradients {
        let shape = self.shape();
        let Sequences { width, steps, burn_in, inputs, future_covariates, .. } = *sequences;
        sequences.check(shape);
        let forecasts = sequences.forecasts();
        let targets = forecasts * width * shape.horizon;
        check_len(spec.targets, targets, "targets", "[forecast][column][horizon]");
        check_spec(spec, shape, width);
        scratch.begin(self, steps, forecasts, width);
        let mut total = LossSum::default();
        for tile in Tile::all(width) {
            scratch.set_dropout(spec, width, tile);
            let forward = &mut scratch.forward;
            forward.begin(self, None, sequences.series, tile);
            for step in 0..steps {
                forward.set_input(step, tile.of(inputs, step, width, shape.inputs));
                forward.step(self, step);
                let Some(forecast) = step.checked_sub(burn_in) else { continue };
                let size = shape.horizon * shape.future_covariates;
                let covariates = tile.of(future_covariates, forecast, width, size);
                forward.head_saved(self, step + 1, forecast, covariates);
            }
            scratch.backward.begin();
            for forecast in 0..forecasts {
                let targets = tile.of(spec.targets, forecast, width, shape.horizon);
                total.merge(scratch.evaluate(spec, forecast, targets, 0));
            }
            let TrainScratch { forward, backward } = &mut *scratch;
            for step in (0..steps).rev() {
                if step >= burn_in {
                    backward.head(self, forward, step - burn_in);
                }
                backward.step(self, forward, step, InputGradients::Skipped);
            }
            backward.accumulate(forward, steps, forecasts);
        }
        scratch.finish(total)
    }

    /// Runs the layers, without the head, from `state` over `inputs` `[step][column][input]`. The gradients are those of the sum
    /// of outputs times `doutputs` `[step][column][hidden]`.
    ///
    /// # Panics
    /// If a slice has the wrong length, or `state` or `scratch` belongs to another shape.
    pub fn sequence_gradients(
        &self,
        state: &State,
        inputs: &[f32],
        doutputs: &[f32],
        scratch: &mut TrainScratch,
    ) -> SequenceGradients {
        let (shape, width) = (self.shape(), state.width());
        assert!(state.matches(shape), "the state belongs to the network's shape");
        let columns: Vec<usize> = (0..width).collect();
        let steps = doutputs.len() / (width * shape.hidden).max(1);
        check_len(doutputs, steps * width * shape.hidden, "doutputs", "[step][column][hidden]");
        check_len(inputs, steps * width * shape.inputs, "inputs", "[step][column][input]");
        scratch.begin(self, steps, 0, width);
        let mut outputs = vec![0.0; doutputs.len()];
        let mut dinputs = vec![0.0; inputs.len()];
        for tile in Tile::all(width) {
            let TrainScratch { forward, backward } = &mut *scratch;
            forward.begin(self, Some(StateColumns { state, columns: &columns }), &[], tile);
            for step in 0..steps {
                forward.set_input(step, tile.of(inputs, step, width, shape.inputs));
                forward.step(self, step);
                let to = (step * width + tile.first) * shape.hidden;
                forward.top_hidden(step + 1, &mut outputs[to..][..tile.count * shape.hidden]);
            }
            backward.begin();
            for step in (0..steps).rev() {
                let from = tile.of(doutputs, step, width, shape.hidden);
                backward.top_dh().iter_mut().zip(from).for_each(|(to, from)| *to += from);
                backward.step(self, forward, step, InputGradients::Computed);
                for column in 0..tile.count {
                    let at = (step * width + tile.first + column) * shape.inputs;
                    let to = &mut dinputs[at..][..shape.inputs];
                    to.iter_mut().enumerate().for_each(|(input, to)| *to = backward.dinput(input, column));
                }
            }
            backward.accumulate(forward, steps, 0);
        }
        SequenceGradients { outputs, inputs: dinputs, gradients: scratch.backward.gradients() }
    }
}
