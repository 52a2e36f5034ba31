//! Properties of every network: gradients match finite differences, columns are independent, seeds are reproducible.

use tidecast_core::network::*;

/// Random numbers for a batch of `width` columns and `steps` steps, with a forecast after every step from `burn_in` on.
struct Numbers {
    width: usize,
    steps: usize,
    burn_in: usize,
    inputs: Vec<f32>,
    feedback_inputs: Vec<f32>,
    future_covariates: Vec<f32>,
    targets: Vec<f32>,
    series: Vec<Option<u32>>,
}

impl Numbers {
    fn new(shape: &Shape, width: usize, steps: usize, seed: u64) -> Self {
        Self::with_burn_in(shape, width, steps, steps - 1, seed)
    }

    fn with_burn_in(shape: &Shape, width: usize, steps: usize, burn_in: usize, seed: u64) -> Self {
        let values = (steps - burn_in) * width * shape.horizon;
        let mut random = Random::new(seed);
        let mut numbers = |count: usize| (0..count).map(|_| random.uniform(1.5)).collect();
        Self {
            width,
            steps,
            burn_in,
            inputs: numbers(steps * width * shape.inputs),
            feedback_inputs: numbers(shape.feedback_steps() * width * shape.inputs),
            future_covariates: numbers(values * shape.future_covariates),
            targets: numbers(values),
            // An unknown series, then each known one in turn.
            series: (0..width)
                .map(|column| (column as u32 % (shape.series as u32 + 1)).checked_sub(1))
                .collect(),
        }
    }

    fn loss_spec(&self, shape: &Shape, loss: Loss) -> LossSpec<'_> {
        let probabilities = &[0.1, 0.4, 0.9][..shape.quantiles];
        LossSpec { targets: &self.targets, loss, probabilities, dropout: &[] }
    }

    fn batch(&self) -> Batch<'_> {
        let Self { width, steps, inputs, feedback_inputs, future_covariates, series, .. } = self;
        Batch { width: *width, steps: *steps, inputs, feedback_inputs, future_covariates, series }
    }

    fn sequences(&self) -> Sequences<'_> {
        let Self { width, steps, burn_in, inputs, future_covariates, series, .. } = self;
        Sequences { width: *width, steps: *steps, burn_in: *burn_in, inputs, future_covariates, series }
    }

    /// Copies column `from` of `other` to column `at`.
    fn copy_column(&mut self, shape: &Shape, at: usize, other: &Numbers, from: usize) {
        let copy = |to: &mut [f32], source: &[f32], rows: usize, steps: usize| {
            for step in 0..steps {
                let source = &source[(step * other.width + from) * rows..][..rows];
                to[(step * self.width + at) * rows..][..rows].copy_from_slice(source);
            }
        };
        copy(&mut self.inputs, &other.inputs, shape.inputs, self.steps);
        copy(&mut self.feedback_inputs, &other.feedback_inputs, shape.inputs, shape.feedback_steps());
        let covariates = shape.horizon * shape.future_covariates;
        copy(&mut self.future_covariates, &other.future_covariates, covariates, 1);
        self.series[at] = other.series[from];
    }
}

/// A direct network of one layer.
fn small(cell: CellKind) -> Shape {
    Shape {
        cell,
        inputs: 3,
        hidden: 4,
        layers: 1,
        horizon: 3,
        future_covariates: 0,
        quantiles: 0,
        embedding: 0,
        series: 0,
        decoder: Decoder::Direct,
    }
}

fn shape(cell: CellKind, decoder: Decoder, layers: usize, future_covariates: usize) -> Shape {
    Shape { layers, future_covariates, decoder, ..small(cell) }
}

/// A network with embeddings other than zero.
fn embedded(shape: Shape, seed: u64) -> Network {
    let mut tensors = Network::new(shape, seed).unwrap().tensors().clone();
    let embedding = &mut tensors.get_mut("embedding.weight").unwrap().data;
    assert!(embedding.iter().all(|number| *number == 0.0), "embeddings start at zero");
    embedding.iter_mut().enumerate().for_each(|(i, number)| *number = 0.3 * (i % 5) as f32 - 0.5);
    Network::from_tensors(shape, &tensors).unwrap()
}

fn forecast(network: &Network, numbers: &Numbers, scratch: &mut Scratch) -> Vec<f32> {
    let mut out = vec![0.0; numbers.width * network.shape().outputs()];
    network.forecast(&numbers.batch(), scratch, &mut out);
    out
}

