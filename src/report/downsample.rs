//! Downsampling of lines and bands to the resolution of a screen, which preserves every extreme.

/// Maximum points of a line, about the width of a chart in pixels on a high-resolution screen.
const POINTS_MAX: usize = 2000;

/// Consecutive finite points, which are connected.
pub(super) type Run<const N: usize> = Vec<[f64; N]>;

/// Splits points into runs at those that are not finite.
pub(super) fn finite_runs<const N: usize>(points: impl Iterator<Item = [f64; N]>) -> Vec<Run<N>> {
    let points: Run<N> = points.collect();
    let runs = points.split(|point| !point.iter().all(|number| number.is_finite()));
    runs.filter(|run| !run.is_empty()).map(<[_]>::to_vec).collect()
}

/// The lowest and the highest point of each bucket, in their order.
pub(super) fn line(points: Run<2>) -> Run<2> {
    if points.len() <= POINTS_MAX {
        return points;
    }
    let mut sampled = Vec::with_capacity(POINTS_MAX);
    for bucket in points.chunks(points.len().div_ceil(POINTS_MAX / 2)) {
        let (mut lowest, mut highest) = (0, 0);
        for (i, point) in bucket.iter().enumerate() {
            if point[1] < bucket[lowest][1] {
                lowest = i;
            }
            if point[1] > bucket[highest][1] {
                highest = i;
            }
        }
        sampled.push(bucket[lowest.min(highest)]);
        if lowest != highest {
            sampled.push(bucket[lowest.max(highest)]);
        }
    }
    sampled
}

/// The lowest lower and the highest upper bound of each bucket, and the last point.
pub(super) fn band(points: Run<3>) -> Run<3> {
    if points.len() <= POINTS_MAX {
        return points;
    }
    let widest = |bucket: &[[f64; 3]]| {
        bucket.iter().fold(bucket[0], |[x, lower, upper], p| [x, lower.min(p[1]), upper.max(p[2])])
    };
    let buckets = points.chunks(points.len().div_ceil(POINTS_MAX)).map(widest);
    buckets.chain(points.last().copied()).collect()
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
    fn the_extremes_of_a_line_are_preserved() {
        let mut points: Run<2> = (0..50_000).map(|i| [f64::from(i), f64::from(i % 7)]).collect();
        points[12_345][1] = 100.0;
        points[777][1] = -100.0;
        let sampled = line(points.clone());
        assert!(sampled.len() <= POINTS_MAX && sampled.len() > POINTS_MAX / 2, "{}", sampled.len());
        assert!(sampled.contains(&points[12_345]) && sampled.contains(&points[777]));
        assert!(sampled.is_sorted_by(|a, b| a[0] < b[0]));
        assert_eq!(line(points[..POINTS_MAX].to_vec()), points[..POINTS_MAX]);
    }

    #[test]
    fn a_band_is_never_narrower() {
        let points = (0..50_001).map(|i| [f64::from(i), -f64::from(i % 13), f64::from(i % 11)]);
        let sampled = band(points.collect());
        let (last, buckets) = sampled.split_last().unwrap();
        assert!(buckets.len() <= POINTS_MAX && buckets.len() > POINTS_MAX * 9 / 10 && last[0] == 50_000.0);
        assert!(buckets.iter().all(|bucket| bucket[1..] == [-12.0, 10.0] || bucket[0] > 49_950.0));
    }
}
