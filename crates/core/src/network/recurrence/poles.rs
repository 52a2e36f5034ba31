//! The poles side by side, as many at a time as the processor has lanes. The same bits whatever it has.

use super::power;
use crate::simd::{Isa, Kernel, Simd, Vector};

/// Real poles, and the parts of the complex ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Poles {
    real: Vec<f32>,
    re: Vec<f32>,
    im: Vec<f32>,
}

impl Poles {
    /// Numbers for the poles of a memory, or for powers of them: which are real, `kinds` says.
    pub fn new(numbers: impl Iterator<Item = [f64; 2]>, kinds: &[[f32; 2]]) -> Self {
        let (mut real, mut re, mut im) = (Vec::new(), Vec::new(), Vec::new());
        for (number, kind) in numbers.zip(kinds) {
            if kind[1] == 0.0 {
                real.push(number[0] as f32);
            } else {
                re.push(number[0] as f32);
                im.push(number[1] as f32);
            }
        }
        Self { real, re, im }
    }

    /// Numbers of a state.
    pub fn numbers(&self) -> usize {
        self.real.len() + 2 * self.re.len()
    }

    /// s' = λ s + Δ
    pub fn advance(&self, numbers: &mut [f32], difference: f32) {
        Isa::widest().run(Advance { poles: self, numbers, difference });
    }

    /// s' = s - λ Δ, where these are powers of the poles.
    pub fn take_out(&self, numbers: &mut [f32], difference: f32) {
        let (real, complex) = numbers.split_at_mut(self.real.len());
        let (re, im) = complex.split_at_mut(self.re.len());
        let parts = [(real, &self.real), (re, &self.re), (im, &self.im)];
        for (numbers, powers) in parts {
            numbers.iter_mut().zip(powers).for_each(|(s, power)| *s -= power * difference);
        }
    }

    /// s' = λ^n s
    pub fn decay(&self, numbers: &mut [f32], steps: u64) {
        let (real, complex) = numbers.split_at_mut(self.real.len());
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
    numbers: &'a mut [f32],
    difference: f32,
}

impl Kernel for Advance<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Poles { real, re, im } = self.poles;
        let (states, complex) = self.numbers.split_at_mut(real.len());
        let (x, y) = complex.split_at_mut(re.len());
        let by = simd.splat(self.difference);
        // Whole vectors, and then what is left: asking each whether it is whole would take longer than what is done with it.
        let (mut states, mut poles) = (states.chunks_exact_mut(S::LANES), real.chunks_exact(S::LANES));
        for (s, pole) in states.by_ref().zip(poles.by_ref()) {
            let next = grown(simd.load(pole), simd.load(s), by);
            simd.store(next, s);
        }
        let s = states.into_remainder();
        let next = grown(simd.load_part(poles.remainder()), simd.load_part(s), by);
        simd.store_part(next, s);
        let poles = re.chunks_exact(S::LANES).zip(im.chunks_exact(S::LANES));
        let (mut xs, mut ys) = (x.chunks_exact_mut(S::LANES), y.chunks_exact_mut(S::LANES));
        for ((x, y), (a, b)) in xs.by_ref().zip(ys.by_ref()).zip(poles) {
            let [s, t] = turned(simd, [simd.load(a), simd.load(b)], [simd.load(x), simd.load(y)], by);
            simd.store(s, x);
            simd.store(t, y);
        }
        let (x, y) = (xs.into_remainder(), ys.into_remainder());
        let whole = re.len() - x.len();
        let pole = [simd.load_part(&re[whole..]), simd.load_part(&im[whole..])];
        let [s, t] = turned(simd, pole, [simd.load_part(x), simd.load_part(y)], by);
        simd.store_part(s, x);
        simd.store_part(t, y);
    }
}

/// s' = λ s + Δ
#[inline(always)]
fn grown<V: Vector>(pole: V, s: V, by: V) -> V {
    pole.mul_add(s, by)
}

/// (s + it)' = (a + ib)(s + it) + Δ
#[inline(always)]
fn turned<S: Simd>(simd: S, [a, b]: [S::V; 2], [s, t]: [S::V; 2], by: S::V) -> [S::V; 2] {
    let minus = simd.splat(0.0) - b;
    [a.mul_add(s, minus.mul_add(t, by)), a.mul_add(t, b * s)]
}
