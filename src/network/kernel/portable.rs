//! Vectors of plain numbers, for processors of which nothing more is known; the compiler uses what it knows of them.

use std::array::from_fn;
use std::ops::{Add, Div, Mul, Sub};

use super::simd::{Kernel, Simd, Vector};

/// As every processor has that has vectors at all.
const LANES: usize = 4;

#[derive(Clone, Copy, Debug)]
pub struct Portable;

#[derive(Clone, Copy)]
pub struct Numbers([f32; LANES]);

impl Add for Numbers {
    type Output = Self;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(from_fn(|lane| self.0[lane] + other.0[lane]))
    }
}

impl Sub for Numbers {
    type Output = Self;

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(from_fn(|lane| self.0[lane] - other.0[lane]))
    }
}

impl Mul for Numbers {
    type Output = Self;

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(from_fn(|lane| self.0[lane] * other.0[lane]))
    }
}

impl Div for Numbers {
    type Output = Self;

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        Self(from_fn(|lane| self.0[lane] / other.0[lane]))
    }
}

impl Vector for Numbers {
    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        Self(from_fn(|lane| self.0[lane].mul_add(factor.0[lane], addend.0[lane])))
    }

    #[inline(always)]
    fn clamp(self, low: Self, high: Self) -> Self {
        // f32::clamp would have to make sure, number by number, that there is something between.
        let at_most = |x: f32, high: f32| if high < x { high } else { x };
        let at_least = |x: f32, low: f32| if low > x { low } else { x };
        Self(from_fn(|lane| at_least(at_most(self.0[lane], high.0[lane]), low.0[lane])))
    }
}

impl Simd for Portable {
    type V = Numbers;

    const LANES: usize = LANES;
    const REGISTERS: usize = 16;

    #[inline(always)]
    fn splat(self, number: f32) -> Numbers {
        Numbers([number; LANES])
    }

    #[inline(always)]
    fn load(self, numbers: &[f32]) -> Numbers {
        Numbers(numbers[..LANES].try_into().expect("a slice of as many"))
    }

    #[inline(always)]
    fn store(self, vector: Numbers, numbers: &mut [f32]) {
        numbers[..LANES].copy_from_slice(&vector.0);
    }

    fn run<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }
}
