//! SIMD vectors of f32, as wide as the processor allows, selected at run time.
//!
//! A [`Simd`] value proves that the processor has its instructions: only detection creates one, and only a [`Simd`] creates a
//! [`Vector`]. Every operation is rounded as IEEE 754 prescribes, and only `mul_add` fuses. So a number has the same bits at
//! any vector width and in any lane.

use std::ops::{Add, Div, Mul, Sub};

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use portable::Portable;
#[cfg(target_arch = "x86_64")]
use x86::{Avx2, Avx512};

/// Vector of f32 with lane-wise arithmetic.
pub trait Vector:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    /// `self * factor + addend`, rounded once.
    fn mul_add(self, factor: Self, addend: Self) -> Self;

    /// Clamps to `low..=high`; NaN stays NaN.
    fn clamp(self, low: Self, high: Self) -> Self;
}

/// Lane-wise comparison.
pub trait Compare: Vector {
    /// `self` where `self < other`, else `other`.
    fn min(self, other: Self) -> Self;

    /// `self` where `self > other`, else `other`.
    fn max(self, other: Self) -> Self;

    /// True if `self > other` in any lane.
    fn any_gt(self, other: Self) -> bool;

    /// `if_gt` where `self > other`, else `otherwise`.
    fn select_gt(self, other: Self, if_gt: Self, otherwise: Self) -> Self;
}

/// Source of vectors; all that element-wise functions need of a [`Simd`].
pub trait Arithmetic: Copy {
    type V: Vector;

    /// A vector with the same number in all lanes.
    fn splat(self, number: f32) -> Self::V;
}

/// Instruction set that a kernel is compiled for.
///
/// All code between [`Simd::run`] and a vector operation must be `#[inline(always)]`: only there does the compiler know the
/// instructions. A closure passed to an iterator, `array::map` or `Option::map` is compiled separately, with a call per
/// instruction.
pub trait Simd: Arithmetic<V: Compare> {
    /// Numbers per vector, at most [`LANES_MAX`].
    const LANES: usize;
    /// Vector registers.
    const REGISTERS: usize;

    /// Loads the first [`Simd::LANES`] numbers.
    ///
    /// # Panics
    /// If there are fewer.
    fn load(self, numbers: &[f32]) -> Self::V;

    /// Stores to the first [`Simd::LANES`] numbers.
    ///
    /// # Panics
    /// If there are fewer.
    fn store(self, vector: Self::V, numbers: &mut [f32]);

    /// center + spread x in f64, rounded to the nearest finite f32.
    fn affine(self, x: Self::V, center: f64, spread: f64) -> Self::V;

    fn run<K: Kernel>(self, kernel: K) -> K::Output;

    /// [`Simd::load`] that pads missing numbers with 0.
    #[inline(always)]
    fn load_partial(self, numbers: &[f32]) -> Self::V {
        if numbers.len() >= Self::LANES {
            return self.load(numbers);
        }
        let mut padded = [0.0; LANES_MAX];
        padded[..numbers.len()].copy_from_slice(numbers);
        self.load(&padded)
    }

    /// [`Simd::store`] that drops the lanes beyond the end.
    #[inline(always)]
    fn store_partial(self, vector: Self::V, numbers: &mut [f32]) {
        if numbers.len() >= Self::LANES {
            return self.store(vector, numbers);
        }
        let mut padded = [0.0; LANES_MAX];
        self.store(vector, &mut padded);
        numbers.copy_from_slice(&padded[..numbers.len()]);
    }
}

pub const LANES_MAX: usize = 16;

/// Computation that is generic over the instruction set.
pub trait Kernel {
    type Output;

    /// Must be `#[inline(always)]`: it is compiled for each instruction set.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Instruction set available on this processor.
#[derive(Clone, Copy, Debug)]
pub enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    Portable(Portable),
}

impl Isa {
    pub fn widest() -> Self {
        Self::all().next().expect("the portable instruction set is always available")
    }

    /// The widest with at most `lanes` lanes, or the portable one.
    pub fn with_max_lanes(lanes: usize) -> Self {
        Self::all().find(|isa| isa.lanes() <= lanes).unwrap_or(Self::Portable(Portable))
    }

