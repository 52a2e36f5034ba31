//! The long short-term memory, with or without peepholes, and its coupled form, where the input gate is 1 - f.
//!
//! Blocks: a_i, a_f, a_g, a_o = W_ih x + b_ih + W_hh h' + b_hh; the coupled cell has no a_i.
//! Peepholes: p_i, p_f, p_o; the coupled cell has no p_i; a slice of no length when there are none.

use crate::network::activations::{sigmoid, tanh};

/// `gates` [4h]: in a_i, a_f, a_g, a_o; out i, f, g, o. `c` [h]: in c', out c. `h` [h]: out h.
#[inline(always)]
pub(super) fn forward<const PEEPHOLES: bool>(gates: &mut [f32], peepholes: &[f32], c: &mut [f32], h: &mut [f32]) {
    let n = h.len();
    let (i, rest) = gates.split_at_mut(n);
    let (f, rest) = rest.split_at_mut(n);
    let (g, rest) = rest.split_at_mut(n);
    let o = &mut rest[..n];
    if PEEPHOLES {
        let (p_i, p) = peepholes.split_at(n);
        let (p_f, p_o) = p.split_at(n);
        forward_blocks::<true>(i, f, g, o, [p_i, p_f, p_o], c, h);
    } else {
        forward_blocks::<false>(i, f, g, o, [&[]; 3], c, h);
    }
}

#[inline(always)]
fn forward_blocks<const PEEPHOLES: bool>(
    i: &mut [f32],
    f: &mut [f32],
    g: &mut [f32],
    o: &mut [f32],
    [p_i, p_f, p_o]: [&[f32]; 3],
    c: &mut [f32],
    h: &mut [f32],
) {
    for j in 0..h.len() {
        // a_i += p_i ∘ c',  a_f += p_f ∘ c'
        let (see_i, see_f) = if PEEPHOLES { (p_i[j] * c[j], p_f[j] * c[j]) } else { (0.0, 0.0) };
        // i = σ(a_i)
        i[j] = sigmoid(i[j] + see_i);
        // f = σ(a_f)
        f[j] = sigmoid(f[j] + see_f);
        // g = tanh(a_g)
        g[j] = tanh(g[j]);
        // c = f ∘ c' + i ∘ g
        c[j] = f[j] * c[j] + i[j] * g[j];
        // a_o += p_o ∘ c
        let see_o = if PEEPHOLES { p_o[j] * c[j] } else { 0.0 };
        // o = σ(a_o)
        o[j] = sigmoid(o[j] + see_o);
        // h = o ∘ tanh(c)
        h[j] = o[j] * tanh(c[j]);
    }
}

/// `gates` [4h]: in i, f, g, o; out ȧ_i, ȧ_f, ȧ_g, ȧ_o. `before`, `c` [h]: c', c. `dh` [h]: in ḣ, out 0, since all of
/// ḣ' goes through the gates. `dc` [h]: in the part of ċ from the next step, out the same for the step before.
/// `dp` [3h]: ṗ_i, ṗ_f, ṗ_o are added to it.
#[inline(always)]
pub(super) fn backward<const PEEPHOLES: bool>(
    gates: &mut [f32],
    peepholes: &[f32],
    before: &[f32],
    c: &[f32],
    dh: &mut [f32],
    dc: &mut [f32],
    dp: &mut [f32],
) {
    let n = dh.len();
    let (i, rest) = gates.split_at_mut(n);
    let (f, rest) = rest.split_at_mut(n);
    let (g, o) = rest.split_at_mut(n);
    let see = |gate: usize, j: usize| if PEEPHOLES { peepholes[gate * n + j] } else { 0.0 };
    for j in 0..n {
        // forward: h = o ∘ tanh(c), so ȯ = ḣ ∘ tanh(c) and ċ += ḣ ∘ o ∘ (1 - tanh²(c))
        let t = tanh(c[j]);
        // forward: o = σ(a_o), so ȧ_o = ȯ ∘ o ∘ (1 - o)
        let da_o = dh[j] * t * o[j] * (1.0 - o[j]);
        // forward: a_o += p_o ∘ c, so ċ += ȧ_o ∘ p_o
        let dc_all = dc[j] + dh[j] * o[j] * (1.0 - t * t) + da_o * see(2, j);
        // forward: c = f ∘ c' + i ∘ g, i = σ(a_i), so ȧ_i = ċ ∘ g ∘ i ∘ (1 - i)
        let da_i = dc_all * g[j] * i[j] * (1.0 - i[j]);
        // forward: f = σ(a_f), so ȧ_f = ċ ∘ c' ∘ f ∘ (1 - f)
        let da_f = dc_all * before[j] * f[j] * (1.0 - f[j]);
        // forward: g = tanh(a_g), so ȧ_g = ċ ∘ i ∘ (1 - g²)
        let da_g = dc_all * i[j] * (1.0 - g[j] * g[j]);
        // forward: c' is in c, and through the peepholes in a_i and a_f: ċ' = ċ ∘ f + ȧ_i ∘ p_i + ȧ_f ∘ p_f
        dc[j] = dc_all * f[j] + da_i * see(0, j) + da_f * see(1, j);
        dh[j] = 0.0;
        if PEEPHOLES {
            // ṗ_i += ȧ_i ∘ c',  ṗ_f += ȧ_f ∘ c',  ṗ_o += ȧ_o ∘ c
            dp[j] += da_i * before[j];
            dp[n + j] += da_f * before[j];
            dp[2 * n + j] += da_o * c[j];
        }
        (i[j], f[j], g[j], o[j]) = (da_i, da_f, da_g, da_o);
    }
}

