//! Learning: minibatches in an order drawn from the seed, Adam, clipping, and the running mean of the weights after the
//! epoch where it was best on the validation part.

use std::ops::ControlFlow;

use super::checkpoint::Checkpoint;
use super::dropout::Dropout;
use super::material::{Buffers, Material};
use super::{Progress, schedule, shards};
use crate::settings::Train;
use tidecast_core::network::{Average, Gradients, Network, Optimizer, Random, Scored, Scratch, TrainScratch};

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
#[derive(Clone, Debug)]
pub struct Fitted {
    pub network: Network,
    /// The epoch it is from; 0 is the untrained network.
    pub epoch: usize,
    pub validation: Option<f64>,
    /// Whether all that the recipe asks for was done.
    pub complete: bool,
}

/// What is learned from, and how.
#[derive(Clone, Copy)]
pub struct Fit<'a> {
    pub recipe: &'a Train,
    pub train: &'a Material<'a>,
    pub validation: &'a Material<'a>,
    /// Tells checkpoints of this apart from others.
    pub identity: &'a str,
}

/// Where learning stands between two minibatches: with the numbers here it goes on as if it had never stopped.
#[derive(Clone, Debug)]
pub struct Learning {
    pub network: Network,
    pub average: Average,
    pub optimizer: Optimizer,
    /// Epochs that are over, and minibatches of the next one.
    pub epochs: usize,
    pub batches: usize,
    /// Over the targets of the epoch so far, and how many they are.
    pub loss_sum: f64,
    pub count: usize,
    pub best: Fitted,
}

impl Learning {
    /// Before the first minibatch.
    pub fn new(recipe: &Train, network: Network) -> Self {
        Self {
            average: Average::new(&network, recipe.average),
            optimizer: Optimizer::new(&network, recipe.learning_rate, recipe.weight_decay),
            epochs: 0,
            batches: 0,
            loss_sum: 0.0,
            count: 0,
            best: Fitted { network: network.clone(), epoch: 0, validation: None, complete: false },
            network,
        }
    }

    fn step(&self, batches: usize) -> Step {
        let (epoch, batch) = (self.epochs + 1, self.batches);
        let loss = self.loss_sum / self.count.max(1) as f64;
        Step { epoch, batch, batches, loss, validation: None, best: self.best.validation }
    }
}

/// What a thread works in: kept from minibatch to minibatch, since it holds every step of what is learned from.
type Workspace = (Buffers, TrainScratch);

