//! The schema of scores: how good the forecasts of one series were in one period.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, BooleanBuilder, Float32Array, Float32Builder, Int32Array, Int32Builder,
    Int64Builder, RecordBatch, StringArray, StringBuilder, TimestampMicrosecondArray,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::{ForecastStamp, POSITION, percent, timestamp, typed};
use crate::intervals::SeriesScores;

/// `__position` of the row that ended the period (Int64), series, target (Utf8), from and until (Timestamp us UTC: the steps
/// that were forecast lie between), every (Utf8), horizon (Int32, in steps), forecasts (Int32), mae, naive_mae, mase, bias,
/// then coverage_NN for each level (Float32), ties (Float32), drift (Boolean) and model (Utf8).
///
/// `mase` is mae over naive_mae, both of this period, and null where the naive forecast was never wrong. `bias` is the mean of
/// actual less forecast. `drift` is of the series, and the same in all rows of a period: whether the errors of the first step
/// ahead that is scored had left their own history at its end.
pub fn score_schema(levels: &[f64]) -> SchemaRef {
    let number = |name: &str| Field::new(name, DataType::Float32, false);
    let mut fields = vec![
        Field::new(POSITION, DataType::Int64, false),
        Field::new("series", DataType::Utf8, false),
        Field::new("target", DataType::Utf8, false),
        Field::new("from", timestamp(), false),
        Field::new("until", timestamp(), false),
        Field::new("every", DataType::Utf8, false),
        Field::new("horizon", DataType::Int32, false),
        Field::new("forecasts", DataType::Int32, false),
        number("mae"),
        number("naive_mae"),
        Field::new("mase", DataType::Float32, true),
        number("bias"),
    ];
    fields.extend(levels.iter().map(|level| number(&format!("coverage_{}", percent(*level)))));
    fields.push(number("ties"));
    fields.push(Field::new("drift", DataType::Boolean, false));
    fields.push(Field::new("model", DataType::Utf8, false));
    Arc::new(Schema::new(fields))
}

/// Builds a batch of scores, a row for each step of the horizon that is scored.
pub struct ScoreBuilder {
    schema: SchemaRef,
    stamp: ForecastStamp,
    positions: Int64Builder,
    /// Series, target, every, model.
    texts: [StringBuilder; 4],
    span: [TimestampMicrosecondBuilder; 2],
    /// Horizon, forecasts.
    counts: [Int32Builder; 2],
    /// MAE, that of the naive forecast, MASE, bias, coverage of each level, ties.
    numbers: Vec<Float32Builder>,
    drift: BooleanBuilder,
}

impl ScoreBuilder {
    pub fn new(levels: &[f64], stamp: ForecastStamp) -> Self {
        Self {
            schema: score_schema(levels),
            stamp,
            positions: Int64Builder::new(),
            texts: Default::default(),
            span: [(); 2].map(|()| TimestampMicrosecondBuilder::new().with_timezone("UTC")),
            counts: Default::default(),
            numbers: (0..5 + levels.len()).map(|_| Float32Builder::new()).collect(),
            drift: BooleanBuilder::new(),
        }
    }

    /// Adds what was scored of a series in the period from one time until another.
    pub fn push(&mut self, position: i64, series: &str, target: &str, span: [i64; 2], scores: &SeriesScores) {
        for of in &scores.horizons {
            self.positions.append_value(position);
            let texts = [series, target, &self.stamp.every, &self.stamp.model];
            self.texts.iter_mut().zip(texts).for_each(|(builder, text)| builder.append_value(text));
            self.span.iter_mut().zip(span).for_each(|(builder, time)| builder.append_value(time));
            let counts = [of.horizon as i32, of.forecasts as i32];
            self.counts.iter_mut().zip(counts).for_each(|(builder, count)| builder.append_value(count));
            let first = [Some(of.mae), Some(of.naive_mae), of.mase(), Some(of.bias)].into_iter();
            let numbers = first.chain(of.coverage.iter().copied().map(Some)).chain([Some(of.ties)]);
            self.numbers.iter_mut().zip(numbers).for_each(|(builder, number)| builder.append_option(number));
            self.drift.append_value(scores.is_drifting);
        }
    }

    /// The rows so far; the builder is empty again.
    pub fn finish(&mut self) -> RecordBatch {
        let [series, target, every, model] = &mut self.texts;
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(self.positions.finish()), Arc::new(series.finish()), Arc::new(target.finish())];
        columns.extend(self.span.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef));
        columns.push(Arc::new(every.finish()));
        columns.extend(self.counts.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef));
        columns.extend(self.numbers.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef));
        columns.push(Arc::new(self.drift.finish()));
        columns.push(Arc::new(model.finish()));
        RecordBatch::try_new(self.schema.clone(), columns).expect("every builder has one value a row")
    }
}

/// A typed view of a batch of scores.
pub struct ScoreRows<'a> {
    pub series: &'a StringArray,
    pub targets: &'a StringArray,
    pub from: &'a TimestampMicrosecondArray,
    pub until: &'a TimestampMicrosecondArray,
    pub horizons: &'a Int32Array,
    pub forecasts: &'a Int32Array,
    pub mae: &'a Float32Array,
    mase: &'a Float32Array,
    /// Mean of actual less forecast.
    pub bias: &'a Float32Array,
    /// Of each level.
    pub coverage: Vec<&'a Float32Array>,
    pub drift: &'a BooleanArray,
}

impl<'a> ScoreRows<'a> {
    /// # Panics
    /// If `rows` was not made by [`ScoreBuilder`].
    pub fn new(rows: &'a RecordBatch) -> Self {
        let columns = rows.columns();
        // Before the coverage of the levels stand twelve, behind it three.
        let end = columns.len() - 3;
        Self {
            series: typed(&columns[1]),
            targets: typed(&columns[2]),
            from: typed(&columns[3]),
            until: typed(&columns[4]),
            horizons: typed(&columns[6]),
            forecasts: typed(&columns[7]),
            mae: typed(&columns[8]),
            mase: typed(&columns[10]),
            bias: typed(&columns[11]),
            coverage: columns[12..end].iter().map(typed).collect(),
            drift: typed(&columns[end + 1]),
        }
    }

    pub fn len(&self) -> usize {
        self.horizons.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a row is the first of its series and period: those of the other steps ahead follow it.
    pub fn begins(&self, row: usize) -> bool {
        let period = |row: usize| (self.series.value(row), self.targets.value(row), self.from.value(row));
        row == 0 || period(row) != period(row - 1)
    }

    /// The mean absolute error over that of the naive forecast, where there is one.
    pub fn mase(&self, row: usize) -> Option<f32> {
        self.mase.is_valid(row).then(|| self.mase.value(row))
    }
}
