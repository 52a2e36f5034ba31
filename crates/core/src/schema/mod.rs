//! The schemas of what flows: observations in, forecasts and scores out. The only place that knows column names; everything
//! else sees typed views and builders.

mod scores;

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Float32Array, Float64Array, Int64Array, ListArray, RecordBatch, StringArray,
    StringBuilder, TimestampMicrosecondArray,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

pub use scores::{ScoreBuilder, ScoreRows, score_schema};

/// Which columns of the user's table play which part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// Column with the series id; without one, every row belongs to `only_series`.
    pub series: Option<String>,
    /// The id of all rows where there is no series column.
    pub only_series: String,
    pub time: String,
    pub targets: Vec<String>,
    /// Further inputs, known up to the origin.
    pub covariates: Vec<String>,
    /// Further inputs, a list per row for the coming horizon.
    pub future_covariates: Vec<String>,
}

/// Position of a row in its partition. Beside the user's columns, never among them: it is found by place, not name.
const POSITION: &str = "__position";

pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The years 0 to 9999, which is what RFC 3339 can write: a time outside could be read but never be printed again.
pub const TIMES: std::ops::RangeInclusive<i64> = -62_167_219_200_000_000..=253_402_300_799_999_999;

/// A time in microseconds as RFC 3339 in UTC, with as many decimals as it needs; beyond the calendar as a number.
pub fn time_text(micros: i64) -> String {
    let time = chrono::DateTime::from_timestamp_micros(micros);
    time.map_or_else(|| micros.to_string(), |time| time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
}

fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, true)))
}

impl Columns {
    /// The columns a codec or reader takes from the outside, in this order: series (Utf8, if there is one), time
    /// (Timestamp us UTC), targets (Float64), covariates (Float64), known ahead (List of Float64). All nullable:
    /// the codec refuses rows without series or time, the forecaster those without a finite target.
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
    typed::<Int64Array>(rows.column(0)).values()
}

/// The series of each row of a batch of forecasts or scores.
pub fn series(rows: &RecordBatch) -> &StringArray {
    typed(rows.column(1))
}

/// A typed view of a batch of observations.
pub struct Observations<'a> {
    pub positions: &'a Int64Array,
    /// `None` where the table has no series column.
    pub series: Option<&'a StringArray>,
    pub times: &'a TimestampMicrosecondArray,
    pub targets: Vec<&'a Float64Array>,
    pub covariates: Vec<&'a Float64Array>,
    pub future_covariates: Vec<&'a ListArray>,
}

impl<'a> Observations<'a> {
    /// # Panics
    /// If `rows` does not have the schema of `columns`: batches are made by our own readers, never by a user.
    pub fn new(rows: &'a RecordBatch, columns: &Columns) -> Self {
        let mut rest = rows.columns().iter();
        let mut next = || rest.next().expect("a batch of observations has every column of its schema");
        let positions = typed::<Int64Array>(next());
        let series = columns.series.as_ref().map(|_| typed::<StringArray>(next()));
        let times = typed::<TimestampMicrosecondArray>(next());
        let targets = columns.targets.iter().map(|_| typed::<Float64Array>(next())).collect();
        let covariates = columns.covariates.iter().map(|_| typed::<Float64Array>(next())).collect();
        let future_covariates = columns.future_covariates.iter().map(|_| typed::<ListArray>(next())).collect();
        Self { positions, series, times, targets, covariates, future_covariates }
    }

    pub fn len(&self) -> usize {
        self.positions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn typed<T: 'static>(column: &ArrayRef) -> &T {
    column.as_any().downcast_ref::<T>().expect("a batch of observations has the types of its schema")
}

/// The schema of forecasts: `__position` of the row that triggered it (Int64), series, target (Utf8), origin
/// (Timestamp us UTC), every (Utf8), forecast (List of Float32), then lower_NN and upper_NN (List of Float32) for each
/// level, and model (Utf8).
pub fn forecast_schema(levels: &[f64]) -> SchemaRef {
    let mut fields = vec![
        Field::new(POSITION, DataType::Int64, false),
        Field::new("series", DataType::Utf8, false),
        Field::new("target", DataType::Utf8, false),
        Field::new("origin", timestamp(), false),
        Field::new("every", DataType::Utf8, false),
        Field::new("forecast", list_of(DataType::Float32), false),
    ];
    for level in levels {
        let percent = percent(*level);
        fields.push(Field::new(format!("lower_{percent}"), list_of(DataType::Float32), false));
        fields.push(Field::new(format!("upper_{percent}"), list_of(DataType::Float32), false));
    }
    fields.push(Field::new("model", DataType::Utf8, false));
    Arc::new(Schema::new(fields))
}

/// `0.8` as `80`, `0.975` as `97.5`.
pub fn percent(level: f64) -> String {
    let percent = (level * 1000.0).round() / 10.0;
    percent.to_string()
}

/// What is the same in every forecast of one pipeline.
#[derive(Clone, Debug)]
pub struct ForecastStamp {
    pub every: String,
    pub model: String,
}

/// Builds a batch of forecasts row by row.
pub struct ForecastBuilder {
    schema: SchemaRef,
    every: Same,
    model: Same,
    /// Where lists of the horizon's length begin, as many as there ever were at once.
    offsets: OffsetBuffer<i32>,
    positions: Vec<i64>,
    series: StringBuilder,
    /// Runs of equal names: most pipelines have one target.
    targets: Vec<(String, usize)>,
    origins: Vec<i64>,
    /// Values of a list.
    horizon: usize,
    /// The forecast, then lower and upper of each level.
    lists: Vec<Lists>,
}

impl ForecastBuilder {
    pub fn new(levels: &[f64], stamp: ForecastStamp) -> Self {
        Self {
            schema: forecast_schema(levels),
            every: Same::new(stamp.every),
            model: Same::new(stamp.model),
            offsets: OffsetBuffer::new_empty(),
            positions: Vec::new(),
            series: StringBuilder::new(),
            targets: Vec::new(),
            origins: Vec::new(),
            horizon: 0,
            lists: (0..1 + 2 * levels.len()).map(|_| Lists::default()).collect(),
        }
    }

