//! Times in messages: text or integers in, microseconds since the epoch (UTC) out, and back to text.

use arrow::compute::kernels::cast_utils::string_to_datetime;
use chrono::{DateTime, SecondsFormat, Utc};

use crate::config::TimeUnit;
use tidecast_core::table::TIMES;

/// Reads `2024-03-31T02:00:00+01:00` and its relatives: `T` or a space, any fraction, any offset or none (UTC), or the
/// date alone (midnight). Fractions below a microsecond are floored.
pub(super) fn from_text(text: &str) -> Result<i64, String> {
    let time = string_to_datetime(&Utc, text)
        .map_err(|_| "is not a time such as 2024-03-31T02:00:00Z".to_string())?;
    within_years(Some(time.timestamp_micros()))
}

/// Reads an integer that counts `unit`s since the epoch.
pub(super) fn from_integer(count: i64, unit: TimeUnit) -> Result<i64, String> {
    within_years(match unit {
        TimeUnit::Seconds => count.checked_mul(1_000_000),
        TimeUnit::Milliseconds => count.checked_mul(1_000),
        TimeUnit::Microseconds => Some(count),
        TimeUnit::Nanoseconds => Some(count.div_euclid(1_000)),
    })
}

fn within_years(micros: Option<i64>) -> Result<i64, String> {
    micros
        .filter(|micros| TIMES.contains(micros))
        .ok_or_else(|| "is outside the years 0 to 9999 (is `time_unit` right?)".to_string())
}

/// RFC 3339 with `Z` and as many digits as the time needs; `None` outside the years 0 to 9999.
pub(super) fn to_text(micros: i64) -> Option<String> {
    within_years(Some(micros)).ok()?;
    let time = DateTime::<Utc>::from_timestamp_micros(micros)?;
    Some(time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_in_any_zone_is_utc_microseconds() {
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
            assert_eq!(from_text(text), Ok(noon), "{text}");
        }
        assert_eq!(from_text("2024-03-31"), Ok(noon - 43_200_000_000));
        assert_eq!(from_text("1969-12-31T23:59:59.9999999Z"), Ok(-1));
        for text in [
            "",
            "now",
            "2024-13-01T00:00:00Z",
            "2024-03-31T25:00:00Z",
            "31.03.2024 12:00",
            "2024-03-31T12:00:00Zulu",
        ] {
            assert!(from_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn integers_count_their_unit_and_floor() {
        assert_eq!(from_integer(-1, TimeUnit::Seconds), Ok(-1_000_000));
        assert_eq!(from_integer(7, TimeUnit::Milliseconds), Ok(7_000));
        assert_eq!(from_integer(-1, TimeUnit::Nanoseconds), Ok(-1));
        assert_eq!(from_integer(1_999, TimeUnit::Nanoseconds), Ok(1));
        assert!(from_integer(i64::MAX, TimeUnit::Seconds).is_err());
        assert!(from_integer(1_711_886_400_000, TimeUnit::Seconds).unwrap_err().contains("time_unit"));
    }

    #[test]
    fn what_is_printed_reads_back() {
        for micros in [0, -1, 1_711_886_400_000_001, 1_711_886_400_250_000, *TIMES.start(), *TIMES.end()] {
            assert_eq!(from_text(&to_text(micros).unwrap()), Ok(micros));
        }
        assert_eq!(to_text(0).unwrap(), "1970-01-01T00:00:00Z");
        assert_eq!(to_text(TIMES.end() + 1), None);
    }
}
