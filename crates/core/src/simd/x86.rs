//! Vectors of AVX2 with FMA, and of AVX-512.
//!
//! All `unsafe` here rests on one invariant: an [`Avx2`], an [`Avx512`] or a vector exists only on a processor whose
//! instructions were detected.

use std::arch::x86_64::*;
use std::ops::{Add, Div, Mul, Sub};

use super::{Arithmetic, Compare, Kernel, Simd, Vector};

/// An instruction on registers.
macro_rules! instruction {
    ($name:ident($($argument:expr),+)) => {
        // SAFETY: the instruction was detected, see the module; it touches no memory.
        unsafe { $name($($argument),+) }
    };
}

/// An instruction set and its vector type.
macro_rules! vectors {
    (
        $simd:ident, $vector:ident($raw:ty), $lanes:literal lanes, $registers:literal registers,
        $features:literal, [$($detected:tt),+],
        $splat:ident, $load:ident, $store:ident, $load_partial:ident, $store_partial:ident,
        $add:ident, $sub:ident, $mul:ident, $div:ident, $fma:ident, $min:ident, $max:ident, $select_gt:ident,
        $any_gt:ident, $affine:ident
    ) => {
        /// Proof that the processor has the instruction set.
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
                Self(instruction!($fma(self.0, factor.0, addend.0)))
            }

            #[inline(always)]
            fn clamp(self, low: Self, high: Self) -> Self {
                // Both instructions return the second operand where one is NaN.
                let below = instruction!($min(high.0, self.0));
                Self(instruction!($max(low.0, below)))
            }
        }

        impl Compare for $vector {
            #[inline(always)]
            fn min(self, other: Self) -> Self {
                Self(instruction!($min(self.0, other.0)))
            }

            #[inline(always)]
            fn max(self, other: Self) -> Self {
                Self(instruction!($max(self.0, other.0)))
            }

            #[inline(always)]
            fn any_gt(self, other: Self) -> bool {
                instruction!($any_gt(self.0, other.0))
            }

            #[inline(always)]
            fn select_gt(self, other: Self, if_gt: Self, otherwise: Self) -> Self {
                Self(instruction!($select_gt(self.0, other.0, if_gt.0, otherwise.0)))
            }
        }

        impl Arithmetic for $simd {
            type V = $vector;

            #[inline(always)]
            fn splat(self, number: f32) -> $vector {
                $vector(instruction!($splat(number)))
            }
        }

        impl Simd for $simd {
            const LANES: usize = $lanes;
            const REGISTERS: usize = $registers;

            #[inline(always)]
            fn load(self, numbers: &[f32]) -> $vector {
                let numbers = &numbers[..$lanes];
                // SAFETY: the slice is one vector long; the instruction needs no alignment.
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
                // SAFETY: only `numbers` are read, which are fewer than the lanes.
                $vector(unsafe { $load_partial(numbers.as_ptr(), numbers.len()) })
            }

            #[inline(always)]
            fn store_partial(self, vector: $vector, numbers: &mut [f32]) {
                if numbers.len() >= $lanes {
                    return self.store(vector, numbers);
                }
                // SAFETY: only `numbers` are written, which are fewer than the lanes.
                unsafe { $store_partial(numbers.as_mut_ptr(), numbers.len(), vector.0) }
            }

            #[inline(always)]
            fn affine(self, x: $vector, center: f64, spread: f64) -> $vector {
                $vector(instruction!($affine(x.0, center, spread)))
            }

            #[inline]
            fn run<K: Kernel>(self, kernel: K) -> K::Output {
                #[target_feature(enable = $features)]
                fn with_features<K: Kernel>(kernel: K, simd: $simd) -> K::Output {
                    kernel.run(simd)
                }
                // SAFETY: `self` proves that the processor has the features.
                unsafe { with_features(kernel, self) }
            }
        }
    };
    (operator $vector:ident, $trait:ident, $method:ident, $instruction:ident) => {
        impl $trait for $vector {
            type Output = Self;

            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                Self(instruction!($instruction(self.0, other.0)))
            }
        }
    };
}

/// Loads `count` numbers, padded with 0.
///
/// # Safety
/// AVX2 is available, and `count` numbers are readable, fewer than eight.
#[inline(always)]
unsafe fn load_partial_8(numbers: *const f32, count: usize) -> __m256 {
    const MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    // SAFETY: four numbers are read if there are four; otherwise only lanes in the mask are. The mask starts at most at index 8.
    unsafe {
        if count == 4 {
            return _mm256_zextps128_ps256(_mm_loadu_ps(numbers));
        }
        let mask = _mm256_loadu_si256(MASKS.as_ptr().add(8 - count).cast());
        _mm256_maskload_ps(numbers, mask)
    }
}

