//! What holds for every network: gradients are slopes, a column is alone, the same seed gives the same bytes.

use super::random::Random;
use super::*;

fn shape(cell: CellKind, decoder: Decoder, layers: usize, known: usize) -> Shape {
    Shape {
        cell,
        inputs: 3,
        hidden: 4,
        layers,
        horizon: 3,
        known,
        quantiles: 0,
        embedding: 0,
        series: 0,
        decoder,
    }
}

/// Random numbers for a batch of `width` columns and `steps` steps.
struct Numbers {
    width: usize,
    steps: usize,
    inputs: Vec<f32>,
    future: Vec<f32>,
    known: Vec<f32>,
    targets: Vec<f32>,
    series: Vec<Option<u32>>,
}

impl Numbers {
    fn new(shape: &Shape, width: usize, steps: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut numbers = |count: usize| (0..count).map(|_| random.within(1.5)).collect();
        Self {
            width,
            steps,
            inputs: numbers(steps * width * shape.inputs),
            future: numbers(shape.fed_back() * width * shape.inputs),
            known: numbers(width * shape.horizon * shape.known),
            targets: numbers(width * shape.horizon),
            // One that is not known, then each in turn.
            series: (0..width)
                .map(|column| (column as u32 % (shape.series as u32 + 1)).checked_sub(1))
                .collect(),
        }
    }

    /// What its targets teach, with every hidden value read as it is.
    fn lesson(&self, shape: &Shape, loss: Loss) -> LossSpec<'_> {
        let probabilities = &[0.1, 0.4, 0.9][..shape.quantiles];
        LossSpec { targets: &self.targets, loss, probabilities, factors: &[] }
    }

    fn batch(&self) -> Batch<'_> {
        let Self { width, steps, inputs, future, known, series, .. } = self;
        Batch { width: *width, steps: *steps, inputs, future, known, series }
    }

    /// Column `at` becomes column `from` of `other`.
    fn put(&mut self, shape: &Shape, at: usize, other: &Numbers, from: usize) {
        let copy = |to: &mut [f32], source: &[f32], rows: usize, steps: usize| {
            for step in 0..steps {
                let source = &source[(step * other.width + from) * rows..][..rows];
                to[(step * self.width + at) * rows..][..rows].copy_from_slice(source);
            }
        };
        copy(&mut self.inputs, &other.inputs, shape.inputs, self.steps);
        copy(&mut self.future, &other.future, shape.inputs, shape.fed_back());
        copy(&mut self.known, &other.known, shape.horizon * shape.known, 1);
        self.series[at] = other.series[from];
    }
}

fn forecast(network: &Network, numbers: &Numbers, scratch: &mut Scratch) -> Vec<f32> {
    let mut out = vec![0.0; numbers.width * network.shape().outputs()];
    network.forecast(&numbers.batch(), scratch, &mut out);
    out
}

fn loss(network: &Network, numbers: &Numbers, loss: Loss) -> f64 {
    let out = forecast(network, numbers, &mut Scratch::new(network.shape()));
    let lesson = numbers.lesson(network.shape(), loss);
    let columns = out.chunks(network.shape().outputs()).zip(numbers.targets.chunks(network.shape().horizon));
    columns.map(|(said, targets)| lesson.loss_of(said, targets).0).sum()
}

/// Every gradient against the slope between two nearby weights.
fn check_slopes(shape: Shape, kind: Loss) {
    check_slopes_of(&Network::new(shape, 5).unwrap(), kind);
}

