//! Scaling of values for the network and back: y = (x - center) / spread.

use serde::{Deserialize, Serialize};

use crate::simd::{Isa, Kernel, Simd, Vector};

/// Source of a scale's center and spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scaling {
    /// Mean and standard deviation of the target in the training split, the same for every series. For a target that was
    /// constant there, as [`Scaling::Running`].
    Fixed,
    /// Mean and standard deviation of the series so far, up to the origin.
    Running,
    /// The window's last value, and the window's standard deviation.
    WindowLast,
    /// The window's mean and standard deviation.
    #[default]
    WindowStandard,
}

/// Mean and standard deviation of a column.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moments {
    pub mean: f64,
    pub sd: f64,
}

/// Running count, mean, sum of squared deviations, and range.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RunningStats {
    pub count: u64,
    pub mean: f64,
    /// Sum of squared deviations from the mean.
    pub m2: f64,
    pub min: f64,
    pub max: f64,
}

impl RunningStats {
    /// Welford, "Note on a method for calculating corrected sums of squares and products" (1962):
    /// m' = m + (x - m)/n, S' = S + (x - m)(x - m').
    pub fn add(&mut self, value: f64) {
        self.min = if self.count == 0 { value } else { self.min.min(value) };
        self.max = if self.count == 0 { value } else { self.max.max(value) };
        self.count += 1;
        let deviation = value - self.mean;
        self.mean += deviation / self.count as f64;
        self.m2 += deviation * (value - self.mean);
    }

    /// Population moments.
    pub fn moments(&self) -> Moments {
        let sd = if self.count == 0 { 0.0 } else { (self.m2 / self.count as f64).sqrt() };
        Moments { mean: self.mean, sd }
    }
}

/// Center and spread of a linear scaling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    pub center: f64,
    /// 0 for constant values: every scaled value is then 0, and every forecast the center.
    pub spread: f64,
}

/// Spread, relative to the center, below which variation is rounding noise: the sum of a few hundred equal f64 deviates by
/// about 1e-14 of their magnitude.
const RELATIVE_NOISE: f64 = 1e-10;

/// Limit of scaled values: keeps every product finite in f32.
const SCALED_MAX: f64 = 1e6;

impl Scale {
    /// The scale at an origin; `window` are the values that the network reads, `stats` those of all observations.
    pub fn at_origin(scaling: Scaling, window: &[f64], stats: &RunningStats, fixed: Moments) -> Self {
        match scaling {
            Scaling::Fixed => match Self::from(fixed) {
                // Constant in the training split, but maybe not since.
                Self { spread: 0.0, .. } => stats.moments().into(),
                scale => scale,
            },
            Scaling::Running => stats.moments().into(),
            Scaling::WindowLast => Self::new(window.last().copied().unwrap_or(0.0), moments(window).sd),
            Scaling::WindowStandard => moments(window).into(),
        }
    }

    pub fn new(center: f64, spread: f64) -> Self {
        // A subnormal spread has no finite reciprocal.
        let is_varying = spread.is_normal() && spread > RELATIVE_NOISE * center.abs();
        Self { center, spread: if is_varying { spread } else { 0.0 } }
    }

    pub fn apply(&self, value: f64) -> f32 {
        if self.spread == 0.0 {
            return 0.0;
        }
        ((value - self.center) / self.spread).clamp(-SCALED_MAX, SCALED_MAX) as f32
    }

    /// Scales differences: y = x (1 / spread).
    pub fn apply_spread(&self, values: &[f32], out: &mut [f32]) {
        if self.spread == 0.0 {
            return out.fill(0.0);
        }
        let (factor, scaled_max) = (self.spread.recip(), SCALED_MAX as f32);
        let factor_f32 = factor as f32;
        if factor_f32.is_normal() {
            Isa::widest().run(ApplySpread { values, factor: factor_f32, scaled_max, out });
        } else {
            // The factor is beyond the range of f32; the products may not be.
            let scaled = |value: f32| (f64::from(value) * factor).clamp(-SCALED_MAX, SCALED_MAX) as f32;
            out.iter_mut().zip(values).for_each(|(out, value)| *out = scaled(*value));
        }
    }

    /// Inverts scaled values, `[scale][length]`, in place; saturates at the range of f32.
    pub fn invert_all(scales: impl Iterator<Item = Self>, length: usize, values: &mut [f32]) {
        Isa::widest().run(InvertAll { scales, length, values });
    }

