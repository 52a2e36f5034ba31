//! Rows to JSON objects, one per row: forecasts and scores on output, observations in `replay`. Keys are the column names;
//! the first column, the position, is omitted.

use anyhow::{Context, Result, bail};
use arrow::array::{
    Array, BooleanArray, Float32Array, Float64Array, Int32Array, ListArray, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, TimeUnit};
use serde::Serialize;

use super::timestamp;

/// Writes the rows of one batch as JSON. Numbers are the shortest decimals that parse to the same bits. A missing value is
/// omitted, or null within a list. NaN and infinity, which JSON lacks, are missing values.
pub struct RowWriter<'a> {
    columns: Vec<Column<'a>>,
}

struct Column<'a> {
    /// `"name":`
    key: Vec<u8>,
    values: Values<'a>,
}

enum Values<'a> {
    Text(&'a StringArray),
    Time(&'a TimestampMicrosecondArray),
    Float64(&'a Float64Array),
    Float32(&'a Float32Array),
    Int32(&'a Int32Array),
    Boolean(&'a BooleanArray),
    Float32List(&'a ListArray, &'a Float32Array),
    Float64List(&'a ListArray, &'a Float64Array),
}

impl<'a> RowWriter<'a> {
    /// # Errors
    /// If a column has a type that neither observations, forecasts nor scores have.
    pub fn new(rows: &'a RecordBatch) -> Result<Self> {
        let fields = rows.schema_ref().fields().iter().zip(rows.columns()).skip(1);
        let columns = fields.map(|(field, array)| {
            let values = Values::new(array.as_ref());
            let values = values.with_context(|| format!("column `{}`", field.name()))?;
            let mut key = serde_json::to_vec(field.name())?;
            key.push(b':');
            Ok(Column { key, values })
        });
        Ok(Self { columns: columns.collect::<Result<_>>()? })
    }

    /// Appends row `row` to `out`.
    ///
    /// # Errors
    /// If RFC 3339 cannot represent a time.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        out.push(b'{');
        let mut first = true;
        for column in self.columns.iter().filter(|column| column.values.is_present(row)) {
            if !first {
                out.push(b',');
            }
            first = false;
            out.extend_from_slice(&column.key);
            column.values.write(row, out)?;
        }
        out.push(b'}');
        Ok(())
    }
}

impl<'a> Values<'a> {
    fn new(array: &'a dyn Array) -> Result<Self> {
        fn typed<T: 'static>(array: &dyn Array) -> &T {
            array.as_any().downcast_ref().expect("the data type determines the array type")
        }
        Ok(match array.data_type() {
            DataType::Utf8 => Values::Text(typed(array)),
            DataType::Timestamp(TimeUnit::Microsecond, _) => Values::Time(typed(array)),
            DataType::Float64 => Values::Float64(typed(array)),
            DataType::Float32 => Values::Float32(typed(array)),
            DataType::Int32 => Values::Int32(typed(array)),
            DataType::Boolean => Values::Boolean(typed(array)),
            DataType::List(item) if item.data_type() == &DataType::Float32 => {
                let lists: &ListArray = typed(array);
                Values::Float32List(lists, typed(lists.values().as_ref()))
            }
            DataType::List(item) if item.data_type() == &DataType::Float64 => {
                let lists: &ListArray = typed(array);
                Values::Float64List(lists, typed(lists.values().as_ref()))
            }
            other => bail!("type {other} is not a type of an observation, a forecast or a score"),
        })
    }

    fn is_present(&self, row: usize) -> bool {
        match self {
            Values::Text(texts) => texts.is_valid(row),
            Values::Time(times) => times.is_valid(row),
            Values::Float64(numbers) => numbers.is_valid(row) && numbers.value(row).is_finite(),
            Values::Float32(numbers) => numbers.is_valid(row) && numbers.value(row).is_finite(),
            Values::Int32(counts) => counts.is_valid(row),
            Values::Boolean(flags) => flags.is_valid(row),
            Values::Float32List(lists, _) | Values::Float64List(lists, _) => lists.is_valid(row),
        }
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        match self {
            Values::Text(texts) => write_json(texts.value(row), out),
            Values::Time(times) => {
                let micros = times.value(row);
                let text = timestamp::format(micros)
                    .with_context(|| format!("{micros} µs since 1970 is outside the years 0 to 9999"))?;
                write_json(&text, out)
            }
            Values::Float64(numbers) => write_json(&numbers.value(row), out),
            Values::Float32(numbers) => write_json(&numbers.value(row), out),
            Values::Int32(counts) => write_json(&counts.value(row), out),
            Values::Boolean(flags) => write_json(&flags.value(row), out),
            Values::Float32List(lists, items) => {
                write_list(lists, row, out, |i| items.is_valid(i).then(|| items.value(i)))
            }
            Values::Float64List(lists, items) => {
                write_list(lists, row, out, |i| items.is_valid(i).then(|| items.value(i)))
            }
        }
    }
}

/// Writes a list. serde_json writes NaN, infinity and `None` as null.
fn write_list<T: Serialize>(
    lists: &ListArray,
    row: usize,
    out: &mut Vec<u8>,
    item: impl Fn(usize) -> Option<T>,
) -> Result<()> {
    let (start, end) = (lists.value_offsets()[row] as usize, lists.value_offsets()[row + 1] as usize);
    out.push(b'[');
    for index in start..end {
        if index > start {
            out.push(b',');
        }
        write_json(&item(index), out)?;
    }
    out.push(b']');
    Ok(())
}

fn write_json<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<()> {
    Ok(serde_json::to_writer(out, value)?)
}
