//! The long short-term memory, with or without peepholes, and its coupled form, whose input gate is 1 - f.
//!
//! Blocks: a_i, a_f, a_g, a_o = W_ih x + b_ih + W_hh h' + b_hh; the coupled cell has no a_i.
//! Peepholes: p_i, p_f, p_o; the coupled cell has no p_i; a slice of no length when there are none.
//!
//! The loops are short, touch few slices each and count an index, since otherwise the compiler gives up
//! proving that the slices do not overlap, and computes one element at a time.

use crate::network::activations::{sigmoid, tanh};

/// `gates` `[4h]`: in a_i, a_f, a_g, a_o; out i, f, g, o. `c` `[h]`: in c', out c. `h` `[h]`: out h.
#[inline(always)]
pub(super) fn forward(gates: &mut [f32], peepholes: &[f32], c: &mut [f32], h: &mut [f32]) {
    let [i, f, g, o] = blocks_mut(gates, h.len());
    if let Some([p_i, p_f, _]) = blocks(peepholes, h.len()) {
        // a_i += p_i ∘ c',  a_f += p_f ∘ c'
        add_products(i, p_i, c);
        add_products(f, p_f, c);
    }
    cell(i, f, g, c);
    if let Some([_, _, p_o]) = blocks(peepholes, h.len()) {
        // a_o += p_o ∘ c
        add_products(o, p_o, c);
    }
    output(o, c, h);
}

/// As [`forward`], with `gates` `[3h]`: in a_f, a_g, a_o; out f, g, o.
#[inline(always)]
pub(super) fn forward_coupled(gates: &mut [f32], peepholes: &[f32], c: &mut [f32], h: &mut [f32]) {
    let [f, g, o] = blocks_mut(gates, h.len());
    if let Some([p_f, _]) = blocks(peepholes, h.len()) {
        // a_f += p_f ∘ c'
        add_products(f, p_f, c);
    }
    cell_coupled(f, g, c);
    if let Some([_, p_o]) = blocks(peepholes, h.len()) {
        // a_o += p_o ∘ c
        add_products(o, p_o, c);
    }
    output(o, c, h);
}

/// `gates` `[4h]`: in i, f, g, o; out ȧ_i, ȧ_f, ȧ_g, ȧ_o. `before`, `c` `[h]`: c', c. `dh` `[h]`: in ḣ, out
/// 0, since all of ḣ' goes through the gates. `dc` `[h]`: in the part of ċ from the next step, out the same
/// for the step before. `dp` `[3h]`: ṗ_i, ṗ_f, ṗ_o are added to it.
#[inline(always)]
pub(super) fn backward(
    gates: &mut [f32],
    peepholes: &[f32],
    before: &[f32],
    c: &[f32],
    dh: &mut [f32],
    dc: &mut [f32],
    dp: &mut [f32],
) {
    let n = dh.len();
    let [i, f, g, o] = blocks_mut(gates, n);
    output_backward(o, c, dh, dc);
    if let Some([_, _, p_o]) = blocks(peepholes, n) {
        // forward: a_o += p_o ∘ c, so ċ += ȧ_o ∘ p_o and ṗ_o += ȧ_o ∘ c
        add_products(dc, o, p_o);
        add_products(&mut dp[2 * n..], o, c);
    }
    cell_backward(i, f, g, before, dc);
    if let Some([p_i, p_f, _]) = blocks(peepholes, n) {
        // forward: a_i += p_i ∘ c', so ċ' += ȧ_i ∘ p_i and ṗ_i += ȧ_i ∘ c'
        add_products(dc, i, p_i);
        add_products(&mut dp[..n], i, before);
        // forward: a_f += p_f ∘ c', so ċ' += ȧ_f ∘ p_f and ṗ_f += ȧ_f ∘ c'
        add_products(dc, f, p_f);
        add_products(&mut dp[n..2 * n], f, before);
    }
}

/// As [`backward`], with `gates` `[3h]` in f, g, o, out ȧ_f, ȧ_g, ȧ_o, and `dp` `[2h]` ṗ_f, ṗ_o.
#[inline(always)]
pub(super) fn backward_coupled(
    gates: &mut [f32],
    peepholes: &[f32],
    before: &[f32],
    c: &[f32],
    dh: &mut [f32],
    dc: &mut [f32],
    dp: &mut [f32],
) {
    let n = dh.len();
    let [f, g, o] = blocks_mut(gates, n);
    output_backward(o, c, dh, dc);
    if let Some([_, p_o]) = blocks(peepholes, n) {
        // forward: a_o += p_o ∘ c, so ċ += ȧ_o ∘ p_o and ṗ_o += ȧ_o ∘ c
        add_products(dc, o, p_o);
        add_products(&mut dp[n..], o, c);
    }
    cell_coupled_backward(f, g, before, dc);
    if let Some([p_f, _]) = blocks(peepholes, n) {
        // forward: a_f += p_f ∘ c', so ċ' += ȧ_f ∘ p_f and ṗ_f += ȧ_f ∘ c'
        add_products(dc, f, p_f);
        add_products(&mut dp[..n], f, before);
    }
}

