//! Vectors of plain numbers, for processors of which nothing more is known; the compiler uses what it knows of them.

use std::ops::{Add, Div, Mul, Sub};

use super::{Arithmetic, Compare, Kernel, Simd, Vector};

/// As every processor has that has vectors at all.
const LANES: usize = 4;

#[derive(Clone, Copy, Debug)]
pub struct Portable;

#[derive(Clone, Copy)]
pub struct Numbers([f32; LANES]);

impl Numbers {
    #[inline(always)]
    fn with(mut self, other: Self, operation: impl Fn(f32, f32) -> f32) -> Self {
        for lane in 0..LANES {
            self.0[lane] = operation(self.0[lane], other.0[lane]);
        }
        self
    }
}

impl Add for Numbers {
    type Output = Self;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.with(other, |a, b| a + b)
    }
}

impl Sub for Numbers {
    type Output = Self;

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.with(other, |a, b| a - b)
    }
}

impl Mul for Numbers {
    type Output = Self;

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.with(other, |a, b| a * b)
    }
}

impl Div for Numbers {
    type Output = Self;

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.with(other, |a, b| a / b)
    }
}

impl Vector for Numbers {
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
        // f32::clamp would have to make sure, number by number, that there is something between.
        let at_most = self.with(high, |x, high| if high < x { high } else { x });
        at_most.with(low, |x, low| if low > x { low } else { x })
    }
}

// As the instructions do it, to the sign of a zero.
impl Compare for Numbers {
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.with(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.with(other, |a, b| if a > b { a } else { b })
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
    fn select_gt(self, other: Self, then: Self, or: Self) -> Self {
        let mut chosen = or;
        for lane in 0..LANES {
            chosen.0[lane] = if self.0[lane] > other.0[lane] { then.0[lane] } else { or.0[lane] };
        }
        chosen
    }
}

impl Arithmetic for Portable {
    type V = Numbers;

    #[inline(always)]
    fn splat(self, number: f32) -> Numbers {
        Numbers([number; LANES])
    }
}

impl Simd for Portable {
    const LANES: usize = LANES;
    const REGISTERS: usize = 16;

    #[inline(always)]
    fn load(self, numbers: &[f32]) -> Numbers {
        Numbers(numbers[..LANES].try_into().expect("a slice of as many"))
    }

    #[inline(always)]
    fn store(self, vector: Numbers, numbers: &mut [f32]) {
        numbers[..LANES].copy_from_slice(&vector.0);
    }

    #[inline(always)]
    fn affine(self, x: Numbers, center: f64, spread: f64) -> Numbers {
        let (least, most) = (f32::MIN.into(), f32::MAX.into());
        Numbers(x.0.map(|x| (center + spread * f64::from(x)).clamp(least, most) as f32))
    }

    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }
}