/// Stores the first `count` lanes as four, two and one: a masked store is forty times as slow on some processors.
///
/// # Safety
/// AVX2 is available, and `count` numbers are writable, fewer than eight.
#[inline(always)]
unsafe fn store_partial_8(numbers: *mut f32, count: usize, vector: __m256) {
    // SAFETY: the stores add up to `count` numbers.
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

/// Loads `count` numbers, padded with 0.
///
/// # Safety
/// AVX-512F is available, and `count` numbers are readable, fewer than sixteen.
#[inline(always)]
unsafe fn load_partial_16(numbers: *const f32, count: usize) -> __m512 {
    // SAFETY: only lanes in the mask are read.
    unsafe { _mm512_maskz_loadu_ps((1 << count) - 1, numbers) }
}

/// Stores the first `count` lanes.
///
/// # Safety
/// AVX-512F is available, and `count` numbers are writable, fewer than sixteen.
#[inline(always)]
unsafe fn store_partial_16(numbers: *mut f32, count: usize, vector: __m512) {
    // SAFETY: only lanes in the mask are written.
    unsafe { _mm512_mask_storeu_ps(numbers, (1 << count) - 1, vector) }
}

/// `if_gt` where `a > b`, else `otherwise`.
///
/// # Safety
/// AVX2 is available.
#[inline(always)]
unsafe fn select_gt_8(a: __m256, b: __m256, if_gt: __m256, otherwise: __m256) -> __m256 {
    instruction!(_mm256_blendv_ps(otherwise, if_gt, _mm256_cmp_ps::<_CMP_GT_OQ>(a, b)))
}

/// `if_gt` where `a > b`, else `otherwise`.
///
/// # Safety
/// AVX-512F is available.
#[inline(always)]
unsafe fn select_gt_16(a: __m512, b: __m512, if_gt: __m512, otherwise: __m512) -> __m512 {
    instruction!(_mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b), otherwise, if_gt))
}

/// True if `a > b` in any lane.
///
/// # Safety
/// AVX2 is available.
#[inline(always)]
unsafe fn any_gt_8(a: __m256, b: __m256) -> bool {
    instruction!(_mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(a, b))) != 0
}

/// True if `a > b` in any lane.
///
/// # Safety
/// AVX-512F is available.
#[inline(always)]
unsafe fn any_gt_16(a: __m512, b: __m512) -> bool {
    // SAFETY: AVX-512F is available.
    unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b) != 0 }
}

/// center + spread x in f64, rounded to the nearest finite f32.
///
/// # Safety
/// AVX2 is available.
#[inline(always)]
unsafe fn affine_8(x: __m256, center: f64, spread: f64) -> __m256 {
    // SAFETY: AVX2 is available.
    unsafe {
        let (center, spread) = (_mm256_set1_pd(center), _mm256_set1_pd(spread));
        let (min, max) = (_mm256_set1_pd(f32::MIN as f64), _mm256_set1_pd(f32::MAX as f64));
        let (low, high) = (_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
        let low = _mm256_add_pd(center, _mm256_mul_pd(spread, _mm256_cvtps_pd(low)));
        let high = _mm256_add_pd(center, _mm256_mul_pd(spread, _mm256_cvtps_pd(high)));
        let low = _mm256_cvtpd_ps(_mm256_max_pd(min, _mm256_min_pd(max, low)));
        let high = _mm256_cvtpd_ps(_mm256_max_pd(min, _mm256_min_pd(max, high)));
        _mm256_set_m128(high, low)
    }
}

/// center + spread x in f64, rounded to the nearest finite f32.
///
/// # Safety
/// AVX-512F is available.
#[inline(always)]
unsafe fn affine_16(x: __m512, center: f64, spread: f64) -> __m512 {
    // SAFETY: AVX-512F is available.
    unsafe {
        let (center, spread) = (_mm512_set1_pd(center), _mm512_set1_pd(spread));
        let (min, max) = (_mm512_set1_pd(f32::MIN as f64), _mm512_set1_pd(f32::MAX as f64));
        let x = _mm512_castps_pd(x);
        let (low, high) = (_mm512_castpd512_pd256(x), _mm512_extractf64x4_pd::<1>(x));
        let (low, high) = (_mm512_cvtps_pd(_mm256_castpd_ps(low)), _mm512_cvtps_pd(_mm256_castpd_ps(high)));
        let low = _mm512_add_pd(center, _mm512_mul_pd(spread, low));
        let high = _mm512_add_pd(center, _mm512_mul_pd(spread, high));
        let low = _mm512_cvtpd_ps(_mm512_max_pd(min, _mm512_min_pd(max, low)));
        let high = _mm512_cvtpd_ps(_mm512_max_pd(min, _mm512_min_pd(max, high)));
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
