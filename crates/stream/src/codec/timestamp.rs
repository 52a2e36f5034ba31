//! Timestamps in messages: text or integers to microseconds since the epoch (UTC), and back to text.

use arrow::compute::kernels::cast_utils::string_to_datetime;
use chrono::Utc;
use tidecast_core::schema::{TIME_RANGE, format_time};
use tidecast_core::time::TimeUnit;

/// Parses RFC 3339 and its variants: `T` or a space, any fraction, any offset or none (UTC), or the date alone (midnight).
/// Fractions of a microsecond are floored.
pub fn parse(text: &str) -> Result<i64, String> {
    let time = string_to_datetime(&Utc, text)
        .map_err(|_| "is not a time such as 2024-03-31T02:00:00Z".to_string())?;
    check_year(Some(time.timestamp_micros()))
}

/// Converts a count of `unit`s since the epoch.
pub fn from_integer(count: i64, unit: TimeUnit) -> Result<i64, String> {
    check_year(unit.to_micros(count))
}

fn check_year(micros: Option<i64>) -> Result<i64, String> {
    micros
        .filter(|micros| TIME_RANGE.contains(micros))
        .ok_or_else(|| "is outside the years 0 to 9999 (is `time_unit` right?)".to_string())
}

/// RFC 3339 in UTC with as many digits as the time needs; `None` outside the years 0 to 9999.
pub fn format(micros: i64) -> Option<String> {
    TIME_RANGE.contains(&micros).then(|| format_time(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_in_any_zone_parses_to_utc_microseconds() {
        let noon = 1_711_886_400_000_000; // 2024-03-31 12:00 UTC
        for text in [
            "2024-03-31T12:00:00Z",
            "2024-03-31t12:00:00z",
            "2024-03-31T14:00:00+02:00",
            "2024-03-31 07:00:00-05:00",
            "2024-03-31T12:00:00.0000009999Z",
            "2024-03-31T12:00:00",
            "2024-03-31 12:00:00",
        ] {
            assert_eq!(parse(text), Ok(noon), "{text}");
        }
        assert_eq!(parse("2024-03-31"), Ok(noon - 43_200_000_000));
        assert_eq!(parse("1969-12-31T23:59:59.9999999Z"), Ok(-1));
        for text in [
            "",
            "now",
            "2024-13-01T00:00:00Z",
            "2024-03-31T25:00:00Z",
            "31.03.2024 12:00",
            "2024-03-31T12:00:00Zulu",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn integers_are_converted_by_unit_and_floored() {
        assert_eq!(from_integer(-1, TimeUnit::Seconds), Ok(-1_000_000));
        assert_eq!(from_integer(7, TimeUnit::Milliseconds), Ok(7_000));
        assert_eq!(from_integer(-1, TimeUnit::Nanoseconds), Ok(-1));
        assert_eq!(from_integer(1_999, TimeUnit::Nanoseconds), Ok(1));
        assert!(from_integer(i64::MAX, TimeUnit::Seconds).is_err());
        assert!(from_integer(1_711_886_400_000, TimeUnit::Seconds).unwrap_err().contains("time_unit"));
    }

    #[test]
    fn formatted_times_parse_to_the_same_instant() {
        for micros in
            [0, -1, 1_711_886_400_000_001, 1_711_886_400_250_000, *TIME_RANGE.start(), *TIME_RANGE.end()]
        {
            assert_eq!(parse(&format(micros).unwrap()), Ok(micros));
        }
        assert_eq!(format(0).unwrap(), "1970-01-01T00:00:00Z");
        assert_eq!(format(TIME_RANGE.end() + 1), None);
    }
}
