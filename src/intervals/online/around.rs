//! From what the model says of a forecast to the bounds that are issued around it.

use super::gains::BLOCK;
use super::plan::{Plan, Run};
use crate::intervals::Bounds;
use crate::intervals::bounds::sort;
use crate::simd::{Kernel, Simd};

/// A forecast as the model says it, scaled: y = center + spread x.
pub struct Scaled<'a> {
    pub center: f64,
    pub spread: f64,
    /// `[horizon]`
    pub values: &'a [f32],
    /// What it learned to say, `[quantile][horizon]`.
    pub quantiles: &'a [f32],
    /// Of each level, from the narrowest on.
    pub bounds: &'a [Bounds],
    pub restlessness: f32,
    /// What its unit is multiplied by.
    pub widening: f32,
}

/// The same as it is issued, in the readings' unit.
#[derive(Clone, Debug, Default)]
pub struct Forecast {
    /// `[horizon]`
    pub values: Vec<f32>,
    /// `[probability][horizon]`, ascending at each step.
    pub bounds: Vec<f32>,
    /// Each as it is followed: two that have come to cross have not changed places.
    pub own: Vec<f32>,
}

impl Forecast {
    pub(super) fn resize(&mut self, horizon: usize, bounds: usize) {
        self.values.resize(horizon, 0.0);
        self.bounds.resize(bounds * horizon, 0.0);
        self.own.resize(bounds * horizon, 0.0);
    }
}

/// What trackers say of the followed steps: ρ, `[followed]`, and what each bound is moved by, `[followed][bound]` in blocks.
#[derive(Clone, Copy)]
pub(super) struct Moves<'a> {
    pub scales: &'a [f32],
    pub moves: &'a [f32],
    /// Moves of a followed step.
    pub stride: usize,
}

pub(super) struct Around<'a> {
    pub plan: &'a Plan,
    pub said: &'a Scaled<'a>,
    /// `None` where bounds stay as the model knows them.
    pub moves: Option<Moves<'a>>,
    pub out: &'a mut Forecast,
}

impl Kernel for Around<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { plan, said, moves, out: Forecast { values, bounds, own } } = self;
        let (horizon, levels) = (said.values.len(), said.bounds.len());
        let mut first = 0;
        for (Run { from, to, .. }, parts) in plan.runs().iter().flat_map(|run| run.pieces(S::LANES)) {
            let steps = first..first + parts.len();
            first = steps.end;
            let part = simd.load_part(parts);
            let v = simd.load_part(&said.values[steps.clone()]);
            simd.store_part(simd.affine(v, said.center, said.spread), &mut values[steps.clone()]);
            for (level, known) in said.bounds.iter().enumerate() {
                let of = (said.values, said.quantiles);
                let around = known.at(simd, steps.clone(), of, said.restlessness);
                // The bounds of the narrowest level lie in the middle.
                let places = [(levels - 1 - level, -said.widening), (levels + level, said.widening)];
                for ((bound, outward), mut at) in places.into_iter().zip(around) {
                    if let Some(Moves { scales, moves, stride }) = moves {
                        let by = outward * moves[from * stride + bound];
                        let by_then = outward * moves[to * stride + bound];
                        let scale = line(simd, part, scales[*from], scales[*to]);
                        // v ± ρ (w d + w q), where w d is the distance that the model knows
                        at = v + scale * (at - v + line(simd, part, by, by_then));
                    }
                    let row = bound * horizon;
                    let steps = row + steps.start..row + steps.end;
                    let at = simd.affine(at, said.center, said.spread);
                    simd.store_part(at, &mut own[steps.clone()]);
                    simd.store_part(at, &mut bounds[steps]);
                }
            }
            sort(simd, bounds, horizon, steps);
        }
    }
}

/// Straight from one followed step to the other.
#[inline(always)]
fn line<S: Simd>(simd: S, part: S::V, from: f32, to: f32) -> S::V {
    simd.splat(from) + part * simd.splat(to - from)
}

/// Moves of a followed step of so many bounds.
pub(super) fn stride(bounds: usize) -> usize {
    bounds.next_multiple_of(BLOCK)
}
