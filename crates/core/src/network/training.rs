//! The loss of a batch and its gradients, by backpropagation through every step.

use super::backward::Back;
use super::run::{Run, TILE, Tile, columns, tiles};
use super::{Batch, Gradients, Loss, Network, Shape, State, pinball};

/// Buffers of training, used again and again. They hold every step of one tile of columns, and grow to the
/// longest batch.
pub struct TrainScratch {
    pub(super) run: Run,
    pub(super) back: Back,
}

/// What a batch is to teach.
#[derive(Clone, Copy, Debug)]
pub struct LossSpec<'a> {
    /// `[column][horizon]`; NaN do not count.
    pub targets: &'a [f32],
    /// What an error of the forecast costs.
    pub loss: Loss,
    /// Of each quantile that the network says; its loss is the pinball loss.
    pub probabilities: &'a [f64],
    /// `[column][hidden]`: factors of what the head reads of the last layer, the same at every reading of a forecast (Gal and
    /// Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks", 2016). Empty: as they are.
    pub factors: &'a [f32],
}

/// The loss of a batch and its gradients.
#[derive(Clone, Debug)]
pub struct LossAndGradients {
    /// Sum over all targets that count.
    pub loss_sum: f64,
    /// How many targets count.
    pub count: usize,
    /// Of `loss_sum`; divide by `count` for those of the mean.
    pub gradients: Gradients,
}

/// A sequence's outputs, and the gradients of their product with given numbers.
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
        let said = shape.fed_back() + 1;
        Self { run: Run::new(shape, 1, said, 1), back: Back::new(shape, said, 1) }
    }

    /// Makes room for so many steps, readings of the head, and columns.
    pub(super) fn begin(&mut self, network: &Network, steps: usize, said: usize, width: usize) {
        let shape = network.shape();
        assert_eq!(self.run.shape, *shape, "the scratch is that of the network's shape");
        if self.run.kept() < steps || self.run.said() < said || self.run.columns() < width.min(TILE) {
            let (said, width) = (said.max(self.run.said()), width.max(self.run.columns()));
            self.run = Run::new(shape, steps.max(self.run.kept()), said, width);
            self.back = Back::new(shape, said, width);
        }
        self.back.clear();
    }
}

impl LossSpec<'_> {
    /// The loss of what a column says, `[quantity][horizon]`, against its targets, and how many of these count.
    pub fn loss_of(&self, said: &[f32], targets: &[f32]) -> (f64, usize) {
        let mut sum = (0.0, 0);
        for (step, target) in targets.iter().enumerate().filter(|(_, target)| !target.is_nan()) {
            let said = said.iter().skip(step).step_by(targets.len()).enumerate();
            sum.0 += said.map(|(quantity, said)| self.value(quantity, said - target).0).sum::<f64>();
            sum.1 += 1;
        }
        sum
    }

    /// Scores reading `i` of the head of a tile: what it says of its steps against value `first` on of `targets`
    /// `[column][horizon]`. Writes the slopes into `back.doutputs`; gives the loss and how many targets count.
    pub(super) fn score_reading(
        &self,
        run: &Run,
        back: &mut Back,
        i: usize,
        targets: &[f32],
        first: usize,
    ) -> (f64, usize) {
        let (shape, steps, mut sum) = (&run.shape, run.shape.head_steps(), (0.0, 0));
        for (column, targets) in targets.chunks_exact(shape.horizon).enumerate() {
            let at = i * run.count + column;
            for (step, target) in targets[first..first + steps].iter().enumerate() {
                if target.is_nan() {
                    continue;
                }
                for quantity in 0..=shape.quantiles {
                    let row = quantity * steps + step;
                    let (value, slope) = self.value(quantity, run.head.outputs[(row, at)] - target);
                    sum.0 += value;
                    back.doutputs[(row, at)] = slope;
                }
                sum.1 += 1;
            }
        }
        sum
    }

    /// The loss of a quantity that lies `error` above its target: the forecast is quantity 0, then come the quantiles.
    fn value(&self, quantity: usize, error: f32) -> (f64, f32) {
        match quantity.checked_sub(1) {
            None => self.loss.of(error),
            Some(quantile) => pinball(self.probabilities[quantile], error),
        }
    }
}

