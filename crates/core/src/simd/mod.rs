//! Many numbers at once, as wide as the processor has them, chosen when the program starts.
//!
//! A [`Simd`] is the proof that the processor has its instructions: there is no other way to one than asking the processor,
//! and no way to a [`Vector`] but through one. Each operation is one that IEEE 754 rounds exactly, and a multiplication is
//! fused with an addition where, and only where, `mul_add` says so. So a number has the same bits at any width, in any lane.

use std::ops::{Add, Div, Mul, Sub};

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use portable::Portable;
#[cfg(target_arch = "x86_64")]
use x86::{Avx2, Avx512};

/// Numbers that go through each operation side by side.
pub trait Vector:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    /// `self * factor + addend`, rounded once.
    fn mul_add(self, factor: Self, addend: Self) -> Self;

    /// The nearest number from `low` to `high`; NaN stays NaN.
    fn clamp(self, low: Self, high: Self) -> Self;
}

/// Vectors that are compared number by number.
pub trait Compare: Vector {
    /// `self` where it is less than `other`, else `other`.
    fn min(self, other: Self) -> Self;

    /// `self` where it is greater than `other`, else `other`.
    fn max(self, other: Self) -> Self;

    /// Whether any is greater than that of `other`.
    fn any_gt(self, other: Self) -> bool;

    /// `then` where it is greater than `other`, else `or`.
    fn select_gt(self, other: Self, then: Self, or: Self) -> Self;
}

/// What computes with vectors.
pub trait Arithmetic: Copy {
    type V: Vector;

    /// A vector of one number.
    fn splat(self, number: f32) -> Self::V;
}

/// An instruction set. All that computes with it must be `#[inline(always)]` up to [`Simd::run`], where the compiler is told
/// that it may use these instructions. A closure handed to an iterator, an array's `map` or an option's is compiled apart, each
/// instruction as a call.
pub trait Simd: Arithmetic<V: Compare> {
    /// Numbers of a vector, at most [`LANES_MAX`].
    const LANES: usize;
    /// Vectors that can be held at hand.
    const REGISTERS: usize;

    /// The first [`Simd::LANES`] of `numbers`, of which there are as many.
    fn load(self, numbers: &[f32]) -> Self::V;

    /// Writes to the first [`Simd::LANES`] of `numbers`, of which there are as many.
    fn store(self, vector: Self::V, numbers: &mut [f32]);

    /// center + spread x in f64, the nearest f32 of that.
    fn affine(self, x: Self::V, center: f64, spread: f64) -> Self::V;

    fn run<K: Kernel>(self, kernel: K) -> K::Output;

    /// As [`Simd::load`], where there may be fewer: the others are 0.
    #[inline(always)]
    fn load_partial(self, numbers: &[f32]) -> Self::V {
        if numbers.len() >= Self::LANES {
            return self.load(numbers);
        }
        let mut whole = [0.0; LANES_MAX];
        whole[..numbers.len()].copy_from_slice(numbers);
        self.load(&whole)
    }

    /// As [`Simd::store`], where there may be fewer: the others are dropped.
    #[inline(always)]
    fn store_partial(self, vector: Self::V, numbers: &mut [f32]) {
        if numbers.len() >= Self::LANES {
            return self.store(vector, numbers);
        }
        let mut whole = [0.0; LANES_MAX];
        self.store(vector, &mut whole);
        numbers.copy_from_slice(&whole[..numbers.len()]);
    }
}

pub const LANES_MAX: usize = 16;

/// Work on vectors.
pub trait Kernel {
    type Output;

    /// Must be `#[inline(always)]`: it is compiled anew for each instruction set.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// The instruction sets that there are kernels for.
#[derive(Clone, Copy, Debug)]
pub enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    Portable(Portable),
}

impl Isa {
    /// The widest that this processor has.
    pub fn widest() -> Self {
        Self::all().next().expect("the portable one is always there")
    }

    /// The widest with no more than so many lanes; the portable one, where none has so few.
    pub fn with_max_lanes(lanes: usize) -> Self {
        Self::all().find(|isa| isa.lanes() <= lanes).unwrap_or(Self::Portable(Portable))
    }

    /// All that this processor has, the widest first.
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

    #[test]
    fn what_is_asked_for_is_no_wider() {
        for lanes in [4, 8, LANES_MAX] {
            assert!(Isa::with_max_lanes(lanes).lanes() <= lanes);
        }
        assert_eq!(Isa::with_max_lanes(LANES_MAX).lanes(), Isa::widest().lanes());
        assert_eq!(Isa::with_max_lanes(1).lanes(), 4, "there is nothing narrower");
    }

