//! Downsampling of lines and bands to the resolution of a screen, which keeps every extreme.

/// Maximum points of a line, about the width of a chart in pixels on a high-resolution screen.
pub(super) const POINTS_MAX: usize = 2000;

/// The runs of consecutive finite points.
pub(super) fn finite_runs<const N: usize>(points: impl Iterator<Item = [f64; N]>) -> Vec<Vec<[f64; N]>> {
    let mut all = vec![vec![]];
    for point in points {
        if point.iter().all(|number| number.is_finite()) {
            all.last_mut().expect("there is a run").push(point);
        } else if all.last().is_some_and(|run| !run.is_empty()) {
            all.push(vec![]);
        }
    }
    all.retain(|run| !run.is_empty());
    all
}

/// The lowest and the highest point of each bucket, in their order.
pub(super) fn line(points: Vec<[f64; 2]>, points_max: usize) -> Vec<[f64; 2]> {
    if points.len() <= points_max {
        return points;
    }
    let mut sampled = Vec::with_capacity(points_max);
    for bucket in points.chunks(points.len().div_ceil((points_max / 2).max(1))) {
        let lowest = best_index(bucket, |a, b| a[1] < b[1]);
        let highest = best_index(bucket, |a, b| a[1] > b[1]);
        sampled.push(bucket[lowest.min(highest)]);
        if lowest != highest {
            sampled.push(bucket[lowest.max(highest)]);
        }
    }
    sampled
}

/// The lowest lower and the highest upper bound of each bucket, and the last point.
pub(super) fn band(points: Vec<[f64; 3]>, points_max: usize) -> Vec<[f64; 3]> {
    if points.len() <= points_max {
        return points;
    }
    let widest = |bucket: &[[f64; 3]]| {
        let bounds =
            bucket.iter().fold((f64::MAX, f64::MIN), |(low, high), p| (low.min(p[1]), high.max(p[2])));
        [bucket[0][0], bounds.0, bounds.1]
    };
    let last = points[points.len() - 1];
    let mut sampled: Vec<_> = points.chunks(points.len().div_ceil(points_max.max(1))).map(widest).collect();
    sampled.push(last);
    sampled
}

fn best_index(points: &[[f64; 2]], better: impl Fn(&[f64; 2], &[f64; 2]) -> bool) -> usize {
    (0..points.len()).fold(0, |best, i| if better(&points[i], &points[best]) { i } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_non_finite_point_breaks_a_line() {
        let nan = f64::NAN;
        let points =
            [[0.0, nan], [1.0, 1.0], [2.0, 2.0], [3.0, f64::INFINITY], [nan, 0.0], [5.0, 5.0], [6.0, nan]];
        let found = finite_runs(points.into_iter());
        assert_eq!(found, [vec![[1.0, 1.0], [2.0, 2.0]], vec![[5.0, 5.0]]]);
        assert!(finite_runs([[nan, 0.0]].into_iter()).is_empty());
    }

    #[test]
    fn the_extremes_of_a_line_are_kept() {
        let value = |i: usize| {
            if i == 12_345 {
                100.0
            } else if i == 777 {
                -100.0
            } else {
                (i % 7) as f64
            }
        };
        let points: Vec<[f64; 2]> = (0..50_000).map(|i| [i as f64, value(i)]).collect();
        let sampled = line(points.clone(), POINTS_MAX);
        assert!(sampled.len() <= POINTS_MAX && sampled.len() > POINTS_MAX / 2, "{}", sampled.len());
        assert!(sampled.contains(&[12_345.0, 100.0]) && sampled.contains(&[777.0, -100.0]));
        assert!(sampled.is_sorted_by(|a, b| a[0] < b[0]));
        assert_eq!(line(points[..2000].to_vec(), POINTS_MAX), points[..2000]);
    }

    #[test]
    fn a_band_is_never_narrower() {
        let points: Vec<[f64; 3]> =
            (0..5001).map(|i| [f64::from(i), -f64::from(i % 13), f64::from(i % 11)]).collect();
        let sampled = band(points, 100);
        let (last, buckets) = sampled.split_last().unwrap();
        assert!(buckets.len() <= 100 && buckets.len() > 90 && last[0] == 5000.0);
        assert!(buckets.iter().all(|bucket| bucket[1] == -12.0 && bucket[2] == 10.0 || bucket[0] > 4950.0));
    }
}