impl Fit<'_> {
    /// Goes on with learning, keeping the mean weights that did best on the validation part (the last ones if that is
    /// empty). `report` may break off; what was best of the finished epochs is returned. The result is a function of the
    /// arguments alone, on any number of threads and however often learning was broken off and taken up again.
    pub fn run(&self, mut now: Learning, report: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>) -> Fitted {
        let (recipe, mut workspaces) = (self.recipe, Vec::new());
        while now.epochs < recipe.epochs && now.epochs - now.best.epoch < recipe.patience {
            let went = self.epoch(&mut now, &mut workspaces, report);
            let _ = report(Progress::Checkpoint(Checkpoint { learning: &now, of: self.identity }));
            if went.is_break() {
                return now.best;
            }
        }
        Fitted { complete: true, ..now.best }
    }

    /// Learns from the minibatches that are left of an epoch, and validates what came of it.
    fn epoch(
        &self,
        now: &mut Learning,
        workspaces: &mut Vec<Workspace>,
        report: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let Self { recipe, train, validation, .. } = *self;
        let order = order(recipe.seed, now.epochs + 1, train.len());
        let minibatches = order.chunks(train.minibatch(recipe));
        let batches = minibatches.len();
        let dropout = Dropout { share: recipe.dropout, seed: recipe.seed, epoch: now.epochs + 1 };
        for chosen in minibatches.skip(now.batches) {
            let number = now.epochs * batches + now.batches;
            let rate = schedule::rate(recipe.warmup, number, recipe.epochs * batches);
            now.optimizer.learning_rate = recipe.learning_rate * rate;
            let scored = self.gradients(&now.network, chosen, dropout, workspaces);
            now.loss_sum += scored.loss_sum;
            now.count += scored.count;
            learn(recipe, &mut now.optimizer, &mut now.network, scored);
            now.average.add(&now.network);
            now.batches += 1;
            report(Progress::Step(now.step(batches)))?;
        }
        let mean = now.average.network();
        let score = self.validate(&mean).filter(|score| score.is_finite());
        let better = score.is_some_and(|score| now.best.validation.is_none_or(|best| score < best));
        let step = now.step(batches);
        if now.best.epoch == 0 || validation.len() == 0 || better {
            now.best = Fitted { network: mean, epoch: step.epoch, validation: score, complete: false };
        }
        (now.epochs, now.batches, now.loss_sum, now.count) = (step.epoch, 0, 0.0, 0);
        report(Progress::Step(Step { validation: score, best: now.best.validation, ..step }))
    }

    /// The loss of a minibatch and its gradients, summed in the order of its shards.
    fn gradients(
        &self,
        network: &Network,
        chosen: &[usize],
        dropout: Dropout,
        workspaces: &mut Vec<Workspace>,
    ) -> Scored {
        let Self { recipe, train, .. } = *self;
        let chunks: Vec<&[usize]> = chosen.chunks(train.at_once()).collect();
        let workspace = || (Buffers::default(), TrainScratch::new(network.shape()));
        let scored = shards::each_in(workspaces, chunks.len(), workspace, |(buffers, scratch), shard| {
            train.learn(network, (chunks[shard], dropout), recipe.loss, buffers, scratch)
        });
        let none = Scored { loss_sum: 0.0, count: 0, gradients: Gradients::zeros(network.shape()) };
        scored.into_iter().reduce(plus).unwrap_or(none)
    }

    /// Mean loss on the validation part; `None` if nothing in it counts.
    fn validate(&self, network: &Network) -> Option<f64> {
        let Self { recipe, validation, .. } = *self;
        let shape = network.shape();
        let numbers: Vec<usize> = (0..validation.len()).collect();
        let chunks: Vec<&[usize]> = numbers.chunks(validation.at_once()).collect();
        let workspace = || (Buffers::default(), Scratch::new(network.shape()), Vec::new());
        let losses = shards::each(chunks.len(), workspace, |(buffers, scratch, outputs), shard| {
            validation.say(network, chunks[shard], buffers, scratch, outputs);
            let lesson = validation.lesson(recipe.loss, &[], &[]);
            let columns =
                outputs.chunks_exact(shape.outputs()).zip(buffers.targets.chunks_exact(shape.horizon));
            let scored = columns.map(|(said, targets)| lesson.loss_of(said, targets));
            scored.fold((0.0, 0), |(sum, count), (s, c)| (sum + s, count + c))
        });
        let (sum, count) = losses.into_iter().fold((0.0, 0), |(sum, count), (s, c)| (sum + s, count + c));
        (count > 0).then(|| sum / count as f64)
    }
}

/// The order of an epoch by Fisher and Yates: each is equally likely (up to 2^-40, the bias of the remainder). It follows
/// from the seed and the epoch alone, so that nothing of it has to be kept.
fn order(seed: u64, epoch: usize, count: usize) -> Vec<usize> {
    let mut random = Random::keyed(&[seed, epoch as u64]);
    let mut order: Vec<usize> = (0..count).collect();
    for i in (1..count).rev() {
        order.swap(i, (random.next_u64() % (i as u64 + 1)) as usize);
    }
    order
}

fn learn(recipe: &Train, optimizer: &mut Optimizer, network: &mut Network, mut scored: Scored) {
    if scored.count > 0 {
        scored.gradients.scale(1.0 / scored.count as f32);
        scored.gradients.clip(recipe.clip);
        optimizer.step(network, &scored.gradients);
    }
}

fn plus(mut sum: Scored, next: Scored) -> Scored {
    sum.loss_sum += next.loss_sum;
    sum.count += next.count;
    sum.gradients.add(&next.gradients);
    sum
}
