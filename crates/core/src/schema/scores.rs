//! Scores of the forecasts of a series in a period: schema, builder and view.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, BooleanBuilder, Float32Array, Float32Builder, Int32Array, Int32Builder,
    Int64Builder, RecordBatch, StringArray, StringBuilder, TimestampMicrosecondArray,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::{OutputLabels, POSITION, downcast, format_percent, timestamp};
use crate::intervals::SeriesScores;

/// The schema of scores: `__position` of the row that ended the period (Int64), series, target (Utf8), from and until
/// (Timestamp us UTC, the forecast steps of the period), every (Utf8), horizon (Int32, steps ahead), forecasts (Int32), mae,
/// naive_mae, mase, bias, then coverage_NN for each level (Float32), ties (Float32), drift (Boolean) and model (Utf8).
///
/// - `mase` is mae / naive_mae, null if naive_mae is 0.
/// - `bias` is the mean of actual - forecast.
/// - `ties` is the fraction of actuals that equal a bound.
/// - `drift` is the same in all rows of a period: whether the errors of the first scored horizon drifted from their history.
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
    fields.extend(levels.iter().map(|level| number(&format!("coverage_{}", format_percent(*level)))));
    fields.push(number("ties"));
    fields.push(Field::new("drift", DataType::Boolean, false));
    fields.push(Field::new("model", DataType::Utf8, false));
    Arc::new(Schema::new(fields))
}

/// Builder of a batch of scores, one row for each scored horizon.
pub struct ScoreBuilder {
    schema: SchemaRef,
    labels: OutputLabels,
    positions: Int64Builder,
    /// Series, target, every, model.
    texts: [StringBuilder; 4],
    span: [TimestampMicrosecondBuilder; 2],
    /// Horizon, forecasts.
    counts: [Int32Builder; 2],
    /// MAE, naive MAE, MASE, bias, coverage of each level, ties.
    numbers: Vec<Float32Builder>,
    drift: BooleanBuilder,
}

impl ScoreBuilder {
    pub fn new(levels: &[f64], labels: OutputLabels) -> Self {
        Self {
            schema: score_schema(levels),
            labels,
            positions: Int64Builder::new(),
            texts: Default::default(),
            span: [(); 2].map(|()| TimestampMicrosecondBuilder::new().with_timezone("UTC")),
            counts: Default::default(),
            numbers: (0..5 + levels.len()).map(|_| Float32Builder::new()).collect(),
            drift: BooleanBuilder::new(),
        }
    }

    /// Appends the scores of a series in the period `span[0]..span[1]`.
    pub fn push(&mut self, position: i64, series: &str, target: &str, span: [i64; 2], scores: &SeriesScores) {
        for horizon in &scores.horizons {
            self.positions.append_value(position);
            let texts = [series, target, &self.labels.every, &self.labels.model];
            self.texts.iter_mut().zip(texts).for_each(|(builder, text)| builder.append_value(text));
            self.span.iter_mut().zip(span).for_each(|(builder, time)| builder.append_value(time));
            let counts = [horizon.horizon as i32, horizon.forecasts as i32];
            self.counts.iter_mut().zip(counts).for_each(|(builder, count)| builder.append_value(count));
            let errors = [Some(horizon.mae), Some(horizon.naive_mae), horizon.mase(), Some(horizon.bias)];
            let coverage = horizon.coverage.iter().copied().map(Some);
            let numbers = errors.into_iter().chain(coverage).chain([Some(horizon.ties)]);
            self.numbers.iter_mut().zip(numbers).for_each(|(builder, number)| builder.append_option(number));
            self.drift.append_value(scores.is_drifting);
        }
    }

    /// The rows; the builder is empty again.
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
        RecordBatch::try_new(self.schema.clone(), columns).expect("every builder has one value per row")
    }
}

/// Typed view of a batch of scores.
pub struct Scores<'a> {
    pub series: &'a StringArray,
    pub targets: &'a StringArray,
    pub from: &'a TimestampMicrosecondArray,
    pub until: &'a TimestampMicrosecondArray,
    pub horizons: &'a Int32Array,
    pub forecasts: &'a Int32Array,
    pub mae: &'a Float32Array,
    mase: &'a Float32Array,
    /// Mean of actual - forecast.
    pub bias: &'a Float32Array,
    /// One per level.
    pub coverage: Vec<&'a Float32Array>,
    pub drift: &'a BooleanArray,
}

impl<'a> Scores<'a> {
    /// # Panics
    /// If `rows` was not built by [`ScoreBuilder`].
    pub fn new(rows: &'a RecordBatch) -> Self {
        let columns = rows.columns();
        // Twelve columns precede the coverage of the levels, three follow it.
        let end = columns.len() - 3;
        Self {
            series: downcast(&columns[1]),
            targets: downcast(&columns[2]),
            from: downcast(&columns[3]),
            until: downcast(&columns[4]),
            horizons: downcast(&columns[6]),
            forecasts: downcast(&columns[7]),
            mae: downcast(&columns[8]),
            mase: downcast(&columns[10]),
            bias: downcast(&columns[11]),
            coverage: columns[12..end].iter().map(downcast).collect(),
            drift: downcast(&columns[end + 1]),
        }
    }

    pub fn len(&self) -> usize {
        self.horizons.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True if a row is the first of its series and period; its other horizons follow.
    pub fn starts_period(&self, row: usize) -> bool {
        let period = |row: usize| (self.series.value(row), self.targets.value(row), self.from.value(row));
        row == 0 || period(row) != period(row - 1)
    }

    /// mae / naive_mae; `None` if naive_mae is 0.
    pub fn mase(&self, row: usize) -> Option<f32> {
        self.mase.is_valid(row).then(|| self.mase.value(row))
    }
}