/// `gates` [3h]: in a_f, a_g, a_o; out f, g, o. `c` [h]: in c', out c. `h` [h]: out h.
#[inline(always)]
pub(super) fn forward_coupled<const PEEPHOLES: bool>(
    gates: &mut [f32],
    peepholes: &[f32],
    c: &mut [f32],
    h: &mut [f32],
) {
    let n = h.len();
    let (f, rest) = gates.split_at_mut(n);
    let (g, rest) = rest.split_at_mut(n);
    let o = &mut rest[..n];
    if PEEPHOLES {
        let (p_f, p_o) = peepholes.split_at(n);
        forward_coupled_blocks::<true>(f, g, o, [p_f, p_o], c, h);
    } else {
        forward_coupled_blocks::<false>(f, g, o, [&[]; 2], c, h);
    }
}

#[inline(always)]
fn forward_coupled_blocks<const PEEPHOLES: bool>(
    f: &mut [f32],
    g: &mut [f32],
    o: &mut [f32],
    [p_f, p_o]: [&[f32]; 2],
    c: &mut [f32],
    h: &mut [f32],
) {
    for j in 0..h.len() {
        // a_f += p_f ∘ c'
        let see_f = if PEEPHOLES { p_f[j] * c[j] } else { 0.0 };
        // f = σ(a_f)
        f[j] = sigmoid(f[j] + see_f);
        // g = tanh(a_g)
        g[j] = tanh(g[j]);
        // c = f ∘ c' + (1 - f) ∘ g = g + f ∘ (c' - g)
        c[j] = g[j] + f[j] * (c[j] - g[j]);
        // a_o += p_o ∘ c
        let see_o = if PEEPHOLES { p_o[j] * c[j] } else { 0.0 };
        // o = σ(a_o)
        o[j] = sigmoid(o[j] + see_o);
        // h = o ∘ tanh(c)
        h[j] = o[j] * tanh(c[j]);
    }
}

/// As [`backward`], with `gates` [3h] in f, g, o, out ȧ_f, ȧ_g, ȧ_o, and `dp` [2h] ṗ_f, ṗ_o.
#[inline(always)]
pub(super) fn backward_coupled<const PEEPHOLES: bool>(
    gates: &mut [f32],
    peepholes: &[f32],
    before: &[f32],
    c: &[f32],
    dh: &mut [f32],
    dc: &mut [f32],
    dp: &mut [f32],
) {
    let n = dh.len();
    let (f, rest) = gates.split_at_mut(n);
    let (g, o) = rest.split_at_mut(n);
    let see = |gate: usize, j: usize| if PEEPHOLES { peepholes[gate * n + j] } else { 0.0 };
    for j in 0..n {
        // forward: h = o ∘ tanh(c), so ȯ = ḣ ∘ tanh(c) and ċ += ḣ ∘ o ∘ (1 - tanh²(c))
        let t = tanh(c[j]);
        // forward: o = σ(a_o), so ȧ_o = ȯ ∘ o ∘ (1 - o)
        let da_o = dh[j] * t * o[j] * (1.0 - o[j]);
        // forward: a_o += p_o ∘ c, so ċ += ȧ_o ∘ p_o
        let dc_all = dc[j] + dh[j] * o[j] * (1.0 - t * t) + da_o * see(1, j);
        // forward: c = g + f ∘ (c' - g), f = σ(a_f), so ȧ_f = ċ ∘ (c' - g) ∘ f ∘ (1 - f)
        let da_f = dc_all * (before[j] - g[j]) * f[j] * (1.0 - f[j]);
        // forward: g = tanh(a_g), so ȧ_g = ċ ∘ (1 - f) ∘ (1 - g²)
        let da_g = dc_all * (1.0 - f[j]) * (1.0 - g[j] * g[j]);
        // forward: c' is in c, and through the peephole in a_f: ċ' = ċ ∘ f + ȧ_f ∘ p_f
        dc[j] = dc_all * f[j] + da_f * see(0, j);
        dh[j] = 0.0;
        if PEEPHOLES {
            // ṗ_f += ȧ_f ∘ c',  ṗ_o += ȧ_o ∘ c
            dp[j] += da_f * before[j];
            dp[n + j] += da_o * c[j];
        }
        (f[j], g[j], o[j]) = (da_f, da_g, da_o);
    }
}