fn loss(network: &Network, numbers: &Numbers, loss: Loss) -> f64 {
    let out = forecast(network, numbers, &mut Scratch::new(network.shape()));
    let spec = numbers.loss_spec(network.shape(), loss);
    let columns = out.chunks(network.shape().outputs()).zip(numbers.targets.chunks(network.shape().horizon));
    columns.map(|(forecast, targets)| spec.evaluate(forecast, targets).sum).sum()
}

/// Asserts that each gradient is the difference quotient of `loss` between two nearby weights, relative to slopes of at least
/// `scale`.
#[track_caller]
fn assert_gradients(
    network: &Network,
    gradients: &Gradients,
    scale: f64,
    mut loss: impl FnMut(&Network) -> f64,
) {
    const DISTANCE: f32 = 5e-3;
    for (name, tensor) in gradients.tensors() {
        for (index, &gradient) in tensor.data.iter().enumerate() {
            let mut moved_loss = |change: f32| {
                let mut tensors = network.tensors().clone();
                tensors.get_mut(name).unwrap().data[index] += change;
                loss(&Network::from_tensors(*network.shape(), &tensors).unwrap())
            };
            let slope = (moved_loss(DISTANCE) - moved_loss(-DISTANCE)) / f64::from(2.0 * DISTANCE);
            let error = (f64::from(gradient) - slope).abs();
            assert!(
                error < 3e-3 * slope.abs().max(scale),
                "{:?} {name} {index}: gradient {gradient}, slope {slope}",
                network.shape()
            );
        }
    }
}

fn check_gradients(network: &Network, kind: Loss) {
    let shape = *network.shape();
    let mut numbers = Numbers::new(&shape, 5, 4, 6);
    numbers.targets[1] = f32::NAN;
    let mut scratch = TrainScratch::new(&shape);
    let trained =
        network.loss_and_gradients(&numbers.batch(), &numbers.loss_spec(&shape, kind), &mut scratch);
    assert_eq!(trained.count, 14);
    let difference = trained.loss_sum - loss(network, &numbers, kind);
    assert!(difference.abs() < 1e-9, "training and forecasting agree");
    assert_gradients(network, &trained.gradients, 1.0, |network| loss(network, &numbers, kind));
}

#[test]
fn gradients_match_finite_differences() {
    for cell in CellKind::ALL {
        for decoder in Decoder::ALL {
            for layers in [1, 2] {
                for covariates in [0, 2] {
                    let shape = shape(cell, decoder, layers, covariates);
                    check_gradients(&Network::new(shape, 5).unwrap(), Loss::Mse);
                }
            }
        }
    }
    check_gradients(&Network::new(shape(CellKind::Gru, Decoder::Recursive, 1, 1), 5).unwrap(), Loss::Huber);
    let quantiles = Shape { quantiles: 3, ..shape(CellKind::Gru, Decoder::Direct, 2, 2) };
    check_gradients(&Network::new(quantiles, 5).unwrap(), Loss::Mse);
}

#[test]
fn gradients_of_embeddings_match_finite_differences() {
    for (decoder, layers) in [(Decoder::Direct, 2), (Decoder::Recursive, 1)] {
        let shape = Shape { embedding: 2, series: 3, ..shape(CellKind::Gru, decoder, layers, 1) };
        check_gradients(&embedded(shape, 5), Loss::Mse);
    }
}

#[test]
fn gradients_under_dropout_match_finite_differences() {
    for decoder in Decoder::ALL {
        let shape = shape(CellKind::LstmPeephole, decoder, 2, 1);
        let network = Network::new(shape, 5).unwrap();
        let numbers = Numbers::new(&shape, 67, 3, 6);
        let dropout: Vec<f32> = (0..67 * 4).map(|i| [0.0, 1.25, 2.0, 1.0, 0.5][i % 5]).collect();
        let plain_spec = numbers.loss_spec(&shape, Loss::Mse);
        let spec = LossSpec { dropout: &dropout, ..plain_spec };
        let mut scratch = TrainScratch::new(&shape);
        let mut train = |network: &Network, spec: &LossSpec<'_>| {
            network.loss_and_gradients(&numbers.batch(), spec, &mut scratch)
        };
        let gradients = train(&network, &spec).gradients;
        assert_gradients(&network, &gradients, 5.0, |network| train(network, &spec).loss_sum);
        let plain = train(&network, &plain_spec);
        let ones = vec![1.0; dropout.len()];
        let identity = train(&network, &LossSpec { dropout: &ones, ..spec });
        assert_eq!(plain.gradients, identity.gradients, "the scratch has no effect on later batches");
        assert_ne!(plain.gradients, gradients);
    }
}

