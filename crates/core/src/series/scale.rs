//! From readings to the network's numbers and back: y = (x - center) / spread.

use serde::{Deserialize, Serialize};

use crate::simd::{Isa, Kernel, Simd, Vector};

/// Where center and spread come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scaling {
    /// Mean and standard deviation of the target in the training part, the same for every series; of one that did not vary
    /// there as [`Scaling::Running`].
    Fixed,
    /// Mean and standard deviation of the series so far, up to the origin.
    Running,
    /// The window's last value, and the window's standard deviation.
    WindowLast,
    /// The window's mean and standard deviation.
    #[default]
    WindowStandard,
}

/// Mean and standard deviation of a column in the training part.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moments {
    pub mean: f64,
    pub sd: f64,
}

/// Running mean, sum of squared deviations, and extremes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RunningStats {
    pub count: u64,
    pub mean: f64,
    pub m2: f64,
    /// Least and greatest value so far.
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
        let before = value - self.mean;
        self.mean += before / self.count as f64;
        self.m2 += before * (value - self.mean);
    }

    /// Population moments.
    pub fn moments(&self) -> Moments {
        let sd = if self.count == 0 { 0.0 } else { (self.m2 / self.count as f64).sqrt() };
        Moments { mean: self.mean, sd }
    }
}

/// A center and a spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    pub center: f64,
    /// Zero where the values do not vary: then every scaled value is 0 and every forecast the center.
    pub spread: f64,
}

/// Below this share of its magnitude a spread is rounding, not variation: the sum of a few hundred equal f64 leaves
/// a deviation of some 1e-14 of their size.
const RELATIVE_NOISE: f64 = 1e-10;

/// Spreads from the center beyond which all values look alike to the network: keeps every product finite in f32.
const FARTHEST: f64 = 1e6;

impl Scale {
    /// The scale at an origin: `window` is what the network reads, `running` all that was observed up to there.
    pub fn at_origin(scaling: Scaling, window: &[f64], running: &RunningStats, fixed: Moments) -> Self {
        match scaling {
            Scaling::Fixed => match Self::from(fixed) {
                // It stood still in the training part, and may have come alive.
                Self { spread: 0.0, .. } => running.moments().into(),
                varies => varies,
            },
            Scaling::Running => running.moments().into(),
            Scaling::WindowLast => Self::new(window.last().copied().unwrap_or(0.0), moments(window).sd),
            Scaling::WindowStandard => moments(window).into(),
        }
    }

    pub fn new(center: f64, spread: f64) -> Self {
        // A subnormal spread has no finite reciprocal.
        let varies = spread.is_normal() && spread > RELATIVE_NOISE * center.abs();
        Self { center, spread: if varies { spread } else { 0.0 } }
    }

    pub fn apply(&self, value: f64) -> f32 {
        if self.spread == 0.0 {
            return 0.0;
        }
        ((value - self.center) / self.spread).clamp(-FARTHEST, FARTHEST) as f32
    }

    /// What has no center, many at a time: y = x (1 / spread).
    pub fn apply_spread(&self, values: &[f32], out: &mut [f32]) {
        if self.spread == 0.0 {
            return out.fill(0.0);
        }
        let (wide, farthest) = (self.spread.recip(), FARTHEST as f32);
        let narrow = wide as f32;
        if narrow.is_normal() {
            Isa::widest().run(ApplySpread { values, by: narrow, farthest, out });
        } else {
            // Beyond what f32 has: the products need not be.
            let scaled = |value: f32| (f64::from(value) * wide).clamp(-FARTHEST, FARTHEST) as f32;
            out.iter_mut().zip(values).for_each(|(out, value)| *out = scaled(*value));
        }
    }

    /// Turns scaled numbers, `[scale][length]`, into readings as they are written: the nearest f32, beyond its range its end.
    pub fn invert_all(scales: impl Iterator<Item = Self>, length: usize, numbers: &mut [f32]) {
        Isa::widest().run(InvertAll { scales, length, numbers });
    }