    /// Adds one forecast; `lists` are the forecast, then lower and upper of each level, each of the horizon's length.
    pub fn push<'a>(
        &mut self,
        position: i64,
        series: &str,
        target: &str,
        origin: i64,
        lists: impl IntoIterator<Item = &'a [f32]>,
    ) {
        self.issue(position, series, target, origin);
        self.say(lists);
    }

    /// Adds one forecast whose numbers come later, by [`ForecastBuilder::say`].
    pub fn issue(&mut self, position: i64, series: &str, target: &str, origin: i64) {
        self.positions.push(position);
        self.series.append_value(series);
        match self.targets.last_mut() {
            Some((last, count)) if last == target => *count += 1,
            _ => self.targets.push((target.to_owned(), 1)),
        }
        self.origins.push(origin);
    }

    /// The numbers of the first of the forecasts that have none yet.
    pub fn say<'a>(&mut self, lists: impl IntoIterator<Item = &'a [f32]>) {
        let mut all = self.lists.iter_mut();
        for values in lists {
            let all = &mut all.next().expect("one list for the forecast and two for each level").values;
            if all.is_empty() {
                self.horizon = values.len();
            }
            assert_eq!(values.len(), self.horizon, "a value for each step of the horizon");
            all.extend_from_slice(values);
        }
        assert!(all.next().is_none(), "one list for the forecast and two for each level");
    }

    pub fn len(&self) -> usize {
        self.positions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows so far; the builder is empty again.
    pub fn finish(&mut self) -> RecordBatch {
        let rows = self.len();
        // The next batch will be about as large.
        let numbers = |of: &mut Vec<i64>| std::mem::replace(of, Vec::with_capacity(rows));
        let (positions, origins) = (numbers(&mut self.positions), numbers(&mut self.origins));
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(positions)),
            Arc::new(self.series.finish()),
            Arc::new(repeated(self.targets.iter().map(|(target, count)| (target.as_str(), *count)))),
            Arc::new(TimestampMicrosecondArray::from(origins).with_timezone("UTC")),
            Arc::new(self.every.of(rows)),
        ];
        self.targets.clear();
        // Of the same horizon: a batch without forecasts has none.
        let count = rows.max(self.offsets.len() - 1);
        if self.offsets.len() != count + 1 || self.offsets[count] != offset(count * self.horizon) {
            self.offsets = even_offsets(self.horizon, count);
        }
        let offsets = self.offsets.slice(0, rows);
        let item = Arc::new(Field::new("item", DataType::Float32, true));
        let kept = KEPT_MOST / self.lists.len();
        for lists in &mut self.lists {
            let values = Arc::new(lists.finish(kept));
            assert_eq!(values.len(), rows * self.horizon, "all that was issued has been said");
            columns.push(Arc::new(ListArray::new(item.clone(), offsets.clone(), values, None)));
        }
        columns.push(Arc::new(self.model.of(rows)));
        RecordBatch::try_new(self.schema.clone(), columns).expect("every builder has one value a row")
    }
}

/// The values of one list of each forecast, one list behind the other.
#[derive(Default)]
struct Lists {
    values: Vec<f32>,
    /// Those of the batch before. Where it has been read when the next one is there, its room is used again, so that the system
    /// need not be asked for new memory.
    before: Option<ScalarBuffer<f32>>,
}

/// Room of all lists of a batch, in values, beyond which none of it is held on to: four mebibytes. There is a builder for each
/// partition, and most rest.
const KEPT_MOST: usize = 1 << 20;

impl Lists {
    /// The values so far; there are none again, and room for as many. Of no more room than `kept` something may still be held.
    fn finish(&mut self, kept: usize) -> Float32Array {
        let count = self.values.len();
        if count == 0 {
            return Float32Array::from(Vec::<f32>::new());
        }
        let is_small = self.values.capacity() <= kept;
        let values = ScalarBuffer::from(std::mem::take(&mut self.values));
        let keep = is_small.then(|| values.clone());
        let before = std::mem::replace(&mut self.before, keep);
        let read = before.and_then(|before| before.into_inner().into_vec().ok());
        let fits = |room: &Vec<f32>| (count..=2 * count).contains(&room.capacity());
        self.values = read.filter(fits).unwrap_or_else(|| Vec::with_capacity(count));
        self.values.clear();
        Float32Array::new(values, None)
    }
}

