//! The vectors of AVX2 with FMA, and of AVX-512.
//!
//! All the `unsafe` here rests on one fact: whoever has an [`Avx2`] or an [`Avx512`], or a vector that was made with one, runs
//! on a processor that was asked and has the instructions.

use std::arch::x86_64::*;
use std::ops::{Add, Div, Mul, Sub};

use super::{Arithmetic, Compare, Kernel, Simd, Vector};

/// An instruction set and its vectors.
macro_rules! vectors {
    (
        $simd:ident, $vector:ident($raw:ty), $lanes:literal lanes, $registers:literal registers,
        $features:literal, [$($detected:tt),+],
        $splat:ident, $load:ident, $store:ident, $load_partial:ident, $store_partial:ident,
        $add:ident, $sub:ident, $mul:ident, $div:ident, $fma:ident, $min:ident, $max:ident, $select_gt:ident,
        $any_gt:ident, $affine:ident
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

        impl Compare for $vector {
            #[inline(always)]
            fn min(self, other: Self) -> Self {
                // SAFETY: there is a vector, so the processor has the instruction.
                Self(unsafe { $min(self.0, other.0) })
            }

            #[inline(always)]
            fn max(self, other: Self) -> Self {
                // SAFETY: there is a vector, so the processor has the instruction.
                Self(unsafe { $max(self.0, other.0) })
            }

            #[inline(always)]
            fn any_gt(self, other: Self) -> bool {
                // SAFETY: there is a vector, so the processor has the instructions.
                unsafe { $any_gt(self.0, other.0) }
            }

            #[inline(always)]
            fn select_gt(self, other: Self, then: Self, or: Self) -> Self {
                // SAFETY: there is a vector, so the processor has the instructions.
                Self(unsafe { $select_gt(self.0, other.0, then.0, or.0) })
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
            fn load_partial(self, numbers: &[f32]) -> $vector {
                if numbers.len() >= $lanes {
                    return self.load(numbers);
                }
                // SAFETY: there is a `self`, so the processor has the instructions; no more is read than there is.
                $vector(unsafe { $load_partial(numbers.as_ptr(), numbers.len()) })
            }

            #[inline(always)]
            fn store_partial(self, vector: $vector, numbers: &mut [f32]) {
                if numbers.len() >= $lanes {
                    return self.store(vector, numbers);
                }
                // SAFETY: as in `load_partial`; no more is written than there is.
                unsafe { $store_partial(numbers.as_mut_ptr(), numbers.len(), vector.0) }
            }

            #[inline(always)]
            fn affine(self, x: $vector, center: f64, spread: f64) -> $vector {
                // SAFETY: there is a `self`, so the processor has the instructions.
                $vector(unsafe { $affine(x.0, center, spread) })
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
unsafe fn load_partial_8(numbers: *const f32, count: usize) -> __m256 {
    if count == 4 {
        // SAFETY: there are four.
        return unsafe { _mm256_zextps128_ps256(_mm_loadu_ps(numbers)) };
    }
    // SAFETY: what the mask leaves out is not read.
    unsafe { _mm256_maskload_ps(numbers, first_of_8(count)) }
}

/// Writes the first `count` lanes: four, two and one of them, since a masked store takes some processors as long as forty others.
///
/// # Safety
/// The processor has AVX2, and there is room for as many numbers, fewer than eight.
#[inline(always)]
unsafe fn store_partial_8(numbers: *mut f32, count: usize, vector: __m256) {
    // SAFETY: what is written adds up to `count` numbers.
    unsafe {
        let (mut to, mut lanes) = (numbers, _mm256_castps256_ps128(vector));
        if count & 4 != 0 {
            _mm_storeu_ps(to, lanes);
            (to, lanes) = (to.add(4), _mm256_extractf128_ps::<1>(vector));
        }
        if count & 2 != 0 {
            _mm_storel_epi64(to.cast(), _mm_castps_si128(lanes));
            (to, lanes) = (to.add(2), _mm_movehl_ps(lanes, lanes));
        }
        if count & 1 != 0 {
            _mm_store_ss(to, lanes);
        }
    }
}

/// The first `count` numbers, then zeros.
///
/// # Safety
/// The processor has AVX-512F, and there are as many numbers, fewer than sixteen.
#[inline(always)]
unsafe fn load_partial_16(numbers: *const f32, count: usize) -> __m512 {
    // SAFETY: what the mask leaves out is not read.
    unsafe { _mm512_maskz_loadu_ps((1 << count) - 1, numbers) }
}

/// Writes the first `count` lanes.
///
/// # Safety
/// The processor has AVX-512F, and there is room for as many numbers, fewer than sixteen.
#[inline(always)]
unsafe fn store_partial_16(numbers: *mut f32, count: usize, vector: __m512) {
    // SAFETY: what the mask leaves out is not written.
    unsafe { _mm512_mask_storeu_ps(numbers, (1 << count) - 1, vector) }
}

/// `then` where `a` is greater than `b`, else `or`.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn select_gt_8(a: __m256, b: __m256, then: __m256, or: __m256) -> __m256 {
    // SAFETY: it has these instructions.
    unsafe { _mm256_blendv_ps(or, then, _mm256_cmp_ps::<_CMP_GT_OQ>(a, b)) }
}

/// `then` where `a` is greater than `b`, else `or`.
///
/// # Safety
/// The processor has AVX-512F.
#[inline(always)]
unsafe fn select_gt_16(a: __m512, b: __m512, then: __m512, or: __m512) -> __m512 {
    // SAFETY: it has these instructions.
    unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b), or, then) }
}

/// Whether any of `a` is greater than that of `b`.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn any_gt_8(a: __m256, b: __m256) -> bool {
    // SAFETY: it has these instructions.
    unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(a, b)) != 0 }
}

