//! Columns of a file become columns of observations. Pure: knows types and values, no files.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Result, ensure};
use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Int64Type, TimeUnit as ArrowUnit, TimestampMicrosecondType};
use tidecast_core::schema::{Columns, TIME_RANGE};
use tidecast_core::time::{DAY, TimeUnit};
use tidecast_stream::MalformedRecord;

/// A half-open range of times, in microseconds since the epoch; `None` is unbounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeRange {
    pub since: Option<i64>,
    pub until: Option<i64>,
}

impl TimeRange {
    pub fn contains(&self, time: i64) -> bool {
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until)
    }

    pub fn is_unbounded(&self) -> bool {
        *self == Self::default()
    }

    /// True if the range contains a time from `min` to `max`.
    pub(super) fn overlaps(&self, TimeBounds { min, max }: TimeBounds) -> bool {
        self.until.is_none_or(|until| min < until) && self.since.is_none_or(|since| max >= since)
    }
}

/// The first and last time of some rows, in microseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimeBounds {
    pub min: i64,
    pub max: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ColumnRole {
    /// Text, a dictionary of text, or an integer, which becomes its decimal text.
    Series,
    /// A timestamp of any unit (UTC if it has no zone), a date, or an integer in the pipeline's `time_unit`.
    Time,
    /// Any number. Integers beyond 2^53 and decimals are rounded to the nearest f64; f32 are exact.
    Number,
    NumberList,
}

impl ColumnRole {
    /// The columns that a pipeline reads, in the order of `Columns::fields`.
    pub fn all(columns: &Columns) -> Vec<(ColumnRole, &str)> {
        let with = |role| move |name| (role, String::as_str(name));
        let series = columns.series.iter().map(with(Self::Series));
        let time = std::iter::once((Self::Time, columns.time.as_str()));
        let numbers = columns.targets.iter().chain(&columns.covariates).map(with(Self::Number));
        let lists = columns.future_covariates.iter().map(with(Self::NumberList));
        series.chain(time).chain(numbers).chain(lists).collect()
    }

    pub fn accepts(self, found: &DataType) -> bool {
        use DataType::{
            Date32, Dictionary, FixedSizeList, LargeList, LargeUtf8, List, Null, Timestamp, Utf8, Utf8View,
        };
        match (self, found) {
            (Self::Series, Dictionary(_, values)) => self.accepts(values),
            (Self::Series, Utf8 | LargeUtf8 | Utf8View) => true,
            (Self::Series, found) => found.is_integer(),
            (Self::Time, Timestamp(_, _) | Date32) => true,
            (Self::Time, found) => found.is_integer(),
            // Some writers give a column without values the type Null.
            (Self::Number, Null) => true,
            (Self::Number, found) => found.is_numeric(),
            (Self::NumberList, List(item) | LargeList(item) | FixedSizeList(item, _)) => {
                Self::Number.accepts(item.data_type())
            }
            (Self::NumberList, _) => false,
        }
    }

    /// The accepted types, for error messages.
    pub fn expected(self) -> &'static str {
        match self {
            Self::Series => "text or an integer",
            Self::Time => "a timestamp, a date or an integer",
            Self::Number => "a number",
            Self::NumberList => "a list of numbers",
        }
    }
}

/// The name of a type in messages.
pub(super) fn type_name(found: &DataType) -> String {
    match found {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".to_string(),
        DataType::Timestamp(unit, None) => format!("timestamp[{unit}]"),
        DataType::Timestamp(unit, Some(_)) => format!("timestamp[{unit}, UTC]"),
        DataType::List(item) | DataType::LargeList(item) => {
            format!("list of {}", type_name(item.data_type()))
        }
        nested if nested.is_nested() => nested.to_string(),
        other => other.to_string().to_lowercase(),
    }
}

/// Times in microseconds since the epoch, rounded down. A null, or a time that does not fit, becomes null.
///
/// # Errors
/// If the type is not one of [`ColumnRole::Time`].
pub(super) fn to_micros(column: &ArrayRef, unit: TimeUnit) -> Result<Int64Array> {
    let unit = match column.data_type() {
        DataType::Timestamp(ArrowUnit::Second, _) => TimeUnit::Seconds,
        DataType::Timestamp(ArrowUnit::Millisecond, _) => TimeUnit::Milliseconds,
        DataType::Timestamp(ArrowUnit::Microsecond, _) => TimeUnit::Microseconds,
        DataType::Timestamp(ArrowUnit::Nanosecond, _) => TimeUnit::Nanoseconds,
        DataType::Date32 => {
            let days = cast(&cast(column, &DataType::Int32)?, &DataType::Int64)?;
            return Ok(as_int64(&days).unary_opt(|days| days.checked_mul(DAY)));
        }
        _ => unit,
    };
    let counts = cast(column, &DataType::Int64)?;
    if unit == TimeUnit::Microseconds {
        return Ok(as_int64(&counts).clone());
    }
    Ok(as_int64(&counts).unary_opt::<_, Int64Type>(|count| unit.to_micros(count)))
}

