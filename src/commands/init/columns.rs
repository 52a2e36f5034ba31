//! The roles of the columns of a history, by type and name.

use anyhow::{Context, Result, bail};
use arrow::datatypes::DataType;

/// Common names of time and id columns, the most likely first.
const TIME_NAMES: [&str; 8] = ["time", "timestamp", "ts", "datetime", "date", "ds", "event_time", "t"];
const ID_NAMES: [&str; 11] = [
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

/// Common names of folders by date, which are not ids.
const DATE_NAMES: [&str; 6] = ["year", "month", "day", "date", "dt", "hour"];

/// The columns of a pipeline.
#[derive(Debug, PartialEq, Eq)]
pub struct ColumnRoles {
    pub time: String,
    pub time_is_integer: bool,
    /// The unit of an integer time, as the pipeline file names it.
    pub time_unit: Option<&'static str>,
    pub series: Option<String>,
    pub targets: Vec<String>,
}

/// Column names that are accepted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    Common,
    Any,
}

impl ColumnRoles {
    /// Chooses the roles that the user does not name.
    pub fn choose(
        fields: &[(String, DataType)],
        time: Option<String>,
        series: Option<String>,
        targets: Vec<String>,
    ) -> Result<Self> {
        let type_of = |name: &String| {
            let field = fields.iter().find(|(field, _)| field == name);
            field.map(|(_, data_type)| data_type).with_context(|| format!("there is no column {name:?}"))
        };
        let time = time
            .or_else(|| find_column(fields, is_time, &TIME_NAMES, Names::Any))
            .or_else(|| find_column(fields, DataType::is_integer, &TIME_NAMES, Names::Common))
            .context("no column looks like a time; name one with --time")?;
        let time_is_integer = type_of(&time)?.is_integer();
        let series = series.or_else(|| {
            let is_date =
                |name: &str| DATE_NAMES.iter().chain(&TIME_NAMES).any(|date| name.eq_ignore_ascii_case(date));
            let others = fields.iter().filter(|(name, _)| *name != time && !is_date(name));
            let others: Vec<_> = others.cloned().collect();
            find_column(&others, is_text, &ID_NAMES, Names::Any)
                .or_else(|| find_column(&others, DataType::is_integer, &ID_NAMES, Names::Common))
        });
        series.as_ref().map(type_of).transpose()?;
        targets.iter().try_for_each(|target| type_of(target).map(drop))?;
        let unused = |kind: fn(&DataType) -> bool| -> Vec<String> {
            let is_unused = |name: &String| *name != time && Some(name) != series.as_ref();
            let columns = fields.iter().filter(|(name, data_type)| is_unused(name) && kind(data_type));
            columns.map(|(name, _)| name.clone()).collect()
        };
        let candidates = [targets, unused(DataType::is_floating), unused(DataType::is_integer)];
        let Some(targets) = candidates.into_iter().find(|targets| !targets.is_empty()) else {
            bail!("there is no numeric column to forecast; name one with --target");
        };
        let mut names: Vec<&String> = targets.iter().chain(&series).chain([&time]).collect();
        names.sort_unstable();
        if let Some(repeated) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            bail!(
                "column {:?} has two roles; name the columns with --time, --series and --target",
                repeated[0]
            );
        }
        Ok(Self { time, time_is_integer, time_unit: None, series, targets })
    }
}

fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(..) | DataType::Date32)
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_text(values),
        data_type => data_type.is_string(),
    }
}

/// The column of a kind with the most likely name.
fn find_column(
    fields: &[(String, DataType)],
    kind: fn(&DataType) -> bool,
    common: &[&str],
    names: Names,
) -> Option<String> {
    let of_kind = || fields.iter().filter(|(_, data_type)| kind(data_type)).map(|(name, _)| name);
    let named = |known: &&str| of_kind().find(|name| name.eq_ignore_ascii_case(known));
    let first = || of_kind().next().filter(|_| names == Names::Any);
    common.iter().find_map(named).or_else(first).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::TimeUnit;

    fn choose(fields: &[(&str, DataType)]) -> Result<ColumnRoles> {
        let fields: Vec<_> =
            fields.iter().map(|(name, data_type)| ((*name).to_owned(), data_type.clone())).collect();
        ColumnRoles::choose(&fields, None, None, vec![])
    }

    #[test]
    fn roles_are_chosen_by_type_and_name() {
        use DataType::{Float64, Int64, Utf8};
        let time = || DataType::Timestamp(TimeUnit::Millisecond, None);
        let name = |name: &str| Some(name.to_owned());
        let long = choose(&[("y", Float64), ("unique_id", Utf8), ("ds", time())]).unwrap();
        assert_eq!(
            (long.time.as_str(), long.series, long.targets),
            ("ds", name("unique_id"), vec!["y".to_owned()])
        );
        let wide =
            choose(&[("place", Utf8), ("ts", Int64), ("a", Float64), ("b", Float64), ("n", Int64)]).unwrap();
        assert!(wide.time_is_integer && wide.time == "ts");
        assert!(wide.series == name("place") && wide.targets == ["a", "b"]);
        let integers = choose(&[("time", Utf8), ("meter", Int64), ("ts", Int64), ("pulses", Int64)]).unwrap();
        assert!(integers.time == "ts" && integers.time_is_integer);
        assert!(integers.series == name("meter") && integers.targets == ["pulses"]);
        let single = choose(&[("when", time()), ("OT", Float64)]).unwrap();
        assert_eq!((single.time.as_str(), single.series), ("when", None));
    }

    #[test]
    fn undecidable_roles_are_requested() {
        let no_time = choose(&[("a", DataType::Float64)]).unwrap_err().to_string();
        assert!(no_time.contains("--time"), "{no_time}");
        let no_target = choose(&[("time", DataType::Int64), ("id", DataType::Utf8)]).unwrap_err().to_string();
        assert!(no_target.contains("--target"), "{no_target}");
    }
}