impl Network {
    /// The loss of the forecasts of `batch` against the targets of `lesson`, and the gradients of its sum.
    ///
    /// Panics when a slice has the wrong length, the batch has no step, or `scratch` is another shape's.
    pub fn loss_and_gradients(
        &self,
        batch: &Batch<'_>,
        lesson: &LossSpec<'_>,
        scratch: &mut TrainScratch,
    ) -> LossAndGradients {
        let (shape, LossSpec { targets, factors, probabilities, .. }) = (self.shape(), *lesson);
        batch.check(shape);
        assert!(batch.steps > 0, "a window has at least one step");
        assert_eq!(targets.len(), batch.width * shape.horizon, "targets are [column][horizon]");
        assert_eq!(probabilities.len(), shape.quantiles, "each quantile has its probability");
        let all = batch.width * shape.hidden;
        assert!(factors.is_empty() || factors.len() == all, "factors are [column][hidden]");
        scratch.begin(self, batch.steps + shape.fed_back(), shape.fed_back() + 1, batch.width);
        let (mut loss_sum, mut count) = (0.0, 0);
        for tile in tiles(batch.width) {
            let TrainScratch { run, back } = scratch;
            run.factors.clear();
            if !factors.is_empty() {
                run.factors.extend_from_slice(columns(factors, 0, batch.width, shape.hidden, tile));
            }
            run.forecast(self, None, batch, tile, &mut []);
            back.begin();
            let targets = columns(targets, 0, batch.width, shape.horizon, tile);
            for i in 0..=shape.fed_back() {
                let (loss, counted) = lesson.score_reading(run, back, i, targets, i);
                loss_sum += loss;
                count += counted;
            }
            self.back_through(batch.steps, run, back);
        }
        LossAndGradients { loss_sum, count, gradients: scratch.back.gradients() }
    }

    /// From the derivatives of all that was said to the gradients of one tile.
    fn back_through(&self, steps: usize, run: &mut Run, back: &mut Back) {
        let (count, fed_back) = (run.count, self.shape().fed_back());
        for i in (0..=fed_back).rev() {
            back.say(self, run, i);
            if i > 0 {
                // Value i - 1 was input 0 of the step before value i.
                back.step(self, run, steps + i - 1, true);
                for column in 0..count {
                    back.doutputs[(0, (i - 1) * count + column)] += back.dinput(0, column);
                }
            }
        }
        (0..steps).rev().for_each(|step| back.step(self, run, step, false));
        back.gather(run, steps + fed_back, fed_back + 1);
    }

    /// Runs the layers, without the head, from `state` over `inputs` `[step][column][input]`, and gives the
    /// gradients of the sum of outputs times `doutputs` `[step][column][hidden]`.
    ///
    /// Panics when a slice has the wrong length or `scratch` is another shape's.
    pub fn sequence_gradients(
        &self,
        state: &State,
        inputs: &[f32],
        doutputs: &[f32],
        scratch: &mut TrainScratch,
    ) -> SequenceGradients {
        let (shape, width) = (self.shape(), state.width());
        assert!(state.fits(shape), "the state is that of the network's shape");
        let all: Vec<usize> = (0..width).collect();
        let steps = doutputs.len() / (width * shape.hidden).max(1);
        assert_eq!(doutputs.len(), steps * width * shape.hidden, "doutputs are [step][column][hidden]");
        assert_eq!(inputs.len(), steps * width * shape.inputs, "inputs are [step][column][input]");
        scratch.begin(self, steps, 0, width);
        let mut outputs = vec![0.0; doutputs.len()];
        let mut dinputs = vec![0.0; inputs.len()];
        for tile in tiles(width) {
            let TrainScratch { run, back } = scratch;
            run.begin(Some((state, &all)), tile);
            run.embed(self, &[], tile);
            for step in 0..steps {
                run.feed(step, columns(inputs, step, width, shape.inputs, tile));
                run.advance(self, step);
                let to = (step * width + tile.first) * shape.hidden;
                run.top(step + 1, &mut outputs[to..][..tile.count * shape.hidden]);
            }
            back.begin();
            for step in (0..steps).rev() {
                let from = columns(doutputs, step, width, shape.hidden, tile);
                back.top().iter_mut().zip(from).for_each(|(to, from)| *to += from);
                back.step(self, run, step, true);
                keep_dinputs(back, shape, step * width, tile, &mut dinputs);
            }
            back.gather(run, steps, 0);
        }
        SequenceGradients { outputs, inputs: dinputs, gradients: scratch.back.gradients() }
    }
}

fn keep_dinputs(back: &Back, shape: &Shape, first: usize, tile: Tile, dinputs: &mut [f32]) {
    for column in 0..tile.count {
        let to = &mut dinputs[(first + tile.first + column) * shape.inputs..][..shape.inputs];
        to.iter_mut().enumerate().for_each(|(input, to)| *to = back.dinput(input, column));
    }
}
