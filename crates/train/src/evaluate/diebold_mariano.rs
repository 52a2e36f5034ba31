//! Whether one forecast is better than another, or only luckier: the test of Diebold & Mariano, "Comparing predictive
//! accuracy" (1995), with the correction for short series of Harvey, Leybourne & Newbold (1997).
//!
//! With the difference of the losses d(t) at n origins, its autocovariances γ, and h origins within a horizon,
//!
//! ```text
//! V = γ(0) + 2 Σ (1 - k/h) γ(k), k = 1 .. h-1          (Bartlett's weights: V is never negative)
//! S = mean(d) / √(V / n) · √((n + 1 - 2h + h(h-1)/n) / n)
//! ```
//!
//! is compared with Student's t of n - 1 degrees of freedom. Origins are taken as they come one after the other; what is
//! missing between them only weakens their dependence.

use serde::Serialize;

/// Below this probability of what is seen, if both were equally good, one is said to be better.
pub const SIGNIFICANT: f64 = 0.05;

/// Horizons that do not overlap, at least: of fewer there is no variance to speak of.
const HORIZONS_LEAST: usize = 4;
/// Origins, at least.
const ORIGINS_LEAST: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Better,
    Worse,
    CannotTell,
    TooShort,
}

/// The first against the second.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    pub origins: usize,
    /// Origins it would take.
    pub origins_least: usize,
    /// Mean loss of the first less that of the second.
    pub difference: f64,
    /// None where there are too few origins, or the losses never differ, or always by the same.
    pub statistic: Option<f64>,
    pub p: Option<f64>,
    pub verdict: Verdict,
}

/// Compares losses at the same origins, of which `overlap` lie within a horizon.
pub fn compare(first: &[f64], second: &[f64], overlap: usize) -> Comparison {
    assert_eq!(first.len(), second.len(), "losses at the same origins");
    let (n, h) = (first.len(), overlap.max(1));
    let d: Vec<f64> = first.iter().zip(second).map(|(a, b)| a - b).collect();
    let difference = d.iter().sum::<f64>() / n as f64;
    let origins_least = ORIGINS_LEAST.max(HORIZONS_LEAST * h);
    let without =
        |verdict| Comparison { origins: n, origins_least, difference, statistic: None, p: None, verdict };
    if n < origins_least {
        return without(Verdict::TooShort);
    }
    let (statistic, p) = test(&d, h);
    // Losses that never differ.
    if statistic.is_nan() {
        return without(Verdict::CannotTell);
    }
    let verdict = match p < SIGNIFICANT {
        true if difference < 0.0 => Verdict::Better,
        true => Verdict::Worse,
        false => Verdict::CannotTell,
    };
    // Infinite where they differ by the same each time.
    Comparison { statistic: Some(statistic).filter(|s| s.is_finite()), p: Some(p), ..without(verdict) }
}

/// The statistic S and its probability, two-sided.
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

/// P(|T| ≥ |t|) = I(ν / (ν + t²); ν/2, 1/2) for Student's t of ν degrees of freedom.
fn student_two_sided(t: f64, freedom: f64) -> f64 {
    incomplete_beta(freedom / (freedom + t * t), freedom / 2.0, 0.5)
}

/// The regularised incomplete beta function, by its continued fraction (Abramowitz & Stegun 26.5.8) in Lentz's form.
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    // I(x; a, b) = 1 - I(1 - x; b, a): the fraction converges fast only on one side of the mean.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(1.0 - x, b, a);
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p()).exp() / a;
    let away = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let (mut c, mut d) = (1.0, 1.0 / away(1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    // Terms needed grow with the root of a: at a million origins a few hundred.
    for m in (1..10_000).map(f64::from) {
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let before = fraction;
        for term in [even, odd] {
            d = 1.0 / away(1.0 + term * d);
            c = away(1.0 + term / c);
            fraction *= c * d;
        }
        if (fraction - before).abs() <= 1e-15 * fraction.abs() {
            break;
        }
    }
    front * fraction
}

/// Lanczos' approximation (g = 7, nine terms), for x > 0.
fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let x = x - 1.0;
    let terms = TERMS.iter().enumerate().map(|(i, term)| term / (x + 1.0 + i as f64));
    let sum = 0.999_999_999_999_809_9 + terms.sum::<f64>();
    let t = x + 7.5;
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-9, "{a} is not {b}");
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
    fn a_small_case_is_that_of_python() {
        let a = [1.0, 2.5, 0.7, 3.1, 1.9, 2.2, 0.4, 1.1, 2.8, 1.6, 0.9, 2.0];
        let b = [1.4, 2.1, 1.5, 3.6, 1.7, 3.0, 1.2, 1.0, 3.9, 2.1, 1.5, 2.2];
        let d: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
        let (statistic, p) = test(&d, 3);
        near(statistic, -4.358304963192);
        near(p, 0.001139506360);
        assert_eq!(compare(&a, &b, 3).verdict, Verdict::TooShort);
    }

    #[test]
    fn tails_of_student_are_those_of_the_tables() {
        for (t, freedom, p) in
            [(12.706_204_736_432_095, 1.0, 0.05), (2.228_138_851_964_939, 10.0, 0.05), (0.0, 5.0, 1.0)]
        {
            near(student_two_sided(t, freedom), p);
        }
        // With two degrees of freedom, P = 1 - t / √(2 + t²).
        near(student_two_sided(1.5, 2.0), 1.0 - 1.5 / 4.25f64.sqrt());
        // The normal distribution's, nearly.
        assert!((student_two_sided(1.959_963_984_540_054, 1e6) - 0.05).abs() < 1e-6);
    }

    #[test]
    fn the_better_is_found_and_luck_is_not() {
        let wave = |t: usize, a: f64| (t as f64 * a).sin();
        let losses: Vec<f64> = (0..200).map(|t| 2.0 + wave(t, 1.7)).collect();
        let better: Vec<f64> = losses.iter().enumerate().map(|(t, l)| l - 0.5 + 0.3 * wave(t, 2.9)).collect();
        let same: Vec<f64> = losses.iter().enumerate().map(|(t, l)| l + 0.3 * wave(t, 2.9)).collect();
        let verdict = |a: &[f64], b: &[f64]| compare(a, b, 4).verdict;
        assert_eq!(verdict(&better, &losses), Verdict::Better);
        assert_eq!(verdict(&losses, &better), Verdict::Worse);
        assert_eq!(verdict(&same, &losses), Verdict::CannotTell);
        assert_eq!(verdict(&losses, &losses), Verdict::CannotTell);
        assert_eq!(verdict(&losses[..19], &better[..19]), Verdict::TooShort);
    }
}