fn check_slopes_of(network: &Network, kind: Loss) {
    const NEAR: f32 = 5e-3;
    let shape = *network.shape();
    let mut numbers = Numbers::new(&shape, 5, 4, 6);
    numbers.targets[1] = f32::NAN;
    let mut scratch = TrainScratch::new(&shape);
    let scored = network.loss_and_gradients(&numbers.batch(), &numbers.lesson(&shape, kind), &mut scratch);
    assert_eq!(scored.count, 14);
    assert!((scored.loss_sum - loss(network, &numbers, kind)).abs() < 1e-9, "training forecasts the same");
    for (name, tensor) in scored.gradients.tensors() {
        for (place, &gradient) in tensor.data.iter().enumerate() {
            let beside = |change: f32| {
                let mut network = network.clone();
                network.update(|weights| weights.get_mut(name).unwrap().data[place] += change);
                loss(&network, &numbers, kind)
            };
            let slope = (beside(NEAR) - beside(-NEAR)) / f64::from(2.0 * NEAR);
            let error = (f64::from(gradient) - slope).abs();
            assert!(
                error < 3e-3 * slope.abs().max(1.0),
                "{shape:?} {name} {place}: {gradient}, slope {slope}"
            );
        }
    }
}

#[test]
fn gradients_are_slopes() {
    for &cell in CellKind::ALL {
        for &decoder in Decoder::ALL {
            for layers in [1, 2] {
                for known in [0, 2] {
                    check_slopes(shape(cell, decoder, layers, known), Loss::Mse);
                }
            }
        }
    }
    check_slopes(shape(CellKind::Gru, Decoder::Recursive, 1, 1), Loss::Huber);
    check_slopes(Shape { quantiles: 3, ..shape(CellKind::Gru, Decoder::Direct, 2, 2) }, Loss::Mse);
}

/// A network that has learned something of each series.
fn embedded(shape: Shape, seed: u64) -> Network {
    let mut tensors = Network::new(shape, seed).unwrap().tensors().clone();
    let embedding = &mut tensors.get_mut("embedding.weight").unwrap().data;
    assert!(embedding.iter().all(|number| *number == 0.0), "it starts at zero");
    embedding.iter_mut().enumerate().for_each(|(i, number)| *number = 0.3 * (i % 5) as f32 - 0.5);
    Network::from_tensors(shape, &tensors).unwrap()
}

#[test]
fn gradients_of_embeddings_are_slopes() {
    for (decoder, layers) in [(Decoder::Direct, 2), (Decoder::Recursive, 1)] {
        let shape = Shape { embedding: 2, series: 3, ..shape(CellKind::Gru, decoder, layers, 1) };
        check_slopes_of(&embedded(shape, 5), Loss::Mse);
    }
}

#[test]
fn an_unknown_series_reads_zeros_and_each_known_one_its_own() {
    let shape = Shape { embedding: 2, series: 3, ..shape(CellKind::Lstm, Decoder::Direct, 1, 0) };
    let (network, fresh) = (embedded(shape, 4), Network::new(shape, 4).unwrap());
    let mut one = Numbers::new(&shape, 1, 4, 2);
    let mut says = |network: &Network, series| {
        one.series = series;
        forecast(network, &one, &mut Scratch::new(&shape))
    };
    let unknown = says(&network, vec![None]);
    assert_eq!((says(&network, vec![]), says(&fresh, vec![Some(2)])), (unknown.clone(), unknown.clone()));
    let known = [0, 1, 2].map(|series| says(&network, vec![Some(series)]));
    assert!(known.iter().all(|said| *said != unknown) && known[0] != known[1] && known[1] != known[2]);
}

#[test]
fn quantiles_are_said_beside_the_forecast() {
    let shape = Shape { quantiles: 2, ..shape(CellKind::Lstm, Decoder::Direct, 1, 1) };
    let network = Network::new(shape, 3).unwrap();
    let numbers = Numbers::new(&shape, 5, 4, 2);
    let all = forecast(&network, &numbers, &mut Scratch::new(&shape));
    let plain = network.without_quantiles();
    assert_eq!((plain.shape().quantiles, plain.tensors()["head.bias"].shape.as_slice()), (0, &[3][..]));
    let alone = forecast(&plain, &numbers, &mut Scratch::new(plain.shape()));
    assert!(all.chunks(9).flat_map(|said| &said[..3]).eq(&alone));
    // A step that counts costs the forecast's loss and that of each quantile; one that does not costs nothing.
    let lesson = LossSpec { targets: &[], loss: Loss::Mse, probabilities: &[0.25, 0.75], factors: &[] };
    let said = [1.0, 5.0, -1.0, 5.0, 4.0, 5.0];
    assert_eq!(lesson.loss_of(&said, &[2.0, f32::NAN]), (1.0 + 0.25 * 3.0 + 0.25 * 2.0, 1));
}

