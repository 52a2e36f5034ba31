//! The linear recurrence: a fixed diagonal state-space model over the first differences of a series, advanced at constant
//! cost per step, and read out for all steps of the horizon by one matrix.
//!
//! With the value x and a complex pole λ = exp(-1/τ + iω) for each decay τ and frequency ω,
//!
//! ```text
//! s(t) = λ s(t-1) + x(t) - x(t-1)
//! ```
//!
//! A real pole is the distance of an exponential moving average from the value. A complex pole resonates with a period of
//! 2π/ω steps. The recurrence is linear, so it runs over unscaled values, and its states are divided by the scale when they
//! are read out.

mod lad;
mod readout;
mod ridge;

pub use lad::{RegressionRows, least_absolute_deviations};
pub use readout::{PerSeriesFeatures, Readout, ReadoutError};
pub use ridge::{NormalEquations, Regularization, Solution, solve_ridge};

use super::{Tensor, Tensors};
use crate::simd::{Isa, Kernel, Simd, Vector};

/// Limit of the poles: each costs two numbers per series and a multiplication per step.
pub const POLES_MAX: usize = 4096;

/// Name of the pole tensor `[pole, 2]`.
pub const POLES: &str = "recurrence.poles";

/// The linear recurrence with its poles.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearRecurrence {
    poles: Poles,
    window: Option<FiniteWindow>,
}

/// A finite impulse response: what is older than the window is subtracted from the state.
#[derive(Clone, Debug, PartialEq)]
struct FiniteWindow {
    steps: usize,
    /// The poles to the power of `steps`.
    powers: Poles,
}

/// The latest value of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LastObservation {
    pub step: i64,
    pub value: f64,
}

impl LinearRecurrence {
    /// A recurrence with poles `[real, imaginary]`; a pole without an imaginary part is real. With `window`, differences older
    /// than so many steps have no effect. `None` if there are more than [`POLES_MAX`], or one does not decay.
    pub fn new(poles: &[[f32; 2]], window: Option<usize>) -> Option<Self> {
        let widen = |[re, im]: [f32; 2]| [f64::from(re), f64::from(im)];
        let decays = |pole: &[f32; 2]| widen(*pole).iter().map(|part| part * part).sum::<f64>() < 1.0;
        if poles.len() > POLES_MAX || !poles.iter().all(decays) || window == Some(0) {
            return None;
        }
        let wide: Vec<[f64; 2]> = poles.iter().copied().map(widen).collect();
        let window = window.map(|steps| FiniteWindow {
            steps,
            powers: Poles::new(wide.iter().map(|pole| power(*pole, steps as u64)), poles),
        });
        Some(Self { poles: Poles::new(wide.iter().copied(), poles), window })
    }

    /// The pole of a decay τ, in steps, and a frequency ω, in radians per step; rounded to f32, as the model file stores it.
    pub fn pole(decay: f64, frequency: f64) -> [f32; 2] {
        // λ = exp(-1/τ) (cos ω + i sin ω)
        let size = (-1.0 / decay).exp();
        let (sine, cosine) = frequency.sin_cos();
        // At half a turn the sine is a rounding error.
        let sine = if sine.abs() < 1e-9 { 0.0 } else { sine };
        [(size * cosine) as f32, (size * sine) as f32]
    }

    /// Numbers of a state: those of the real poles, then the real and the imaginary parts of the complex ones. All are zero
    /// before the first value.
    pub fn state_len(&self) -> usize {
        self.poles.state_len()
    }

    /// Indices of pole `i`'s numbers within the state.
    pub fn state_indices(poles: &[[f32; 2]], i: usize) -> Vec<usize> {
        let is_real = |pole: &[f32; 2]| pole[1] == 0.0;
        let (real, before) = (poles.iter().filter(|pole| is_real(pole)).count(), &poles[..i]);
        let complex = poles.len() - real;
        if is_real(&poles[i]) {
            return vec![before.iter().filter(|pole| is_real(pole)).count()];
        }
        let index = real + before.iter().filter(|pole| !is_real(pole)).count();
        vec![index, index + complex]
    }

