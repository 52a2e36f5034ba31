//! The gated recurrent unit, as torch.nn.GRU: the reset gate acts after the product.
//!
//! Blocks: a_r, a_z = W_ih x + b_ih + W_hh h' + b_hh;  u = W_in x + b_in;  v = W_hn h' + b_hn.

use super::activations::{sigmoid, tanh};
use super::{Cell, CellKind, Grads, Outputs, Saved, States};
use crate::simd::{Arithmetic, Vector};

pub struct Gru;

impl Cell<4, 3> for Gru {
    const BLOCKS: [[usize; 3]; 2] = [[0, 1, 3], [0, 1, 2]];
    const READS_HIDDEN: bool = true;
    const CELL_STATE: bool = CellKind::Gru.has_cell_state();

    /// Gates: r, z, n, v.
    #[inline(always)]
    fn forward<S: Arithmetic>(
        simd: S,
        [a_r, a_z, u, v]: [S::V; 4],
        _: Option<[S::V; 3]>,
        states: &mut States<S::V>,
        _: Outputs,
    ) -> [S::V; 4] {
        // r = σ(a_r)
        let r = sigmoid(simd, a_r).value();
        // z = σ(a_z)
        let z = sigmoid(simd, a_z).value();
        // n = tanh(u + r ∘ v)
        let n = tanh(simd, r.mul_add(v, u)).value();
        // h = (1 - z) ∘ n + z ∘ h' = n + z ∘ (h' - n)
        states.h = z.mul_add(states.h - n, n);
        [r, z, n, v]
    }

    #[inline(always)]
    fn backward<S: Arithmetic>(
        simd: S,
        [r, z, n, v]: [S::V; 4],
        _: Option<[S::V; 3]>,
        saved: Saved<S::V>,
        grads: &mut Grads<S::V>,
    ) -> [S::V; 4] {
        let one = simd.splat(1.0);
        // forward: h = n + z ∘ (h' - n), so ż = ḣ ∘ (h' - n), ṅ = ḣ ∘ (1 - z), and ḣ ∘ z reaches h' directly
        let dz = grads.dh * (saved.h_before - n);
        let dn = grads.dh * (one - z);
        grads.dh = grads.dh * z;
        // forward: n = tanh(u + r ∘ v), so u̇ = ṅ ∘ (1 - n²), ṙ = u̇ ∘ v, v̇ = u̇ ∘ r
        let du = dn * (one - n * n);
        let (dr, dv) = (du * v, du * r);
        // forward: r = σ(a_r), so ȧ_r = ṙ ∘ r ∘ (1 - r)
        let da_r = dr * r * (one - r);
        // forward: z = σ(a_z), so ȧ_z = ż ∘ z ∘ (1 - z)
        let da_z = dz * z * (one - z);
        [da_r, da_z, du, dv]
    }
}
