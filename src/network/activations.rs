//! tanh and the logistic function in plain multiplications, additions and one division, so that the compiler
//! computes many at once; and the choice of how many.
//!
//! Rust never fuses a multiplication with an addition unasked, and each of these operations is rounded
//! exactly as IEEE 754 says. So the bits are the same at any vector width, in a loop's body and in its
//! remainder.

/// Work on slices that gains from wide vectors.
pub(super) trait Kernel {
    /// Must be `#[inline(always)]`: it is compiled anew into each of the functions below.
    fn run(self);
}

/// Runs a kernel with the widest vectors of this processor.
#[cfg(target_arch = "x86_64")]
pub(super) fn widest(kernel: impl Kernel) {
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has just been found to have what the function is compiled for.
        unsafe { with_avx512(kernel) }
    } else if is_x86_feature_detected!("avx2") {
        // SAFETY: as above.
        unsafe { with_avx2(kernel) }
    } else {
        kernel.run();
    }
}

/// Runs a kernel with the vectors that every processor of this kind has.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn widest(kernel: impl Kernel) {
    kernel.run();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn with_avx512(kernel: impl Kernel) {
    kernel.run();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2(kernel: impl Kernel) {
    kernel.run();
}

/// From here on tanh is 1, but for 2.3e-7.
const BOUND: f32 = 8.0;

/// tanh(x) to 5e-7, odd, never beyond -1 and 1; NaN gives NaN.
///
/// The quotient of polynomials of degrees 3 and 4 in x² with the least maximum error on `[-8, 8]` (1.3e-7
/// before rounding), found by iterated weighted least squares. All coefficients are positive, so nothing
/// cancels.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    const P: [f32; 4] = [0.999_999_36, 0.129_136_44, 0.002_938_830_2, 1.131_024_7e-5];
    const Q: [f32; 5] = [1.0, 0.462_467_43, 0.023_763_838, 2.370_288e-4, 2.423_848e-7];
    let x = x.clamp(-BOUND, BOUND);
    let u = x * x;
    let v = u * u;
    // In halves rather than by Horner's rule: the chain of operations that wait for each other is half as
    // long.
    let p = (P[0] + P[1] * u) + (P[2] + P[3] * u) * v;
    let q = (Q[0] + Q[1] * u) + ((Q[2] + Q[3] * u) + Q[4] * v) * v;
    x * p / q
}

/// The logistic function 1 / (1 + exp(-x)) to 3e-7, never beyond 0 and 1; NaN gives NaN.
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    // σ(x) = (1 + tanh(x / 2)) / 2
    0.5 + 0.5 * tanh(0.5 * x)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every 1009th f32 of either sign, the special ones, and a fine grid where the functions bend.
    fn arguments() -> Vec<f32> {
        let coarse = (0..=u32::MAX).step_by(1009).map(f32::from_bits).filter(|x| x.is_finite());
        let fine = (-120_000..=120_000).map(|i| i as f32 * 1e-4);
        coarse.chain(fine).chain([0.0, -0.0, f32::MAX, f32::INFINITY, f32::NEG_INFINITY]).collect()
    }

    fn worst(fast: fn(f32) -> f32, exact: fn(f64) -> f64) -> f64 {
        let error = |x: f32| (f64::from(fast(x)) - exact(f64::from(x))).abs();
        arguments().into_iter().map(error).fold(0.0, f64::max)
    }

    #[test]
    fn fast_activations_keep_their_bound() {
        let tanh_error = worst(tanh, f64::tanh);
        assert!(tanh_error < 5e-7, "{tanh_error}");
        let sigmoid_error = worst(sigmoid, |x| 1.0 / (1.0 + (-x).exp()));
        assert!(sigmoid_error < 3e-7, "{sigmoid_error}");
        assert!(arguments().into_iter().all(|x| tanh(x).abs() <= 1.0 && (0.0..=1.0).contains(&sigmoid(x))));
        let saturated = (4.0_f32.to_bits()..=BOUND.to_bits()).map(f32::from_bits);
        assert!(saturated.into_iter().all(|x| tanh(x) <= 1.0), "not even by rounding");
        assert!(tanh(f32::NAN).is_nan() && sigmoid(f32::NAN).is_nan());
    }

    struct Tanh<'a>(&'a mut [f32]);

    impl Kernel for Tanh<'_> {
        #[inline(always)]
        fn run(self) {
            self.0.iter_mut().for_each(|x| *x = tanh(*x));
        }
    }

    #[test]
    fn bits_do_not_depend_on_the_vector_width_or_the_place() {
        let arguments: Vec<f32> = arguments().into_iter().step_by(37).collect();
        let alone: Vec<u32> = arguments.iter().map(|x| std::hint::black_box(tanh)(*x).to_bits()).collect();
        for start in 0..33 {
            let (mut wide, mut plain) = (arguments[start..].to_vec(), arguments[start..].to_vec());
            widest(Tanh(&mut wide));
            Tanh(&mut plain).run();
            assert!(wide.iter().map(|x| x.to_bits()).eq(alone[start..].iter().copied()));
            assert!(plain.iter().map(|x| x.to_bits()).eq(alone[start..].iter().copied()));
        }
    }
}