/// With factors before the head, gradients are slopes of what the network says with the same factors.
#[test]
fn gradients_of_factors_are_slopes() {
    const NEAR: f32 = 5e-3;
    for &decoder in Decoder::ALL {
        let shape = shape(CellKind::LstmPeephole, decoder, 2, 1);
        let network = Network::new(shape, 5).unwrap();
        let numbers = Numbers::new(&shape, 67, 3, 6);
        let factors: Vec<f32> = (0..67 * 4).map(|i| [0.0, 1.25, 2.0, 1.0, 0.5][i % 5]).collect();
        let lesson = LossSpec { factors: &factors, ..numbers.lesson(&shape, Loss::Mse) };
        let mut scratch = TrainScratch::new(&shape);
        let scored = network.loss_and_gradients(&numbers.batch(), &lesson, &mut scratch);
        for (name, tensor) in scored.gradients.tensors() {
            for (place, &gradient) in tensor.data.iter().enumerate() {
                let mut beside = |change: f32| {
                    let mut network = network.clone();
                    network.update(|weights| weights.get_mut(name).unwrap().data[place] += change);
                    network.loss_and_gradients(&numbers.batch(), &lesson, &mut scratch).loss_sum
                };
                let slope = (beside(NEAR) - beside(-NEAR)) / f64::from(2.0 * NEAR);
                let error = (f64::from(gradient) - slope).abs();
                assert!(error < 3e-3 * slope.abs().max(5.0), "{decoder} {name} {place}: {gradient}, {slope}");
            }
        }
        let plain =
            network.loss_and_gradients(&numbers.batch(), &numbers.lesson(&shape, Loss::Mse), &mut scratch);
        let ones = vec![1.0; factors.len()];
        let whole = LossSpec { factors: &ones, ..lesson };
        let whole = network.loss_and_gradients(&numbers.batch(), &whole, &mut scratch);
        assert_eq!(plain.gradients, whole.gradients, "nothing stays in the scratch");
        assert_ne!(plain.gradients, scored.gradients);
    }
}

#[test]
fn gradients_of_a_batch_are_those_of_its_columns() {
    let shape = shape(CellKind::LstmPeephole, Decoder::Recursive, 2, 1);
    let network = Network::new(shape, 1).unwrap();
    let numbers = Numbers::new(&shape, 70, 4, 2);
    let mut scratch = TrainScratch::new(&shape);
    let whole =
        network.loss_and_gradients(&numbers.batch(), &numbers.lesson(&shape, Loss::Mae), &mut scratch);
    let again =
        network.loss_and_gradients(&numbers.batch(), &numbers.lesson(&shape, Loss::Mae), &mut scratch);
    assert_eq!(whole.gradients, again.gradients, "nothing stays in the scratch");
    let (mut sum, mut loss_sum) = (Gradients::zeros(&shape), 0.0);
    for column in 0..70 {
        let mut alone = Numbers::new(&shape, 1, 4, 0);
        alone.put(&shape, 0, &numbers, column);
        let targets = &numbers.targets[column * 3..][..3];
        let lesson = LossSpec { targets, loss: Loss::Mae, probabilities: &[], factors: &[] };
        let scored = network.loss_and_gradients(&alone.batch(), &lesson, &mut scratch);
        sum.add(&scored.gradients);
        loss_sum += scored.loss_sum;
    }
    assert!((whole.loss_sum - loss_sum).abs() < 1e-9);
    for (name, tensor) in sum.tensors() {
        for (a, b) in tensor.data.iter().zip(&whole.gradients.tensors()[name].data) {
            assert!((a - b).abs() < 1e-4 * b.abs().max(1.0), "{name}: {a} {b}");
        }
    }
}

