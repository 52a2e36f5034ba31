//! The plain recurrent cell.
//!
//! Block: a = W_ih x + b_ih + W_hh h' + b_hh.

use crate::network::activations::tanh;

/// `gates` `[h]`: in a, out h. `h` `[h]`: out h.
#[inline(always)]
pub(super) fn forward(gates: &mut [f32], h: &mut [f32]) {
    for (a, h) in gates.iter_mut().zip(h) {
        // h = tanh(a)
        *h = tanh(*a);
        *a = *h;
    }
}

/// `gates` `[h]`: in h, out ȧ. `dh` `[h]`: in ḣ, out 0, since all of ḣ' goes through a.
#[inline(always)]
pub(super) fn backward(gates: &mut [f32], dh: &mut [f32]) {
    for (a, dh) in gates.iter_mut().zip(dh) {
        // forward: h = tanh(a), so ȧ = ḣ ∘ (1 - h²)
        *a = *dh * (1.0 - *a * *a);
        *dh = 0.0;
    }
}
