//! Observations from JSON. A message is exactly one object; its keys are the column names.
//!
//! | column | accepted values |
//! |---|---|
//! | series | a non-empty string, or an integer, which is read as its digits |
//! | time | RFC 3339 text (UTC if it has no zone), or an integer in `time_unit`; floored to microseconds |
//! | targets, covariates | a number, read without loss of precision; null or no key is a missing value |
//! | future covariates | a list of numbers and nulls; null or no key is no list |
//!
//! Other keys are ignored, and the last of repeated keys is used. Anything else makes the message malformed, with a
//! detail: a quoted number, NaN or Infinity (invalid in JSON), a number beyond 64 bits, a second object, trailing text, a
//! missing payload (a tombstone), a payload or an id above its limit.
//!
//! Decoding has three passes: validate each message as one well-formed object, parse all of them onto one tape with one row
//! per message, then read each column from the tape.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Builder, Int64Array, ListBuilder, RecordBatch, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use arrow::json::reader::{ArrayDecoder, DecoderContext, DecoderFactory, Tape, TapeElement};
use parking_lot::Mutex;
use serde::de::IgnoredAny;
use tidecast_core::schema::Columns;
use tidecast_core::time::TimeUnit;

use super::Decoded;
use super::timestamp;
use crate::settings::Limits;
use crate::{MalformedRecord, Record};

pub struct JsonDecoder {
    /// The columns of a message.
    message_schema: SchemaRef,
    /// The position, then the columns of a message.
    row_schema: SchemaRef,
    time_unit: TimeUnit,
    message_bytes: usize,
    id_bytes: usize,
}

/// A message that is one well-formed object.
#[derive(Clone, Copy)]
struct Object<'a> {
    offset: i64,
    bytes: &'a [u8],
}

impl JsonDecoder {
    pub fn new(columns: &Columns, time_unit: TimeUnit, limits: &Limits) -> Self {
        Self {
            message_schema: Arc::new(Schema::new(columns.fields())),
            row_schema: columns.schema(),
            time_unit,
            message_bytes: limits.message_bytes,
            id_bytes: limits.id_bytes,
        }
    }

    pub fn decode(&self, messages: &[Record]) -> Decoded {
        let mut malformed = Vec::new();
        let mut objects = Vec::with_capacity(messages.len());
        for message in messages {
            match self.validate(message) {
                Ok(bytes) => objects.push(Object { offset: message.offset, bytes }),
                Err(detail) => malformed.push(MalformedRecord { offset: message.offset, detail }),
            }
        }
        // arrow-json rejects one thing that `validate` accepts, an unpaired surrogate in a string, and does not report the
        // row.
        let rows = self
            .decode_batch(&objects, &mut malformed)
            .unwrap_or_else(|_| self.decode_each(&objects, &mut malformed));
        malformed.sort_by_key(|record| record.offset);
        Decoded { rows, malformed }
    }

    /// The payload, if it is one object within the size limit.
    fn validate<'a>(&self, message: &'a Record) -> Result<&'a [u8], String> {
        let payload = message.payload.as_deref().ok_or("the message has no payload")?;
        if payload.len() > self.message_bytes {
            return Err(format!("{} bytes, more than the limit of {}", payload.len(), self.message_bytes));
        }
        let text = std::str::from_utf8(payload).map_err(|error| format!("not UTF-8: {error}"))?;
        serde_json::from_str::<IgnoredAny>(text).map_err(|error| format!("not one JSON object: {error}"))?;
        match text.trim_start().starts_with('{') {
            true => Ok(payload),
            false => Err("not a JSON object but another JSON value".to_string()),
        }
    }

    /// Decodes all objects at once. Objects with an invalid value are added to `malformed`.
    ///
    /// # Errors
    /// If the parser does not read every object as one row. `malformed` is unchanged then.
    fn decode_batch(
        &self,
        objects: &[Object],
        malformed: &mut Vec<MalformedRecord>,
    ) -> Result<RecordBatch, ArrowError> {
        if objects.is_empty() {
            return Ok(RecordBatch::new_empty(self.row_schema.clone()));
        }
        let errors = RowErrors::default();
        let decoders =
            ColumnDecoders { time_unit: self.time_unit, id_bytes: self.id_bytes, errors: errors.clone() };
        let mut decoder = ReaderBuilder::new(self.message_schema.clone())
            .with_batch_size(objects.len())
            .with_decoder_factory(Arc::new(decoders))
            .build_decoder()?;
        for (row, object) in objects.iter().enumerate() {
            let read = decoder.decode(object.bytes)?;
            if read != object.bytes.len() || decoder.len() != row + 1 || decoder.has_partial_record() {
                return Err(ArrowError::JsonError("not one object".to_string()));
            }
        }
        let values = decoder.flush()?.filter(|values| values.num_rows() == objects.len());
        let values = values.ok_or_else(|| ArrowError::JsonError("not one row per object".to_string()))?;

        let positions = Int64Array::from_iter_values(objects.iter().map(|object| object.offset));
        let mut columns: Vec<ArrayRef> = vec![Arc::new(positions)];
        columns.extend_from_slice(values.columns());
        let rows = RecordBatch::try_new(self.row_schema.clone(), columns)?;

        let errors = std::mem::take(&mut *errors.lock());
        if errors.is_empty() {
            return Ok(rows);
        }
        let valid: BooleanArray = (0..objects.len()).map(|row| Some(!errors.contains_key(&row))).collect();
        let rows = filter_record_batch(&rows, &valid)?;
        let errors = errors.into_iter();
        malformed.extend(errors.map(|(row, detail)| MalformedRecord { offset: objects[row].offset, detail }));
        Ok(rows)
    }

    /// Decodes the objects one by one, so that one the parser rejects does not fail the others.
    fn decode_each(&self, objects: &[Object], malformed: &mut Vec<MalformedRecord>) -> RecordBatch {
        let mut batches = Vec::with_capacity(objects.len());
        for object in objects {
            match self.decode_batch(std::slice::from_ref(object), malformed) {
                Ok(rows) => batches.push(rows),
                Err(error) => {
                    malformed.push(MalformedRecord { offset: object.offset, detail: error.to_string() });
                }
            }
        }
        concat_batches(&self.row_schema, &batches)
            .expect("the batches have one schema, and less text than the messages, which is below 2 GiB")
    }
}

