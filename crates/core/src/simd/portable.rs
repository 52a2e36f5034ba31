//! Vectors in plain Rust, for processors without a special instruction set.

use std::ops::{Add, Div, Mul, Sub};

use super::{Arithmetic, Compare, Kernel, Simd, Vector};

/// SSE2 and NEON have four.
const LANES: usize = 4;

#[derive(Clone, Copy, Debug)]
pub struct Portable;

#[derive(Clone, Copy)]
pub struct PortableVector([f32; LANES]);

impl PortableVector {
    #[inline(always)]
    fn zip_with(mut self, other: Self, operation: impl Fn(f32, f32) -> f32) -> Self {
        for lane in 0..LANES {
            self.0[lane] = operation(self.0[lane], other.0[lane]);
        }
        self
    }
}

macro_rules! operator {
    ($trait:ident, $method:ident) => {
        impl $trait for PortableVector {
            type Output = Self;

            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                self.zip_with(other, |a, b| a.$method(b))
            }
        }
    };
}

operator!(Add, add);
operator!(Sub, sub);
operator!(Mul, mul);
operator!(Div, div);

impl Vector for PortableVector {
    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        let mut sums = addend;
        for lane in 0..LANES {
            sums.0[lane] = self.0[lane].mul_add(factor.0[lane], addend.0[lane]);
        }
        sums
    }

    #[inline(always)]
    fn clamp(self, low: Self, high: Self) -> Self {
        // f32::clamp asserts low <= high for every number.
        let below = self.zip_with(high, |x, high| if high < x { high } else { x });
        below.zip_with(low, |x, low| if low > x { low } else { x })
    }
}

// The results of the x86 instructions, including the sign of zero.
impl Compare for PortableVector {
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip_with(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip_with(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn any_gt(self, other: Self) -> bool {
        let mut any = false;
        for lane in 0..LANES {
            any |= self.0[lane] > other.0[lane];
        }
        any
    }

    #[inline(always)]
    fn select_gt(self, other: Self, if_gt: Self, otherwise: Self) -> Self {
        let mut selected = otherwise;
        for lane in 0..LANES {
            selected.0[lane] = if self.0[lane] > other.0[lane] { if_gt.0[lane] } else { otherwise.0[lane] };
        }
        selected
    }
}

impl Arithmetic for Portable {
    type V = PortableVector;

    #[inline(always)]
    fn splat(self, number: f32) -> PortableVector {
        PortableVector([number; LANES])
    }
}

impl Simd for Portable {
    const LANES: usize = LANES;
    const REGISTERS: usize = 16;

    #[inline(always)]
    fn load(self, numbers: &[f32]) -> PortableVector {
        PortableVector(numbers[..LANES].try_into().expect("the slice has that length"))
    }

    #[inline(always)]
    fn store(self, vector: PortableVector, numbers: &mut [f32]) {
        numbers[..LANES].copy_from_slice(&vector.0);
    }

    #[inline(always)]
    fn affine(self, x: PortableVector, center: f64, spread: f64) -> PortableVector {
        let (min, max) = (f32::MIN.into(), f32::MAX.into());
        PortableVector(x.0.map(|x| (center + spread * f64::from(x)).clamp(min, max) as f32))
    }

    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }
}
