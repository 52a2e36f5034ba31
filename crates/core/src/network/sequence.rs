//! Forecasting and learning along sequences: the network reads on and on and says a forecast after every step, as it does
//! while it serves with its state carried.

use super::run::{Run, Tile, columns, tiles};
use super::training::{LossSpec, LossAndGradients, TrainScratch};
use super::{Decoder, Network, Scratch, Shape};

/// Sequences that are read side by side, from states of zero. Only for the direct decoder: the recursive one would read its
/// whole horizon anew after every step.
#[derive(Clone, Copy, Debug)]
pub struct Sequences<'a> {
    /// Columns: sequences side by side.
    pub width: usize,
    /// Steps of each.
    pub steps: usize,
    /// Steps at the beginning after which nothing is said: they only bring the states to where carried ones would be.
    pub burn_in: usize,
    /// `[step][column][input]`
    pub inputs: &'a [f32],
    /// `[reading][column][horizon][known]`, where the first reading is after the first step behind the burn-in.
    pub known: &'a [f32],
    /// Whose sequences they are, `[column]`; empty where none is known.
    pub series: &'a [Option<u32>],
}

impl Sequences<'_> {
    /// Forecasts that are said of each column.
    pub fn readings(&self) -> usize {
        self.steps - self.burn_in
    }

    fn check(&self, shape: &Shape) {
        assert_eq!(shape.decoder, Decoder::Direct, "sequences are for the direct decoder");
        assert!(self.burn_in < self.steps, "something is said");
        assert_eq!(
            self.inputs.len(),
            self.steps * self.width * shape.inputs,
            "inputs are [step][column][input]"
        );
        let known = self.readings() * self.width * shape.horizon * shape.known;
        assert_eq!(self.known.len(), known, "known is [reading][column][horizon][known]");
    }
}

impl Network {
    /// What is said after each step behind the burn-in, into `out` `[reading][column][quantity][horizon]`.
    ///
    /// Panics when a slice has the wrong length, the decoder is not direct, or `scratch` is another shape's.
    pub fn forecast_along(&self, sequences: &Sequences<'_>, scratch: &mut Scratch, out: &mut [f32]) {
        let shape = self.shape();
        let Sequences { width, known, .. } = *sequences;
        sequences.check(shape);
        let (outputs, readings) = (shape.outputs(), sequences.readings());
        assert_eq!(out.len(), readings * width * outputs, "out is [reading][column][quantity][horizon]");
        for tile in tiles(width) {
            let known = |reading| columns(known, reading, width, shape.horizon * shape.known, tile);
            self.read_along(sequences, &mut scratch.run, tile, |run, reading, done| {
                let out = &mut out[(reading * width + tile.first) * outputs..][..tile.count * outputs];
                run.say(self, done, 0, known(reading), (out, outputs));
            });
        }
    }

    /// The loss of all that is said against `lesson`, whose targets are `[reading][column][horizon]`, and the gradients of
    /// its sum, by backpropagation through all steps. Panics as [`Network::forecast_along`] does.
    pub fn loss_and_gradients_along(
        &self,
        sequences: &Sequences<'_>,
        lesson: &LossSpec<'_>,
        scratch: &mut TrainScratch,
    ) -> LossAndGradients {
        let (shape, LossSpec { targets, factors, probabilities, .. }) = (self.shape(), *lesson);
        let Sequences { width, steps, burn_in, known, .. } = *sequences;
        sequences.check(shape);
        let readings = sequences.readings();
        assert_eq!(targets.len(), readings * width * shape.horizon, "targets are [reading][column][horizon]");
        assert_eq!(probabilities.len(), shape.quantiles, "each quantile has its probability");
        let all = width * shape.hidden;
        assert!(factors.is_empty() || factors.len() == all, "factors are [column][hidden]");
        scratch.begin(self, steps, readings, width);
        let (mut loss_sum, mut count) = (0.0, 0);
        for tile in tiles(width) {
            let TrainScratch { run, back } = scratch;
            run.factors.clear();
            if !factors.is_empty() {
                run.factors.extend_from_slice(columns(factors, 0, width, shape.hidden, tile));
            }
            self.read_along(sequences, run, tile, |run, reading, done| {
                let known = columns(known, reading, width, shape.horizon * shape.known, tile);
                run.say_kept(self, done, reading, known);
            });
            back.begin();
            for reading in 0..readings {
                let targets = columns(targets, reading, width, shape.horizon, tile);
                let (loss, counted) = lesson.score_reading(run, back, reading, targets, 0);
                loss_sum += loss;
                count += counted;
            }
            for step in (0..steps).rev() {
                if step >= burn_in {
                    back.say(self, run, step - burn_in);
                }
                back.step(self, run, step, false);
            }
            back.gather(run, steps, readings);
        }
        LossAndGradients { loss_sum, count, gradients: scratch.back.gradients() }
    }