    /// Past values that a step reads, besides those since the last step.
    pub fn lookback(&self) -> usize {
        self.window.as_ref().map_or(0, |window| window.steps + 1)
    }

    /// Advances a state over the next steps of an uninterrupted run. `values` ends with the `new` latest values. Before those it
    /// holds as many of the [`LinearRecurrence::lookback`] as exist, and at least one.
    pub fn advance_many(&self, state: &mut [f32], values: &[f64], new: usize) {
        for t in values.len() - new..values.len() {
            let leaving = self.window.as_ref().map_or(0.0, |window| match t.checked_sub(window.steps + 1) {
                Some(before) => values[before + 1] - values[before],
                None => 0.0,
            });
            self.advance(state, values[t] - values[t - 1], leaving);
        }
    }

    /// Begins a run at `step`: the first one, or one after a gap. Over a gap the state decays as if the value had stayed at
    /// `last`; with a window it is reset.
    pub fn begin_run(&self, state: &mut [f32], last: Option<LastObservation>, step: i64, value: f64) {
        match last {
            Some(last) if self.window.is_none() => {
                self.poles.decay(state, step.saturating_sub(last.step).saturating_sub(1).max(0) as u64);
                self.advance(state, value - last.value, 0.0);
            }
            _ => state.fill(0.0),
        }
    }

    /// s = λ s' + Δx(t) - λ^L Δx(t-L)
    fn advance(&self, state: &mut [f32], entering: f64, leaving: f64) {
        self.poles.advance(state, bounded(entering));
        if let Some(window) = self.window.as_ref().filter(|_| leaving != 0.0) {
            window.powers.subtract(state, bounded(leaving));
        }
    }
}

/// A difference small enough that no state overflows: with poles as close to 1 as an f32 can be, a state is at most some ten
/// million times as large.
fn bounded(difference: f64) -> f32 {
    const DIFFERENCE_MAX: f64 = 1e30;
    difference.clamp(-DIFFERENCE_MAX, DIFFERENCE_MAX) as f32
}

/// base^exponent of a complex number, by squaring.
fn power(base: [f64; 2], mut exponent: u64) -> [f64; 2] {
    let product = |[a, b]: [f64; 2], [c, d]: [f64; 2]| [a * c - b * d, a * d + b * c];
    let (mut result, mut square) = ([1.0, 0.0], base);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = product(result, square);
        }
        square = product(square, square);
        exponent >>= 1;
    }
    result
}

/// Poles in separate arrays, so that a vector holds as many as the processor has lanes. The bits are independent of that.
#[derive(Clone, Debug, PartialEq)]
struct Poles {
    real: Vec<f32>,
    /// Real parts of the complex poles.
    re: Vec<f32>,
    /// Imaginary parts of the complex poles.
    im: Vec<f32>,
}

impl Poles {
    /// The poles themselves, or powers of them. Which are real is decided by `poles`.
    fn new(numbers: impl Iterator<Item = [f64; 2]>, poles: &[[f32; 2]]) -> Self {
        let (mut real, mut re, mut im) = (Vec::new(), Vec::new(), Vec::new());
        for (number, pole) in numbers.zip(poles) {
            if pole[1] == 0.0 {
                real.push(number[0] as f32);
            } else {
                re.push(number[0] as f32);
                im.push(number[1] as f32);
            }
        }
        Self { real, re, im }
    }

    fn state_len(&self) -> usize {
        self.real.len() + 2 * self.re.len()
    }

    /// s = λ s' + Δ
    fn advance(&self, state: &mut [f32], difference: f32) {
        Isa::widest().run(Advance { poles: self, state, difference });
    }