/// The first error of each row.
type RowErrors = Arc<Mutex<BTreeMap<usize, String>>>;

/// The factory of the column decoders. The data type of a field determines its role: text is the series, a timestamp the
/// time.
#[derive(Debug)]
struct ColumnDecoders {
    time_unit: TimeUnit,
    id_bytes: usize,
    errors: RowErrors,
}

impl DecoderFactory for ColumnDecoders {
    fn make_default_decoder(
        &self,
        _: &DecoderContext,
        field: &FieldRef,
        _: bool,
    ) -> Result<Option<Box<dyn ArrayDecoder>>, ArrowError> {
        let role = match field.data_type() {
            DataType::Utf8 => ColumnRole::Series { id_bytes: self.id_bytes },
            DataType::Timestamp(..) => ColumnRole::Time { unit: self.time_unit },
            DataType::Float64 => ColumnRole::Number,
            DataType::List(_) => ColumnRole::NumberList,
            _ => return Ok(None),
        };
        let (name, errors) = (field.name().clone(), self.errors.clone());
        Ok(Some(Box::new(ColumnDecoder { name, role, errors })))
    }
}

enum ColumnRole {
    Series { id_bytes: usize },
    Time { unit: TimeUnit },
    Number,
    NumberList,
}

/// Decodes one column. An invalid value becomes a null and an error of its row, so that one flush of the whole batch still
/// identifies every malformed message.
struct ColumnDecoder {
    name: String,
    role: ColumnRole,
    errors: RowErrors,
}

impl ArrayDecoder for ColumnDecoder {
    /// `positions` has one tape index per row; index 0 means that the message lacks the key.
    fn decode(&mut self, tape: &Tape<'_>, positions: &[u32]) -> Result<ArrayRef, ArrowError> {
        Ok(match self.role {
            ColumnRole::Series { id_bytes } => {
                let mut ids = StringBuilder::with_capacity(positions.len(), positions.len() * 16);
                self.for_each(positions, |at| series(tape, at, id_bytes), |id| ids.append_option(id));
                Arc::new(ids.finish())
            }
            ColumnRole::Time { unit } => {
                let mut times =
                    TimestampMicrosecondBuilder::with_capacity(positions.len()).with_timezone("UTC");
                self.for_each(positions, |at| time(tape, at, unit), |time| times.append_option(time));
                Arc::new(times.finish())
            }
            ColumnRole::Number => {
                let mut numbers = Float64Builder::with_capacity(positions.len());
                self.for_each(
                    positions,
                    |at| number(tape, at),
                    |value| numbers.append_option(value.flatten()),
                );
                Arc::new(numbers.finish())
            }
            ColumnRole::NumberList => {
                let mut lists = ListBuilder::new(Float64Builder::new());
                let buffer = Cell::default();
                let read = |at| number_list(tape, at, &buffer);
                self.for_each(positions, read, |list| {
                    let list = list.flatten();
                    lists.append_option(list.as_ref().map(|list| list.iter().copied()));
                    list.into_iter().for_each(|list| buffer.set(list));
                });
                Arc::new(lists.finish())
            }
        })
    }
}