    /// Takes a tile through all steps; `say` is called when the head is to be read after a step, with the number of the reading
    /// and that of the steps that are done.
    fn read_along(
        &self,
        sequences: &Sequences<'_>,
        run: &mut Run,
        tile: Tile,
        mut say: impl FnMut(&mut Run, usize, usize),
    ) {
        let shape = self.shape();
        let Sequences { width, steps, burn_in, inputs, series, .. } = *sequences;
        assert_eq!(run.shape, *shape, "the scratch is that of the network's shape");
        run.begin(None, tile);
        run.embed(self, series, tile);
        for step in 0..steps {
            run.feed(step, columns(inputs, step, width, shape.inputs, tile));
            run.advance(self, step);
            if let Some(reading) = step.checked_sub(burn_in) {
                say(run, reading, step + 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Batch, CellKind, Loss, Random};

    /// A shape whose columns are of two known series.
    fn embedding(cell: CellKind) -> Shape {
        Shape {
            cell,
            inputs: 3,
            hidden: 4,
            layers: 2,
            horizon: 3,
            known: 2,
            quantiles: 0,
            embedding: 2,
            series: 2,
            decoder: Decoder::Direct,
        }
    }

    fn series(width: usize) -> Vec<Option<u32>> {
        (0..width).map(|column| [None, Some(0), Some(1)][column % 3]).collect()
    }

    /// Numbers of sequences: inputs, what is known, and targets, some of them missing.
    fn sequence_numbers(shape: &Shape, width: usize, steps: usize, burn_in: usize) -> [Vec<f32>; 3] {
        let mut random = Random::new(31);
        let mut draw = |count: usize| (0..count).map(|_| random.within(1.0)).collect::<Vec<f32>>();
        let readings = (steps - burn_in) * width * shape.horizon;
        let [inputs, known, mut targets] =
            [draw(steps * width * shape.inputs), draw(readings * shape.known), draw(readings)];
        targets.iter_mut().step_by(7).for_each(|target| *target = f32::NAN);
        [inputs, known, targets]
    }

    #[test]
    fn along_a_sequence_is_said_what_windows_from_its_beginning_say() {
        for &cell in CellKind::ALL {
            let shape = Shape { quantiles: 2, ..embedding(cell) };
            let network = Network::new(shape, 3).unwrap();
            let (width, steps, burn_in) = (67, 6, 2);
            let series = series(width);
            let [inputs, known, _] = sequence_numbers(&shape, width, steps, burn_in);
            let sequences =
                Sequences { width, steps, burn_in, inputs: &inputs, known: &known, series: &series };
            let readings = sequences.readings();
            let mut along = vec![0.0; readings * width * shape.outputs()];
            let mut scratch = Scratch::new(&shape);
            network.forecast_along(&sequences, &mut scratch, &mut along);
            let known = known.chunks_exact(width * shape.horizon * shape.known);
            for ((reading, known), said) in
                (0..readings).zip(known).zip(along.chunks_exact(width * shape.outputs()))
            {
                let steps = burn_in + reading + 1;
                let inputs = &inputs[..steps * width * shape.inputs];
                let batch = Batch { width, steps, inputs, future: &[], known, series: &series };
                let mut out = vec![0.0; said.len()];
                network.forecast(&batch, &mut scratch, &mut out);
                assert_eq!(out, said, "{cell}");
            }
        }
    }

    #[test]
    fn gradients_along_a_sequence_are_finite_differences() {
        for &cell in CellKind::ALL {
            let shape = embedding(cell);
            let network = Network::new(shape, 3).unwrap();
            let (width, steps, burn_in) = (9, 5, 2);
            let series = series(width);
            let [inputs, known, targets] = sequence_numbers(&shape, width, steps, burn_in);
            let sequences =
                Sequences { width, steps, burn_in, inputs: &inputs, known: &known, series: &series };
            let lesson = LossSpec { targets: &targets, loss: Loss::Mse, probabilities: &[], factors: &[] };
            let loss = |network: &Network| {
                let mut scratch = TrainScratch::new(&shape);
                network.loss_and_gradients_along(&sequences, &lesson, &mut scratch)
            };
            let scored = loss(&network);
            assert_eq!(scored.count, targets.iter().filter(|target| !target.is_nan()).count());
            for (name, gradient) in scored.gradients.tensors() {
                let place = gradient.data.len() / 2;
                let moved = |by: f32| {
                    let mut tensors = network.tensors().clone();
                    tensors.get_mut(name).unwrap().data[place] += by;
                    loss(&Network::from_tensors(shape, &tensors).unwrap()).loss_sum
                };
                let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
                let found = f64::from(gradient.data[place]);
                assert!(
                    (slope - found).abs() < 0.02 * (1.0 + slope.abs()),
                    "{cell} {name}: {found}, {slope}"
                );
            }
        }
    }
}
