//! Which columns are what, by their types and names.

use anyhow::{Result, anyhow, bail};
use arrow::datatypes::DataType;

/// Names that columns of this kind mostly have, the likeliest first.
const TIMES: [&str; 8] = ["time", "timestamp", "ts", "datetime", "date", "ds", "event_time", "t"];
const IDS: [&str; 11] = [
    "series",
    "unique_id",
    "id",
    "sensor",
    "sensor_id",
    "device",
    "device_id",
    "station",
    "meter",
    "machine",
    "name",
];

/// Names of parts of a time, which folders are often called by: no ids.
const DATES: [&str; 6] = ["year", "month", "day", "date", "dt", "hour"];

/// The columns of a pipeline.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    pub time: String,
    /// Whether its times are whole numbers, whose unit is still to be seen.
    pub is_number: bool,
    /// As the pipeline file names it.
    pub unit: Option<&'static str>,
    pub series: Option<String>,
    pub targets: Vec<String>,
}

impl Found {
    /// What is not said is chosen among the columns.
    pub fn among(
        fields: &[(String, DataType)],
        time: Option<String>,
        series: Option<String>,
        targets: Vec<String>,
    ) -> Result<Self> {
        let type_of = |name: &String| {
            let found = fields.iter().find(|(field, _)| field == name);
            found
                .map(|(_, found)| found)
                .ok_or_else(|| anyhow!("there is no column {name:?}; name one of those"))
        };
        let time = match time {
            Some(time) => time,
            None => of_kind(fields, is_time, &TIMES, true)
                .or_else(|| of_kind(fields, DataType::is_integer, &TIMES, false))
                .ok_or_else(|| anyhow!("no column looks like a time; name one with --time"))?,
        };
        let is_number = type_of(&time)?.is_integer();
        let series = series.or_else(|| {
            let is_date = |name: &str| DATES.iter().chain(&TIMES).any(|date| name.eq_ignore_ascii_case(date));
            let others = fields.iter().filter(|(name, _)| *name != time && !is_date(name));
            let others: Vec<_> = others.cloned().collect();
            of_kind(&others, is_text, &IDS, true)
                .or_else(|| of_kind(&others, DataType::is_integer, &IDS, false))
        });
        series.as_ref().map(type_of).transpose()?;
        targets.iter().try_for_each(|target| type_of(target).map(drop))?;
        let others = |kind: fn(&DataType) -> bool| -> Vec<String> {
            let is_free = |name: &String| *name != time && Some(name) != series.as_ref();
            let found = fields.iter().filter(|(name, found)| is_free(name) && kind(found));
            found.map(|(name, _)| name.clone()).collect()
        };
        let targets = [targets, others(DataType::is_floating), others(DataType::is_integer)];
        let Some(targets) = targets.into_iter().find(|targets| !targets.is_empty()) else {
            bail!("no column of numbers is left to forecast; name one with --target");
        };
        let mut names: Vec<&String> = targets.iter().chain(&series).chain([&time]).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            bail!(
                "column {:?} cannot be two things at once; name others with --time, --series and --target",
                twice[0]
            );
        }
        Ok(Self { time, is_number, unit: None, series, targets })
    }
}

fn is_time(found: &DataType) -> bool {
    matches!(found, DataType::Timestamp(..) | DataType::Date32)
}

fn is_text(found: &DataType) -> bool {
    match found {
        DataType::Dictionary(_, values) => is_text(values),
        found => found.is_string(),
    }
}

/// The column of a kind with the likeliest name; of any name, if that may be.
fn of_kind(
    fields: &[(String, DataType)],
    kind: fn(&DataType) -> bool,
    names: &[&str],
    of_any_name: bool,
) -> Option<String> {
    let of_kind = || fields.iter().filter(|(_, found)| kind(found)).map(|(name, _)| name);
    let named = |known: &&str| of_kind().find(|name| name.eq_ignore_ascii_case(known));
    let any = || of_kind().next().filter(|_| of_any_name);
    names.iter().find_map(named).or_else(any).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::TimeUnit;

    fn found(fields: &[(&str, DataType)]) -> Result<Found> {
        let fields: Vec<_> = fields.iter().map(|(name, found)| ((*name).to_owned(), found.clone())).collect();
        Found::among(&fields, None, None, vec![])
    }

    #[test]
    fn columns_are_known_by_type_and_name() {
        use DataType::{Float64, Int64, Utf8};
        let time = || DataType::Timestamp(TimeUnit::Millisecond, None);
        let long = found(&[("y", Float64), ("unique_id", Utf8), ("ds", time())]).unwrap();
        let of = |name: &str| Some(name.to_owned());
        assert_eq!(
            (long.time.as_str(), &long.series, &long.targets[..]),
            ("ds", &of("unique_id"), &["y".to_owned()][..])
        );
        let wide =
            found(&[("place", Utf8), ("ts", Int64), ("a", Float64), ("b", Float64), ("n", Int64)]).unwrap();
        assert!(
            wide.is_number && wide.time == "ts" && wide.series == of("place") && wide.targets == ["a", "b"]
        );
        let counted = found(&[("time", Utf8), ("meter", Int64), ("ts", Int64), ("pulses", Int64)]).unwrap();
        assert!(
            counted.time == "ts"
                && counted.is_number
                && counted.series == of("meter")
                && counted.targets == ["pulses"]
        );
        let alone = found(&[("when", time()), ("OT", Float64)]).unwrap();
        assert_eq!((alone.time.as_str(), alone.series), ("when", None));
    }

    #[test]
    fn what_cannot_be_told_is_asked_for() {
        let no_time = found(&[("a", DataType::Float64)]).unwrap_err().to_string();
        assert!(no_time.contains("--time"), "{no_time}");
        let nothing = found(&[("time", DataType::Int64), ("id", DataType::Utf8)]).unwrap_err().to_string();
        assert!(nothing.contains("--target"), "{nothing}");
    }
}
