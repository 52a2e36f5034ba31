//! Test of equal forecast accuracy: Diebold and Mariano, "Comparing predictive accuracy" (1995), with the small-sample
//! correction of Harvey, Leybourne and Newbold (1997).
//!
//! With the loss differences d(t) at n origins, their autocovariances γ, and h origins per horizon,
//!
//! ```text
//! V = γ(0) + 2 Σ (1 - k/h) γ(k), k = 1 .. h-1          (Bartlett's weights: V is never negative)
//! S = mean(d) / √(V / n) · √((n + 1 - 2h + h(h-1)/n) / n)
//! ```
//!
//! is compared with Student's t of n - 1 degrees of freedom. Origins count as consecutive: a gap between two of them only
//! weakens their dependence.

use serde::Serialize;
use statrs::function::beta::beta_reg;

/// Probability of the observed difference under equal accuracy, below which the difference is significant.
pub const SIGNIFICANCE_LEVEL: f64 = 0.05;

/// Smallest number of non-overlapping horizons with a usable variance.
const HORIZONS_MIN: usize = 4;
const ORIGINS_MIN: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Better,
    Worse,
    Inconclusive,
    TooShort,
}

/// Comparison of a first forecast with a second one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    pub origins: usize,
    /// Origins that the test requires.
    pub origins_min: usize,
    /// Mean loss of the first less that of the second.
    pub mean_difference: f64,
    /// None without enough origins, or where the difference is constant.
    pub statistic: Option<f64>,
    /// Two-sided. None without enough origins, or where losses are equal.
    pub p_value: Option<f64>,
    pub verdict: Verdict,
}

/// Compares losses at the same origins, of which `overlap` lie within a horizon.
///
/// # Panics
/// If the slices differ in length.
pub fn compare(first: &[f64], second: &[f64], overlap: usize) -> Comparison {
    assert_eq!(first.len(), second.len(), "losses at the same origins");
    let (n, h) = (first.len(), overlap.max(1));
    let d: Vec<f64> = first.iter().zip(second).map(|(a, b)| a - b).collect();
    let mean_difference = d.iter().sum::<f64>() / n as f64;
    let origins_min = ORIGINS_MIN.max(HORIZONS_MIN * h);
    let untested = |verdict| Comparison {
        origins: n,
        origins_min,
        mean_difference,
        statistic: None,
        p_value: None,
        verdict,
    };
    if n < origins_min {
        return untested(Verdict::TooShort);
    }
    let (statistic, p_value) = test(&d, h);
    // Losses are equal at every origin.
    if statistic.is_nan() {
        return untested(Verdict::Inconclusive);
    }
    let verdict = match p_value < SIGNIFICANCE_LEVEL {
        true if mean_difference < 0.0 => Verdict::Better,
        true => Verdict::Worse,
        false => Verdict::Inconclusive,
    };
    // The statistic is infinite where the difference is constant.
    let statistic = Some(statistic).filter(|statistic| statistic.is_finite());
    Comparison { statistic, p_value: Some(p_value), ..untested(verdict) }
}

/// The statistic S and its two-sided probability.
fn test(d: &[f64], h: usize) -> (f64, f64) {
    let n = d.len() as f64;
    let mean = d.iter().sum::<f64>() / n;
    let covariance = |lag: usize| {
        let pairs = d[lag..].iter().zip(d);
        pairs.map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>() / n
    };
    let weighted = |lag: usize| 2.0 * (1.0 - lag as f64 / h as f64) * covariance(lag);
    let variance = covariance(0) + (1..h).map(weighted).sum::<f64>();
    let h = h as f64;
    let correction = ((n + 1.0 - 2.0 * h + h * (h - 1.0) / n) / n).sqrt();
    let statistic = mean / (variance / n).sqrt() * correction;
    (statistic, student_two_sided(statistic, n - 1.0))
}

