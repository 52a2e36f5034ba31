//! Durations as text: "1h", "5s", "100ms", "1d 12h".

use std::time::Duration;

/// Reads a duration. The reason says what is wrong with the text and quotes it.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    // humantime takes a month as 30.44 days and a year as 365.25: neither is a length anybody means.
    let mut units = text.split(|c: char| !c.is_alphabetic()).filter(|unit| !unit.is_empty());
    if let Some(unit) = units.find(|unit| *unit == "M" || unit.starts_with("mon") || unit.starts_with('y')) {
        return Err(format!(
            "`{text}` is not of one length: `{unit}` is a month or a year; write days (\"30d\")"
        ));
    }
    humantime::parse_duration(text.trim()).map_err(|_| {
        format!("`{text}` is not a duration; write one such as \"1h\", \"5s\", \"14d\" or \"100ms\"")
    })
}

/// A duration in microseconds.
pub(super) fn micros(text: &str) -> Result<i64, String> {
    let duration = parse_duration(text)?;
    if duration.subsec_nanos() % 1000 != 0 {
        return Err(format!("`{text}` is not a whole number of microseconds"));
    }
    i64::try_from(duration.as_micros()).map_err(|_| format!("`{text}` is too long"))
}

/// The text of a duration of `micros` microseconds, the same for all ways to write it: 3600 s is "1h", 1.5 days are
/// "1d 12h". Not humantime's, which counts months from 30.44 days on. [`parse_duration`] reads it back.
pub fn duration_text(micros: i64) -> String {
    const UNITS: [(&str, u64); 6] = [
        ("d", 86_400_000_000),
        ("h", 3_600_000_000),
        ("m", 60_000_000),
        ("s", 1_000_000),
        ("ms", 1_000),
        ("us", 1),
    ];
    let mut rest = micros.unsigned_abs();
    let mut parts = Vec::new();
    for (unit, length) in UNITS {
        if rest >= length {
            parts.push(format!("{}{unit}", rest / length));
        }
        rest %= length;
    }
    if parts.is_empty() { "0s".to_string() } else { parts.join(" ") }
}

/// What an integer in the time column counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum TimeUnit {
    #[serde(rename = "s")]
    Seconds,
    #[serde(rename = "ms")]
    #[default]
    Milliseconds,
    #[serde(rename = "us")]
    Microseconds,
    #[serde(rename = "ns")]
    Nanoseconds,
}


#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_duration_has_one_text() {
        let same = [
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
        for (written, text) in same {
            let length = micros(written).unwrap();
            assert_eq!(duration_text(length), text);
            assert_eq!(micros(text), Ok(length));
        }
    }

    #[test]
    fn what_is_no_duration_says_so() {
        for text in ["", "5", "h", "-1h", "1 fortnight", "1h;", "99999999999999999999s", "${X}"] {
            assert!(micros(text).unwrap_err().contains("is not a duration"), "{text}");
        }
        for text in ["1M", "2 months", "1y", "1year 2d"] {
            assert!(micros(text).unwrap_err().contains("write days"), "{text}");
        }
        assert!(micros("5ns").unwrap_err().contains("whole number of microseconds"));
        assert!(micros("10000000000000s").unwrap_err().contains("too long"));
    }
}
