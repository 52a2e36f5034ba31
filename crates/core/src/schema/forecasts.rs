//! Forecasts: schema, builder and view.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Float32Array, Int64Array, ListArray, RecordBatch, StringArray, StringBuilder,
    TimestampMicrosecondArray,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::{POSITION, downcast, format_percent, list_of, timestamp};

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
        let percent = format_percent(*level);
        fields.push(Field::new(format!("lower_{percent}"), list_of(DataType::Float32), false));
        fields.push(Field::new(format!("upper_{percent}"), list_of(DataType::Float32), false));
    }
    fields.push(Field::new("model", DataType::Utf8, false));
    Arc::new(Schema::new(fields))
}

/// Columns with the same value in every row of a pipeline's output.
#[derive(Clone, Debug)]
pub struct OutputLabels {
    /// Length of a step.
    pub every: String,
    /// Hash of the model.
    pub model: String,
}

/// Builder of a batch of forecasts.
pub struct ForecastBuilder {
    schema: SchemaRef,
    every: ConstantColumn,
    model: ConstantColumn,
    /// Offsets of lists of the horizon's length, as many as any batch needed.
    offsets: OffsetBuffer<i32>,
    positions: Vec<i64>,
    series: StringBuilder,
    /// Run-length encoded: most pipelines have one target.
    targets: Vec<(String, usize)>,
    origins: Vec<i64>,
    /// Length of a list.
    horizon: usize,
    /// The forecast, then lower and upper bounds of each level.
    lists: Vec<ListValues>,
}

impl ForecastBuilder {
    pub fn new(levels: &[f64], labels: OutputLabels) -> Self {
        Self {
            schema: forecast_schema(levels),
            every: ConstantColumn::new(labels.every),
            model: ConstantColumn::new(labels.model),
            offsets: OffsetBuffer::new_empty(),
            positions: Vec::new(),
            series: StringBuilder::new(),
            targets: Vec::new(),
            origins: Vec::new(),
            horizon: 0,
            lists: (0..1 + 2 * levels.len()).map(|_| ListValues::default()).collect(),
        }
    }

    /// Appends a forecast; `lists` are the forecast, then lower and upper bounds of each level, each of the horizon's length.
    pub fn push<'a>(
        &mut self,
        position: i64,
        series: &str,
        target: &str,
        origin: i64,
        lists: impl IntoIterator<Item = &'a [f32]>,
    ) {
        self.append_key(position, series, target, origin);
        self.append_values(lists);
    }

    /// Appends a forecast whose values follow by [`ForecastBuilder::append_values`].
    pub fn append_key(&mut self, position: i64, series: &str, target: &str, origin: i64) {
        self.positions.push(position);
        self.series.append_value(series);
        match self.targets.last_mut() {
            Some((last, count)) if last == target => *count += 1,
            _ => self.targets.push((target.to_owned(), 1)),
        }
        self.origins.push(origin);
    }

    /// Appends the values of the first forecast without any.
    ///
    /// # Panics
    /// If there is not one list for the forecast and two for each level, all of the horizon's length.
    pub fn append_values<'a>(&mut self, lists: impl IntoIterator<Item = &'a [f32]>) {
        let mut columns = self.lists.iter_mut();
        for values in lists {
            let column =
                &mut columns.next().expect("one list for the forecast and two for each level").values;
            if column.is_empty() {
                self.horizon = values.len();
            }
            assert_eq!(values.len(), self.horizon, "a value for each step of the horizon");
            column.extend_from_slice(values);
        }
        assert!(columns.next().is_none(), "one list for the forecast and two for each level");
    }

    pub fn len(&self) -> usize {
        self.positions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows; the builder is empty again.
    ///
    /// # Panics
    /// If a forecast has no values yet.
    pub fn finish(&mut self) -> RecordBatch {
        let rows = self.len();
        // The next batch will be about as large.
        let take = |numbers: &mut Vec<i64>| std::mem::replace(numbers, Vec::with_capacity(rows));
        let (positions, origins) = (take(&mut self.positions), take(&mut self.origins));
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(positions)),
            Arc::new(self.series.finish()),
            Arc::new(repeated(self.targets.iter().map(|(target, count)| (target.as_str(), *count)))),
            Arc::new(TimestampMicrosecondArray::from(origins).with_timezone("UTC")),
            Arc::new(self.every.rows(rows)),
        ];
        self.targets.clear();
        // An empty batch has no horizon.
        let count = rows.max(self.offsets.len() - 1);
        if self.offsets.len() != count + 1 || self.offsets[count] != offset(count * self.horizon) {
            self.offsets = even_offsets(self.horizon, count);
        }
        let offsets = self.offsets.slice(0, rows);
        let item = Arc::new(Field::new("item", DataType::Float32, true));
        let retained_max = RETAINED_VALUES_MAX / self.lists.len();
        for list in &mut self.lists {
            let values = Arc::new(list.finish(retained_max));
            assert_eq!(values.len(), rows * self.horizon, "every forecast has its values");
            columns.push(Arc::new(ListArray::new(item.clone(), offsets.clone(), values, None)));
        }
        columns.push(Arc::new(self.model.rows(rows)));
        RecordBatch::try_new(self.schema.clone(), columns).expect("every builder has one value per row")
    }
}

/// The values of one list column.
#[derive(Default)]
struct ListValues {
    values: Vec<f32>,
    /// The last batch's buffer, reused once that batch is dropped: allocating a large buffer costs page faults.
    previous: Option<ScalarBuffer<f32>>,
}

