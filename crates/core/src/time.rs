//! Units of time in microseconds, and durations as text such as "1h", "5s", "100ms" or "1d 12h".

use std::time::Duration;

use crate::named_enum::named_enum;

/// Microseconds per unit.
pub const MILLISECOND: i64 = 1_000;
pub const SECOND: i64 = 1_000 * MILLISECOND;
pub const MINUTE: i64 = 60 * SECOND;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;
pub const WEEK: i64 = 7 * DAY;

/// Number of steps of `every` microseconds in a period; none unless it is a whole number.
pub fn steps_per(period: i64, every: i64) -> Option<i64> {
    (period % every == 0).then(|| period / every)
}

/// The first whole number from `min` on that shares no factor with the steps of a day, at least 1.
///
/// Sampling every n-th step with any other n never sees some times of the day.
pub fn stride_coprime_to_day(min: f64, every: i64) -> usize {
    fn common_factor(a: i64, b: i64) -> i64 {
        if b == 0 { a } else { common_factor(b, a % b) }
    }
    let day = DAY / every.max(1);
    let mut stride = min.ceil().max(1.0) as usize;
    while stride > 1 && common_factor(stride as i64, day) > 1 {
        stride += 1;
    }
    stride
}

named_enum! {
    /// Unit of an integer time column.
    #[derive(Default)]
    pub enum TimeUnit {
        Seconds = "s",
        #[default]
        Milliseconds = "ms",
        Microseconds = "us",
        Nanoseconds = "ns",
    }
}

impl TimeUnit {
    /// Microseconds in `count` units, rounded down; none on overflow.
    pub fn to_micros(self, count: i64) -> Option<i64> {
        match self {
            Self::Seconds => count.checked_mul(SECOND),
            Self::Milliseconds => count.checked_mul(MILLISECOND),
            Self::Microseconds => Some(count),
            Self::Nanoseconds => Some(count.div_euclid(1_000)),
        }
    }
}

/// Parses a duration.
///
/// # Errors
/// If the text is not a duration, or uses a month or a year; the message quotes the text.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    // humantime reads a month as 30.44 days and a year as 365.25: nobody means those lengths.
    let mut units = text.split(|c: char| !c.is_alphabetic()).filter(|unit| !unit.is_empty());
    if let Some(unit) = units.find(|unit| *unit == "M" || unit.starts_with("mon") || unit.starts_with('y')) {
        return Err(format!(
            "`{text}` has no fixed length: `{unit}` is a month or a year; write days (\"30d\")"
        ));
    }
    humantime::parse_duration(text.trim()).map_err(|_| {
        format!("`{text}` is not a duration; write one such as \"1h\", \"5s\", \"14d\" or \"100ms\"")
    })
}

/// Parses a duration into microseconds.
///
/// # Errors
/// As [`parse_duration`], or if the duration is not a whole number of microseconds that fits an i64.
pub fn parse_micros(text: &str) -> Result<i64, String> {
    let duration = parse_duration(text)?;
    if !duration.subsec_nanos().is_multiple_of(1000) {
        return Err(format!("`{text}` is not a whole number of microseconds"));
    }
    i64::try_from(duration.as_micros()).map_err(|_| format!("`{text}` is too long"))
}

/// Canonical text of a duration in microseconds: 3600 s is "1h", 1.5 days are "1d 12h".
///
/// [`parse_duration`] reads it back. humantime's own format switches to months of 30.44 days.
pub fn duration_text(micros: i64) -> String {
    const UNITS: [(&str, i64); 6] =
        [("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND), ("ms", MILLISECOND), ("us", 1)];
    let mut rest = micros.unsigned_abs();
    let mut parts = Vec::new();
    for (unit, length) in UNITS.map(|(unit, length)| (unit, length.unsigned_abs())) {
        if rest >= length {
            parts.push(format!("{}{unit}", rest / length));
        }
        rest %= length;
    }
    if parts.is_empty() { "0s".to_string() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_durations_have_one_text() {
        let cases = [
            ("3600s", "1h"),
            ("60m", "1h"),
            ("1h", "1h"),
            ("1day 12h", "1d 12h"),
            ("90s", "1m 30s"),
            ("1500ms", "1s 500ms"),
            ("250us", "250us"),
            ("45d", "45d"),
            ("0s", "0s"),
            ("1w", "7d"),
        ];
        for (written, text) in cases {
            let micros = parse_micros(written).unwrap();
            assert_eq!(duration_text(micros), text);
            assert_eq!(parse_micros(text), Ok(micros));
        }
    }

    #[test]
    fn invalid_durations_are_rejected_with_a_reason() {
        for text in ["", "5", "h", "-1h", "1 fortnight", "1h;", "99999999999999999999s", "${X}"] {
            assert!(parse_micros(text).unwrap_err().contains("is not a duration"), "{text}");
        }
        for text in ["1M", "2 months", "1y", "1year 2d"] {
            assert!(parse_micros(text).unwrap_err().contains("write days"), "{text}");
        }
        assert!(parse_micros("5ns").unwrap_err().contains("whole number of microseconds"));
        assert!(parse_micros("10000000000000s").unwrap_err().contains("too long"));
    }

    #[test]
    fn a_stride_shares_no_factor_with_the_steps_of_a_day() {
        assert_eq!([0.0, 1.5, 4.5].map(|min| stride_coprime_to_day(min, HOUR)), [1, 5, 5]);
        assert_eq!((steps_per(DAY, HOUR), steps_per(DAY, 7 * HOUR)), (Some(24), None));
    }
}
