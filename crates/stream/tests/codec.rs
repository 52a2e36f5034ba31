//! Valid messages become rows, invalid ones become malformed records, and neither affects another message.

use arrow::array::Array;
use proptest::prelude::*;
use tidecast_core::schema::{Columns, Observations, format_time};
use tidecast_core::time::TimeUnit;
use tidecast_stream::Record;
use tidecast_stream::codec::*;
use tidecast_stream::settings::{Limits, MessageFormat};

fn columns() -> Columns {
    Columns {
        series: Some("id".into()),
        only_series: "all".into(),
        time: "t".into(),
        targets: vec!["v".into()],
        covariates: vec!["c".into()],
        future_covariates: vec!["plan".into()],
    }
}

fn codec() -> Codec {
    let limits = Limits { series: 10, message_bytes: 200, id_bytes: 8, ..Limits::default() };
    Codec::new(MessageFormat::Json, &columns(), TimeUnit::Seconds, &limits)
}

fn record(offset: i64, payload: impl AsRef<[u8]>) -> Record {
    Record { offset, payload: Some(payload.as_ref().to_vec().into()), ..Record::default() }
}

/// The error detail of `payload`, decoded between two valid messages that must become rows.
fn detail(payload: impl AsRef<[u8]>) -> String {
    let valid = r#"{"id":"a","t":1,"v":1}"#;
    let decoded = codec().decode(&[record(3, valid), record(5, payload.as_ref()), record(9, valid)]);
    let rows = Observations::new(&decoded.rows, &columns());
    assert_eq!(rows.positions.values(), &[3, 9], "{:?}", decoded.malformed);
    assert_eq!(decoded.malformed[0].offset, 5);
    decoded.malformed[0].detail.clone()
}