#[test]
fn gradients_of_a_batch_are_the_sum_over_its_columns() {
    let shape = shape(CellKind::LstmPeephole, Decoder::Recursive, 2, 1);
    let network = Network::new(shape, 1).unwrap();
    let numbers = Numbers::new(&shape, 70, 4, 2);
    let mut scratch = TrainScratch::new(&shape);
    let spec = numbers.loss_spec(&shape, Loss::Mae);
    let whole = network.loss_and_gradients(&numbers.batch(), &spec, &mut scratch);
    let repeated = network.loss_and_gradients(&numbers.batch(), &spec, &mut scratch);
    assert_eq!(whole.gradients, repeated.gradients, "the scratch has no effect on later batches");
    let (mut sum, mut loss_sum) = (Gradients::zeros(&shape), 0.0);
    for column in 0..70 {
        let mut single = Numbers::new(&shape, 1, 4, 0);
        single.copy_column(&shape, 0, &numbers, column);
        let targets = &numbers.targets[column * 3..][..3];
        let spec = LossSpec { targets, loss: Loss::Mae, probabilities: &[], dropout: &[] };
        let trained = network.loss_and_gradients(&single.batch(), &spec, &mut scratch);
        sum.add(&trained.gradients);
        loss_sum += trained.loss_sum;
    }
    assert!((whole.loss_sum - loss_sum).abs() < 1e-9);
    for (name, tensor) in sum.tensors() {
        for (a, b) in tensor.data.iter().zip(&whole.gradients.tensors()[name].data) {
            assert!((a - b).abs() < 1e-4 * b.abs().max(1.0), "{name}: {a} {b}");
        }
    }
}

#[test]
fn only_known_series_have_an_embedding() {
    let shape = Shape { embedding: 2, series: 3, ..shape(CellKind::Lstm, Decoder::Direct, 1, 0) };
    let (network, untrained) = (embedded(shape, 4), Network::new(shape, 4).unwrap());
    let mut numbers = Numbers::new(&shape, 1, 4, 2);
    let mut forecast_of = |network: &Network, series| {
        numbers.series = series;
        forecast(network, &numbers, &mut Scratch::new(&shape))
    };
    let unknown = forecast_of(&network, vec![None]);
    assert_eq!(forecast_of(&network, vec![]), unknown);
    assert_eq!(forecast_of(&untrained, vec![Some(2)]), unknown);
    let known = [0, 1, 2].map(|series| forecast_of(&network, vec![Some(series)]));
    assert!(known.iter().all(|forecast| *forecast != unknown));
    assert!(known[0] != known[1] && known[1] != known[2]);
}

#[test]
fn quantiles_follow_the_unchanged_point_forecast() {
    let shape = Shape { quantiles: 2, ..shape(CellKind::Lstm, Decoder::Direct, 1, 1) };
    let network = Network::new(shape, 3).unwrap();
    let numbers = Numbers::new(&shape, 5, 4, 2);
    let all = forecast(&network, &numbers, &mut Scratch::new(&shape));
    let plain = network.without_quantiles();
    assert_eq!((plain.shape().quantiles, plain.tensors()["head.bias"].shape.as_slice()), (0, &[3][..]));
    let points = forecast(&plain, &numbers, &mut Scratch::new(plain.shape()));
    assert!(all.chunks(9).flat_map(|outputs| &outputs[..3]).eq(&points));
    // The loss of a step is that of the forecast plus that of each quantile; a step with a NaN target has none.
    let spec = LossSpec { targets: &[], loss: Loss::Mse, probabilities: &[0.25, 0.75], dropout: &[] };
    let outputs = [1.0, 5.0, -1.0, 5.0, 4.0, 5.0];
    let expected = LossSum { sum: 1.0 + 0.25 * 3.0 + 0.25 * 2.0, count: 1 };
    assert_eq!(spec.evaluate(&outputs, &[2.0, f32::NAN]), expected);
}

/// Asserts that a column's forecast among random neighbours, at a random position, equals its forecast as the only column.
fn check_independence(network: &Network, scratch: &mut Scratch, width: usize, random: &mut Random) {
    let shape = network.shape();
    let single = Numbers::new(shape, 1, 3, random.next_u64());
    let expected = forecast(network, &single, scratch);
    let mut crowd = Numbers::new(shape, width, 3, random.next_u64());
    let at = (random.next_u64() % width as u64) as usize;
    crowd.copy_column(shape, at, &single, 0);
    let found = forecast(network, &crowd, scratch);
    let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let found = &found[at * shape.outputs()..][..shape.outputs()];
    assert_eq!(bits(found), bits(&expected), "{shape:?} {at} of {width}");
}

