//! The long short-term memory, with or without peepholes.
//!
//! Blocks: a_i, a_f, a_g, a_o = W_ih x + b_ih + W_hh h' + b_hh. Peepholes: p_i, p_f, p_o.

use super::{Cell, Kept, Slopes, States};
use crate::network::kernel::activations::{sigmoid, tanh};
use crate::simd::{Arithmetic, Vector};

pub struct Lstm;

impl Cell<4, 4> for Lstm {
    const BLOCKS: [[usize; 4]; 2] = [[0, 1, 2, 3]; 2];
    const CELL_STATE: bool = true;

    /// Gates: i, f, g, o.
    #[inline(always)]
    fn forward<S: Arithmetic>(
        simd: S,
        [mut a_i, mut a_f, a_g, mut a_o]: [S::V; 4],
        peepholes: Option<[S::V; 3]>,
        states: &mut States<S::V>,
        kept: bool,
    ) -> [S::V; 4] {
        if let Some([p_i, p_f, _]) = peepholes {
            // a_i += p_i ∘ c',  a_f += p_f ∘ c'
            a_i = p_i.mul_add(states.c, a_i);
            a_f = p_f.mul_add(states.c, a_f);
        }
        // i = σ(a_i),  f = σ(a_f),  g = tanh(a_g)
        let (i, f, g) = (sigmoid(simd, a_i), sigmoid(simd, a_f), tanh(simd, a_g));
        // c = f ∘ c' + i ∘ g, where f has a division of its own so that it is never above 1: nothing grows by being kept
        states.c = f.value().mul_add(states.c, i.times(g));
        if let Some([_, _, p_o]) = peepholes {
            // a_o += p_o ∘ c
            a_o = p_o.mul_add(states.c, a_o);
        }
        // o = σ(a_o)
        let o = sigmoid(simd, a_o);
        // h = o ∘ tanh(c)
        states.h = o.times(tanh(simd, states.c));
        if kept { [i.value(), f.value(), g.value(), o.value()] } else { [states.h; 4] }
    }

    #[inline(always)]
    fn backward<S: Arithmetic>(
        simd: S,
        [i, f, g, o]: [S::V; 4],
        peepholes: Option<[S::V; 3]>,
        kept: Kept<S::V>,
        slopes: &mut Slopes<S::V>,
    ) -> [S::V; 4] {
        let (one, Kept { c_before, c, .. }) = (simd.splat(1.0), kept);
        let t = tanh(simd, c).value();
        // forward: o = σ(a_o), h = o ∘ tanh(c), so ȧ_o = ḣ ∘ tanh(c) ∘ o ∘ (1 - o), and all of ḣ' goes through the sums
        let da_o = slopes.dh * t * o * (one - o);
        // forward: h = o ∘ tanh(c), so ċ += ḣ ∘ o ∘ (1 - tanh²(c))
        let mut dc = (slopes.dh * o).mul_add(one - t * t, slopes.dc);
        slopes.dh = simd.splat(0.0);
        if let Some([_, _, p_o]) = peepholes {
            // forward: a_o += p_o ∘ c, so ċ += ȧ_o ∘ p_o and ṗ_o = ȧ_o ∘ c
            dc = da_o.mul_add(p_o, dc);
            slopes.dpeepholes[2] = da_o * c;
        }
        // forward: c = f ∘ c' + i ∘ g, i = σ(a_i), so ȧ_i = ċ ∘ g ∘ i ∘ (1 - i)
        let da_i = dc * g * i * (one - i);
        // forward: g = tanh(a_g), so ȧ_g = ċ ∘ i ∘ (1 - g²)
        let da_g = dc * i * (one - g * g);
        // forward: f = σ(a_f), so ȧ_f = ċ ∘ c' ∘ f ∘ (1 - f), and ċ' = ċ ∘ f
        let da_f = dc * c_before * f * (one - f);
        slopes.dc = dc * f;
        if let Some([p_i, p_f, _]) = peepholes {
            // forward: a_i += p_i ∘ c', so ċ' += ȧ_i ∘ p_i and ṗ_i = ȧ_i ∘ c', and the same of f
            slopes.dc = da_f.mul_add(p_f, da_i.mul_add(p_i, slopes.dc));
            slopes.dpeepholes[0] = da_i * c_before;
            slopes.dpeepholes[1] = da_f * c_before;
        }
        [da_i, da_f, da_g, da_o]
    }
}
