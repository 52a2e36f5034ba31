//! Whether the quantiles that the cells say are worth more than bounds that are equally far from the forecast at all times.
//!
//! Both are held against parts of the history that the cells did not learn from, each corrected on the other parts as it
//! would be for serving, and compared by their pinball loss.

use super::choices::Choice;
use super::material::{Buffers, Material};
use super::shards;
use super::shares::{HORIZONS, WORTH, share_at};
use super::windows::Windows;
use tidecast_core::intervals::{Corrections, rearrange};
use tidecast_core::model::Share;
use tidecast_core::network::{Network, Scratch, pinball};

/// One part of the history: what came, `[...][horizon]`, and what was said of it, `[...][quantity][horizon]`.
struct Part {
    targets: Vec<f32>,
    said: Vec<f32>,
}

/// The pinball loss of the quantiles that `network` says on each part of `held`, as a part of that of constant ones around a
/// forecast that believes as much of it as `shares` say. `shortest` is the number of steps that the shortest of them spans.
/// Nothing where there are no quantiles, or too little to judge them on.
pub fn ratios(
    windows: &Windows<'_>,
    network: &Network,
    shares: &[Share],
    held: &[Material<'_>],
    shortest: i64,
) -> Vec<f64> {
    let horizon = network.shape().horizon;
    let Some(cells) = windows.description.cells.as_ref() else { return Vec::new() };
    let probabilities = &cells.probabilities;
    let held: Vec<&Material<'_>> = held.iter().filter(|material| material.len() > 0).collect();
    if held.len() < 2 || probabilities.is_empty() || horizon as i64 * HORIZONS > shortest {
        return Vec::new();
    }
    let parts: Vec<Part> = held.iter().map(|material| said(network, material)).collect();
    // A task each probability and step: a share of the forecast, or a quantile as it is.
    let losses = shards::each(
        probabilities.len() * horizon,
        || (),
        |(), task| {
            let (number, step) = (task / horizon, task % horizon);
            let constant = (share_at(shares, step), step);
            let learned = (1.0, (number + 1) * horizon + step);
            [constant, learned].map(|base| losses(&parts, base, (horizon, step), probabilities[number]))
        },
    );
    let sum = |which: usize, part: usize| losses.iter().map(|of| of[which][part]).sum::<f64>();
    let ratio = |part| sum(1, part) / sum(0, part).max(f64::MIN_POSITIVE);
    // Beyond this there is no number that can be kept.
    (0..parts.len()).map(|part| ratio(part).min(f64::MAX)).collect()
}

/// Whether quantiles with such losses are kept: those that gain on every part.
pub fn worth(ratios: &[f64]) -> bool {
    !ratios.is_empty() && ratios.iter().all(|ratio| *ratio <= WORTH)
}

/// What is told of them.
pub fn choice(ratios: &[f64], count: usize) -> Choice {
    let of: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.3}")).collect();
    let kept = if worth(ratios) { "are kept" } else { "are left out" };
    let why = match ratios {
        [] => format!("there are no two parts of {HORIZONS} horizons that they did not learn from"),
        _ => format!(
            "on times that were not learned from, their loss was {} of that of constant ones; {WORTH} is worth it",
            of.join(", ")
        ),
    };
    Choice { what: format!("the cells' {count} quantiles {kept}"), why }
}

/// The loss at probability `p` and a step on each part, of a base `(factor, place in what was said)` that is corrected on the
/// other parts.
fn losses(parts: &[Part], base: (f32, usize), (horizon, step): (usize, usize), p: f64) -> Vec<f64> {
    let errors = |part: &Part| -> Vec<f32> {
        let targets = part.targets.chunks_exact(horizon);
        let said = part.said.chunks_exact(part.said.len() / targets.len().max(1));
        let error = targets.zip(said).map(|(targets, said)| targets[step] - base.0 * said[base.1]);
        error.filter(|error| !error.is_nan()).collect()
    };
    let errors: Vec<Vec<f32>> = parts.iter().map(errors).collect();
    let loss = |held: usize| {
        let others = errors.iter().enumerate().filter(|(part, _)| *part != held);
        let others: Vec<f32> = others.flat_map(|(_, errors)| errors).copied().collect();
        let Some(correction) = Corrections::of(vec![vec![others]], &[p], 1) else { return 0.0 };
        let correction = correction.values()[0];
        errors[held].iter().map(|error| pinball(p, correction - error).0).sum()
    };
    (0..parts.len()).map(loss).collect()
}

fn said(network: &Network, material: &Material<'_>) -> Part {
    let (horizon, outputs) = (network.shape().horizon, network.shape().outputs());
    let numbers: Vec<usize> = (0..material.len()).collect();
    let chunks: Vec<&[usize]> = numbers.chunks(material.at_once()).collect();
    let workspace = || (Buffers::default(), Scratch::new(network.shape()));
    let found = shards::each(chunks.len(), workspace, |(buffers, scratch), shard| {
        let mut said = Vec::new();
        material.say(network, chunks[shard], buffers, scratch, &mut said);
        said.chunks_exact_mut(outputs).for_each(|said| rearrange(&mut said[horizon..], horizon));
        (buffers.targets.clone(), said)
    });
    let (targets, said): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    Part { targets: targets.concat(), said: said.concat() }
}