/// A column's forecast in a batch of `width`, at a random place among random neighbours, is its forecast
/// alone.
fn check_alone(network: &Network, scratch: &mut Scratch, width: usize, random: &mut Random) {
    let shape = network.shape();
    let alone = Numbers::new(shape, 1, 3, random.next_u64());
    let expected = forecast(network, &alone, scratch);
    let mut crowd = Numbers::new(shape, width, 3, random.next_u64());
    let at = (random.next_u64() % width as u64) as usize;
    crowd.put(shape, at, &alone, 0);
    let found = forecast(network, &crowd, scratch);
    let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(
        bits(&found[at * shape.outputs()..][..shape.outputs()]),
        bits(&expected),
        "{shape:?} {at} of {width}"
    );
}

#[test]
fn a_column_is_alone() {
    let mut random = Random::new(3);
    for &cell in CellKind::ALL {
        for hidden in 1..=33 {
            let decoder = Decoder::ALL[hidden % 2];
            let shape = Shape {
                cell,
                inputs: 1 + hidden % 7,
                hidden,
                layers: 1,
                horizon: 2,
                known: hidden % 3,
                quantiles: (hidden % 4) * usize::from(decoder == Decoder::Direct),
                embedding: 0,
                series: 0,
                decoder,
            };
            let network = Network::new(shape, hidden as u64).unwrap();
            let mut scratch = Scratch::new(&shape);
            (1..=70).for_each(|width| check_alone(&network, &mut scratch, width, &mut random));
        }
    }
}

/// Wide layers take another way through the product: their sums are cut into parts.
#[test]
fn a_column_is_alone_in_wide_layers() {
    let mut random = Random::new(4);
    for (inputs, hidden) in [(300, 17), (5, 300)] {
        let cell = CellKind::Gru;
        let (quantiles, decoder) = (0, Decoder::Direct);
        let (layers, embedding, series) = (2, 3, 5);
        let shape = Shape {
            cell,
            inputs,
            hidden,
            layers,
            horizon: 9,
            known: 2,
            quantiles,
            embedding,
            series,
            decoder,
        };
        let network = embedded(shape, 9);
        let mut scratch = Scratch::new(&shape);
        for width in [1, 5, 8, 15, 17, 64, 65, 130] {
            check_alone(&network, &mut scratch, width, &mut random);
        }
    }
}

#[test]
fn damage_in_one_column_stays_there() {
    let shape = shape(CellKind::Lstm, Decoder::Recursive, 2, 1);
    let network = Network::new(shape, 1).unwrap();
    let mut scratch = Scratch::new(&shape);
    let mut numbers = Numbers::new(&shape, 11, 3, 2);
    let before = forecast(&network, &numbers, &mut scratch);
    numbers.inputs[4 * shape.inputs] = f32::NAN;
    let after = forecast(&network, &numbers, &mut scratch);
    for (place, (before, after)) in before.iter().zip(&after).enumerate() {
        assert_eq!(place / shape.horizon == 4, after.is_nan(), "{place}");
        assert!(after.is_nan() || before == after);
    }
    numbers.inputs[4 * shape.inputs] = 0.0;
    assert!(
        forecast(&network, &numbers, &mut scratch).iter().all(|x| x.is_finite()),
        "nothing stays in the scratch"
    );
}