/// Whether any of `a` is greater than that of `b`.
///
/// # Safety
/// The processor has AVX-512F.
#[inline(always)]
unsafe fn any_gt_16(a: __m512, b: __m512) -> bool {
    // SAFETY: it has these instructions.
    unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b) != 0 }
}

/// The nearest f32 of center + spread x.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn affine_8(x: __m256, center: f64, spread: f64) -> __m256 {
    // SAFETY: it has these instructions.
    unsafe {
        let (center, spread) = (_mm256_set1_pd(center), _mm256_set1_pd(spread));
        let (least, most) = (_mm256_set1_pd(f32::MIN as f64), _mm256_set1_pd(f32::MAX as f64));
        let (low, high) = (_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
        let low = _mm256_add_pd(center, _mm256_mul_pd(spread, _mm256_cvtps_pd(low)));
        let high = _mm256_add_pd(center, _mm256_mul_pd(spread, _mm256_cvtps_pd(high)));
        let low = _mm256_cvtpd_ps(_mm256_max_pd(least, _mm256_min_pd(most, low)));
        let high = _mm256_cvtpd_ps(_mm256_max_pd(least, _mm256_min_pd(most, high)));
        _mm256_set_m128(high, low)
    }
}

/// The nearest f32 of center + spread x.
///
/// # Safety
/// The processor has AVX-512F.
#[inline(always)]
unsafe fn affine_16(x: __m512, center: f64, spread: f64) -> __m512 {
    // SAFETY: it has these instructions.
    unsafe {
        let (center, spread) = (_mm512_set1_pd(center), _mm512_set1_pd(spread));
        let (least, most) = (_mm512_set1_pd(f32::MIN as f64), _mm512_set1_pd(f32::MAX as f64));
        let x = _mm512_castps_pd(x);
        let (low, high) = (_mm512_castpd512_pd256(x), _mm512_extractf64x4_pd::<1>(x));
        let (low, high) = (_mm512_cvtps_pd(_mm256_castpd_ps(low)), _mm512_cvtps_pd(_mm256_castpd_ps(high)));
        let low = _mm512_add_pd(center, _mm512_mul_pd(spread, low));
        let high = _mm512_add_pd(center, _mm512_mul_pd(spread, high));
        let low = _mm512_cvtpd_ps(_mm512_max_pd(least, _mm512_min_pd(most, low)));
        let high = _mm512_cvtpd_ps(_mm512_max_pd(least, _mm512_min_pd(most, high)));
        let low = _mm512_castpd256_pd512(_mm256_castps_pd(low));
        _mm512_castpd_ps(_mm512_insertf64x4::<1>(low, _mm256_castps_pd(high)))
    }
}

vectors!(
    Avx2, Avx2Vector(__m256), 8 lanes, 16 registers, "avx2,fma", ["avx2", "fma"],
    _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, load_partial_8, store_partial_8, _mm256_add_ps, _mm256_sub_ps,
    _mm256_mul_ps, _mm256_div_ps, _mm256_fmadd_ps, _mm256_min_ps, _mm256_max_ps, select_gt_8,
    any_gt_8, affine_8
);

vectors!(
    Avx512, Avx512Vector(__m512), 16 lanes, 32 registers, "avx512f", ["avx512f"],
    _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, load_partial_16, store_partial_16, _mm512_add_ps, _mm512_sub_ps,
    _mm512_mul_ps, _mm512_div_ps, _mm512_fmadd_ps, _mm512_min_ps, _mm512_max_ps, select_gt_16,
    any_gt_16, affine_16
);