    /// All available instruction sets, widest first.
    pub fn all() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let special = Avx512::detect().map(Self::Avx512).into_iter().chain(Avx2::detect().map(Self::Avx2));
        #[cfg(not(target_arch = "x86_64"))]
        let special = std::iter::empty();
        special.chain([Self::Portable(Portable)])
    }

    pub fn lanes(self) -> usize {
        struct Lanes;
        impl Kernel for Lanes {
            type Output = usize;

            #[inline(always)]
            fn run<S: Simd>(self, _: S) -> usize {
                S::LANES
            }
        }
        self.run(Lanes)
    }

    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(simd) => simd.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(simd) => simd.run(kernel),
            Self::Portable(simd) => simd.run(kernel),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CENTER: f64 = 1e7 / 3.0;
    const SPREAD: f64 = 1e3 / 7.0;

    /// Operation on `a` and `b`, written to `a`.
    #[derive(Clone, Copy, Debug)]
    enum Operation {
        /// Arithmetic, mul_add and clamp of `a`.
        Arithmetic,
        Affine,
        SelectGt,
        Min,
        Max,
    }

    struct Apply<'a>(Operation, &'a mut [f32], &'a [f32]);

    impl Kernel for Apply<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            let Self(operation, a, b) = self;
            let (third, one) = (simd.splat(1.0 / 3.0), simd.splat(1.0));
            for (a, b) in a.chunks_mut(S::LANES).zip(b.chunks(S::LANES)) {
                let (x, y) = (simd.load_partial(a), simd.load_partial(b));
                let result = match operation {
                    Operation::Arithmetic => {
                        let quotient = x.mul_add(third, one) * (x - third) / (x * x + one);
                        quotient.clamp(simd.splat(-0.25), one)
                    }
                    Operation::Affine => simd.affine(x, CENTER, SPREAD),
                    Operation::SelectGt => x.select_gt(y, one, third),
                    Operation::Min => y.min(x),
                    Operation::Max => x.max(y),
                };
                simd.store_partial(result, a);
            }
        }
    }

    /// The same in scalar code.
    fn expected(operation: Operation, x: f32, y: f32) -> f32 {
        match operation {
            Operation::Arithmetic => {
                let quotient = x.mul_add(1.0 / 3.0, 1.0) * (x - 1.0 / 3.0) / (x * x + 1.0);
                quotient.clamp(-0.25, 1.0)
            }
            Operation::Affine => {
                (CENTER + SPREAD * f64::from(x)).clamp(f32::MIN.into(), f32::MAX.into()) as f32
            }
            Operation::SelectGt => [1.0 / 3.0, 1.0][usize::from(x > y)],
            Operation::Min => [x, y][usize::from(y < x)],
            Operation::Max => [y, x][usize::from(x > y)],
        }
    }

    /// Compares the bits of all instruction sets with scalar code, at every length of the last vector.
    fn check(operation: Operation, a: &[f32], b: &[f32]) {
        for isa in Isa::all() {
            for first in 0..LANES_MAX.min(a.len()) {
                let (a, b) = (&a[first..], &b[first..]);
                let mut found = a.to_vec();
                isa.run(Apply(operation, &mut found, b));
                for ((x, y), found) in a.iter().zip(b).zip(found) {
                    let expected = expected(operation, *x, *y);
                    let equal = found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan();
                    assert!(equal, "{isa:?} {operation:?} of {x} and {y}: {found}, expected {expected}");
                }
            }
        }
    }

    #[test]
    fn lanes_are_limited() {
        for lanes in [4, 8, LANES_MAX] {
            assert!(Isa::with_max_lanes(lanes).lanes() <= lanes);
        }
        assert_eq!(Isa::with_max_lanes(LANES_MAX).lanes(), Isa::widest().lanes());
        assert_eq!(Isa::with_max_lanes(1).lanes(), 4, "four is the minimum");
    }

    #[test]
    fn every_instruction_set_has_the_bits_of_scalar_code() {
        let numbers: Vec<f32> = (0..1003).map(|i| (i as f32 - 500.0) / 77.0).collect();
        check(Operation::Arithmetic, &numbers, &numbers);
        check(Operation::Arithmetic, &[f32::NAN, 1.0, f32::INFINITY], &[0.0; 3]);
        let wide: Vec<f32> = (0..37).map(|i| (i as f32 - 18.0) / 7.0).chain([1e38, -1e38]).collect();
        check(Operation::Affine, &wide, &wide);
        let a: Vec<f32> = (0..37).map(|i| (i % 5) as f32).chain([f32::NAN, 1.0]).collect();
        let b: Vec<f32> = (0..37).map(|i| (i % 3) as f32).chain([1.0, f32::NAN]).collect();
        check(Operation::SelectGt, &a, &b);
    }

    #[test]
    fn min_and_max_of_a_pair_are_its_two_values() {
        let (a, b) = ([1.0, 2.0, 0.0, -0.0, f32::INFINITY], [2.0, 1.0, -0.0, 0.0, -1.0]);
        check(Operation::Min, &a, &b);
        check(Operation::Max, &a, &b);
        for (x, y) in a.into_iter().zip(b) {
            let mut found =
                [Operation::Min, Operation::Max].map(|operation| expected(operation, x, y).to_bits());
            let mut pair = [x, y].map(f32::to_bits);
            found.sort_unstable();
            pair.sort_unstable();
            assert_eq!(found, pair);
        }
    }

    struct AnyGt<'a>(&'a [f32], &'a [f32]);

    impl Kernel for AnyGt<'_> {
        type Output = bool;

        #[inline(always)]
        fn run<S: Simd>(self, simd: S) -> bool {
            simd.load_partial(self.0).any_gt(simd.load_partial(self.1))
        }
    }

    #[test]
    fn any_gt_finds_a_greater_lane_and_ignores_nan() {
        let a: Vec<f32> = (0..37).map(|i| (i % 5) as f32).chain([f32::NAN, 1.0]).collect();
        let b: Vec<f32> = (0..37).map(|i| (i % 3) as f32).chain([1.0, f32::NAN]).collect();
        for isa in Isa::all() {
            for start in 0..a.len() - 3 {
                let range = start..start + 3;
                let found = isa.run(AnyGt(&a[range.clone()], &b[range.clone()]));
                assert_eq!(found, range.into_iter().any(|i| a[i] > b[i]), "{isa:?}");
            }
        }
    }
}
