//! The learning rate over the minibatches: a line up, then a cosine down.

/// Share of the learning rate that is left at the end.
const LAST_RATE: f64 = 0.05;

/// The share of the learning rate for minibatch `number`, from 0, of `count`. Over the share `warmup` of them it rises from
/// little to all: the first gradients are those of random weights, and Adam's means have yet to settle (Goyal et al.,
/// "Accurate, large minibatch SGD", 2017).
pub fn rate(warmup: f64, number: usize, count: usize) -> f64 {
    let warm = (warmup * count as f64).round() as usize;
    if number < warm {
        // Neither 0 at the first, which would teach nothing, nor 1 before the warm-up is over.
        return (number + 1) as f64 / (warm + 1) as f64;
    }
    // From 1 down to l while d goes from 0 to 1: l + (1 - l)(1 + cos πd)/2.
    let done = (number - warm) as f64 / (count - warm).max(1) as f64;
    LAST_RATE + (1.0 - LAST_RATE) * (1.0 + (std::f64::consts::PI * done).cos()) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_to_all_and_falls_to_little() {
        let rates: Vec<f64> = (0..100).map(|number| rate(0.1, number, 100)).collect();
        assert!((rates[0] - 1.0 / 11.0).abs() < 1e-12 && rates[10] == 1.0, "{rates:?}");
        assert!(rates[..=10].windows(2).all(|pair| pair[0] < pair[1]));
        assert!(rates[10..].windows(2).all(|pair| pair[0] > pair[1]));
        assert!(rates[99] < LAST_RATE + 0.01, "{}", rates[99]);
    }

    #[test]
    fn without_a_warm_up_it_starts_at_all() {
        assert_eq!(rate(0.0, 0, 7), 1.0);
        assert_eq!(rate(0.5, 0, 1), 0.5, "one minibatch may be all there is");
    }
}