fn as_int64(column: &ArrayRef) -> &Int64Array {
    column.as_any().downcast_ref().expect("a cast to Int64 gives an Int64Array")
}

/// The rows to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowFilter {
    pub times: TimeRange,
    /// The ids to read; `None` is all.
    pub ids: Option<BTreeSet<String>>,
}

/// The wanted rows, and how they become observations.
pub(super) struct RowSelection {
    pub columns: Columns,
    /// Unit of integer times.
    pub time_unit: TimeUnit,
    pub filter: RowFilter,
    /// Maximum length of an id.
    pub id_bytes: usize,
}

/// Result of [`RowSelection::select`].
pub(super) struct SelectedRows {
    pub observations: RecordBatch,
    pub malformed: Vec<MalformedRecord>,
}

impl RowSelection {
    /// Converts and filters rows. `arrays` holds the columns of [`ColumnRole::all`], in that order and with accepted
    /// types; row i has the position `first + i`. A row without an id or a time is malformed, unless a filter on it
    /// drops the row.
    ///
    /// # Errors
    /// If the conversion of an accepted type fails.
    pub fn select(&self, arrays: &[ArrayRef], first: i64) -> Result<SelectedRows> {
        let schema = self.columns.schema();
        ensure!(arrays.len() + 1 == schema.fields().len(), "one array for each column of the pipeline");
        let rows = arrays[0].len();
        let time_index = usize::from(self.columns.series.is_some());
        let ids = if time_index == 1 { Some(cast(&arrays[0], &DataType::Utf8)?) } else { None };
        let ids = ids.as_ref().map(|ids| {
            ids.as_any().downcast_ref::<StringArray>().expect("a cast to Utf8 gives a StringArray")
        });
        let raw_times = &arrays[time_index];
        let times = to_micros(raw_times, self.time_unit)?;

        let mut malformed = Vec::new();
        let mut is_selected = Vec::with_capacity(rows);
        for row in 0..rows {
            let id = match ids {
                Some(ids) => ids.is_valid(row).then(|| ids.value(row)),
                None => Some(self.columns.only_series.as_str()),
            };
            let time = times.is_valid(row).then(|| times.value(row));
            let is_wanted = id.map_or(self.filter.ids.is_none(), |id| self.wants_series(id))
                && time.map_or(self.filter.times.is_unbounded(), |time| self.filter.times.contains(time));
            let detail = if is_wanted { self.find_error(id, time, raw_times.is_null(row)) } else { None };
            is_selected.push(is_wanted && detail.is_none());
            malformed.extend(detail.map(|detail| MalformedRecord { offset: first + row as i64, detail }));
        }

        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from_iter_values(first..first + rows as i64))];
        columns.extend(ids.map(|ids| Arc::new(ids.clone()) as ArrayRef));
        columns.push(Arc::new(times.reinterpret_cast::<TimestampMicrosecondType>().with_timezone("UTC")));
        for (array, field) in arrays[time_index + 1..].iter().zip(&schema.fields()[columns.len()..]) {
            columns.push(cast(array, field.data_type())?);
        }
        let all = RecordBatch::try_new(schema, columns)?;
        let observations = match is_selected.contains(&false) {
            true => filter_record_batch(&all, &BooleanArray::from(is_selected))?,
            false => all,
        };
        Ok(SelectedRows { observations, malformed })
    }

    pub fn wants_series(&self, id: &str) -> bool {
        self.filter.ids.as_ref().is_none_or(|wanted| wanted.contains(id))
    }

    fn find_error(&self, id: Option<&str>, time: Option<i64>, time_is_null: bool) -> Option<String> {
        match (id, time) {
            (None, _) => Some("no series id".to_string()),
            (Some(""), _) if self.columns.series.is_some() => Some("the series id is empty".to_string()),
            (Some(id), _) if id.len() > self.id_bytes => {
                Some(format!("series id of {} bytes, more than {}", id.len(), self.id_bytes))
            }
            (_, None) if time_is_null => Some("no time".to_string()),
            (_, None) => Some("the time does not fit into 64 bits of microseconds".to_string()),
            (_, Some(time)) if !TIME_RANGE.contains(&time) => {
                Some("the time is outside the years 0 to 9999 (is `time_unit` right?)".to_string())
            }
            _ => None,
        }
    }
}