    /// s -= λ Δ, where these are powers of the poles.
    fn subtract(&self, state: &mut [f32], difference: f32) {
        let (real, complex) = state.split_at_mut(self.real.len());
        let (re, im) = complex.split_at_mut(self.re.len());
        for (state, powers) in [(real, &self.real), (re, &self.re), (im, &self.im)] {
            state.iter_mut().zip(powers).for_each(|(s, power)| *s -= power * difference);
        }
    }

    /// s = λ^n s'
    fn decay(&self, state: &mut [f32], steps: u64) {
        let (real, complex) = state.split_at_mut(self.real.len());
        let (re, im) = complex.split_at_mut(self.re.len());
        for (s, pole) in real.iter_mut().zip(&self.real) {
            *s *= power([f64::from(*pole), 0.0], steps)[0] as f32;
        }
        for ((re, im), (a, b)) in re.iter_mut().zip(im).zip(self.re.iter().zip(&self.im)) {
            let [a, b] = power([f64::from(*a), f64::from(*b)], steps).map(|part| part as f32);
            (*re, *im) = (a * *re - b * *im, a * *im + b * *re);
        }
    }
}

struct Advance<'a> {
    poles: &'a Poles,
    state: &'a mut [f32],
    difference: f32,
}

impl Kernel for Advance<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Poles { real, re, im } = self.poles;
        let (states, complex) = self.state.split_at_mut(real.len());
        let (x, y) = complex.split_at_mut(re.len());
        let delta = simd.splat(self.difference);
        // Whole vectors, then the remainder: testing each vector's length would take longer than its arithmetic.
        let (mut states, mut poles) = (states.chunks_exact_mut(S::LANES), real.chunks_exact(S::LANES));
        for (s, pole) in states.by_ref().zip(poles.by_ref()) {
            let next = advance_real(simd.load(pole), simd.load(s), delta);
            simd.store(next, s);
        }
        let s = states.into_remainder();
        let next = advance_real(simd.load_partial(poles.remainder()), simd.load_partial(s), delta);
        simd.store_partial(next, s);
        let poles = re.chunks_exact(S::LANES).zip(im.chunks_exact(S::LANES));
        let (mut xs, mut ys) = (x.chunks_exact_mut(S::LANES), y.chunks_exact_mut(S::LANES));
        for ((x, y), (a, b)) in xs.by_ref().zip(ys.by_ref()).zip(poles) {
            let pole = [simd.load(a), simd.load(b)];
            let [s, t] = advance_complex(simd, pole, [simd.load(x), simd.load(y)], delta);
            simd.store(s, x);
            simd.store(t, y);
        }
        let (x, y) = (xs.into_remainder(), ys.into_remainder());
        let whole = re.len() - x.len();
        let pole = [simd.load_partial(&re[whole..]), simd.load_partial(&im[whole..])];
        let [s, t] = advance_complex(simd, pole, [simd.load_partial(x), simd.load_partial(y)], delta);
        simd.store_partial(s, x);
        simd.store_partial(t, y);
    }
}

/// s = λ s' + Δ
#[inline(always)]
fn advance_real<V: Vector>(pole: V, s: V, delta: V) -> V {
    pole.mul_add(s, delta)
}

/// s + it = (a + ib)(s' + it') + Δ
#[inline(always)]
fn advance_complex<S: Simd>(simd: S, [a, b]: [S::V; 2], [s, t]: [S::V; 2], delta: S::V) -> [S::V; 2] {
    let minus_b = simd.splat(0.0) - b;
    [a.mul_add(s, minus_b.mul_add(t, delta)), a.mul_add(t, b * s)]
}

/// Poles as a tensor `[pole, 2]`.
pub fn poles_tensor(poles: &[[f32; 2]]) -> Tensor {
    Tensor { shape: vec![poles.len(), 2], data: poles.iter().flatten().copied().collect() }
}