/// In: a_i, a_f, a_g, c'. Out: i, f, g, c.
#[inline(always)]
fn cell(i: &mut [f32], f: &mut [f32], g: &mut [f32], c: &mut [f32]) {
    let n = c.len();
    let (i, f, g) = (&mut i[..n], &mut f[..n], &mut g[..n]);
    for j in 0..n {
        // i = σ(a_i)
        i[j] = sigmoid(i[j]);
        // f = σ(a_f)
        f[j] = sigmoid(f[j]);
        // g = tanh(a_g)
        g[j] = tanh(g[j]);
        // c = f ∘ c' + i ∘ g
        c[j] = f[j] * c[j] + i[j] * g[j];
    }
}

/// In: i, f, g, ċ. Out: ȧ_i, ȧ_f, ȧ_g, ċ'.
#[inline(always)]
fn cell_backward(i: &mut [f32], f: &mut [f32], g: &mut [f32], before: &[f32], dc: &mut [f32]) {
    let n = dc.len();
    let (i, f, g, before) = (&mut i[..n], &mut f[..n], &mut g[..n], &before[..n]);
    for j in 0..n {
        // forward: c = f ∘ c' + i ∘ g, i = σ(a_i), so ȧ_i = ċ ∘ g ∘ i ∘ (1 - i)
        let da_i = dc[j] * g[j] * i[j] * (1.0 - i[j]);
        // forward: g = tanh(a_g), so ȧ_g = ċ ∘ i ∘ (1 - g²)
        g[j] = dc[j] * i[j] * (1.0 - g[j] * g[j]);
        i[j] = da_i;
        // forward: f = σ(a_f), so ȧ_f = ċ ∘ c' ∘ f ∘ (1 - f), and ċ' = ċ ∘ f
        let da_f = dc[j] * before[j] * f[j] * (1.0 - f[j]);
        dc[j] *= f[j];
        f[j] = da_f;
    }
}

/// In: a_f, a_g, c'. Out: f, g, c.
#[inline(always)]
fn cell_coupled(f: &mut [f32], g: &mut [f32], c: &mut [f32]) {
    let n = c.len();
    let (f, g) = (&mut f[..n], &mut g[..n]);
    for j in 0..n {
        // f = σ(a_f)
        f[j] = sigmoid(f[j]);
        // g = tanh(a_g)
        g[j] = tanh(g[j]);
        // c = f ∘ c' + (1 - f) ∘ g = g + f ∘ (c' - g)
        c[j] = g[j] + f[j] * (c[j] - g[j]);
    }
}

/// In: f, g, ċ. Out: ȧ_f, ȧ_g, ċ'.
#[inline(always)]
fn cell_coupled_backward(f: &mut [f32], g: &mut [f32], before: &[f32], dc: &mut [f32]) {
    let n = dc.len();
    let (f, g, before) = (&mut f[..n], &mut g[..n], &before[..n]);
    for j in 0..n {
        // forward: c = g + f ∘ (c' - g), f = σ(a_f), so ȧ_f = ċ ∘ (c' - g) ∘ f ∘ (1 - f), and ċ' = ċ ∘ f
        let da_f = dc[j] * (before[j] - g[j]) * f[j] * (1.0 - f[j]);
        // forward: g = tanh(a_g), so ȧ_g = ċ ∘ (1 - f) ∘ (1 - g²)
        g[j] = dc[j] * (1.0 - f[j]) * (1.0 - g[j] * g[j]);
        dc[j] *= f[j];
        f[j] = da_f;
    }
}

/// In: a_o, c. Out: o, h.
#[inline(always)]
fn output(o: &mut [f32], c: &[f32], h: &mut [f32]) {
    let n = h.len();
    let (o, c) = (&mut o[..n], &c[..n]);
    for j in 0..n {
        // o = σ(a_o)
        o[j] = sigmoid(o[j]);
        // h = o ∘ tanh(c)
        h[j] = o[j] * tanh(c[j]);
    }
}

/// In: o, ḣ, the part of ċ from the next step. Out: ȧ_o, 0, and ċ but for the peephole.
#[inline(always)]
fn output_backward(o: &mut [f32], c: &[f32], dh: &mut [f32], dc: &mut [f32]) {
    let n = dh.len();
    let (o, c, dc) = (&mut o[..n], &c[..n], &mut dc[..n]);
    for j in 0..n {
        let t = tanh(c[j]);
        // forward: h = o ∘ tanh(c), so ċ += ḣ ∘ o ∘ (1 - tanh²(c))
        dc[j] += dh[j] * o[j] * (1.0 - t * t);
        // forward: o = σ(a_o), so ȧ_o = ḣ ∘ tanh(c) ∘ o ∘ (1 - o)
        o[j] = dh[j] * t * o[j] * (1.0 - o[j]);
        dh[j] = 0.0;
    }
}

/// to += a ∘ b
#[inline(always)]
fn add_products(to: &mut [f32], a: &[f32], b: &[f32]) {
    for ((to, a), b) in to.iter_mut().zip(a).zip(b) {
        *to += a * b;
    }
}

/// The first `N` blocks of `n`.
#[inline(always)]
fn blocks_mut<const N: usize>(gates: &mut [f32], n: usize) -> [&mut [f32]; N] {
    let mut rest = gates;
    std::array::from_fn(|_| {
        let (block, after) = std::mem::take(&mut rest).split_at_mut(n);
        rest = after;
        block
    })
}

/// The `N` blocks of `n`, if there are any.
#[inline(always)]
fn blocks<const N: usize>(peepholes: &[f32], n: usize) -> Option<[&[f32]; N]> {
    (!peepholes.is_empty()).then(|| std::array::from_fn(|b| &peepholes[b * n..][..n]))
}
