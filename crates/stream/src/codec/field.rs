//! The values of one column, taken from the tape of parsed messages. A value that does not fit becomes a null and a
//! note against its row: the whole batch is decoded at once, and still every bad row is known by its own number.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, Float64Builder, ListBuilder, StringBuilder, TimestampMicrosecondBuilder};
use arrow::datatypes::{DataType, FieldRef};
use arrow::error::ArrowError;
use arrow::json::reader::{ArrayDecoder, DecoderContext, DecoderFactory, Tape, TapeElement};

use super::time;
use crate::config::TimeUnit;

/// What was wrong with rows, by row; the first column that complains wins.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults(Arc<Mutex<BTreeMap<usize, String>>>);

impl Faults {
    fn add(&self, row: usize, detail: String) {
        self.0.lock().expect("no holder panics").entry(row).or_insert(detail);
    }

    pub fn take(&self) -> BTreeMap<usize, String> {
        std::mem::take(&mut self.0.lock().expect("no holder panics"))
    }
}

/// Makes the decoder of each column by its type, which tells its part: text is the series, a timestamp the time.
#[derive(Debug)]
pub(super) struct Fields {
    pub time_unit: TimeUnit,
    pub id_bytes: usize,
    pub faults: Faults,
}

impl DecoderFactory for Fields {
    fn make_default_decoder(
        &self,
        _: &DecoderContext,
        field: &FieldRef,
        _: bool,
    ) -> Result<Option<Box<dyn ArrayDecoder>>, ArrowError> {
        let part = match field.data_type() {
            DataType::Utf8 => Part::Series { id_bytes: self.id_bytes },
            DataType::Timestamp(..) => Part::Time { unit: self.time_unit },
            DataType::Float64 => Part::Number,
            DataType::List(_) => Part::Numbers,
            _ => return Ok(None),
        };
        Ok(Some(Box::new(Column { name: field.name().clone(), part, faults: self.faults.clone() })))
    }
}

enum Part {
    Series { id_bytes: usize },
    Time { unit: TimeUnit },
    Number,
    Numbers,
}

struct Column {
    name: String,
    part: Part,
    faults: Faults,
}

impl ArrayDecoder for Column {
    /// `positions` has one place on the tape a row; place 0 stands for a key that is not in the message.
    fn decode(&mut self, tape: &Tape<'_>, positions: &[u32]) -> Result<ArrayRef, ArrowError> {
        Ok(match self.part {
            Part::Series { id_bytes } => {
                let mut ids = StringBuilder::with_capacity(positions.len(), positions.len() * 16);
                self.each(positions, |at| series(tape, at, id_bytes), |id| ids.append_option(id));
                Arc::new(ids.finish())
            }
            Part::Time { unit } => {
                let mut times =
                    TimestampMicrosecondBuilder::with_capacity(positions.len()).with_timezone("UTC");
                self.each(positions, |at| instant(tape, at, unit), |time| times.append_option(time));
                Arc::new(times.finish())
            }
            Part::Number => {
                let mut numbers = Float64Builder::with_capacity(positions.len());
                self.each(positions, |at| number(tape, at), |value| numbers.append_option(value.flatten()));
                Arc::new(numbers.finish())
            }
            Part::Numbers => {
                let mut lists = ListBuilder::new(Float64Builder::new());
                let room = Cell::default();
                let read = |at| numbers(tape, at, &room);
                self.each(positions, read, |list| {
                    let list = list.flatten();
                    lists.append_option(list.as_ref().map(|list| list.iter().copied()));
                    list.into_iter().for_each(|list| room.set(list));
                });
                Arc::new(lists.finish())
            }
        })
    }
}

impl Column {
    /// Reads each row's value and keeps it, or `None` and what was wrong with it.
    fn each<T>(
        &self,
        positions: &[u32],
        read: impl Fn(u32) -> Result<T, String>,
        mut keep: impl FnMut(Option<T>),
    ) {
        for (row, at) in positions.iter().enumerate() {
            let value = read(*at).map_err(|wrong| self.faults.add(row, format!("`{}` {wrong}", self.name)));
            keep(value.ok());
        }
    }
}

/// A text, or an integer by its digits: ids are often numbers, and 17 can only mean "17".
fn series<'a>(tape: &Tape<'a>, at: u32, id_bytes: usize) -> Result<&'a str, String> {
    let id = match tape.get(at) {
        TapeElement::String(index) => tape.get_string(index),
        TapeElement::Number(index) if is_integer(tape.get_string(index)) => tape.get_string(index),
        _ => return Err(unfit(tape, at, "a string or an integer")),
    };
    match id.len() {
        0 => Err("is empty".to_string()),
        length if length > id_bytes => Err(format!("has {length} bytes, more than the limit of {id_bytes}")),
        _ => Ok(id),
    }
}

fn instant(tape: &Tape<'_>, at: u32, unit: TimeUnit) -> Result<i64, String> {
    let time = match tape.get(at) {
        TapeElement::String(index) => time::from_text(tape.get_string(index)),
        TapeElement::Number(index) if is_integer(tape.get_string(index)) => {
            let count = tape.get_string(index).parse();
            count.map_err(|_| "does not fit 64 bits".to_string()).and_then(|n| time::from_integer(n, unit))
        }
        _ => return Err(unfit(tape, at, "a time (text, or an integer by `time_unit`)")),
    };
    time.map_err(|wrong| format!("{} {wrong}", describe(tape, at)))
}

/// A number to the last bit, or `None` for null and for a key that is not there.
fn number(tape: &Tape<'_>, at: u32) -> Result<Option<f64>, String> {
    match tape.get(at) {
        TapeElement::Null => Ok(None),
        TapeElement::Number(index) => match tape.get_string(index).parse() {
            Ok(value) if f64::is_finite(value) => Ok(Some(value)),
            _ => Err(format!("{} does not fit 64 bits", describe(tape, at))),
        },
        _ => Err(unfit(tape, at, "a number")),
    }
}

/// `room` is what an earlier list had: one is enough for all rows.
fn numbers(
    tape: &Tape<'_>,
    at: u32,
    room: &Cell<Vec<Option<f64>>>,
) -> Result<Option<Vec<Option<f64>>>, String> {
    let end = match tape.get(at) {
        TapeElement::Null => return Ok(None),
        TapeElement::StartList(end) => end,
        _ => return Err(unfit(tape, at, "a list of numbers")),
    };
    let mut values = room.take();
    values.clear();
    let mut item = at + 1;
    while item < end {
        values.push(number(tape, item).map_err(|wrong| format!("item {}: {wrong}", values.len()))?);
        item = tape.next(item, "item").map_err(|error| error.to_string())?;
    }
    Ok(Some(values))
}

/// Whether the text of a JSON number has neither fraction nor exponent.
fn is_integer(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

fn unfit(tape: &Tape<'_>, at: u32, expected: &str) -> String {
    match tape.get(at) {
        TapeElement::Null if at == 0 => "is missing".to_string(),
        _ => format!("must be {expected}, not {}", describe(tape, at)),
    }
}

/// A value as a person would name it. Never prints a nested one: those can be deep and long.
fn describe(tape: &Tape<'_>, at: u32) -> String {
    // Enough to recognise a value by, and short enough for a header and a log line.
    const SHOWN: usize = 40;
    let quoted = |text: &str| match text.char_indices().nth(SHOWN) {
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