#[test]
fn every_invalid_message_is_malformed_with_a_reason() {
    let big = format!(r#"{{"id":"a","t":1,"x":"{}"}}"#, "x".repeat(200));
    let cases: &[(&[u8], &str)] = &[
        (b"", "EOF while parsing"),
        (b"  ", "EOF while parsing"),
        (b"{", "EOF while parsing"),
        (br#"{"id":"a","t":1} {"id":"b","t":2}"#, "trailing characters"),
        (br#"{"id":"a","t":1}}"#, "trailing characters"),
        (br#"{"id":"a","t":1}x"#, "trailing characters"),
        (br#"{"id":"a" "t":1}"#, "expected `,` or `}`"),
        (br#"{"id":"a","t":1,}"#, "key must be a string"),
        (br#"[{"id":"a","t":1}]"#, "another JSON value"),
        (b"17", "another JSON value"),
        (b"null", "another JSON value"),
        (b"{\"id\":\"\xff\",\"t\":1}", "not UTF-8"),
        (br#"{"id":"\ud800","t":1}"#, "surrogate"),
        (big.as_bytes(), "more than the limit of 200"),
        (br#"{"t":1}"#, "`id` is missing"),
        (br#"{"id":null,"t":1}"#, "`id` must be a string or an integer, not null"),
        (br#"{"id":1.5,"t":1}"#, "`id` must be a string or an integer, not `1.5`"),
        (br#"{"id":true,"t":1}"#, "not true"),
        (br#"{"id":["a"],"t":1}"#, "not a list"),
        (br#"{"id":{"a":1},"t":1}"#, "not an object"),
        (br#"{"id":"","t":1}"#, "`id` is empty"),
        (br#"{"id":"123456789","t":1}"#, "`id` has 9 bytes, more than the limit of 8"),
        (br#"{"id":"a"}"#, "`t` is missing"),
        (br#"{"id":"a","t":null}"#, "`t` must be a time"),
        (br#"{"id":"a","t":1.5}"#, "`t` must be a time"),
        (br#"{"id":"a","t":"soon"}"#, "`t` the text `soon` is not a time"),
        (br#"{"id":"a","t":99999999999999999999}"#, "does not fit 64 bits"),
        (br#"{"id":"a","t":1711886400000}"#, "is `time_unit` right?"),
        (br#"{"id":"a","t":1,"v":"1.5"}"#, "`v` must be a number, not the text `1.5`"),
        (br#"{"id":"a","t":1,"v":false}"#, "`v` must be a number, not false"),
        (br#"{"id":"a","t":1,"v":NaN}"#, "expected value"),
        (br#"{"id":"a","t":1,"v":-Infinity}"#, "invalid number"),
        (br#"{"id":"a","t":1,"v":01}"#, "invalid number"),
        (br#"{"id":"a","t":1,"v":1e999}"#, "`v` `1e999` does not fit 64 bits"),
        (br#"{"id":"a","t":1,"c":[]}"#, "`c` must be a number, not a list"),
        (br#"{"id":"a","t":1,"plan":1}"#, "`plan` must be a list of numbers"),
        (br#"{"id":"a","t":1,"plan":[1,"2"]}"#, "`plan` item 1: must be a number, not the text `2`"),
    ];
    for (payload, expected) in cases {
        let detail = detail(payload);
        assert!(detail.contains(expected), "{}: {detail}", String::from_utf8_lossy(payload));
    }
    let deep = format!(r#"{{"id":"a","t":1,"v":{}{}}}"#, "[".repeat(80), "]".repeat(80));
    assert!(detail(deep).contains("not a list"));
    let tombstone = codec().decode(&[Record { offset: 4, ..Record::default() }]);
    assert_eq!((tombstone.rows.num_rows(), tombstone.malformed[0].offset), (0, 4));
}

#[test]
fn values_are_decoded_bit_for_bit() {
    let payload = concat!(
        r#"  {"more":{"x":[1,{}]},"v":0.1,"c":-2.2250738585072014e-308,"id":"é\n","t":"2024-03-31T02:00:00+01:00","#,
        r#""plan":[1,null,9007199254740993]}"#,
        "\n"
    );
    let decoded =
        codec().decode(&[record(7, payload), record(8, r#"{"id":17,"t":-1,"v":1,"v":null,"plan":null}"#)]);
    assert_eq!(decoded.malformed, []);
    let columns = columns();
    let rows = Observations::new(&decoded.rows, &columns);
    let series = rows.series.unwrap();
    assert_eq!((series.value(0), series.value(1)), ("é\n", "17"));
    assert_eq!(rows.times.values(), &[1_711_846_800_000_000, -1_000_000]);
    assert_eq!(rows.targets[0].value(0).to_bits(), 0.1f64.to_bits());
    assert_eq!(rows.covariates[0].value(0), -2.2250738585072014e-308);
    assert!(
        rows.targets[0].is_null(1) && rows.covariates[0].is_null(1) && rows.future_covariates[0].is_null(1)
    );
    let plan = rows.future_covariates[0].value(0);
    assert_eq!((plan.len(), plan.null_count()), (3, 1));
}

#[test]
fn without_a_series_column_the_rows_have_no_series() {
    let columns = Columns { series: None, ..columns() };
    let limits = Limits { series: 1, message_bytes: 1000, id_bytes: 8, ..Limits::default() };
    let codec = Codec::new(MessageFormat::Json, &columns, TimeUnit::Milliseconds, &limits);
    let decoded = codec.decode(&[record(0, r#"{"t":5,"v":2}"#)]);
    let rows = Observations::new(&decoded.rows, &columns);
    assert!(rows.series.is_none());
    assert_eq!((rows.times.value(0), rows.targets[0].value(0)), (5_000, 2.0));
}

/// A message, and its value if it is valid.
fn message() -> impl Strategy<Value = (Vec<u8>, Option<f64>)> {
    let valid = any::<f64>().prop_filter("finite", |v| v.is_finite()).prop_map(|v| {
        let payload = serde_json::json!({"id": "s", "t": 1, "v": v, "plan": [v]});
        (payload.to_string().into_bytes(), Some(v))
    });
    let invalid = prop_oneof![
        Just(br#"{"id":"a","t":1}{"id":"a","t":1}"#.to_vec()),
        Just(br#"{"id":"\udc00","t":1}"#.to_vec()),
        Just(br#"{"id":"a","t":1,"v":"1"}"#.to_vec()),
        Just(br#"{"id":"a","#.to_vec()),
        Just(br#""t":1}"#.to_vec()),
        Just(Vec::new()),
        proptest::collection::vec(any::<u8>(), 0..20),
    ];
    prop_oneof![valid, invalid.prop_map(|bytes| (bytes, None))]
}

proptest! {
    /// In any mix of valid and invalid messages every value keeps its offset, and every message is a row or malformed.
    #[test]
    fn rows_keep_their_offsets(messages in proptest::collection::vec((message(), 1i64..5), 0..40)) {
        let mut offset = 0;
        let mut records = Vec::new();
        let mut expected = Vec::new();
        for ((payload, value), step) in messages {
            offset += step;
            expected.extend(value.map(|value| (offset, value.to_bits())));
            records.push(record(offset, payload));
        }
        let decoded = codec().decode(&records);
        let columns = columns();
        let rows = Observations::new(&decoded.rows, &columns);
        let values = rows.targets[0].values().iter().map(|value| value.to_bits());
        let found: Vec<_> = rows.positions.values().iter().copied().zip(values).collect();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(rows.len() + decoded.malformed.len(), records.len());
        prop_assert!(decoded.malformed.is_sorted_by(|a, b| a.offset < b.offset));
    }

    /// `replay` writes rows that decode to the same bits.
    #[test]
    fn written_rows_decode_to_the_same_bits(v in any::<f64>(), t in -1_000_000_000_000i64..4_000_000_000_000_000) {
        let columns = columns();
        let text = format_time(t);
        let number = if v.is_finite() { format!("{v:e}") } else { "null".into() };
        let first = codec().decode(&[record(6, format!(r#"{{"id":"a","t":"{text}","v":{number},"plan":[{number}]}}"#))]);
        let mut written = Vec::new();
        RowWriter::new(&first.rows).unwrap().write(0, &mut written).unwrap();
        let second = codec().decode(&[record(6, &written)]);
        prop_assert_eq!(&first.rows, &second.rows);
        prop_assert_eq!(Observations::new(&second.rows, &columns).times.value(0), t);
        if v.is_finite() {
            prop_assert_eq!(Observations::new(&second.rows, &columns).targets[0].value(0).to_bits(), v.to_bits());
        }
    }
}
