//! Arrow schemas of observations, forecasts and scores.
//!
//! The only module that knows the names and order of these columns: everything else uses its typed views and builders. The
//! columns of snapshots are private to the forecaster.

mod forecasts;
mod scores;

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Float64Array, Int64Array, ListArray, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

pub use forecasts::{ForecastBuilder, Forecasts, OutputLabels, forecast_schema};
pub use scores::{ScoreBuilder, Scores, score_schema};

/// Roles of the columns of the user's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// Column of the series id; without one, every row belongs to `only_series`.
    pub series: Option<String>,
    /// The id of all rows of a table without a series column.
    pub only_series: String,
    pub time: String,
    pub targets: Vec<String>,
    /// Further inputs, known up to the origin.
    pub covariates: Vec<String>,
    /// Further inputs, known for the horizon as well: a list per row.
    pub future_covariates: Vec<String>,
}

/// Position of a row in its partition, which is the offset of its message: the first column of every batch, found by index, never by name.
const POSITION: &str = "__position";

/// The type of all times.
pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Valid times, the years 0 to 9999: RFC 3339 has no text for others.
pub const TIME_RANGE: std::ops::RangeInclusive<i64> = -62_167_219_200_000_000..=253_402_300_799_999_999;

/// A time in microseconds as RFC 3339 in UTC, with as many decimals as needed; as a number outside the calendar.
pub fn format_time(micros: i64) -> String {
    let time = chrono::DateTime::from_timestamp_micros(micros);
    time.map_or_else(|| micros.to_string(), |time| time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
}

/// A level in percent: 0.8 as `80`, 0.975 as `97.5`.
pub fn format_percent(level: f64) -> String {
    let percent = (level * 1000.0).round() / 10.0;
    percent.to_string()
}

fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, true)))
}

impl Columns {
    /// The columns that a codec or reader provides, in this order: series (Utf8, if there is one), time (Timestamp us
    /// UTC), targets (Float64), covariates (Float64), future covariates (List of Float64).
    ///
    /// All are nullable: codecs refuse rows without series or time, the forecaster refuses those without a finite target.
    pub fn fields(&self) -> Vec<Field> {
        let mut fields: Vec<Field> =
            self.series.iter().map(|name| Field::new(name, DataType::Utf8, true)).collect();
        fields.push(Field::new(&self.time, timestamp(), true));
        let numbers = self.targets.iter().chain(&self.covariates);
        fields.extend(numbers.map(|name| Field::new(name, DataType::Float64, true)));
        let lists = self.future_covariates.iter();
        fields.extend(lists.map(|name| Field::new(name, list_of(DataType::Float64), true)));
        fields
    }

    /// The schema of observations: `__position` (Int64), then [`Columns::fields`].
    pub fn schema(&self) -> SchemaRef {
        let mut fields = vec![Field::new(POSITION, DataType::Int64, false)];
        fields.extend(self.fields());
        Arc::new(Schema::new(fields))
    }
}

/// The position of each row of a batch of observations, forecasts or scores.
pub fn positions(rows: &RecordBatch) -> &[i64] {
    downcast::<Int64Array>(rows.column(0)).values()
}

/// The series of each row of a batch of forecasts or scores.
pub fn series(rows: &RecordBatch) -> &StringArray {
    downcast(rows.column(1))
}

/// Typed view of a batch of observations.
pub struct Observations<'a> {
    pub positions: &'a Int64Array,
    /// `None` for a table without a series column.
    pub series: Option<&'a StringArray>,
    pub times: &'a TimestampMicrosecondArray,
    pub targets: Vec<&'a Float64Array>,
    pub covariates: Vec<&'a Float64Array>,
    pub future_covariates: Vec<&'a ListArray>,
}

impl<'a> Observations<'a> {
    /// # Panics
    /// If `rows` does not have the schema of `columns`: batches come from our own readers, never from a user.
    pub fn new(rows: &'a RecordBatch, columns: &Columns) -> Self {
        let mut remaining = rows.columns().iter();
        let mut next = || remaining.next().expect("a batch of observations has every column of its schema");
        let positions = downcast::<Int64Array>(next());
        let series = columns.series.as_ref().map(|_| downcast::<StringArray>(next()));
        let times = downcast::<TimestampMicrosecondArray>(next());
        let targets = columns.targets.iter().map(|_| downcast::<Float64Array>(next())).collect();
        let covariates = columns.covariates.iter().map(|_| downcast::<Float64Array>(next())).collect();
        let future_covariates =
            columns.future_covariates.iter().map(|_| downcast::<ListArray>(next())).collect();
        Self { positions, series, times, targets, covariates, future_covariates }
    }

    pub fn len(&self) -> usize {
        self.positions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn downcast<T: 'static>(column: &ArrayRef) -> &T {
    column.as_any().downcast_ref::<T>().expect("a column has the type of its schema")
}
