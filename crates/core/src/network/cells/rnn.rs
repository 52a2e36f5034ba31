//! The Elman cell, as torch.nn.RNN.
//!
//! Block: a = W_ih x + b_ih + W_hh h' + b_hh.

use super::activations::tanh;
use super::{Cell, CellKind, Grads, Outputs, Saved, States};
use crate::simd::Arithmetic;

pub struct Rnn;

impl Cell<1, 1> for Rnn {
    const BLOCKS: [[usize; 1]; 2] = [[0], [0]];
    const CELL_STATE: bool = CellKind::Rnn.has_cell_state();

    /// Gate: h.
    #[inline(always)]
    fn forward<S: Arithmetic>(
        simd: S,
        [a]: [S::V; 1],
        _: Option<[S::V; 3]>,
        states: &mut States<S::V>,
        _: Outputs,
    ) -> [S::V; 1] {
        // h = tanh(a)
        states.h = tanh(simd, a).value();
        [states.h]
    }

    #[inline(always)]
    fn backward<S: Arithmetic>(
        simd: S,
        [h]: [S::V; 1],
        _: Option<[S::V; 3]>,
        _: Saved<S::V>,
        grads: &mut Grads<S::V>,
    ) -> [S::V; 1] {
        // forward: h = tanh(a), so ȧ = ḣ ∘ (1 - h²), and all of ḣ' passes through a
        let da = grads.dh * (simd.splat(1.0) - h * h);
        grads.dh = simd.splat(0.0);
        [da]
    }
}
