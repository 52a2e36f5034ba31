//! tanh and the logistic function as rational functions.
//!
//! A division takes as long as everything else, so a product of two values is divided once.

use crate::simd::{Arithmetic, Vector};

/// Beyond this, tanh is ±1 to within 2.3e-7.
const BOUND: f32 = 8.0;

/// Coefficients of the minimax approximation P(x²) / Q(x²) of tanh(x) / x on `[-8, 8]` with degrees 3 and 4, found by
/// iteratively reweighted least squares; its error is 1.3e-7 before rounding. All are positive, so nothing cancels.
const P: [f32; 4] = [0.999_999_36, 0.129_136_44, 0.002_938_830_2, 1.131_024_7e-5];
const Q: [f32; 5] = [1.0, 0.462_467_43, 0.023_763_838, 2.370_288e-4, 2.423_848e-7];

/// A quotient that is not divided yet.
#[derive(Clone, Copy)]
pub struct Quotient<V> {
    numerator: V,
    denominator: V,
}

impl<V: Vector> Quotient<V> {
    #[inline(always)]
    pub fn value(self) -> V {
        self.numerator / self.denominator
    }

    /// The product of two quotients, with one division.
    #[inline(always)]
    pub fn product(self, other: Self) -> V {
        (self.numerator * other.numerator) / (self.denominator * other.denominator)
    }
}

/// tanh(x) with an error of at most 5e-7; odd, within [-1, 1], NaN for NaN.
#[inline(always)]
pub fn tanh<S: Arithmetic>(simd: S, x: S::V) -> Quotient<S::V> {
    let x = x.clamp(simd.splat(-BOUND), simd.splat(BOUND));
    let (numerator, denominator) = rational(simd, x, P, Q);
    Quotient { numerator, denominator }
}

/// The logistic function 1 / (1 + exp(-x)) with an error of at most 3e-7; within [0, 1], NaN for NaN.
#[inline(always)]
pub fn sigmoid<S: Arithmetic>(simd: S, x: S::V) -> Quotient<S::V> {
    // tanh(x / 2) / 2: the coefficients differ by powers of two, so it is rounded like tanh.
    const HALF_P: [f32; 4] = [P[0] / 4.0, P[1] / 16.0, P[2] / 64.0, P[3] / 256.0];
    const HALF_Q: [f32; 5] = [Q[0], Q[1] / 4.0, Q[2] / 16.0, Q[3] / 64.0, Q[4] / 256.0];
    let x = x.clamp(simd.splat(-2.0 * BOUND), simd.splat(2.0 * BOUND));
    let (numerator, denominator) = rational(simd, x, HALF_P, HALF_Q);
    // σ(x) = 1/2 + tanh(x / 2) / 2
    Quotient { numerator: denominator.mul_add(simd.splat(0.5), numerator), denominator }
}

/// x P(x²) and Q(x²)
#[inline(always)]
fn rational<S: Arithmetic>(simd: S, x: S::V, p: [f32; 4], q: [f32; 5]) -> (S::V, S::V) {
    let (p_0, p_1, p_2, p_3) = (simd.splat(p[0]), simd.splat(p[1]), simd.splat(p[2]), simd.splat(p[3]));
    let (q_0, q_1, q_2) = (simd.splat(q[0]), simd.splat(q[1]), simd.splat(q[2]));
    let (q_3, q_4) = (simd.splat(q[3]), simd.splat(q[4]));
    let u = x * x;
    let v = u * u;
    // Estrin's scheme: its chain of dependent operations is half as long as that of Horner's rule.
    let p = p_3.mul_add(u, p_2).mul_add(v, p_1.mul_add(u, p_0));
    let q = q_4.mul_add(v, q_3.mul_add(u, q_2)).mul_add(v, q_1.mul_add(u, q_0));
    (x * p, q)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Isa, Kernel, Simd};

    #[derive(Clone, Copy, Debug)]
    enum Function {
        Tanh,
        Sigmoid,
        /// σ(x) tanh(x) with one division.
        Product,
    }

    struct Apply<'a>(Function, &'a mut [f32]);

    impl Kernel for Apply<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            for numbers in self.1.chunks_mut(S::LANES) {
                let x = simd.load_partial(numbers);
                let y = match self.0 {
                    Function::Tanh => tanh(simd, x).value(),
                    Function::Sigmoid => sigmoid(simd, x).value(),
                    Function::Product => sigmoid(simd, x).product(tanh(simd, x)),
                };
                simd.store_partial(y, numbers);
            }
        }
    }

    fn apply(isa: Isa, function: Function, numbers: &[f32]) -> Vec<f32> {
        let mut numbers = numbers.to_vec();
        isa.run(Apply(function, &mut numbers));
        numbers
    }

    /// Every 1009th finite f32 of either sign, the special ones, and a fine grid where the functions bend.
    fn arguments() -> Vec<f32> {
        let coarse = (0..=u32::MAX).step_by(1009).map(f32::from_bits).filter(|x| x.is_finite());
        let fine = (-240_000..=240_000).map(|i| i as f32 * 1e-4);
        coarse.chain(fine).chain([0.0, -0.0, f32::MAX, f32::INFINITY, f32::NEG_INFINITY]).collect()
    }

    #[test]
    fn activations_are_accurate_and_bounded() {
        let arguments = arguments();
        let exact = |x: f32| (f64::from(x).tanh(), 1.0 / (1.0 + (-f64::from(x)).exp()));
        let check = |function, exact: &dyn Fn(f32) -> f64, tolerance: f64, min: f32| {
            let found = apply(Isa::widest(), function, &arguments);
            for (x, y) in arguments.iter().zip(found) {
                let error = (f64::from(y) - exact(*x)).abs();
                let is_valid = error < tolerance && (min..=1.0).contains(&y);
                assert!(is_valid, "{function:?} of {x} is {y}, an error of {error}");
            }
        };
        check(Function::Tanh, &|x| exact(x).0, 5e-7, -1.0);
        check(Function::Sigmoid, &|x| exact(x).1, 3e-7, 0.0);
        check(Function::Product, &|x| exact(x).0 * exact(x).1, 6e-7, -1.0);
        // Rounding must not exceed the bounds either.
        let saturated: Vec<f32> = (4.0_f32.to_bits()..=16.0_f32.to_bits()).map(f32::from_bits).collect();
        assert!(apply(Isa::widest(), Function::Tanh, &saturated).iter().all(|y| *y <= 1.0));
        assert!(apply(Isa::widest(), Function::Sigmoid, &saturated).iter().all(|y| *y <= 1.0));
        let negative: Vec<f32> = saturated.iter().map(|x| -x).collect();
        assert!(apply(Isa::widest(), Function::Sigmoid, &negative).iter().all(|y| *y >= 0.0));
        for function in [Function::Tanh, Function::Sigmoid, Function::Product] {
            assert!(apply(Isa::widest(), function, &[f32::NAN])[0].is_nan());
        }
    }

    #[test]
    fn bits_are_independent_of_instruction_set_and_lane() {
        let arguments: Vec<f32> = arguments().into_iter().step_by(37).collect();
        for function in [Function::Tanh, Function::Sigmoid, Function::Product] {
            let bits = |isa, numbers: &[f32]| -> Vec<u32> {
                apply(isa, function, numbers).iter().map(|y| y.to_bits()).collect()
            };
            let expected = bits(Isa::widest(), &arguments);
            for isa in Isa::all() {
                for start in 0..17 {
                    assert_eq!(bits(isa, &arguments[start..]), expected[start..], "{isa:?}, {start}");
                }
            }
        }
    }
}
