//! Learning: minibatches in an order drawn from the seed, Adam, clipping, and the running mean of the weights after the
//! epoch where it was best on the validation part.

use std::ops::ControlFlow;

use super::dropout::Dropout;
use super::targets::Examples;
use super::windows::Windows;
use super::{schedule, shards};
use crate::config::Train;
use crate::forecaster::Inputs;
use crate::network::{Average, Gradients, Lesson, Network, Optimizer, Random, Scored, Scratch, TrainScratch};

/// Windows of a minibatch that one thread works on at a time. Fixed, so that sums are added in the same order on any
/// number of threads.
pub(super) const SHARD: usize = 64;

/// How far training has come.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// From 1.
    pub epoch: usize,
    pub batch: usize,
    pub batches: usize,
    /// Mean loss of this epoch so far, scaled.
    pub loss: f64,
    /// Validation loss after this epoch, when it is over.
    pub validation: Option<f64>,
    /// Best validation loss so far.
    pub best: Option<f64>,
}

/// What came of training.
pub struct Fitted {
    pub network: Network,
    /// The epoch it is from; 0 is the untrained network.
    pub epoch: usize,
    pub validation: Option<f64>,
}

/// Trains `network` on `train`, keeping the mean weights that did best on `validation` (the last ones if that is empty).
/// `report` may break off; what was best of the finished epochs is returned. The result is a function of the arguments alone, on any
/// number of threads.
pub fn fit(
    recipe: &Train,
    windows: &Windows<'_>,
    mut network: Network,
    train: &Examples,
    validation: &Examples,
    mut report: impl FnMut(Step) -> ControlFlow<()>,
) -> Fitted {
    let mut optimizer = Optimizer::new(&network, recipe.learning_rate, recipe.weight_decay);
    let mut average = Average::new(&network, recipe.average);
    let mut random = Random::new(recipe.seed);
    let mut order: Vec<usize> = (0..train.len()).collect();
    let checked: Vec<usize> = (0..validation.len()).collect();
    let batches = order.len().div_ceil(recipe.batch);
    let mut best = Fitted { network: network.clone(), epoch: 0, validation: None };
    for epoch in 1..=recipe.epochs {
        shuffle(&mut order, &mut random);
        let dropout = Dropout { share: recipe.dropout, seed: recipe.seed, epoch };
        let (mut sum, mut count) = (0.0, 0);
        let mut step = Step { epoch, batch: 0, batches, loss: 0.0, validation: None, best: best.validation };
        for (batch, chosen) in order.chunks(recipe.batch).enumerate() {
            let number = (epoch - 1) * batches + batch;
            let rate = schedule::rate(recipe.warmup, number, recipe.epochs * batches);
            optimizer.learning_rate = recipe.learning_rate * rate;
            let scored = gradients(recipe, windows, &network, (train, chosen), dropout);
            sum += scored.loss_sum;
            count += scored.count;
            learn(recipe, &mut optimizer, &mut network, scored);
            average.add(&network);
            step = Step { batch: batch + 1, loss: sum / count.max(1) as f64, ..step };
            if report(step).is_break() {
                return best;
            }
        }
        let mean = average.network();
        let score = validate(recipe, windows, &mean, validation, &checked).filter(|score| score.is_finite());
        let better = score.is_some_and(|score| best.validation.is_none_or(|best| score < best));
        if best.epoch == 0 || checked.is_empty() || better {
            best = Fitted { network: mean, epoch, validation: score };
        }
        let stop = report(Step { validation: score, best: best.validation, ..step }).is_break();
        if stop || epoch - best.epoch >= recipe.patience {
            break;
        }
    }
    best
}

/// Fisher and Yates: each order is equally likely (up to 2^-40, the bias of the remainder).
fn shuffle(order: &mut [usize], random: &mut Random) {
    for i in (1..order.len()).rev() {
        order.swap(i, (random.next_u64() % (i as u64 + 1)) as usize);
    }
}

fn learn(recipe: &Train, optimizer: &mut Optimizer, network: &mut Network, mut scored: Scored) {
    if scored.count > 0 {
        scored.gradients.scale(1.0 / scored.count as f32);
        scored.gradients.clip(recipe.clip);
        optimizer.step(network, &scored.gradients);
    }
}

/// The loss of a minibatch and its gradients, summed in the order of its shards.
fn gradients(
    recipe: &Train,
    windows: &Windows<'_>,
    network: &Network,
    (examples, chosen): (&Examples, &[usize]),
    dropout: Dropout,
) -> Scored {
    let chunks: Vec<&[usize]> = chosen.chunks(SHARD).collect();
    let hidden = network.shape().hidden;
    let workspace = || (Inputs::default(), TrainScratch::new(network.shape()), Vec::new(), Vec::new());
    let scored = shards::each(chunks.len(), workspace, |(inputs, scratch, targets, factors), shard| {
        read(windows, examples, chunks[shard], inputs, targets);
        dropout.factors(chunks[shard], hidden, factors);
        let lesson = Lesson { targets, loss: recipe.loss, factors };
        network.loss_and_gradients(&inputs.batch(windows.description), &lesson, scratch)
    });
    let none = Scored { loss_sum: 0.0, count: 0, gradients: Gradients::zeros(network.shape()) };
    scored.into_iter().reduce(plus).unwrap_or(none)
}

fn plus(mut sum: Scored, next: Scored) -> Scored {
    sum.loss_sum += next.loss_sum;
    sum.count += next.count;
    sum.gradients.add(&next.gradients);
    sum
}

/// Mean loss over the `chosen` examples; `None` if nothing in them counts.
fn validate(
    recipe: &Train,
    windows: &Windows<'_>,
    network: &Network,
    examples: &Examples,
    chosen: &[usize],
) -> Option<f64> {
    let chunks: Vec<&[usize]> = chosen.chunks(SHARD).collect();
    let workspace = || (Inputs::default(), Scratch::new(network.shape()), Vec::new(), Vec::new());
    let losses = shards::each(chunks.len(), workspace, |(inputs, scratch, targets, outputs), shard| {
        read(windows, examples, chunks[shard], inputs, targets);
        outputs.resize(targets.len(), 0.0);
        network.forecast(&inputs.batch(windows.description), scratch, outputs);
        let errors = outputs.iter().zip(&*targets).filter(|(_, target)| !target.is_nan());
        errors.fold((0.0, 0u64), |(sum, count), (output, target)| {
            (sum + recipe.loss.of(output - target).0, count + 1)
        })
    });
    let (sum, count) = losses.into_iter().fold((0.0, 0), |(sum, count), (s, c)| (sum + s, count + c));
    (count > 0).then(|| sum / count as f64)
}

pub(super) fn read(
    windows: &Windows<'_>,
    examples: &Examples,
    chosen: &[usize],
    inputs: &mut Inputs,
    targets: &mut Vec<f32>,
) {
    inputs.clear();
    targets.clear();
    for number in chosen {
        windows.read(examples.origins[*number], inputs);
        targets.extend_from_slice(examples.targets(*number));
    }
}