impl ColumnDecoder {
    /// Reads the value of each row and appends it; an invalid value is appended as `None` and its error recorded.
    fn for_each<T>(
        &self,
        positions: &[u32],
        read: impl Fn(u32) -> Result<T, String>,
        mut append: impl FnMut(Option<T>),
    ) {
        for (row, at) in positions.iter().enumerate() {
            let value = read(*at).map_err(|error| {
                self.errors.lock().entry(row).or_insert_with(|| format!("`{}` {error}", self.name));
            });
            append(value.ok());
        }
    }
}

/// A string, or the digits of an integer: ids are often numbers, and 17 can only mean "17".
fn series<'a>(tape: &Tape<'a>, at: u32, id_bytes: usize) -> Result<&'a str, String> {
    let id = match tape.get(at) {
        TapeElement::String(index) => tape.get_string(index),
        TapeElement::Number(index) if is_integer(tape.get_string(index)) => tape.get_string(index),
        _ => return Err(type_error(tape, at, "a string or an integer")),
    };
    match id.len() {
        0 => Err("is empty".to_string()),
        length if length > id_bytes => Err(format!("has {length} bytes, more than the limit of {id_bytes}")),
        _ => Ok(id),
    }
}

fn time(tape: &Tape<'_>, at: u32, unit: TimeUnit) -> Result<i64, String> {
    let time = match tape.get(at) {
        TapeElement::String(index) => timestamp::parse(tape.get_string(index)),
        TapeElement::Number(index) if is_integer(tape.get_string(index)) => {
            let count = tape.get_string(index).parse();
            count
                .map_err(|_| "does not fit 64 bits".to_string())
                .and_then(|count| timestamp::from_integer(count, unit))
        }
        _ => return Err(type_error(tape, at, "a time (text, or an integer by `time_unit`)")),
    };
    time.map_err(|error| format!("{} {error}", describe(tape, at)))
}

/// A number without loss of precision, or `None` for null and for a missing key.
fn number(tape: &Tape<'_>, at: u32) -> Result<Option<f64>, String> {
    match tape.get(at) {
        TapeElement::Null => Ok(None),
        TapeElement::Number(index) => match tape.get_string(index).parse() {
            Ok(value) if f64::is_finite(value) => Ok(Some(value)),
            _ => Err(format!("{} does not fit 64 bits", describe(tape, at))),
        },
        _ => Err(type_error(tape, at, "a number")),
    }
}

/// A list of numbers. `buffer` is the allocation of an earlier list, reused by all rows.
fn number_list(
    tape: &Tape<'_>,
    at: u32,
    buffer: &Cell<Vec<Option<f64>>>,
) -> Result<Option<Vec<Option<f64>>>, String> {
    let end = match tape.get(at) {
        TapeElement::Null => return Ok(None),
        TapeElement::StartList(end) => end,
        _ => return Err(type_error(tape, at, "a list of numbers")),
    };
    let mut values = buffer.take();
    values.clear();
    let mut item = at + 1;
    while item < end {
        values.push(number(tape, item).map_err(|error| format!("item {}: {error}", values.len()))?);
        item = tape.next(item, "item").map_err(|error| error.to_string())?;
    }
    Ok(Some(values))
}

/// True if the text of a JSON number has neither fraction nor exponent.
fn is_integer(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

fn type_error(tape: &Tape<'_>, at: u32, expected: &str) -> String {
    match tape.get(at) {
        TapeElement::Null if at == 0 => "is missing".to_string(),
        _ => format!("must be {expected}, not {}", describe(tape, at)),
    }
}

/// A value as an error message prints it. Nested values can be deep and long and are never printed.
fn describe(tape: &Tape<'_>, at: u32) -> String {
    // Enough to recognise a value, and short enough for a header and a log line.
    const CHARS_MAX: usize = 40;
    let quoted = |text: &str| match text.char_indices().nth(CHARS_MAX) {
        Some((cut, _)) => format!("`{}...`", &text[..cut]),
        None => format!("`{text}`"),
    };
    match tape.get(at) {
        TapeElement::String(index) => format!("the text {}", quoted(tape.get_string(index))),
        TapeElement::Number(index) => quoted(tape.get_string(index)),
        TapeElement::True => "true".to_string(),
        TapeElement::False => "false".to_string(),
        TapeElement::Null => "null".to_string(),
        TapeElement::StartList(_) => "a list".to_string(),
        _ => "an object".to_string(),
    }
}