    /// Everything that vectors can do, to each of the numbers.
    struct All<'a>(&'a mut [f32]);

    impl Kernel for All<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            let (third, one) = (simd.splat(1.0 / 3.0), simd.splat(1.0));
            for numbers in self.0.chunks_mut(S::LANES) {
                let x = simd.load_partial(numbers);
                let y = x.mul_add(third, one) * (x - third) / (x * x + one);
                simd.store_partial(y.clamp(simd.splat(-0.25), one), numbers);
            }
        }
    }

    #[test]
    fn bits_do_not_depend_on_the_instruction_set() {
        let numbers: Vec<f32> = (0..1003).map(|i| (i as f32 - 500.0) / 77.0).collect();
        let expected: Vec<u32> = numbers
            .iter()
            .map(|x| x.mul_add(1.0 / 3.0, 1.0) * (x - 1.0 / 3.0) / (x * x + 1.0))
            .map(|y| y.clamp(-0.25, 1.0).to_bits())
            .collect();
        for isa in Isa::all() {
            for first in 0..LANES_MAX {
                let mut found = numbers[first..].to_vec();
                isa.run(All(&mut found));
                assert!(
                    found.iter().map(|y| y.to_bits()).eq(expected[first..].iter().copied()),
                    "{isa:?}, {first}"
                );
            }
        }
    }

    /// Readings of scaled numbers.
    struct Affine<'a>(&'a mut [f32]);

    impl Kernel for Affine<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            for numbers in self.0.chunks_mut(S::LANES) {
                simd.store_partial(simd.affine(simd.load_partial(numbers), CENTER, SPREAD), numbers);
            }
        }
    }

    const CENTER: f64 = 1e7 / 3.0;
    const SPREAD: f64 = 1e3 / 7.0;

    #[test]
    fn readings_are_rounded_once_and_stay_finite() {
        let numbers: Vec<f32> = (0..37).map(|i| (i as f32 - 18.0) / 7.0).chain([1e38, -1e38]).collect();
        let read = |x: &f32| (CENTER + SPREAD * f64::from(*x)).clamp(f32::MIN.into(), f32::MAX.into()) as f32;
        for isa in Isa::all() {
            let mut found = numbers.clone();
            isa.run(Affine(&mut found));
            assert_eq!(found, numbers.iter().map(read).collect::<Vec<f32>>(), "{isa:?}");
        }
    }

    /// Numbers held against others.
    struct Beside<'a>(&'a mut [f32], &'a [f32]);

    impl Kernel for Beside<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            for (numbers, others) in self.0.chunks_mut(S::LANES).zip(self.1.chunks(S::LANES)) {
                let (x, y) = (simd.load_partial(numbers), simd.load_partial(others));
                simd.store_partial(x.select_gt(y, simd.splat(1.0), simd.splat(2.0)), numbers);
            }
        }
    }

    /// Whether any of the first numbers is above that of the others.
    struct Any<'a>(&'a [f32], &'a [f32]);

    impl Kernel for Any<'_> {
        type Output = bool;

        #[inline(always)]
        fn run<S: Simd>(self, simd: S) -> bool {
            simd.load_partial(self.0).any_gt(simd.load_partial(self.1))
        }
    }

    #[test]
    fn what_is_above_is_above_everywhere() {
        let numbers: Vec<f32> = (0..37).map(|i| (i % 5) as f32).chain([f32::NAN, 1.0]).collect();
        let others: Vec<f32> = (0..37).map(|i| (i % 3) as f32).chain([1.0, f32::NAN]).collect();
        let above = |(x, y): (&f32, &f32)| if x > y { 1.0 } else { 2.0 };
        for isa in Isa::all() {
            let mut found = numbers.clone();
            isa.run(Beside(&mut found, &others));
            let some = |from: usize| isa.run(Any(&numbers[from..from + 3], &others[from..from + 3]));
            let is = |from: usize| (from..from + 3).any(|i| numbers[i] > others[i]);
            assert!((0..numbers.len() - 3).all(|from| some(from) == is(from)), "{isa:?}");
            assert_eq!(found, numbers.iter().zip(&others).map(above).collect::<Vec<f32>>(), "{isa:?}");
        }
    }

    /// Two rows, each pair in order.
    struct Sorted<'a>([&'a mut [f32]; 2]);

    impl Kernel for Sorted<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            let [a, b] = self.0;
            for (a, b) in a.chunks_mut(S::LANES).zip(b.chunks_mut(S::LANES)) {
                let (x, y) = (simd.load_partial(a), simd.load_partial(b));
                simd.store_partial(y.min(x), a);
                simd.store_partial(x.max(y), b);
            }
        }
    }

    #[test]
    fn two_that_are_put_in_order_are_the_same_two() {
        let pairs = [(1.0, 2.0), (2.0, 1.0), (0.0, -0.0), (-0.0, 0.0), (f32::INFINITY, -1.0)];
        for isa in Isa::all() {
            let [mut a, mut b] = [pairs.map(|pair| pair.0), pairs.map(|pair| pair.1)];
            isa.run(Sorted([&mut a, &mut b]));
            for (i, (x, y)) in pairs.into_iter().enumerate() {
                let [low, high] = if y < x { [y, x] } else { [x, y] };
                assert_eq!([a[i], b[i]].map(f32::to_bits), [low, high].map(f32::to_bits), "{isa:?}");
            }
        }
    }

    #[test]
    fn what_is_no_number_stays_none() {
        for isa in Isa::all() {
            let mut numbers = [f32::NAN, 1.0, f32::INFINITY];
            isa.run(All(&mut numbers));
            let near = (numbers[1] - 4.0 / 9.0).abs() < 1e-6;
            assert!(numbers[0].is_nan() && near && numbers[2].is_nan(), "{numbers:?}");
        }
    }
}