    pub fn invert(&self, scaled: f32) -> f64 {
        self.center + self.spread * f64::from(scaled)
    }
}

/// Kernel of [`Scale::invert_all`].
struct InvertAll<'a, I> {
    scales: I,
    length: usize,
    /// `[scale][length]`
    values: &'a mut [f32],
}

impl<I: Iterator<Item = Scale>> Kernel for InvertAll<'_, I> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for (Scale { center, spread }, values) in self.scales.zip(self.values.chunks_exact_mut(self.length)) {
            for lanes in values.chunks_mut(S::LANES) {
                simd.store_partial(simd.affine(simd.load_partial(lanes), center, spread), lanes);
            }
        }
    }
}

/// Kernel of [`Scale::apply_spread`].
struct ApplySpread<'a> {
    values: &'a [f32],
    factor: f32,
    scaled_max: f32,
    out: &'a mut [f32],
}

impl Kernel for ApplySpread<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (min, max) = (simd.splat(-self.scaled_max), simd.splat(self.scaled_max));
        let factor = simd.splat(self.factor);
        // Full vectors first: a check of each for being full costs more than the product.
        let (mut out, mut values) = (self.out.chunks_exact_mut(S::LANES), self.values.chunks_exact(S::LANES));
        for (out, values) in out.by_ref().zip(values.by_ref()) {
            simd.store((simd.load(values) * factor).clamp(min, max), out);
        }
        let scaled = (simd.load_partial(values.remainder()) * factor).clamp(min, max);
        simd.store_partial(scaled, out.into_remainder());
    }
}

impl From<Moments> for Scale {
    fn from(moments: Moments) -> Self {
        Self::new(moments.mean, moments.sd)
    }
}

/// Population mean and standard deviation, in two passes.
pub fn moments(values: &[f64]) -> Moments {
    if values.is_empty() {
        return Moments { mean: 0.0, sd: 0.0 };
    }
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    Moments { mean, sd: (squares / count).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_moments_equal_batch_moments() {
        let values: Vec<f64> = (0..50).map(|i| f64::from(i * i % 17) - 3.0).collect();
        let mut stats = RunningStats::default();
        values.iter().for_each(|value| stats.add(*value));
        let (batch, running) = (moments(&values), stats.moments());
        assert!((batch.mean - running.mean).abs() < 1e-12 && (batch.sd - running.sd).abs() < 1e-12);
    }

    #[test]
    fn a_constant_series_is_forecast_at_its_value() {
        let scale = Scale::at_origin(
            Scaling::WindowStandard,
            &[0.1; 300],
            &RunningStats::default(),
            Moments { mean: 0.0, sd: 1.0 },
        );
        assert_eq!((scale.apply(0.1), scale.invert(3.0)), (0.0, scale.center));
    }

    #[test]
    fn vectorised_scaling_equals_scalar_scaling_for_any_spread() {
        let values = [0.0, 1.5, -3e-30, 4e30, f32::MAX, f32::MIN_POSITIVE];
        for spread in [0.0, 1e-300, 1e-42, 1e-20, 3.0, 1e20, 1e42, 1e300] {
            let scale = Scale::new(0.0, spread);
            let mut vectorised = [f32::NAN; 6];
            scale.apply_spread(&values, &mut vectorised);
            for (value, vectorised) in values.iter().zip(vectorised) {
                let scalar = scale.apply(f64::from(*value));
                let error = (vectorised - scalar).abs();
                assert!(error <= 3e-7 * scalar.abs(), "{value} at {spread}: {vectorised}, {scalar}");
            }
        }
    }

    #[test]
    fn a_target_that_was_constant_in_training_uses_running_moments() {
        let constant = Moments { mean: 5.0, sd: 0.0 };
        let mut stats = RunningStats::default();
        [5.0, 7.0].into_iter().for_each(|value| stats.add(value));
        let scale = Scale::at_origin(Scaling::Fixed, &[], &stats, constant);
        assert_eq!(scale, Scale { center: 6.0, spread: 1.0 });
    }

    #[test]
    fn scaling_can_be_inverted() {
        let scale = Scale::new(10.0, 4.0);
        assert_eq!((scale.apply(12.0), scale.invert(0.5)), (0.5, 12.0));
        let mut all = [0.5, 0.0, 0.5, f32::MAX];
        Scale::invert_all([scale, Scale::new(1.0, 2.0)].into_iter(), 2, &mut all);
        assert_eq!(all, [12.0, 10.0, 2.0, f32::MAX]);
    }
}
