//! Columns as found in a file become columns of observations. Pure: knows types and values, no files.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Result, ensure};
use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Int64Type, TimeUnit as ArrowUnit, TimestampMicrosecondType};

use super::scan::Range;
use crate::config::TimeUnit;
use tidecast_stream::Malformed;
use tidecast_core::table::{Columns, TIMES};

const DAY: i64 = 86_400_000_000;

/// The part a column plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Text (dictionaries of text too), or an integer, which is its decimal text.
    Series,
    /// A timestamp of any unit (without a zone it is UTC), a date, or an integer by the pipeline's `time_unit`.
    Time,
    /// Any number. Integers beyond 2^53 and decimals are rounded to the nearest f64; f32 are exact.
    Number,
    /// A list of numbers.
    Numbers,
}

impl Role {
    /// The columns that a pipeline reads, in the order of `Columns::fields`.
    pub fn of(columns: &Columns) -> Vec<(Role, &str)> {
        let with = |role| move |name| (role, String::as_str(name));
        let series = columns.series.iter().map(with(Role::Series));
        let time = std::iter::once((Role::Time, columns.time.as_str()));
        let numbers = columns.targets.iter().chain(&columns.covariates).map(with(Role::Number));
        let lists = columns.known_ahead.iter().map(with(Role::Numbers));
        series.chain(time).chain(numbers).chain(lists).collect()
    }

    /// Whether a column of this type can play the part.
    pub fn takes(self, found: &DataType) -> bool {
        use DataType::{
            Date32, Dictionary, FixedSizeList, LargeList, LargeUtf8, List, Null, Timestamp, Utf8, Utf8View,
        };
        match (self, found) {
            (Role::Series, Dictionary(_, values)) => self.takes(values),
            (Role::Series, Utf8 | LargeUtf8 | Utf8View) => true,
            (Role::Series, found) => found.is_integer(),
            (Role::Time, Timestamp(_, _) | Date32) => true,
            (Role::Time, found) => found.is_integer(),
            // A column without any value has the type Null with some writers.
            (Role::Number, Null) => true,
            (Role::Number, found) => found.is_numeric(),
            (Role::Numbers, List(item) | LargeList(item) | FixedSizeList(item, _)) => {
                Role::Number.takes(item.data_type())
            }
            (Role::Numbers, _) => false,
        }
    }

    /// What it takes, for an error message.
    pub fn wanted(self) -> &'static str {
        match self {
            Role::Series => "text or an integer",
            Role::Time => "a timestamp, a date or an integer",
            Role::Number => "a number",
            Role::Numbers => "a list of numbers",
        }
    }
}

/// A type for a human reader.
pub(super) fn shown(found: &DataType) -> String {
    match found {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".to_string(),
        DataType::Timestamp(unit, None) => format!("timestamp[{unit}]"),
        DataType::Timestamp(unit, Some(_)) => format!("timestamp[{unit}, UTC]"),
        DataType::List(item) | DataType::LargeList(item) => format!("list of {}", shown(item.data_type())),
        nested if nested.is_nested() => nested.to_string(),
        other => other.to_string().to_lowercase(),
    }
}

/// Microseconds since the epoch, floored; null where the value is null or does not fit.
///
/// # Errors
/// If the column has a type that is none of a time.
pub(super) fn micros(column: &ArrayRef, unit: TimeUnit) -> Result<Int64Array> {
    let unit = match column.data_type() {
        DataType::Timestamp(ArrowUnit::Second, _) => TimeUnit::Seconds,
        DataType::Timestamp(ArrowUnit::Millisecond, _) => TimeUnit::Milliseconds,
        DataType::Timestamp(ArrowUnit::Microsecond, _) => TimeUnit::Microseconds,
        DataType::Timestamp(ArrowUnit::Nanosecond, _) => TimeUnit::Nanoseconds,
        DataType::Date32 => {
            let days = cast(&cast(column, &DataType::Int32)?, &DataType::Int64)?;
            return Ok(integers(&days).unary_opt(|days| days.checked_mul(DAY)));
        }
        _ => unit,
    };
    let counts = cast(column, &DataType::Int64)?;
    let counts = integers(&counts);
    Ok(match unit {
        TimeUnit::Seconds => counts.unary_opt(|count| count.checked_mul(1_000_000)),
        TimeUnit::Milliseconds => counts.unary_opt(|count| count.checked_mul(1_000)),
        TimeUnit::Microseconds => counts.clone(),
        TimeUnit::Nanoseconds => counts.unary::<_, Int64Type>(|count| count.div_euclid(1_000)),
    })
}

