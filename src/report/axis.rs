//! Axes: positions along an axis, and ticks with labels.

use std::ops::Range;

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, Utc};
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use tidecast_core::time;

/// One axis of a chart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis {
    pub label: String,
    pub kind: AxisKind,
}

/// The kind of the numbers along an axis, which determines their positions and ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AxisKind {
    Linear,
    /// Logarithmic: numbers that are not above 0 have no position.
    Log,
    /// Microseconds UTC, labeled with dates.
    Time,
}

/// The range of an axis and its ticks, as plotters needs them.
pub(super) struct Scale {
    range: Range<f64>,
    ticks: Vec<Tick>,
}

/// A label and its position along the axis.
struct Tick {
    position: f64,
    label: String,
}

/// Maximum absolute position: the difference of larger ones overflows.
const POSITION_MAX: f64 = 1e300;
/// Desired number of ticks: this many dates fit side by side.
const TICK_COUNT: f64 = 6.0;
/// Maximum number of ticks, for ranges in which the step is lost to rounding.
const TICK_COUNT_MAX: usize = 40;

const DAY: f64 = time::DAY as f64;
/// Tick intervals below a month: a unit, multiples of it, and the format of the labels.
const CLOCK: [(i64, &[i64], &str); 5] = [
    (time::MILLISECOND, &[1, 10, 100], "%H:%M:%S%.3f"),
    (time::SECOND, &[1, 5, 15, 30], "%H:%M:%S"),
    (time::MINUTE, &[1, 5, 15, 30], "%m-%d %H:%M"),
    (time::HOUR, &[1, 3, 6, 12], "%m-%d %H:%M"),
    (time::DAY, &[1, 2, 5, 10], "%Y-%m-%d"),
];
/// Tick intervals in months.
const MONTHS: [i64; 14] = [1, 2, 3, 6, 12, 24, 60, 120, 240, 600, 1200, 6000, 60_000, MONTHS_MAX];
const MONTHS_MAX: i64 = 600_000;

impl AxisKind {
    /// The position of a number; NaN if it has none.
    pub(super) fn position(self, number: f64) -> f64 {
        let position = match self {
            Self::Linear | Self::Time => number,
            // NaN or infinite for numbers that are not above 0.
            Self::Log => number.log10(),
        };
        if position.abs() <= POSITION_MAX { position } else { f64::NAN }
    }

    /// The scale that contains all finite `positions`, extended on both sides by the fraction `margin` of its width; `None`
    /// without a finite position.
    pub(super) fn scale(self, positions: impl Iterator<Item = f64>, margin: f64) -> Option<Scale> {
        let finite = positions.filter(|position| position.is_finite());
        let (low, high) =
            finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), p| (low.min(p), high.max(p)));
        if low > high {
            return None;
        }
        // A single number gets a range around it, wide enough for ticks to differ in floating point.
        let width_min = match self {
            Self::Time => time::SECOND as f64,
            Self::Linear | Self::Log => 1e-9,
        };
        let width_min = width_min.max(low.abs().max(high.abs()) * 1e-9);
        let added = if high - low < width_min {
            width_min.max((low.abs() * 0.1).min(1.0))
        } else {
            (high - low) * margin
        };
        let range = low - added..high + added;
        Some(Scale { ticks: self.ticks(&range), range })
    }

    fn ticks(self, range: &Range<f64>) -> Vec<Tick> {
        match self {
            Self::Linear => linear(range),
            Self::Log => log(range),
            Self::Time => time(range),
        }
    }
}

impl Scale {
    /// Characters of the longest tick label.
    pub(super) fn label_chars(&self) -> usize {
        self.ticks.iter().map(|tick| tick.label.chars().count()).max().unwrap_or(0)
    }
}