/// P(|T| ≥ |t|) = I(ν / (ν + t²); ν/2, 1/2) for Student's t of ν degrees of freedom; NaN for NaN.
fn student_two_sided(t: f64, freedom: f64) -> f64 {
    if t.is_nan() { f64::NAN } else { beta_reg(freedom / 2.0, 0.5, freedom / (freedom + t * t)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() < tolerance, "{a} is not {b}");
    }

    // import math
    // a = [1.0,2.5,0.7,3.1,1.9,2.2,0.4,1.1,2.8,1.6,0.9,2.0]; b = [1.4,2.1,1.5,3.6,1.7,3.0,1.2,1.0,3.9,2.1,1.5,2.2]
    // h = 3; d = [x-y for x,y in zip(a,b)]; n = len(d); m = sum(d)/n
    // g = [sum((d[t]-m)*(d[t-k]-m) for t in range(k,n))/n for k in range(h)]
    // v = g[0] + 2*sum((1-k/h)*g[k] for k in range(1,h))
    // s = m/math.sqrt(v/n) * math.sqrt((n+1-2*h+h*(h-1)/n)/n)
    // f = lambda x,k: math.gamma((k+1)/2)/math.sqrt(k*math.pi)/math.gamma(k/2) * (1+x*x/k)**(-(k+1)/2)
    // N = 200000; w = abs(s)/N  # trapezoids under the density
    // p = 1 - 2*w*(sum(f(i*w,n-1) for i in range(1,N)) + (f(0,n-1)+f(abs(s),n-1))/2)
    #[test]
    fn small_case_matches_python() {
        let a = [1.0, 2.5, 0.7, 3.1, 1.9, 2.2, 0.4, 1.1, 2.8, 1.6, 0.9, 2.0];
        let b = [1.4, 2.1, 1.5, 3.6, 1.7, 3.0, 1.2, 1.0, 3.9, 2.1, 1.5, 2.2];
        let d: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
        let (statistic, p_value) = test(&d, 3);
        assert_close(statistic, -4.358304963192, 1e-9);
        assert_close(p_value, 0.001139506360, 1e-9);
        assert_eq!(compare(&a, &b, 3).verdict, Verdict::TooShort);
    }

    #[test]
    fn student_tails_match_closed_forms() {
        for t in [0.0, 0.1, 0.5, 1.0, 1.5, 1.74, 1.96, 2.5, 5.0, 12.706_204_736_432_095, 100.0] {
            let root = f64::sqrt(2.0 + t * t);
            assert_close(student_two_sided(t, 1.0), 1.0 - 2.0 / std::f64::consts::PI * t.atan(), 1e-12);
            assert_close(student_two_sided(t, 2.0), 1.0 - t / root, 1e-12);
            // P(|T| < t) = sin θ (1 + cos²θ / 2) with θ = atan(t / 2), for four degrees of freedom.
            let angle = (t / 2.0).atan();
            let inside = angle.sin() * (1.0 + angle.cos().powi(2) / 2.0);
            assert_close(student_two_sided(t, 4.0), 1.0 - inside, 1e-12);
        }
        assert_close(student_two_sided(2.228_138_851_986_274, 10.0), 0.05, 1e-12);
        assert_eq!(student_two_sided(f64::INFINITY, 30.0), 0.0);
        // Close to the normal distribution.
        assert_close(student_two_sided(1.959_963_984_540_054, 1e6), 0.05, 1e-6);
    }

    #[test]
    fn consistent_gains_are_significant_and_random_ones_are_not() {
        let wave = |t: usize, a: f64| (t as f64 * a).sin();
        let losses: Vec<f64> = (0..200).map(|t| 2.0 + wave(t, 1.7)).collect();
        let better: Vec<f64> = losses.iter().enumerate().map(|(t, l)| l - 0.5 + 0.3 * wave(t, 2.9)).collect();
        let same: Vec<f64> = losses.iter().enumerate().map(|(t, l)| l + 0.3 * wave(t, 2.9)).collect();
        let verdict = |a: &[f64], b: &[f64]| compare(a, b, 4).verdict;
        assert_eq!(verdict(&better, &losses), Verdict::Better);
        assert_eq!(verdict(&losses, &better), Verdict::Worse);
        assert_eq!(verdict(&same, &losses), Verdict::Inconclusive);
        assert_eq!(verdict(&losses, &losses), Verdict::Inconclusive);
        assert_eq!(verdict(&losses[..19], &better[..19]), Verdict::TooShort);
    }
}