fn integers(column: &ArrayRef) -> &Int64Array {
    column.as_any().downcast_ref().expect("a cast to Int64 gives an Int64Array")
}

/// Which rows are wanted, and how they are made.
pub(super) struct Selection {
    pub columns: Columns,
    pub unit: TimeUnit,
    pub range: Range,
    /// Wanted ids; `None` for all.
    pub series: Option<BTreeSet<String>>,
    pub id_bytes: usize,
}

impl Selection {
    /// Observations of the wanted rows. `found` holds the columns of [`Role::of`], in that order and of types that the
    /// roles take; row i stands at position `first + i`. A row without series or time cannot be read: it is malformed
    /// where what it lacks is not filtered on, and else unwanted.
    ///
    /// # Errors
    /// If a conversion fails that the types promised.
    pub fn rows(&self, found: &[ArrayRef], first: i64) -> Result<(RecordBatch, Vec<Malformed>)> {
        let schema = self.columns.schema();
        ensure!(found.len() + 1 == schema.fields().len(), "one array for each column of the pipeline");
        let length = found[0].len();
        let with_series = usize::from(self.columns.series.is_some());
        let ids = if with_series == 1 { Some(cast(&found[0], &DataType::Utf8)?) } else { None };
        let ids = ids.as_ref().map(|ids| {
            ids.as_any().downcast_ref::<StringArray>().expect("a cast to Utf8 gives a StringArray")
        });
        let raw_times = &found[with_series];
        let times = micros(raw_times, self.unit)?;

        let mut malformed = Vec::new();
        let mut wanted = Vec::with_capacity(length);
        for row in 0..length {
            let id = match ids {
                Some(ids) => ids.is_valid(row).then(|| ids.value(row)),
                None => Some(self.columns.only_series.as_str()),
            };
            let time = times.is_valid(row).then(|| times.value(row));
            let selected = id.map_or(self.series.is_none(), |id| self.takes_id(id))
                && time.map_or(self.range.is_all(), |time| self.range.contains(time));
            let detail = if selected { self.flaw(id, time, raw_times.is_null(row)) } else { None };
            wanted.push(selected && detail.is_none());
            malformed.extend(detail.map(|detail| Malformed { offset: first + row as i64, detail }));
        }

        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from_iter_values(first..first + length as i64))];
        columns.extend(ids.map(|ids| Arc::new(ids.clone()) as ArrayRef));
        columns.push(Arc::new(times.reinterpret_cast::<TimestampMicrosecondType>().with_timezone("UTC")));
        for (column, field) in found[with_series + 1..].iter().zip(&schema.fields()[columns.len()..]) {
            columns.push(cast(column, field.data_type())?);
        }
        let rows = RecordBatch::try_new(schema, columns)?;
        let all = wanted.iter().all(|wanted| *wanted);
        let rows = if all { rows } else { filter_record_batch(&rows, &BooleanArray::from(wanted))? };
        Ok((rows, malformed))
    }

    pub fn takes_id(&self, id: &str) -> bool {
        self.series.as_ref().is_none_or(|wanted| wanted.contains(id))
    }

    fn flaw(&self, id: Option<&str>, time: Option<i64>, time_is_null: bool) -> Option<String> {
        match (id, time) {
            (None, _) => Some("no series id".to_string()),
            (Some(""), _) if self.columns.series.is_some() => Some("the series id is empty".to_string()),
            (Some(id), _) if id.len() > self.id_bytes => {
                Some(format!("series id of {} bytes, more than {}", id.len(), self.id_bytes))
            }
            (_, None) if time_is_null => Some("no time".to_string()),
            (_, None) => Some("the time does not fit into 64 bits of microseconds".to_string()),
            (_, Some(time)) if !TIMES.contains(&time) => {
                Some("the time is outside the years 0 to 9999 (is `time_unit` right?)".to_string())
            }
            _ => None,
        }
    }
}
