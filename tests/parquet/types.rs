//! Columns of all accepted types.

use super::*;

/// The time of a row with this time column.
fn time_of(time: ArrayRef, unit: TimeUnit) -> i64 {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("times.parquet");
    write(&path, 1, &[("sensor", ids(&["a"])), ("time", time), ("value", values(&[1.0]))]);
    Open { unit, ..at(&path) }.rows()[0].time
}

#[test]
fn times_are_read_from_all_accepted_types() {
    let day = 86_400_000_000;
    let ms = TimeUnit::Milliseconds;
    assert_eq!(time_of(Arc::new(TimestampMillisecondArray::from(vec![-7])), ms), -7000);
    assert_eq!(
        time_of(Arc::new(TimestampMicrosecondArray::from(vec![-7]).with_timezone("Europe/Berlin")), ms),
        -7
    );
    // Nanoseconds are rounded down, also before the epoch.
    for (nanos, micros) in [(1999, 1), (1, 0), (0, 0), (-1, -1), (-1000, -1), (-1001, -2)] {
        assert_eq!(time_of(Arc::new(TimestampNanosecondArray::from(vec![nanos])), ms), micros);
        assert_eq!(time_of(Arc::new(Int64Array::from(vec![nanos])), TimeUnit::Nanoseconds), micros);
    }
    assert_eq!(time_of(Arc::new(Date32Array::from(vec![-2])), ms), -2 * day);
    assert_eq!(time_of(Arc::new(Int32Array::from(vec![3])), TimeUnit::Seconds), 3_000_000);
    assert_eq!(time_of(Arc::new(UInt64Array::from(vec![3])), ms), 3000);
    assert_eq!(time_of(Arc::new(Int16Array::from(vec![-3])), TimeUnit::Microseconds), -3);
}

#[test]
fn time_ranges_apply_to_other_time_types() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("nanos.parquet");
    let stamps = TimestampNanosecondArray::from(vec![-2500, -1500, 1500, 2500]);
    let named: [Named; 3] =
        [("sensor", ids(&["a"; 4])), ("time", Arc::new(stamps)), ("value", values(&[0.0; 4]))];
    write(&path, 1, &named);
    let open = Open { range: TimeRange { since: Some(-2), until: Some(2) }, ..at(&path) };
    assert_eq!(open.rows().iter().map(|row| row.time).collect::<Vec<_>>(), [-2, 1]);
    assert_eq!(open.open().unwrap().row_groups(), RowGroupCounts { total: 4, skipped: 2 });
}

/// The value of a row with this target column.
fn value_of(value: ArrayRef) -> Option<f64> {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("values.parquet");
    write(&path, 1, &[("sensor", ids(&["a"])), ("time", times(&[0])), ("value", value)]);
    at(&path).rows()[0].value
}

#[test]
fn numbers_are_read_from_all_accepted_types() {
    assert_eq!(value_of(Arc::new(Float32Array::from(vec![0.1]))), Some(f64::from(0.1f32)));
    assert_eq!(value_of(Arc::new(Int8Array::from(vec![-3]))), Some(-3.0));
    assert_eq!(value_of(Arc::new(UInt16Array::from(vec![7]))), Some(7.0));
    assert_eq!(value_of(Arc::new(Int64Array::from(vec![1 << 52]))), Some((1u64 << 52) as f64));
    assert_eq!(value_of(Arc::new(UInt64Array::from(vec![u64::MAX]))), Some(u64::MAX as f64));
    let decimal = Decimal128Array::from(vec![-1234]).with_precision_and_scale(10, 2).unwrap();
    assert_eq!(value_of(Arc::new(decimal)), Some(-12.34));
    assert_eq!(value_of(Arc::new(Float64Array::from(vec![None::<f64>]))), None);
    assert!(value_of(values(&[f64::NAN])).unwrap().is_nan());
}

fn id_of(id: ArrayRef) -> String {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ids.parquet");
    write(&path, 1, &[("sensor", id), ("time", times(&[0])), ("value", values(&[1.0]))]);
    at(&path).rows()[0].id.clone()
}

