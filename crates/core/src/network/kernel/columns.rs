//! Vectors of several columns as one: what is computed of each waits less for itself, and constants are fetched once for all.

use std::ops::{Add, Div, Mul, Sub};

use crate::simd::{Arithmetic, Vector};

/// An instruction set that computes a vector of each of `C` columns at a time.
#[derive(Clone, Copy)]
pub struct Columns<S, const C: usize>(pub S);

/// A vector of each column.
#[derive(Clone, Copy)]
pub struct OfEach<V, const C: usize>(pub [V; C]);

impl<S: Arithmetic, const C: usize> Arithmetic for Columns<S, C> {
    type V = OfEach<S::V, C>;

    #[inline(always)]
    fn splat(self, number: f32) -> Self::V {
        OfEach([self.0.splat(number); C])
    }
}

/// A method of two operands, column by column.
macro_rules! by_column {
    ($trait:ident, $method:ident) => {
        impl<V: Vector, const C: usize> $trait for OfEach<V, C> {
            type Output = Self;

            #[inline(always)]
            fn $method(mut self, other: Self) -> Self {
                for c in 0..C {
                    self.0[c] = self.0[c].$method(other.0[c]);
                }
                self
            }
        }
    };
}

by_column!(Add, add);
by_column!(Sub, sub);
by_column!(Mul, mul);
by_column!(Div, div);

impl<V: Vector, const C: usize> Vector for OfEach<V, C> {
    #[inline(always)]
    fn mul_add(mut self, factor: Self, addend: Self) -> Self {
        for c in 0..C {
            self.0[c] = self.0[c].mul_add(factor.0[c], addend.0[c]);
        }
        self
    }

    #[inline(always)]
    fn clamp(mut self, low: Self, high: Self) -> Self {
        for c in 0..C {
            self.0[c] = self.0[c].clamp(low.0[c], high.0[c]);
        }
        self
    }
}