    pub fn invert(&self, scaled: f32) -> f64 {
        self.center + self.spread * f64::from(scaled)
    }
}

/// Scaled numbers, `[scale][number]`, that are turned into readings.
struct InvertAll<'a, I> {
    scales: I,
    length: usize,
    numbers: &'a mut [f32],
}

impl<I: Iterator<Item = Scale>> Kernel for InvertAll<'_, I> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for (Scale { center, spread }, numbers) in self.scales.zip(self.numbers.chunks_exact_mut(self.length))
        {
            for some in numbers.chunks_mut(S::LANES) {
                simd.store_part(simd.affine(simd.load_part(some), center, spread), some);
            }
        }
    }
}

/// Numbers without a center that are scaled.
struct ApplySpread<'a> {
    values: &'a [f32],
    by: f32,
    farthest: f32,
    out: &'a mut [f32],
}

impl Kernel for ApplySpread<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (least, most) = (simd.splat(-self.farthest), simd.splat(self.farthest));
        let by = simd.splat(self.by);
        // Whole vectors, and then what is left: asking each whether it is whole would take longer than what is done with it.
        let (mut out, mut values) = (self.out.chunks_exact_mut(S::LANES), self.values.chunks_exact(S::LANES));
        for (out, values) in out.by_ref().zip(values.by_ref()) {
            simd.store((simd.load(values) * by).clamp(least, most), out);
        }
        let scaled = (simd.load_part(values.remainder()) * by).clamp(least, most);
        simd.store_part(scaled, out.into_remainder());
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
    fn running_moments_are_those_of_all_values() {
        let values: Vec<f64> = (0..50).map(|i| f64::from(i * i % 17) - 3.0).collect();
        let mut running = RunningStats::default();
        values.iter().for_each(|value| running.add(*value));
        let (all, so_far) = (moments(&values), running.moments());
        assert!((all.mean - so_far.mean).abs() < 1e-12 && (all.sd - so_far.sd).abs() < 1e-12);
    }

    #[test]
    fn what_does_not_vary_is_forecast_as_it_is() {
        let scale = Scale::at_origin(
            Scaling::WindowStandard,
            &[0.1; 300],
            &RunningStats::default(),
            Moments { mean: 0.0, sd: 1.0 },
        );
        assert_eq!((scale.apply(0.1), scale.invert(3.0)), (0.0, scale.center));
    }

    #[test]
    fn many_are_scaled_as_one_is_whatever_the_spread() {
        let values = [0.0, 1.5, -3e-30, 4e30, f32::MAX, f32::MIN_POSITIVE];
        for spread in [0.0, 1e-300, 1e-42, 1e-20, 3.0, 1e20, 1e42, 1e300] {
            let scale = Scale::new(0.0, spread);
            let mut many = [f32::NAN; 6];
            scale.apply_spread(&values, &mut many);
            for (value, found) in values.iter().zip(many) {
                let one = scale.apply(f64::from(*value));
                assert!((found - one).abs() <= 3e-7 * one.abs(), "{value} of {spread}: {found}, {one}");
            }
        }
    }

    #[test]
    fn what_stood_still_while_it_was_learned_of_has_the_scale_of_what_it_has_shown() {
        let still = Moments { mean: 5.0, sd: 0.0 };
        let mut running = RunningStats::default();
        [5.0, 7.0].into_iter().for_each(|value| running.add(value));
        let scale = Scale::at_origin(Scaling::Fixed, &[], &running, still);
        assert_eq!(scale, Scale { center: 6.0, spread: 1.0 });
    }

    #[test]
    fn scaling_inverts() {
        let scale = Scale::new(10.0, 4.0);
        assert_eq!((scale.apply(12.0), scale.invert(0.5)), (0.5, 12.0));
        let mut all = [0.5, 0.0, 0.5, f32::MAX];
        Scale::invert_all([scale, Scale::new(1.0, 2.0)].into_iter(), 2, &mut all);
        assert_eq!(all, [12.0, 10.0, 2.0, f32::MAX]);
    }
}