/// Most values of a batch whose buffers are retained, all columns together: 4 MiB. Every partition has a builder, and most
/// are idle.
const RETAINED_VALUES_MAX: usize = 1 << 20;

impl ListValues {
    /// The values; the builder is empty again. Retains a buffer of at most `retained_max` values.
    fn finish(&mut self, retained_max: usize) -> Float32Array {
        let count = self.values.len();
        if count == 0 {
            return Float32Array::from(Vec::<f32>::new());
        }
        let is_small = self.values.capacity() <= retained_max;
        let values = ScalarBuffer::from(std::mem::take(&mut self.values));
        let retained = is_small.then(|| values.clone());
        let previous = std::mem::replace(&mut self.previous, retained);
        let unused = previous.and_then(|previous| previous.into_inner().into_vec().ok());
        let fits = |buffer: &Vec<f32>| (count..=2 * count).contains(&buffer.capacity());
        self.values = unused.filter(fits).unwrap_or_else(|| Vec::with_capacity(count));
        self.values.clear();
        Float32Array::new(values, None)
    }
}

/// A column with the same text in every row.
struct ConstantColumn {
    text: String,
    /// As many rows as any batch needed.
    rows: StringArray,
}

impl ConstantColumn {
    fn new(text: String) -> Self {
        Self { text, rows: repeated([]) }
    }

    fn rows(&mut self, count: usize) -> StringArray {
        if self.rows.len() < count {
            self.rows = repeated([(self.text.as_str(), count)]);
        }
        self.rows.slice(0, count)
    }
}

/// Decodes runs of equal texts.
fn repeated<'a>(runs: impl IntoIterator<Item = (&'a str, usize)>) -> StringArray {
    let (mut bytes, mut offsets) = (Vec::new(), vec![0]);
    for (text, count) in runs {
        let start = bytes.len();
        bytes.extend_from_slice(&text.as_bytes().repeat(count));
        offsets.extend((1..=count).map(|i| offset(start + i * text.len())));
    }
    StringArray::new(OffsetBuffer::new(offsets.into()), bytes.into(), None)
}

/// Offsets of `count` lists of one length.
fn even_offsets(length: usize, count: usize) -> OffsetBuffer<i32> {
    OffsetBuffer::new((0..=count).map(|i| offset(i * length)).collect())
}

fn offset(index: usize) -> i32 {
    i32::try_from(index).expect("a batch has fewer than 2^31 numbers")
}

/// Typed view of a batch of forecasts.
pub struct Forecasts<'a> {
    pub positions: &'a Int64Array,
    pub series: &'a StringArray,
    pub targets: &'a StringArray,
    pub origins: &'a TimestampMicrosecondArray,
    pub every: &'a StringArray,
    /// The forecast, then lower and upper bounds of each level.
    pub lists: Vec<&'a ListArray>,
    pub models: &'a StringArray,
}

impl<'a> Forecasts<'a> {
    /// # Panics
    /// If `rows` was not built by [`ForecastBuilder`].
    pub fn new(rows: &'a RecordBatch) -> Self {
        let columns = rows.columns();
        let last = columns.len() - 1;
        Self {
            positions: downcast(&columns[0]),
            series: downcast(&columns[1]),
            targets: downcast(&columns[2]),
            origins: downcast(&columns[3]),
            every: downcast(&columns[4]),
            lists: columns[5..last].iter().map(downcast).collect(),
            models: downcast(&columns[last]),
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
    fn buffers_are_reused_only_after_their_batch_is_dropped() {
        let labels = OutputLabels { every: "1h".to_owned(), model: "m".to_owned() };
        let mut builder = ForecastBuilder::new(&[0.8], labels);
        let mut batch = |rows: i64, value: f32| {
            (0..rows).for_each(|i| builder.push(i, "a", "v", i, [&[value; 4][..]; 3]));
            builder.finish()
        };
        let array = |batch: &RecordBatch| {
            batch["forecast"].as_list::<i32>().values().as_primitive::<Float32Type>().clone()
        };
        let values = |batch: &RecordBatch| array(batch).values().to_vec();
        let address = |batch: &RecordBatch| array(batch).values().as_ptr();
        let mut pending: Vec<RecordBatch> = Vec::new();
        for i in 0..5 {
            let batch = batch(3, i as f32);
            // A slice keeps the whole buffer alive.
            pending.push(if i == 2 { batch.slice(1, 1) } else { batch });
        }
        pending.push(batch(0, 0.0));
        for (i, batch) in pending.iter().take(5).enumerate() {
            assert!(values(batch).iter().all(|value| *value == i as f32), "{batch:?}");
        }
        // The buffer of the last nonempty batch is reused by the batch after the next.
        let unused = address(&pending[4]);
        pending.truncate(4);
        let next = [batch(2, 7.0), batch(2, 8.0)];
        assert_eq!(address(&next[1]), unused);
        assert_eq!((values(&next[0]), values(&next[1])), (vec![7.0; 8], vec![8.0; 8]));
    }

    #[test]
    fn buffers_of_a_large_batch_are_not_retained() {
        let mut list = ListValues::default();
        let mut batch = |count: usize| {
            list.values.resize(count, 1.0);
            let batch = list.finish(100);
            let retained = list.previous.as_ref().map_or(0, |previous| previous.inner().capacity() / 4);
            (batch.len(), retained, list.values.capacity())
        };
        assert_eq!(batch(100), (100, 100, 100));
        assert_eq!(batch(101), (101, 0, 101));
        // Its buffer was allocated for a batch as large as the previous one.
        assert_eq!(batch(1), (1, 0, 1));
        assert_eq!(batch(1), (1, 1, 1));
    }
}