impl Ranged for Scale {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, position: &f64, (start, end): (i32, i32)) -> i32 {
        let fraction = (position - self.range.start) / (self.range.end - self.range.start);
        start + (fraction * f64::from(end - start)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.iter().map(|tick| tick.position).collect()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Scale {
    fn format_ext(&self, position: &f64) -> String {
        let tick = self.ticks.iter().find(|tick| tick.position == *position);
        tick.map_or(String::new(), |tick| tick.label.clone())
    }
}

/// Ticks at multiples of 1, 2 or 5 times a power of ten.
fn linear(range: &Range<f64>) -> Vec<Tick> {
    let rough = (range.end - range.start) / TICK_COUNT;
    let power = 10f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0].map(|n| n * power).into_iter().find(|step| *step >= rough).unwrap_or(10.0 * power);
    let ticks = multiples(range, step);
    ticks.map(|position| Tick { position, label: format_number(position, step) }).collect()
}

/// The multiples of `step` in `range`.
fn multiples(range: &Range<f64>, step: f64) -> impl Iterator<Item = f64> + use<> {
    let (first, end) = ((range.start / step).ceil(), range.end);
    // Multiplied rather than summed, so that no rounding error accumulates; + 0.0 turns -0 into 0.
    (0..TICK_COUNT_MAX)
        .map(move |i| (first + i as f64) * step + 0.0)
        .take_while(move |position| *position <= end)
}

/// The number with enough digits to distinguish multiples of `step`.
fn format_number(number: f64, step: f64) -> String {
    let digits = -step.log10().floor();
    if number != 0.0 && !(1e-5..1e6).contains(&step.max(number.abs())) {
        let precision = (number.abs().log10().floor() + digits).clamp(0.0, 6.0) as usize;
        return format!("{number:.precision$e}");
    }
    format!("{number:.*}", digits.clamp(0.0, 9.0) as usize)
}

/// Ticks at powers of ten; also at 2 and 5 times them if the range is short; linear ticks below one power.
fn log(range: &Range<f64>) -> Vec<Tick> {
    let powers = range.end - range.start;
    let value = |position: f64| 10f64.powf(position);
    if powers < 0.7 {
        let ticks = linear(&(value(range.start)..value(range.end)));
        return ticks.into_iter().map(|tick| Tick { position: tick.position.log10(), ..tick }).collect();
    }
    let every = (powers / 8.0).ceil().max(1.0);
    let factors: &[f64] = if powers < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let decades = multiples(&(range.start.floor()..range.end), every);
    let all = decades.flat_map(|decade| {
        factors.iter().map(move |factor| {
            let number = factor * value(decade);
            Tick { position: decade + factor.log10(), label: format_number(number, number) }
        })
    });
    all.filter(|tick| range.contains(&tick.position)).collect()
}

/// Ticks at round times: multiples of the units of a clock, or starts of months and years.
fn time(range: &Range<f64>) -> Vec<Tick> {
    let rough = (range.end - range.start) / (TICK_COUNT - 1.0);
    let mut intervals = CLOCK.iter().flat_map(|(unit, multiples, format)| {
        multiples.iter().map(move |multiple| ((multiple * unit) as f64, *format))
    });
    if let Some((step, format)) = intervals.find(|(step, _)| *step >= rough) {
        return multiples(range, step).filter_map(|position| date_tick(position, format)).collect();
    }
    let (Some(first), Some(last)) = (date(range.start), date(range.end)) else { return vec![] };
    let months = |date: DateTime<Utc>| i64::from(date.year()) * 12 + i64::from(date.month0());
    let every = MONTHS.into_iter().find(|n| *n as f64 * 30.4 * DAY >= rough).unwrap_or(MONTHS_MAX);
    let format = if every < 12 { "%Y-%m" } else { "%Y" };
    let starts = (months(first).div_euclid(every)..=months(last).div_euclid(every)).map(|n| n * every);
    let positions = starts.filter_map(|month| {
        let year = i32::try_from(month.div_euclid(12)).ok()?;
        let date = NaiveDate::from_ymd_opt(year, month.rem_euclid(12) as u32 + 1, 1)?;
        Some(date.and_time(NaiveTime::MIN).and_utc().timestamp_micros() as f64)
    });
    let inside = positions.filter(|position| range.contains(position)).take(TICK_COUNT_MAX);
    inside.filter_map(|position| date_tick(position, format)).collect()
}

fn date(position: f64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(position as i64)
}

fn date_tick(position: f64, format: &str) -> Option<Tick> {
    Some(Tick { position, label: date(position)?.format(format).to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(kind: AxisKind, from: f64, to: f64) -> Vec<String> {
        let ticks = kind.ticks(&(kind.position(from)..kind.position(to)));
        ticks.into_iter().map(|tick| tick.label).collect()
    }

    #[test]
    fn linear_ticks_are_round_numbers() {
        assert_eq!(labels(AxisKind::Linear, 0.0, 10.0), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(labels(AxisKind::Linear, -0.031, 0.032), ["-0.02", "0.00", "0.02"]);
        assert_eq!(labels(AxisKind::Linear, 0.0, 2.1e7), ["0", "5e6", "1.0e7", "1.5e7", "2.0e7"]);
        assert_eq!(labels(AxisKind::Linear, 1000.0, 1004.0), ["1000", "1001", "1002", "1003", "1004"]);
    }

    #[test]
    fn logarithmic_ticks_are_powers_of_ten() {
        assert_eq!(labels(AxisKind::Log, 1e-3, 1e2), ["0.001", "0.01", "0.1", "1", "10"]);
        assert_eq!(labels(AxisKind::Log, 8.0, 220.0), ["10", "20", "50", "100", "200"]);
        assert_eq!(labels(AxisKind::Log, 0.12, 0.17), ["0.12", "0.13", "0.14", "0.15", "0.16"]);
        assert!(AxisKind::Log.position(0.0).is_nan() && AxisKind::Log.position(-1.0).is_nan());
    }

    #[test]
    fn time_ticks_are_round_dates() {
        let micros = |text: &str| text.parse::<DateTime<Utc>>().unwrap().timestamp_micros() as f64;
        let dates = |from: &str, to: &str| labels(AxisKind::Time, micros(from), micros(to));
        assert_eq!(
            dates("2024-02-28T21:00:00Z", "2024-03-01T03:00:00Z"),
            ["02-29 00:00", "02-29 06:00", "02-29 12:00", "02-29 18:00", "03-01 00:00"]
        );
        assert_eq!(dates("2023-11-20T00:00:00Z", "2024-06-02T00:00:00Z"), ["2024-01", "2024-03", "2024-05"]);
        assert_eq!(dates("1990-01-01T00:00:00Z", "2000-01-01T00:00:00Z")[0], "1990");
    }

    #[test]
    fn extreme_ranges_have_a_width_and_few_ticks() {
        let extremes =
            [0.0, 1.0, -1.0, 1e300, -1e300, 1e-300, 5e-324, f64::MAX, f64::NAN, 1.7e15, 1e18, -1e19];
        for kind in [AxisKind::Linear, AxisKind::Log, AxisKind::Time] {
            for a in extremes {
                for b in extremes {
                    let positions = [a, b].map(|number| kind.position(number));
                    let Some(Scale { range, ticks }) = kind.scale(positions.into_iter(), 0.05) else {
                        continue;
                    };
                    assert!(
                        range.start < range.end && (range.end - range.start).is_finite(),
                        "{kind:?} {a} {b}"
                    );
                    assert!(ticks.len() <= TICK_COUNT_MAX, "{kind:?} {a} {b}");
                }
            }
        }
    }
}
