//! The vectors of AVX2 with FMA, and of AVX-512.
//!
//! All the `unsafe` here rests on one fact: whoever has an [`Avx2`] or an [`Avx512`], or a vector that was made with one, runs
//! on a processor that was asked and has the instructions.

use std::arch::x86_64::*;
use std::ops::{Add, Div, Mul, Sub};

use super::simd::{Arithmetic, Kernel, Simd, Vector};

/// An instruction set and its vectors.
macro_rules! vectors {
    (
        $simd:ident, $vector:ident($raw:ty), $lanes:literal lanes, $registers:literal registers,
        $features:literal, [$($detected:tt),+],
        $splat:ident, $load:ident, $store:ident, $add:ident, $sub:ident, $mul:ident, $div:ident, $fma:ident,
        $min:ident, $max:ident
    ) => {
        /// That the processor has it.
        #[derive(Clone, Copy, Debug)]
        pub struct $simd(());

        #[derive(Clone, Copy)]
        pub struct $vector($raw);

        impl $simd {
            pub fn detect() -> Option<Self> {
                ($(is_x86_feature_detected!($detected))&&+).then_some(Self(()))
            }
        }

        vectors!(operator $vector, Add, add, $add);
        vectors!(operator $vector, Sub, sub, $sub);
        vectors!(operator $vector, Mul, mul, $mul);
        vectors!(operator $vector, Div, div, $div);

        impl Vector for $vector {
            #[inline(always)]
            fn mul_add(self, factor: Self, addend: Self) -> Self {
                // SAFETY: there is a vector, so the processor has the instruction.
                Self(unsafe { $fma(self.0, factor.0, addend.0) })
            }

            #[inline(always)]
            fn clamp(self, low: Self, high: Self) -> Self {
                // Either instruction gives the second operand where one is NaN.
                // SAFETY: there is a vector, so the processor has the instructions.
                Self(unsafe { $max(low.0, $min(high.0, self.0)) })
            }
        }

        impl Arithmetic for $simd {
            type V = $vector;

            #[inline(always)]
            fn splat(self, number: f32) -> $vector {
                // SAFETY: there is a `self`, so the processor has the instruction.
                $vector(unsafe { $splat(number) })
            }
        }

        impl Simd for $simd {
            const LANES: usize = $lanes;
            const REGISTERS: usize = $registers;

            #[inline(always)]
            fn load(self, numbers: &[f32]) -> $vector {
                let numbers = &numbers[..$lanes];
                // SAFETY: there is a `self`, so the processor has the instruction; the slice has as many numbers, and they
                // may lie anywhere.
                $vector(unsafe { $load(numbers.as_ptr()) })
            }

            #[inline(always)]
            fn store(self, vector: $vector, numbers: &mut [f32]) {
                let numbers = &mut numbers[..$lanes];
                // SAFETY: as in `load`.
                unsafe { $store(numbers.as_mut_ptr(), vector.0) }
            }

            #[inline]
            fn run<K: Kernel>(self, kernel: K) -> K::Output {
                #[target_feature(enable = $features)]
                fn compiled_for_it<K: Kernel>(kernel: K, simd: $simd) -> K::Output {
                    kernel.run(simd)
                }
                // SAFETY: there is a `self`, so the processor has what the function is compiled for.
                unsafe { compiled_for_it(kernel, self) }
            }
        }
    };
    (operator $vector:ident, $trait:ident, $method:ident, $instruction:ident) => {
        impl $trait for $vector {
            type Output = Self;

            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                // SAFETY: there is a vector, so the processor has the instruction.
                Self(unsafe { $instruction(self.0, other.0) })
            }
        }
    };
}

vectors!(
    Avx2, Avx2Vector(__m256), 8 lanes, 16 registers, "avx2,fma", ["avx2", "fma"],
    _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_add_ps, _mm256_sub_ps, _mm256_mul_ps, _mm256_div_ps,
    _mm256_fmadd_ps, _mm256_min_ps, _mm256_max_ps
);

vectors!(
    Avx512, Avx512Vector(__m512), 16 lanes, 32 registers, "avx512f", ["avx512f"],
    _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_add_ps, _mm512_sub_ps, _mm512_mul_ps, _mm512_div_ps,
    _mm512_fmadd_ps, _mm512_min_ps, _mm512_max_ps
);