#[test]
fn carried_states_forecast_as_windows_do() {
    for &cell in CellKind::ALL {
        let shape = Shape { embedding: 2, series: 3, ..shape(cell, Decoder::Recursive, 2, 2) };
        let network = embedded(shape, 8);
        let mut scratch = Scratch::new(&shape);
        let numbers = Numbers::new(&shape, 67, 5, 9);
        // In another order than they lie in, and between others.
        let columns: Vec<usize> = (0..67).map(|column| 3 + (column * 5) % 67).collect();
        let mut state = State::zeros(&shape, 75);
        for input in numbers.inputs.chunks_exact(67 * shape.inputs) {
            network.step((&mut state, &columns), input, &numbers.series, &mut scratch);
        }
        let carried = Batch { steps: 0, inputs: &[], ..numbers.batch() };
        let mut out = vec![0.0; 67 * shape.outputs()];
        network.forecast_from((&state, &columns), &carried, &mut scratch, &mut out);
        assert!(state.column(2).chain(state.column(70)).all(|number| number == 0.0));
        assert_eq!(out, forecast(&network, &numbers, &mut scratch));
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let shape = shape(CellKind::LstmCoupled, Decoder::Direct, 2, 1);
    let bytes = |seed| tensors::write(Network::new(shape, seed).unwrap().tensors(), "tidecast", "{}");
    assert_eq!(bytes(1), bytes(1));
    assert_ne!(bytes(1), bytes(2));
}

#[test]
fn forget_gates_start_open() {
    for (cell, rows) in [(CellKind::Lstm, 4..8), (CellKind::LstmPeepholeCoupled, 0..4)] {
        let network = Network::new(shape(cell, Decoder::Direct, 2, 0), 1).unwrap();
        let bias = |name: &str, row: usize| network.tensors()[name].data[row];
        assert!(rows.clone().all(|row| bias("bias_ih_l1", row) + bias("bias_hh_l1", row) == 1.0));
        assert!(bias("bias_ih_l1", rows.end).abs() <= 0.5);
    }
}

#[test]
fn wrong_tensors_are_named() {
    let shape = shape(CellKind::Gru, Decoder::Direct, 1, 0);
    let good = Network::new(shape, 1).unwrap().tensors().clone();
    let error = |change: fn(&mut Tensors)| {
        let mut tensors = good.clone();
        change(&mut tensors);
        Network::from_tensors(shape, &tensors).unwrap_err().to_string()
    };
    let missing = error(|t| drop(t.remove("bias_hh_l0")));
    assert!(missing.starts_with("tensor `bias_hh_l0` of shape [12] is missing"), "{missing}");
    let mismatch = error(|t| t.get_mut("weight_hh_l0").unwrap().shape = vec![16, 4]);
    assert!(mismatch.starts_with("tensor `weight_hh_l0` has shape [16, 4], but [12, 4]"), "{mismatch}");
    let unexpected = error(|t| drop(t.insert("weight_ih_l1".into(), Tensor::zeros(&[12, 4]))));
    assert!(unexpected.starts_with("tensor `weight_ih_l1` does not belong"), "{unexpected}");
    let count = error(|t| t.get_mut("head.bias").unwrap().data.truncate(2));
    assert!(count.starts_with("tensor `head.bias` has 2 numbers"), "{count}");
    assert_eq!(Network::from_tensors(shape, &good).unwrap().tensors(), &good);
}

/// The network learns to say the sum of what it read, and twice learns the same.
#[test]
fn the_optimizer_learns() {
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
        for _ in 0..200 {
            let mut scored = network.loss_and_gradients(
                &numbers.batch(),
                &numbers.lesson(&shape, Loss::Mse),
                &mut scratch,
            );
            scored.gradients.scale(1.0 / scored.count as f32);
            scored.gradients.clip(1.0);
            optimizer.step(&mut network, &scored.gradients);
        }
        network
    };
    let network = train();
    let before = loss(&Network::new(shape, 2).unwrap(), &numbers, Loss::Mse);
    let after = loss(&network, &numbers, Loss::Mse);
    assert!(after < 0.02 * before, "{before} {after}");
    assert_eq!(network.tensors(), train().tensors());
}
