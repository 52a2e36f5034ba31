//! How much of the cells' correction is believed, by parts of the horizon.

use super::fit::{SHARD, read};
use super::regression::parts;
use super::shards;
use super::targets::Examples;
use super::windows::Windows;
use crate::config::Train;
use crate::forecaster::Inputs;
use crate::model::Share;
use crate::network::{Network, Scratch};

/// Shares that are tried are multiples of one part in so many.
const STEPS: usize = 20;

/// The share with the least loss on `examples` for each part of the horizon, down to nothing.
pub fn choose(recipe: &Train, windows: &Windows<'_>, network: &Network, examples: &Examples) -> Vec<Share> {
    let horizon = windows.description.horizon;
    let ends = parts(horizon);
    let part_of = |step: usize| ends.iter().position(|end| step < *end).unwrap_or(ends.len() - 1);
    let numbers: Vec<usize> = (0..examples.len()).collect();
    let chunks: Vec<&[usize]> = numbers.chunks(SHARD).collect();
    let workspace = || (Inputs::default(), Scratch::new(network.shape()), Vec::new(), Vec::new());
    let losses = shards::each(chunks.len(), workspace, |(inputs, scratch, targets, said), shard| {
        read(windows, examples, chunks[shard], inputs, targets);
        said.resize(targets.len(), 0.0);
        network.forecast(&inputs.batch(windows.description), scratch, said);
        let mut sums = vec![[0.0; STEPS + 1]; ends.len()];
        for (place, (said, target)) in
            said.iter().zip(&*targets).enumerate().filter(|(_, (_, t))| !t.is_nan())
        {
            for (step, sum) in sums[part_of(place % horizon)].iter_mut().enumerate() {
                *sum += recipe.loss.of(share(step) * said - target).0;
            }
        }
        sums
    });
    let mut sums = vec![[0.0; STEPS + 1]; ends.len()];
    for losses in &losses {
        for (sums, losses) in sums.iter_mut().zip(losses) {
            sums.iter_mut().zip(losses).for_each(|(sum, loss)| *sum += loss);
        }
    }
    let best = |sums: &[f64; STEPS + 1]| {
        (0..=STEPS).min_by(|a, b| sums[*a].total_cmp(&sums[*b])).expect("there are shares")
    };
    ends.iter().zip(&sums).map(|(until, sums)| Share { until: *until, share: share(best(sums)) }).collect()
}

fn share(step: usize) -> f32 {
    step as f32 / STEPS as f32
}