/// Removes the poles from the tensors of a file.
pub fn take_poles(tensors: &mut Tensors) -> Option<Vec<[f32; 2]>> {
    let Tensor { shape, data } = tensors.remove(POLES)?;
    let is_valid = shape.len() == 2 && shape[1] == 2 && data.len() == 2 * shape[0];
    is_valid.then(|| data.chunks_exact(2).map(|pole| [pole[0], pole[1]]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poles() -> Vec<[f32; 2]> {
        let turn = std::f64::consts::TAU;
        [(2.0, 0.0), (50.0, turn / 24.0), (50.0, turn / 2.0), (7.0, turn / 5.0)]
            .map(|(decay, frequency)| LinearRecurrence::pole(decay, frequency))
            .to_vec()
    }

    fn values(count: usize) -> Vec<f64> {
        (0..count).map(|i| ((i * i) % 23) as f64 - 0.3 * i as f64).collect()
    }

    /// Σ_k λ^k Δx(t - k) over the last `window` differences.
    fn expected_state(values: &[f64], window: usize) -> Vec<f64> {
        let poles = poles();
        let mut state = vec![0.0; 6];
        for (i, pole) in poles.iter().enumerate() {
            let mut sum = [0.0, 0.0];
            for k in 0..window.min(values.len() - 1) {
                let t = values.len() - 1 - k;
                let difference = values[t] - values[t - 1];
                let [a, b] = power([f64::from(pole[0]), f64::from(pole[1])], k as u64);
                sum = [sum[0] + a * difference, sum[1] + b * difference];
            }
            for (index, part) in LinearRecurrence::state_indices(&poles, i).into_iter().zip(sum) {
                state[index] = part;
            }
        }
        state
    }

    fn assert_close(a: &[f32], b: &[f64]) {
        assert_eq!(a.len(), b.len());
        assert!(a.iter().zip(b).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-5), "{a:?} {b:?}");
    }

    #[test]
    fn the_state_is_the_sum_over_past_differences() {
        for window in [None, Some(9)] {
            let recurrence = LinearRecurrence::new(&poles(), window).unwrap();
            let all = values(60);
            let mut state = vec![0.0; recurrence.state_len()];
            recurrence.begin_run(&mut state, None, 0, all[0]);
            let mut done = 1usize;
            for new in [1, 3, 2, 1, 20, 32] {
                let first = done.saturating_sub(recurrence.lookback().max(1));
                recurrence.advance_many(&mut state, &all[first..done + new], new);
                done += new;
            }
            assert_close(&state, &expected_state(&all, window.unwrap_or(60)));
        }
    }

    #[test]
    fn a_gap_decays_the_state_as_a_constant_value_would() {
        let recurrence = LinearRecurrence::new(&poles(), None).unwrap();
        let [mut gap, mut constant] = [(); 2].map(|()| vec![0.0; recurrence.state_len()]);
        for state in [&mut gap, &mut constant] {
            recurrence.begin_run(state, None, 0, 1.0);
            recurrence.advance_many(state, &[1.0, 4.0], 1);
        }
        recurrence.begin_run(&mut gap, Some(LastObservation { step: 1, value: 4.0 }), 1001, -2.0);
        for _ in 2..1001 {
            recurrence.advance_many(&mut constant, &[4.0, 4.0], 1);
        }
        recurrence.advance_many(&mut constant, &[4.0, -2.0], 1);
        let constant: Vec<f64> = constant.iter().copied().map(f64::from).collect();
        assert_close(&gap, &constant);
    }

    #[test]
    fn poles_outside_the_unit_circle_are_rejected() {
        assert_eq!(LinearRecurrence::new(&[[1.0, 0.0]], None), None);
        assert_eq!(LinearRecurrence::new(&[[0.8, 0.7]], None), None);
        assert_eq!(LinearRecurrence::new(&[[f32::NAN, 0.0]], None), None);
        assert!(LinearRecurrence::new(&[[-0.9, 0.0]], None).is_some());
    }
}