/// A text that stands in every row.
struct Same {
    text: String,
    /// Of as many rows as there ever were at once.
    rows: StringArray,
}

impl Same {
    fn new(text: String) -> Self {
        Self { text, rows: repeated([]) }
    }

    fn of(&mut self, rows: usize) -> StringArray {
        if self.rows.len() < rows {
            self.rows = repeated([(self.text.as_str(), rows)]);
        }
        self.rows.slice(0, rows)
    }
}

/// Each text as many times as it says.
fn repeated<'a>(runs: impl IntoIterator<Item = (&'a str, usize)>) -> StringArray {
    let (mut bytes, mut offsets) = (Vec::new(), vec![0]);
    for (text, count) in runs {
        let start = bytes.len();
        bytes.extend_from_slice(&text.as_bytes().repeat(count));
        offsets.extend((1..=count).map(|i| offset(start + i * text.len())));
    }
    StringArray::new(OffsetBuffer::new(offsets.into()), bytes.into(), None)
}

/// Where each of so many lists of the same length begins, and where the last one ends.
fn even_offsets(length: usize, count: usize) -> OffsetBuffer<i32> {
    OffsetBuffer::new((0..=count).map(|i| offset(i * length)).collect())
}

fn offset(place: usize) -> i32 {
    i32::try_from(place).expect("a batch is far below two thousand million numbers")
}

/// A typed view of a batch of forecasts.
pub struct Forecasts<'a> {
    pub positions: &'a Int64Array,
    pub series: &'a StringArray,
    pub targets: &'a StringArray,
    pub origins: &'a TimestampMicrosecondArray,
    pub every: &'a StringArray,
    /// The forecast, then lower and upper of each level.
    pub lists: Vec<&'a ListArray>,
    pub models: &'a StringArray,
}

impl<'a> Forecasts<'a> {
    /// # Panics
    /// If `rows` was not made by [`ForecastBuilder`].
    pub fn new(rows: &'a RecordBatch) -> Self {
        let columns = rows.columns();
        let last = columns.len() - 1;
        Self {
            positions: typed(&columns[0]),
            series: typed(&columns[1]),
            targets: typed(&columns[2]),
            origins: typed(&columns[3]),
            every: typed(&columns[4]),
            lists: columns[5..last].iter().map(typed).collect(),
            models: typed(&columns[last]),
        }
    }

    pub fn len(&self) -> usize {
        self.positions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Float32Type;

    use super::*;

    #[test]
    fn what_somebody_still_reads_is_not_written_over() {
        let stamp = ForecastStamp { every: "1h".to_owned(), model: "m".to_owned() };
        let mut builder = ForecastBuilder::new(&[0.8], stamp);
        let mut batch = |rows: i64, value: f32| {
            (0..rows).for_each(|i| builder.push(i, "a", "v", i, [&[value; 4][..]; 3]));
            builder.finish()
        };
        let values = |batch: &RecordBatch| -> Vec<f32> {
            let list = batch["forecast"].as_list::<i32>();
            list.values().as_primitive::<Float32Type>().values().to_vec()
        };
        let place = |batch: &RecordBatch| {
            batch["forecast"].as_list::<i32>().values().as_primitive::<Float32Type>().values().as_ptr()
        };
        let mut held: Vec<RecordBatch> = Vec::new();
        for i in 0..5 {
            let batch = batch(3, i as f32);
            // A row of it is enough.
            held.push(if i == 2 { batch.slice(1, 1) } else { batch });
        }
        held.push(batch(0, 0.0));
        for (i, batch) in held.iter().take(5).enumerate() {
            assert!(values(batch).iter().all(|value| *value == i as f32), "{batch:?}");
        }
        // The room of the last that had some is used again by the one after the next, which would have asked for less.
        let free = place(&held[4]);
        held.truncate(4);
        let next = [batch(2, 7.0), batch(2, 8.0)];
        assert_eq!(place(&next[1]), free);
        assert_eq!((values(&next[0]), values(&next[1])), (vec![7.0; 8], vec![8.0; 8]));
    }

    #[test]
    fn a_batch_that_was_large_leaves_no_room_behind() {
        let mut lists = Lists::default();
        let mut batch = |count: usize| {
            lists.values.resize(count, 1.0);
            let batch = lists.finish(100);
            let held = lists.before.as_ref().map_or(0, |before| before.inner().capacity() / 4);
            (batch.len(), held, lists.values.capacity())
        };
        assert_eq!(batch(100), (100, 100, 100));
        assert_eq!(batch(101), (101, 0, 101));
        // It lies in the room for one as large as the one before.
        assert_eq!(batch(1), (1, 0, 1));
        assert_eq!(batch(1), (1, 1, 1));
    }
}
