//! Rows to JSON objects, one a row: forecasts and scores on their way out, and observations for `replay`. The names are those of
//! the table's columns; the position, which comes first, stays out.

use anyhow::{Context, Result, bail};
use arrow::array::{
    Array, BooleanArray, Float32Array, Float64Array, Int32Array, ListArray, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, TimeUnit};
use serde::Serialize;

use super::time;

/// Writes the rows of one batch. Numbers are the shortest decimals that read back to the same bits; a missing value is
/// left out, within a list it is null; NaN and infinity, which JSON does not have, are missing values.
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
    Number(&'a Float64Array),
    Single(&'a Float32Array),
    Count(&'a Int32Array),
    Flag(&'a BooleanArray),
    Singles(&'a ListArray, &'a Float32Array),
    Doubles(&'a ListArray, &'a Float64Array),
}

impl<'a> RowWriter<'a> {
    /// # Errors
    /// For a column of a type that neither observations, forecasts nor scores have.
    pub fn new(rows: &'a RecordBatch) -> Result<Self> {
        let fields = rows.schema_ref().fields().iter().zip(rows.columns()).skip(1);
        let columns = fields.map(|(field, array)| {
            let values = Values::of(array.as_ref());
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
    /// For a time that RFC 3339 cannot write.
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
    fn of(array: &'a dyn Array) -> Result<Self> {
        fn typed<T: 'static>(array: &dyn Array) -> &T {
            array.as_any().downcast_ref().expect("an array is what its type says")
        }
        Ok(match array.data_type() {
            DataType::Utf8 => Values::Text(typed(array)),
            DataType::Timestamp(TimeUnit::Microsecond, _) => Values::Time(typed(array)),
            DataType::Float64 => Values::Number(typed(array)),
            DataType::Float32 => Values::Single(typed(array)),
            DataType::Int32 => Values::Count(typed(array)),
            DataType::Boolean => Values::Flag(typed(array)),
            DataType::List(item) if item.data_type() == &DataType::Float32 => {
                let lists: &ListArray = typed(array);
                Values::Singles(lists, typed(lists.values().as_ref()))
            }
            DataType::List(item) if item.data_type() == &DataType::Float64 => {
                let lists: &ListArray = typed(array);
                Values::Doubles(lists, typed(lists.values().as_ref()))
            }
            other => bail!("{other} is no type of an observation, a forecast or a score"),
        })
    }

    fn is_present(&self, row: usize) -> bool {
        match self {
            Values::Text(texts) => texts.is_valid(row),
            Values::Time(times) => times.is_valid(row),
            Values::Number(numbers) => numbers.is_valid(row) && numbers.value(row).is_finite(),
            Values::Single(numbers) => numbers.is_valid(row) && numbers.value(row).is_finite(),
            Values::Count(counts) => counts.is_valid(row),
            Values::Flag(flags) => flags.is_valid(row),
            Values::Singles(lists, _) | Values::Doubles(lists, _) => lists.is_valid(row),
        }
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        match self {
            Values::Text(texts) => write_json(texts.value(row), out),
            Values::Time(times) => {
                let micros = times.value(row);
                let text = time::to_text(micros)
                    .with_context(|| format!("{micros} µs since 1970 is outside the years 0 to 9999"))?;
                write_json(&text, out)
            }
            Values::Number(numbers) => write_json(&numbers.value(row), out),
            Values::Single(numbers) => write_json(&numbers.value(row), out),
            Values::Count(counts) => write_json(&counts.value(row), out),
            Values::Flag(flags) => write_json(&flags.value(row), out),
            // serde_json writes what JSON has no word for as null.
            Values::Singles(lists, items) => {
                write_list(lists, row, out, |i| items.is_valid(i).then(|| items.value(i)))
            }
            Values::Doubles(lists, items) => {
                write_list(lists, row, out, |i| items.is_valid(i).then(|| items.value(i)))
            }
        }
    }
}

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