#[test]
fn a_column_is_independent_of_the_batch() {
    let mut random = Random::new(3);
    for cell in CellKind::ALL {
        for hidden in 1..=33 {
            let decoder = Decoder::ALL[hidden % 2];
            let shape = Shape {
                inputs: 1 + hidden % 7,
                hidden,
                horizon: 2,
                future_covariates: hidden % 3,
                quantiles: (hidden % 4) * usize::from(decoder == Decoder::Direct),
                decoder,
                ..small(cell)
            };
            let network = Network::new(shape, hidden as u64).unwrap();
            let mut scratch = Scratch::new(&shape);
            (1..=70).for_each(|width| check_independence(&network, &mut scratch, width, &mut random));
        }
    }
}

#[test]
fn a_column_of_a_wide_layer_is_independent_of_the_batch() {
    let mut random = Random::new(4);
    for (inputs, hidden) in [(300, 17), (5, 300)] {
        let sizes = Shape { inputs, hidden, horizon: 9, ..shape(CellKind::Gru, Decoder::Direct, 2, 2) };
        let shape = Shape { embedding: 3, series: 5, ..sizes };
        let network = embedded(shape, 9);
        let mut scratch = Scratch::new(&shape);
        for width in [1, 5, 8, 15, 17, 64, 65, 130] {
            check_independence(&network, &mut scratch, width, &mut random);
        }
    }
}

#[test]
fn a_nan_affects_only_its_own_column() {
    let shape = shape(CellKind::Lstm, Decoder::Recursive, 2, 1);
    let network = Network::new(shape, 1).unwrap();
    let mut scratch = Scratch::new(&shape);
    let mut numbers = Numbers::new(&shape, 11, 3, 2);
    let before = forecast(&network, &numbers, &mut scratch);
    numbers.inputs[4 * shape.inputs] = f32::NAN;
    let after = forecast(&network, &numbers, &mut scratch);
    for (index, (before, after)) in before.iter().zip(&after).enumerate() {
        assert_eq!(index / shape.horizon == 4, after.is_nan(), "{index}");
        assert!(after.is_nan() || before == after);
    }
    numbers.inputs[4 * shape.inputs] = 0.0;
    let repaired = forecast(&network, &numbers, &mut scratch);
    assert!(repaired.iter().all(|x| x.is_finite()), "the scratch has no effect on later batches");
}

#[test]
fn carried_states_forecast_as_windows_do() {
    for cell in CellKind::ALL {
        let shape = Shape { embedding: 2, series: 3, ..shape(cell, Decoder::Recursive, 2, 2) };
        let network = embedded(shape, 8);
        let mut scratch = Scratch::new(&shape);
        let numbers = Numbers::new(&shape, 67, 5, 9);
        // In another order than stored, between other columns.
        let columns: Vec<usize> = (0..67).map(|column| 3 + (column * 5) % 67).collect();
        let mut state = State::zeros(&shape, 75);
        for input in numbers.inputs.chunks_exact(67 * shape.inputs) {
            network.step(&mut state, &columns, input, &numbers.series, &mut scratch);
        }
        let carried = Batch { steps: 0, inputs: &[], ..numbers.batch() };
        let mut out = vec![0.0; 67 * shape.outputs()];
        network.forecast_from(&state, &columns, &carried, &mut scratch, &mut out);
        assert!(state.column(2).chain(state.column(70)).all(|number| number == 0.0));
        assert_eq!(out, forecast(&network, &numbers, &mut scratch));
    }
}

fn sequence_shape(cell: CellKind) -> Shape {
    Shape { embedding: 2, series: 2, ..shape(cell, Decoder::Direct, 2, 2) }
}

#[test]
fn forecasts_along_a_sequence_equal_those_of_windows_from_its_start() {
    for cell in CellKind::ALL {
        let shape = Shape { quantiles: 2, ..sequence_shape(cell) };
        let network = Network::new(shape, 3).unwrap();
        let numbers = Numbers::with_burn_in(&shape, 67, 6, 2, 31);
        let sequences = numbers.sequences();
        let Sequences { width, burn_in, series, .. } = sequences;
        let mut all = vec![0.0; sequences.forecasts() * width * shape.outputs()];
        let mut scratch = Scratch::new(&shape);
        network.forecast_sequences(&sequences, &mut scratch, &mut all);
        for (i, expected) in all.chunks_exact(width * shape.outputs()).enumerate() {
            let steps = burn_in + i + 1;
            let inputs = &numbers.inputs[..steps * width * shape.inputs];
            let size = width * shape.horizon * shape.future_covariates;
            let future_covariates = &numbers.future_covariates[i * size..][..size];
            let batch = Batch { width, steps, inputs, feedback_inputs: &[], future_covariates, series };
            let mut out = vec![0.0; expected.len()];
            network.forecast(&batch, &mut scratch, &mut out);
            assert_eq!(out, expected, "{cell}");
        }
    }
}

