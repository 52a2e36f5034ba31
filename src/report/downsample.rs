//! Lines that a screen can show: cut where a number is missing, and thinned so that no peak is lost.

/// Points of a line that are drawn; a chart is about as many dots wide on a sharp screen.
pub(super) const POINTS_MAX: usize = 2000;

/// The stretches of finite points; where there is no number, there is no line.
pub(super) fn stretches<const N: usize>(points: impl Iterator<Item = [f64; N]>) -> Vec<Vec<[f64; N]>> {
    let mut all = vec![vec![]];
    for point in points {
        if point.iter().all(|number| number.is_finite()) {
            all.last_mut().expect("one at least").push(point);
        } else if all.last().is_some_and(|stretch| !stretch.is_empty()) {
            all.push(vec![]);
        }
    }
    all.retain(|stretch| !stretch.is_empty());
    all
}

/// Of every so many points the lowest and the highest, in their order.
pub(super) fn line(points: Vec<[f64; 2]>, most: usize) -> Vec<[f64; 2]> {
    if points.len() <= most {
        return points;
    }
    let mut kept = Vec::with_capacity(most);
    for bucket in points.chunks(points.len().div_ceil((most / 2).max(1))) {
        let lowest = place(bucket, |a, b| a[1] < b[1]);
        let highest = place(bucket, |a, b| a[1] > b[1]);
        kept.push(bucket[lowest.min(highest)]);
        if lowest != highest {
            kept.push(bucket[lowest.max(highest)]);
        }
    }
    kept
}

/// Of every so many points the lowest lower and the highest upper bound.
pub(super) fn band(points: Vec<[f64; 3]>, most: usize) -> Vec<[f64; 3]> {
    if points.len() <= most {
        return points;
    }
    let widest = |bucket: &[[f64; 3]]| {
        let bounds =
            bucket.iter().fold((f64::MAX, f64::MIN), |(low, high), p| (low.min(p[1]), high.max(p[2])));
        [bucket[0][0], bounds.0, bounds.1]
    };
    let last = points[points.len() - 1];
    let mut kept: Vec<_> = points.chunks(points.len().div_ceil(most.max(1))).map(widest).collect();
    // It ends where it ended.
    kept.push(last);
    kept
}

fn place(points: &[[f64; 2]], better: impl Fn(&[f64; 2], &[f64; 2]) -> bool) -> usize {
    (0..points.len()).fold(0, |best, i| if better(&points[i], &points[best]) { i } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_number_breaks_a_line() {
        let nan = f64::NAN;
        let points =
            [[0.0, nan], [1.0, 1.0], [2.0, 2.0], [3.0, f64::INFINITY], [nan, 0.0], [5.0, 5.0], [6.0, nan]];
        let found = stretches(points.into_iter());
        assert_eq!(found, [vec![[1.0, 1.0], [2.0, 2.0]], vec![[5.0, 5.0]]]);
        assert!(stretches([[nan, 0.0]].into_iter()).is_empty());
    }

    #[test]
    fn no_peak_is_lost() {
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
        let thin = line(points.clone(), POINTS_MAX);
        assert!(thin.len() <= POINTS_MAX && thin.len() > POINTS_MAX / 2, "{}", thin.len());
        assert!(thin.contains(&[12_345.0, 100.0]) && thin.contains(&[777.0, -100.0]));
        assert!(thin.is_sorted_by(|a, b| a[0] < b[0]));
        assert_eq!(line(points[..2000].to_vec(), POINTS_MAX), points[..2000]);
    }

    #[test]
    fn a_band_never_gets_narrower() {
        let points: Vec<[f64; 3]> =
            (0..5001).map(|i| [f64::from(i), -f64::from(i % 13), f64::from(i % 11)]).collect();
        let thin = band(points, 100);
        let (last, buckets) = thin.split_last().unwrap();
        assert!(buckets.len() <= 100 && buckets.len() > 90 && last[0] == 5000.0);
        assert!(buckets.iter().all(|bucket| bucket[1] == -12.0 && bucket[2] == 10.0 || bucket[0] > 4950.0));
    }
}
