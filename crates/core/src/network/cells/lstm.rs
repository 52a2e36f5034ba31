//! The long short-term memory, as torch.nn.LSTM, and its variant with a coupled input gate. Both come with or without
//! diagonal peepholes.

use super::activations::{sigmoid, tanh};
use super::{Cell, CellKind, Grads, Outputs, Saved, States};
use crate::simd::{Arithmetic, Vector};

/// Blocks: a_i, a_f, a_g, a_o = W_ih x + b_ih + W_hh h' + b_hh. Peepholes: p_i, p_f, p_o.
pub struct Lstm;

impl Cell<4, 4> for Lstm {
    const BLOCKS: [[usize; 4]; 2] = [[0, 1, 2, 3]; 2];
    const CELL_STATE: bool = CellKind::Lstm.has_cell_state();

    /// Gates: i, f, g, o.
    #[inline(always)]
    fn forward<S: Arithmetic>(
        simd: S,
        [mut a_i, mut a_f, a_g, mut a_o]: [S::V; 4],
        peepholes: Option<[S::V; 3]>,
        states: &mut States<S::V>,
        outputs: Outputs,
    ) -> [S::V; 4] {
        if let Some([p_i, p_f, _]) = peepholes {
            // a_i += p_i ∘ c',  a_f += p_f ∘ c'
            a_i = p_i.mul_add(states.c, a_i);
            a_f = p_f.mul_add(states.c, a_f);
        }
        // i = σ(a_i),  f = σ(a_f),  g = tanh(a_g)
        let (i, f, g) = (sigmoid(simd, a_i), sigmoid(simd, a_f), tanh(simd, a_g));
        // c = f ∘ c' + i ∘ g, where f is divided on its own: a quotient of products could round above 1, and c would grow
        states.c = f.value().mul_add(states.c, i.product(g));
        if let Some([_, _, p_o]) = peepholes {
            // a_o += p_o ∘ c
            a_o = p_o.mul_add(states.c, a_o);
        }
        // o = σ(a_o)
        let o = sigmoid(simd, a_o);
        // h = o ∘ tanh(c)
        states.h = o.product(tanh(simd, states.c));
        match outputs {
            Outputs::StatesAndGates => [i.value(), f.value(), g.value(), o.value()],
            Outputs::States => [states.h; 4],
        }
    }

    #[inline(always)]
    fn backward<S: Arithmetic>(
        simd: S,
        [i, f, g, o]: [S::V; 4],
        peepholes: Option<[S::V; 3]>,
        saved: Saved<S::V>,
        grads: &mut Grads<S::V>,
    ) -> [S::V; 4] {
        let (one, Saved { c_before, c, .. }) = (simd.splat(1.0), saved);
        let t = tanh(simd, c).value();
        // forward: o = σ(a_o), h = o ∘ tanh(c), so ȧ_o = ḣ ∘ tanh(c) ∘ o ∘ (1 - o), and all of ḣ' passes through the sums
        let da_o = grads.dh * t * o * (one - o);
        // forward: h = o ∘ tanh(c), so ċ += ḣ ∘ o ∘ (1 - tanh²(c))
        let mut dc = (grads.dh * o).mul_add(one - t * t, grads.dc);
        grads.dh = simd.splat(0.0);
        if let Some([_, _, p_o]) = peepholes {
            // forward: a_o += p_o ∘ c, so ċ += ȧ_o ∘ p_o and ṗ_o = ȧ_o ∘ c
            dc = da_o.mul_add(p_o, dc);
            grads.dpeepholes[2] = da_o * c;
        }
        // forward: c = f ∘ c' + i ∘ g, i = σ(a_i), so ȧ_i = ċ ∘ g ∘ i ∘ (1 - i)
        let da_i = dc * g * i * (one - i);
        // forward: g = tanh(a_g), so ȧ_g = ċ ∘ i ∘ (1 - g²)
        let da_g = dc * i * (one - g * g);
        // forward: f = σ(a_f), so ȧ_f = ċ ∘ c' ∘ f ∘ (1 - f), and ċ' = ċ ∘ f
        let da_f = dc * c_before * f * (one - f);
        grads.dc = dc * f;
        if let Some([p_i, p_f, _]) = peepholes {
            // forward: a_i += p_i ∘ c', so ċ' += ȧ_i ∘ p_i and ṗ_i = ȧ_i ∘ c'; likewise f
            grads.dc = da_f.mul_add(p_f, da_i.mul_add(p_i, grads.dc));
            grads.dpeepholes[0] = da_i * c_before;
            grads.dpeepholes[1] = da_f * c_before;
        }
        [da_i, da_f, da_g, da_o]
    }
}

/// The LSTM whose input gate is 1 - f.
///
/// Blocks: a_f, a_g, a_o = W_ih x + b_ih + W_hh h' + b_hh. Peepholes: p_f, p_o.
pub struct CoupledLstm;

impl Cell<3, 3> for CoupledLstm {
    const BLOCKS: [[usize; 3]; 2] = [[0, 1, 2]; 2];
    const CELL_STATE: bool = CellKind::LstmCoupled.has_cell_state();

    /// Gates: f, g, o.
    #[inline(always)]
    fn forward<S: Arithmetic>(
        simd: S,
        [mut a_f, a_g, mut a_o]: [S::V; 3],
        peepholes: Option<[S::V; 3]>,
        states: &mut States<S::V>,
        outputs: Outputs,
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
        states.h = o.product(tanh(simd, states.c));
        match outputs {
            Outputs::StatesAndGates => [f, g, o.value()],
            Outputs::States => [f, g, states.h],
        }
    }

    #[inline(always)]
    fn backward<S: Arithmetic>(
        simd: S,
        [f, g, o]: [S::V; 3],
        peepholes: Option<[S::V; 3]>,
        saved: Saved<S::V>,
        grads: &mut Grads<S::V>,
    ) -> [S::V; 3] {
        let (one, Saved { c_before, c, .. }) = (simd.splat(1.0), saved);
        let t = tanh(simd, c).value();
        // forward: o = σ(a_o), h = o ∘ tanh(c), so ȧ_o = ḣ ∘ tanh(c) ∘ o ∘ (1 - o), and all of ḣ' passes through the sums
        let da_o = grads.dh * t * o * (one - o);
        // forward: h = o ∘ tanh(c), so ċ += ḣ ∘ o ∘ (1 - tanh²(c))
        let mut dc = (grads.dh * o).mul_add(one - t * t, grads.dc);
        grads.dh = simd.splat(0.0);
        if let Some([_, p_o, _]) = peepholes {
            // forward: a_o += p_o ∘ c, so ċ += ȧ_o ∘ p_o and ṗ_o = ȧ_o ∘ c
            dc = da_o.mul_add(p_o, dc);
            grads.dpeepholes[1] = da_o * c;
        }
        // forward: c = g + f ∘ (c' - g), f = σ(a_f), so ȧ_f = ċ ∘ (c' - g) ∘ f ∘ (1 - f), and ċ' = ċ ∘ f
        let da_f = dc * (c_before - g) * f * (one - f);
        // forward: g = tanh(a_g), so ȧ_g = ċ ∘ (1 - f) ∘ (1 - g²)
        let da_g = dc * (one - f) * (one - g * g);
        grads.dc = dc * f;
        if let Some([p_f, ..]) = peepholes {
            // forward: a_f += p_f ∘ c', so ċ' += ȧ_f ∘ p_f and ṗ_f = ȧ_f ∘ c'
            grads.dc = da_f.mul_add(p_f, grads.dc);
            grads.dpeepholes[0] = da_f * c_before;
        }
        [da_f, da_g, da_o]
    }
}