#[test]
fn gradients_along_a_sequence_match_finite_differences() {
    for cell in CellKind::ALL {
        let shape = sequence_shape(cell);
        let network = Network::new(shape, 3).unwrap();
        let mut numbers = Numbers::with_burn_in(&shape, 9, 5, 2, 31);
        numbers.targets.iter_mut().step_by(7).for_each(|target| *target = f32::NAN);
        let spec = numbers.loss_spec(&shape, Loss::Mse);
        let train = |network: &Network| {
            let mut scratch = TrainScratch::new(&shape);
            network.loss_and_gradients_of_sequences(&numbers.sequences(), &spec, &mut scratch)
        };
        let trained = train(&network);
        assert_eq!(trained.count, numbers.targets.iter().filter(|target| !target.is_nan()).count());
        assert_gradients(&network, &trained.gradients, 5.0, |network| train(network).loss_sum);
    }
}

#[test]
fn equal_seeds_give_equal_bytes() {
    let shape = shape(CellKind::LstmCoupled, Decoder::Direct, 2, 1);
    let bytes = |seed| tensors::write(Network::new(shape, seed).unwrap().tensors(), "tidecast", "{}");
    assert_eq!(bytes(1), bytes(1));
    assert_ne!(bytes(1), bytes(2));
}

#[test]
fn invalid_tensors_are_named() {
    let shape = shape(CellKind::Gru, Decoder::Direct, 1, 0);
    let valid = Network::new(shape, 1).unwrap().tensors().clone();
    let error = |change: fn(&mut Tensors)| {
        let mut tensors = valid.clone();
        change(&mut tensors);
        Network::from_tensors(shape, &tensors).unwrap_err().to_string()
    };
    let missing = error(|t| drop(t.remove("bias_hh_l0")));
    assert!(missing.starts_with("tensor `bias_hh_l0` of shape [12] is missing"), "{missing}");
    let mismatch = error(|t| t.get_mut("weight_hh_l0").unwrap().shape = vec![16, 4]);
    let expected = "tensor `weight_hh_l0` has shape [16, 4], but the network's sizes require [12, 4]";
    assert_eq!(mismatch, expected);
    let unexpected = error(|t| drop(t.insert("weight_ih_l1".into(), Tensor::zeros(&[12, 4]))));
    assert!(unexpected.starts_with("tensor `weight_ih_l1` is not part of such a network"), "{unexpected}");
    let count = error(|t| t.get_mut("head.bias").unwrap().data.truncate(2));
    assert!(count.starts_with("tensor `head.bias` has 2 numbers"), "{count}");
    assert_eq!(Network::from_tensors(shape, &valid).unwrap().tensors(), &valid);
}

/// The network learns the sum of its inputs, and learns the same weights when trained twice.
#[test]
fn training_reduces_the_loss_and_is_reproducible() {
    let shape = shape(CellKind::Gru, Decoder::Direct, 1, 0);
    let mut numbers = Numbers::new(&shape, 64, 4, 1);
    for column in 0..64 {
        let sum: f32 = (0..4).map(|step| numbers.inputs[(step * 64 + column) * 3]).sum();
        numbers.targets[column * 3..][..3].fill(0.2 * sum);
    }
    let train = || {
        let mut network = Network::new(shape, 2).unwrap();
        let mut optimizer = AdamW::new(&network, 0.02, 1e-3);
        let mut scratch = TrainScratch::new(&shape);
        let spec = numbers.loss_spec(&shape, Loss::Mse);
        for _ in 0..200 {
            let mut trained = network.loss_and_gradients(&numbers.batch(), &spec, &mut scratch);
            trained.gradients.scale(1.0 / trained.count as f32);
            trained.gradients.clip(1.0);
            optimizer.step(&mut network, &trained.gradients);
        }
        network
    };
    let network = train();
    let before = loss(&Network::new(shape, 2).unwrap(), &numbers, Loss::Mse);
    let after = loss(&network, &numbers, Loss::Mse);
    assert!(after < 0.02 * before, "{before} {after}");
    assert_eq!(network.tensors(), train().tensors());
}
