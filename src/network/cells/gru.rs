//! The gated recurrent unit, with the reset gate applied after the product, as in PyTorch.
//!
//! Blocks: a_r, a_z = W_ih x + b_ih + W_hh h' + b_hh;  u = W_in x + b_in;  v = W_hn h' + b_hn.

use crate::network::activations::{sigmoid, tanh};

/// `gates` `[4h]`: in a_r, a_z, u, v; out r, z, n, v. `h` `[h]`: in h', out h.
#[inline(always)]
pub(super) fn forward(gates: &mut [f32], h: &mut [f32]) {
    let size = h.len();
    let (r, rest) = gates.split_at_mut(size);
    let (z, rest) = rest.split_at_mut(size);
    let (n, rest) = rest.split_at_mut(size);
    forward_blocks(r, z, n, &rest[..size], h);
}

#[inline(always)]
fn forward_blocks(r: &mut [f32], z: &mut [f32], n: &mut [f32], v: &[f32], h: &mut [f32]) {
    for j in 0..h.len() {
        // r = σ(a_r)
        r[j] = sigmoid(r[j]);
        // z = σ(a_z)
        z[j] = sigmoid(z[j]);
        // n = tanh(u + r ∘ v)
        n[j] = tanh(n[j] + r[j] * v[j]);
        // h = (1 - z) ∘ n + z ∘ h' = n + z ∘ (h' - n)
        h[j] = n[j] + z[j] * (h[j] - n[j]);
    }
}

/// `gates` `[4h]`: in r, z, n, v; out ȧ_r, ȧ_z, u̇, v̇. `before` `[h]`: h'. `dh` `[h]`: in ḣ, out ḣ ∘ z.
#[inline(always)]
pub(super) fn backward(gates: &mut [f32], before: &[f32], dh: &mut [f32]) {
    let size = dh.len();
    let (r, rest) = gates.split_at_mut(size);
    let (z, rest) = rest.split_at_mut(size);
    let (n, rest) = rest.split_at_mut(size);
    backward_blocks(r, z, n, &mut rest[..size], &before[..size], dh);
}

#[inline(always)]
fn backward_blocks(
    r: &mut [f32],
    z: &mut [f32],
    n: &mut [f32],
    v: &mut [f32],
    before: &[f32],
    dh: &mut [f32],
) {
    for j in 0..dh.len() {
        // forward: h = n + z ∘ (h' - n), so ż = ḣ ∘ (h' - n), ṅ = ḣ ∘ (1 - z), and ḣ ∘ z goes on to h'
        let dz = dh[j] * (before[j] - n[j]);
        let dn = dh[j] * (1.0 - z[j]);
        dh[j] *= z[j];
        // forward: n = tanh(u + r ∘ v), so u̇ = ṅ ∘ (1 - n²), ṙ = u̇ ∘ v, v̇ = u̇ ∘ r
        let du = dn * (1.0 - n[j] * n[j]);
        let dr = du * v[j];
        n[j] = du;
        v[j] = du * r[j];
        // forward: r = σ(a_r), so ȧ_r = ṙ ∘ r ∘ (1 - r)
        r[j] = dr * r[j] * (1.0 - r[j]);
        // forward: z = σ(a_z), so ȧ_z = ż ∘ z ∘ (1 - z)
        z[j] = dz * z[j] * (1.0 - z[j]);
    }
}