#[test]
fn ids_are_read_from_all_accepted_types() {
    assert_eq!(id_of(ids(&["Süd 1"])), "Süd 1");
    assert_eq!(id_of(Arc::new(StringViewArray::from(vec!["longer than 12 bytes"]))), "longer than 12 bytes");
    assert_eq!(id_of(Arc::new(Int64Array::from(vec![-12]))), "-12");
    assert_eq!(id_of(Arc::new(UInt8Array::from(vec![200]))), "200");
    let keys = UInt32Array::from(vec![1]);
    let categories: ArrayRef = Arc::new(StringViewArray::from(vec!["x", "y"]));
    assert_eq!(id_of(Arc::new(DictionaryArray::new(keys, categories))), "y");
}

#[test]
fn wide_tables_and_lists_of_future_covariates_are_read() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("wide.parquet");
    let ahead = [Some(vec![Some(1.0), None]), None, Some(vec![])];
    let ahead = ListArray::from_iter_primitive::<Float32Type, _, _>(ahead);
    let named: [Named; 5] = [
        ("unused", ids(&["x", "y", "z"])),
        ("load", values(&[1.0, 2.0, 3.0])),
        ("price", Arc::new(Int32Array::from(vec![4, 5, 6]))),
        ("weather", Arc::new(ahead)),
        ("time", times(&[7, 8, 9])),
    ];
    write(&path, 2, &named);
    let columns = Columns {
        series: None,
        only_series: "grid".into(),
        time: "time".into(),
        targets: vec!["price".into(), "load".into()],
        covariates: vec!["load".into()],
        future_covariates: vec!["weather".into()],
    };
    let open = Open { columns: columns.clone(), ..at(&path) };
    assert_eq!(open.rows()[2], row(2, "grid", 9, Some(6.0)));
    let batch = open.open().unwrap().batches().next().unwrap().unwrap();
    let view = Observations::new(&batch.rows, &columns);
    assert_eq!(view.targets[1].values()[..], [1.0, 2.0]);
    assert_eq!(view.covariates[0], view.targets[1]);
    let expected = ListArray::from_iter_primitive::<Float64Type, _, _>([Some(vec![Some(1.0), None]), None]);
    assert_eq!(view.future_covariates[0], &expected);
    assert_eq!(Open { series: Some(&["other"]), columns, ..at(&path) }.rows(), []);
}

#[test]
fn unusable_columns_are_errors_that_name_them() {
    let folder = TempDir::new().unwrap();
    write_row(&folder.path().join("1.parquet"), "a", 0);
    let path = folder.path().join("2.parquet");
    let named = |sensor, time, value| [("sensor", sensor), ("time", time), ("value", value)];
    write(&path, 1, &[("sensor", ids(&["a"])), ("zeit", times(&[0])), ("value", values(&[0.0]))]);
    assert_contains(
        &at(folder.path()).error(),
        &["2.parquet", "no column `time`", "`zeit` (timestamp[µs, UTC])", "`value` (float64)"],
    );
    write(&path, 1, &named(ids(&["a"]), ids(&["2024-01-01"]), values(&[0.0])));
    assert_contains(
        &at(folder.path()).error(),
        &["2.parquet", "`time` is text", "a timestamp, a date or an integer is needed"],
    );
    write(&path, 1, &named(values(&[1.0]), times(&[0]), values(&[0.0])));
    assert_contains(
        &at(folder.path()).error(),
        &["2.parquet", "`sensor` is float64", "text or an integer is needed"],
    );
    write(&path, 1, &named(ids(&["a"]), times(&[0]), ids(&["1.0"])));
    assert_contains(
        &at(folder.path()).error(),
        &["2.parquet", "`value` is text", "a number is needed", "`sensor` (text)"],
    );
    let mut columns = columns();
    columns.future_covariates = vec!["value".into()];
    write(&path, 1, &named(ids(&["a"]), times(&[0]), values(&[0.0])));
    assert_contains(
        &Open { columns, ..at(&path) }.error(),
        &["`value` is float64", "a list of numbers is needed"],
    );
    write(
        &path,
        1,
        &named(Arc::new(UInt8Array::from(vec![7])), times(&[0]), Arc::new(Int8Array::from(vec![1]))),
    );
    assert_eq!(at(folder.path()).rows()[1], row(1, "7", 0, Some(1.0)));
}
