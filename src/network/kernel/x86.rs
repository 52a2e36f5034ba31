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
        $splat:ident, $load:ident, $store:ident, $load_part:ident, $store_part:ident,
        $add:ident, $sub:ident, $mul:ident, $div:ident, $fma:ident, $min:ident, $max:ident
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

            #[inline(always)]
            fn load_part(self, numbers: &[f32]) -> $vector {
                if numbers.len() >= $lanes {
                    return self.load(numbers);
                }
                // SAFETY: there is a `self`, so the processor has the instructions; no more is read than there is.
                $vector(unsafe { $load_part(numbers.as_ptr(), numbers.len()) })
            }

            #[inline(always)]
            fn store_part(self, vector: $vector, numbers: &mut [f32]) {
                if numbers.len() >= $lanes {
                    return self.store(vector, numbers);
                }
                // SAFETY: as in `load_part`; no more is written than there is.
                unsafe { $store_part(numbers.as_mut_ptr(), numbers.len(), vector.0) }
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

/// That the first `count` of eight lanes are meant.
///
/// # Safety
/// The processor has AVX2, and there are at most eight.
#[inline(always)]
unsafe fn first_of_8(count: usize) -> __m256i {
    const MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    // SAFETY: `count` is at most 8, so that eight follow.
    unsafe { _mm256_loadu_si256(MASKS.as_ptr().add(8 - count).cast()) }
}

/// The first `count` numbers, then zeros.
///
/// # Safety
/// The processor has AVX2, and there are as many numbers, at most eight.
#[inline(always)]
unsafe fn load_part_8(numbers: *const f32, count: usize) -> __m256 {
    // SAFETY: what the mask leaves out is not read.
    unsafe { _mm256_maskload_ps(numbers, first_of_8(count)) }
}

/// Writes the first `count` lanes.
///
/// # Safety
/// The processor has AVX2, and there is room for as many numbers, at most eight.
#[inline(always)]
unsafe fn store_part_8(numbers: *mut f32, count: usize, vector: __m256) {
    // SAFETY: what the mask leaves out is not written.
    unsafe { _mm256_maskstore_ps(numbers, first_of_8(count), vector) }
}

/// The first `count` numbers, then zeros.
///
/// # Safety
/// The processor has AVX-512F, and there are as many numbers, fewer than sixteen.
#[inline(always)]
unsafe fn load_part_16(numbers: *const f32, count: usize) -> __m512 {
    // SAFETY: what the mask leaves out is not read.
    unsafe { _mm512_maskz_loadu_ps((1 << count) - 1, numbers) }
}

/// Writes the first `count` lanes.
///
/// # Safety
/// The processor has AVX-512F, and there is room for as many numbers, fewer than sixteen.
#[inline(always)]
unsafe fn store_part_16(numbers: *mut f32, count: usize, vector: __m512) {
    // SAFETY: what the mask leaves out is not written.
    unsafe { _mm512_mask_storeu_ps(numbers, (1 << count) - 1, vector) }
}

vectors!(
    Avx2, Avx2Vector(__m256), 8 lanes, 16 registers, "avx2,fma", ["avx2", "fma"],
    _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, load_part_8, store_part_8, _mm256_add_ps, _mm256_sub_ps,
    _mm256_mul_ps, _mm256_div_ps, _mm256_fmadd_ps, _mm256_min_ps, _mm256_max_ps
);

vectors!(
    Avx512, Avx512Vector(__m512), 16 lanes, 32 registers, "avx512f", ["avx512f"],
    _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, load_part_16, store_part_16, _mm512_add_ps, _mm512_sub_ps,
    _mm512_mul_ps, _mm512_div_ps, _mm512_fmadd_ps, _mm512_min_ps, _mm512_max_ps
);
