//! The long short-term memory whose input gate is 1 - f, with or without peepholes.
//!
//! Blocks: a_f, a_g, a_o = W_ih x + b_ih + W_hh h' + b_hh. Peepholes: p_f, p_o.

use super::{Cell, Kept, Slopes, States};
use crate::network::kernel::activations::{sigmoid, tanh};
use crate::simd::{Arithmetic, Vector};

pub struct Coupled;

impl Cell<3, 3> for Coupled {
    const BLOCKS: [[usize; 3]; 2] = [[0, 1, 2]; 2];
    const CELL_STATE: bool = true;

    /// Gates: f, g, o.
    #[inline(always)]
    fn forward<S: Arithmetic>(
        simd: S,
        [mut a_f, a_g, mut a_o]: [S::V; 3],
        peepholes: Option<[S::V; 3]>,
        states: &mut States<S::V>,
        kept: bool,
    ) -> [S::V; 3] {
        if let Some([p_f, ..]) = peepholes {
            // a_f += p_f ∘ c'
            a_f = p_f.mul_add(states.c, a_f);
        }
        // f = σ(a_f),  g = tanh(a_g)
        let (f, g) = (sigmoid(simd, a_f).value(), tanh(simd, a_g).value());
        // c = f ∘ c' + (1 - f) ∘ g = g + f ∘ (c' - g)
        states.c = f.mul_add(states.c - g, g);
        if let Some([_, p_o, _]) = peepholes {
            // a_o += p_o ∘ c
            a_o = p_o.mul_add(states.c, a_o);
        }
        // o = σ(a_o)
        let o = sigmoid(simd, a_o);
        // h = o ∘ tanh(c)
        states.h = o.times(tanh(simd, states.c));
        if kept { [f, g, o.value()] } else { [f, g, states.h] }
    }

    #[inline(always)]
    fn backward<S: Arithmetic>(
        simd: S,
        [f, g, o]: [S::V; 3],
        peepholes: Option<[S::V; 3]>,
        kept: Kept<S::V>,
        slopes: &mut Slopes<S::V>,
    ) -> [S::V; 3] {
        let (one, Kept { c_before, c, .. }) = (simd.splat(1.0), kept);
        let t = tanh(simd, c).value();
        // forward: o = σ(a_o), h = o ∘ tanh(c), so ȧ_o = ḣ ∘ tanh(c) ∘ o ∘ (1 - o), and all of ḣ' goes through the sums
        let da_o = slopes.dh * t * o * (one - o);
        // forward: h = o ∘ tanh(c), so ċ += ḣ ∘ o ∘ (1 - tanh²(c))
        let mut dc = (slopes.dh * o).mul_add(one - t * t, slopes.dc);
        slopes.dh = simd.splat(0.0);
        if let Some([_, p_o, _]) = peepholes {
            // forward: a_o += p_o ∘ c, so ċ += ȧ_o ∘ p_o and ṗ_o = ȧ_o ∘ c
            dc = da_o.mul_add(p_o, dc);
            slopes.dpeepholes[1] = da_o * c;
        }
        // forward: c = g + f ∘ (c' - g), f = σ(a_f), so ȧ_f = ċ ∘ (c' - g) ∘ f ∘ (1 - f), and ċ' = ċ ∘ f
        let da_f = dc * (c_before - g) * f * (one - f);
        // forward: g = tanh(a_g), so ȧ_g = ċ ∘ (1 - f) ∘ (1 - g²)
        let da_g = dc * (one - f) * (one - g * g);
        slopes.dc = dc * f;
        if let Some([p_f, ..]) = peepholes {
            // forward: a_f += p_f ∘ c', so ċ' += ȧ_f ∘ p_f and ṗ_f = ȧ_f ∘ c'
            slopes.dc = da_f.mul_add(p_f, slopes.dc);
            slopes.dpeepholes[0] = da_f * c_before;
        }
        [da_f, da_g, da_o]
    }
}
