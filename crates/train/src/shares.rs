//! How much of the cells' correction is believed, by parts of the horizon.

use super::material::{Buffers, Material};
use super::regression::parts;
use super::shards;
use crate::settings::Train;
use tidecast_core::model::Share;
use tidecast_core::network::{Network, Scratch};

/// Shares that are tried are multiples of one part in so many.
const STEPS: usize = 20;
/// A share is only believed where it leaves less than this part of the loss on every part: less is chance.
pub(super) const WORTH: f64 = 0.99;
/// How many horizons a part has to span to say anything: its forecasts overlap, and fewer are one spell of weather.
pub(super) const HORIZONS: i64 = 10;

/// The share of each part of the horizon with the least loss over `held`, parts of the history that `network` did not learn
/// from, among those that gain on each of them: one part alone has its own level and weather, and what fits it need not fit
/// the next. `shortest` is the number of steps that the shortest of them spans.
pub fn choose(recipe: &Train, network: &Network, held: &[Material<'_>], shortest: i64) -> Vec<Share> {
    let ends = parts(network.shape().horizon);
    let losses: Vec<_> = held
        .iter()
        .filter(|material| material.len() > 0)
        .map(|material| losses(recipe, network, material, &ends))
        .collect();
    let best = |part: usize| {
        let relative = |step: usize| {
            let ratios =
                losses.iter().map(|losses| losses[part][step] / losses[part][0].max(f64::MIN_POSITIVE));
            let (sum, worst) = ratios.fold((0.0, 0.0f64), |(sum, worst), r| (sum + r.ln(), worst.max(r)));
            (step == 0 || worst <= WORTH).then_some(sum)
        };
        let steps = if ends[part] as i64 * HORIZONS <= shortest { STEPS } else { 0 };
        let allowed = (0..=steps).filter_map(|step| Some((step, relative(step)?)));
        allowed.min_by(|(_, a), (_, b)| a.total_cmp(b)).map_or(0, |(step, _)| step)
    };
    ends.iter().enumerate().map(|(part, until)| Share { until: *until, share: share(best(part)) }).collect()
}

/// The loss of each share on `material`, for each part of the horizon.
fn losses(
    recipe: &Train,
    network: &Network,
    material: &Material<'_>,
    ends: &[usize],
) -> Vec<[f64; STEPS + 1]> {
    let horizon = network.shape().horizon;
    let part_of = |step: usize| ends.iter().position(|end| step < *end).unwrap_or(ends.len() - 1);
    let numbers: Vec<usize> = (0..material.len()).collect();
    let chunks: Vec<&[usize]> = numbers.chunks(material.at_once()).collect();
    let workspace = || (Buffers::default(), Scratch::new(network.shape()), Vec::new());
    let found = shards::each(chunks.len(), workspace, |(buffers, scratch, said), shard| {
        material.say(network, chunks[shard], buffers, scratch, said);
        let forecasts = said.chunks_exact(network.shape().outputs()).flat_map(|said| &said[..horizon]);
        let targets = &buffers.targets;
        let mut sums = vec![[0.0; STEPS + 1]; ends.len()];
        for (place, (said, target)) in forecasts.zip(targets).enumerate().filter(|(_, (_, t))| !t.is_nan()) {
            for (step, sum) in sums[part_of(place % horizon)].iter_mut().enumerate() {
                *sum += recipe.loss.of(share(step) * said - target).0;
            }
        }
        sums
    });
    let mut sums = vec![[0.0; STEPS + 1]; ends.len()];
    for losses in &found {
        for (sums, losses) in sums.iter_mut().zip(losses) {
            sums.iter_mut().zip(losses).for_each(|(sum, loss)| *sum += loss);
        }
    }
    sums
}

/// The share of the part that holds a step of the horizon.
pub(super) fn share_at(shares: &[Share], step: usize) -> f32 {
    shares.iter().find(|share| step < share.until).map_or(0.0, |share| share.share)
}

fn share(step: usize) -> f32 {
    step as f32 / STEPS as f32
}
