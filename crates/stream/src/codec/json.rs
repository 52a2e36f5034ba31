//! Observations from JSON: a message is exactly one object, and its keys are the column names.
//!
//! | part | accepted |
//! |---|---|
//! | series | a non-empty string; or an integer, which stands for its digits |
//! | time | text as RFC 3339 (without a zone: UTC), or an integer counting `time_unit`; floored to microseconds |
//! | targets, covariates | a number, read to the last bit; null or no key is a missing value |
//! | known ahead | a list of numbers and nulls; null or no key is no list |
//!
//! Other keys are ignored, and of a repeated key the last one counts. All else makes the message malformed, with a
//! detail that says what: a number in quotes, NaN and Infinity (which JSON does not have), a number beyond 64 bits, a
//! second object, anything after the object, a missing payload (a tombstone), a payload or an id above its limit.
//!
//! How rows keep to their offsets: each message is checked alone to be one well-formed object; then all of them are
//! parsed onto one tape, counting a row after each; then each column is read from the tape at one go.

use std::sync::Arc;

use arrow::array::{BooleanArray, Int64Array, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use serde::de::IgnoredAny;

use super::Decoded;
use super::field::{Faults, Fields};
use crate::config::{Limits, TimeUnit};
use crate::{Malformed, Record};
use tidecast_core::table::Columns;

pub struct Json {
    /// What a message holds.
    fields: SchemaRef,
    /// The same behind the position.
    schema: SchemaRef,
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

impl Json {
    pub fn new(columns: &Columns, time_unit: TimeUnit, limits: &Limits) -> Self {
        Self {
            fields: Arc::new(Schema::new(columns.fields())),
            schema: columns.schema(),
            time_unit,
            message_bytes: limits.message_bytes,
            id_bytes: limits.id_bytes,
        }
    }

    pub fn decode(&self, messages: &[Record]) -> Decoded {
        let mut malformed = Vec::new();
        let mut objects = Vec::with_capacity(messages.len());
        for message in messages {
            match self.object(message) {
                Ok(bytes) => objects.push(Object { offset: message.offset, bytes }),
                Err(detail) => malformed.push(Malformed { offset: message.offset, detail }),
            }
        }
        let rows = self.together(&objects, &mut malformed).unwrap_or_else(|_| {
            // The parser is pickier than the check above in one thing, half a surrogate pair in a string, and does not
            // say whose it is.
            self.one_by_one(&objects, &mut malformed)
        });
        malformed.sort_by_key(|message| message.offset);
        Decoded { rows, malformed }
    }

    /// The payload, if it is one object and not too long.
    fn object<'a>(&self, message: &'a Record) -> Result<&'a [u8], String> {
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

    /// One row for each object, less those with a value that does not fit, which join `malformed`.
    ///
    /// Fails, with nothing added, when the parser does not take every object as one row.
    fn together(
        &self,
        objects: &[Object],
        malformed: &mut Vec<Malformed>,
    ) -> Result<RecordBatch, ArrowError> {
        if objects.is_empty() {
            return Ok(RecordBatch::new_empty(self.schema.clone()));
        }
        let faults = Faults::default();
        let factory = Fields { time_unit: self.time_unit, id_bytes: self.id_bytes, faults: faults.clone() };
        let mut decoder = ReaderBuilder::new(self.fields.clone())
            .with_batch_size(objects.len())
            .with_decoder_factory(Arc::new(factory))
            .build_decoder()?;
        for (row, object) in objects.iter().enumerate() {
            let read = decoder.decode(object.bytes)?;
            if read != object.bytes.len() || decoder.len() != row + 1 || decoder.has_partial_record() {
                return Err(ArrowError::JsonError("not one object".to_string()));
            }
        }
        let values = decoder.flush()?.filter(|values| values.num_rows() == objects.len());
        let values = values.ok_or_else(|| ArrowError::JsonError("not one row an object".to_string()))?;

        let positions = Int64Array::from_iter_values(objects.iter().map(|object| object.offset));
        let mut columns = vec![Arc::new(positions) as _];
        columns.extend_from_slice(values.columns());
        let rows = RecordBatch::try_new(self.schema.clone(), columns)?;

        let faults = faults.take();
        if faults.is_empty() {
            return Ok(rows);
        }
        let sound: BooleanArray = (0..objects.len()).map(|row| Some(!faults.contains_key(&row))).collect();
        let rows = filter_record_batch(&rows, &sound)?;
        let refused = faults.into_iter();
        malformed.extend(refused.map(|(row, detail)| Malformed { offset: objects[row].offset, detail }));
        Ok(rows)
    }

    fn one_by_one(&self, objects: &[Object], malformed: &mut Vec<Malformed>) -> RecordBatch {
        let mut batches = Vec::with_capacity(objects.len());
        for object in objects {
            match self.together(std::slice::from_ref(object), malformed) {
                Ok(rows) => batches.push(rows),
                Err(error) => malformed.push(Malformed { offset: object.offset, detail: error.to_string() }),
            }
        }
        concat_batches(&self.schema, &batches)
            .expect("rows of one schema, whose text is less than the messages' and so below 2 GiB")
    }
}
