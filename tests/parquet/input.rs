//! Reading: which files and rows an input has, their positions and order, and damaged files.

use super::*;

#[test]
fn input_is_a_file_a_folder_or_a_pattern() {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    for (id, name) in [("c", "b/2.parquet"), ("a", "a/1.parquet"), ("d", "b.parquet"), ("b", "a/x/9.parquet")]
    {
        write_row(&root.join(name), id, 1);
    }
    for name in [".hidden.parquet", "_temporary/1.parquet", "a/1.parquet.partial", "readme.txt"] {
        fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        fs::write(root.join(name), "not a table").unwrap();
    }
    let found = |path: &str| at(&root.join(path)).rows().into_iter().map(|row| row.id).collect::<String>();
    // Byte order of the whole path: `b.parquet` before `b/2.parquet`.
    assert_eq!(found(""), "abdc");
    assert_eq!(found("a"), "ab");
    assert_eq!(found("b.parquet"), "d");
    assert_eq!(found("*.parquet"), "d");
    assert_eq!(found("[ab]/?.parquet"), "ac");
    assert_eq!(found("**/*.parquet"), "abdc");
    // Matches folders at every depth.
    assert_eq!(found("**"), "abc");
    assert_eq!(at(root).rows().into_iter().map(|row| row.position).collect::<Vec<_>>(), [0, 1, 2, 3]);
    let input = at(root).open().unwrap();
    assert_eq!(input.partition(), &Partition { topic: root.to_str().unwrap().into(), number: 0 });
    assert_eq!(input.total_rows(), 4);
}

#[test]
fn missing_files_are_an_error() {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    assert_contains(&at(&root.join("absent.parquet")).error(), &["absent.parquet", "cannot read"]);
    assert_contains(
        &at(&root.join("*.parquet")).error(),
        &["no file matches", "*.parquet", "; correct the pattern"],
    );
    assert_contains(
        &at(root).error(),
        &["no *.parquet file in the folder", root.to_str().unwrap(), "; name the right folder"],
    );
}

#[test]
fn hive_folders_give_the_series() {
    let folder = TempDir::new().unwrap();
    for (id, time) in [("a%2Fb", 2), ("c", 1), ("__HIVE_DEFAULT_PARTITION__", 3)] {
        let path = folder.path().join(format!("sensor={id}/part.parquet"));
        write(&path, 1, &[("time", times(&[time])), ("value", values(&[0.5]))]);
    }
    let open = at(folder.path());
    assert_eq!(open.rows(), [row(1, "a/b", 2, Some(0.5)), row(2, "c", 1, Some(0.5))]);
    assert_eq!(malformed(&open), [(0, "no series id".to_string())]);
    let only = Open { series: Some(&["c"]), ..at(folder.path()) };
    assert_eq!(only.rows(), [row(2, "c", 1, Some(0.5))]);
    assert_eq!(only.open().unwrap().row_groups(), RowGroupCounts { total: 3, skipped: 1 });
    let mut columns = columns();
    columns.targets = vec!["sensor".into()];
    columns.series = None;
    assert_contains(
        &Open { columns, ..at(folder.path()) }.error(),
        &["folder gives `sensor` as text", "a number is needed"],
    );
}

#[test]
fn filters_select_rows_and_preserve_positions() {
    let folder = TempDir::new().unwrap();
    let path = write_forty_rows(&folder);
    let all = at(&path).rows();
    assert_eq!(all.len(), 40);
    let range = TimeRange { since: Some(105), until: Some(203) };
    for series in [None, Some(&["odd"][..]), Some(&["none"][..])] {
        let open = Open { range, series, ..at(&path) };
        let is_wanted = |id: &str| series.is_none_or(|ids| ids.contains(&id));
        let expected = all.iter().filter(|row| (105..203).contains(&row.time) && is_wanted(&row.id));
        assert_eq!(open.rows(), expected.cloned().collect::<Vec<_>>());
        // The row groups with times 0..10 and 300..310 are skipped.
        assert_eq!(open.open().unwrap().row_groups(), RowGroupCounts { total: 4, skipped: 2 });
        assert_eq!(open.open().unwrap().total_rows(), 40);
    }
    let skipped = |since, until| {
        Open { range: TimeRange { since, until }, ..at(&path) }.open().unwrap().row_groups().skipped
    };
    assert_eq!(skipped(None, Some(100)), 3);
    assert_eq!(skipped(None, Some(101)), 2);
    assert_eq!(skipped(Some(109), None), 1);
    assert_eq!(skipped(Some(110), None), 2);
}

#[test]
fn batches_carry_the_position_after_their_last_row() {
    let folder = TempDir::new().unwrap();
    let path = write_forty_rows(&folder);
    let next = |open: Open| {
        let batches = open.open().unwrap().batches();
        batches.map(|batch| batch.unwrap().next).collect::<Vec<_>>()
    };
    assert_eq!(next(at(&path)), [10, 20, 30, 40].map(Position));
    let late = Open { range: TimeRange { since: Some(205), until: None }, ..at(&path) };
    assert_eq!(next(late), [30, 40].map(Position));
    assert_eq!(next(Open { order: Order::Time, ..at(&path) }), [Position(40)]);
}

#[test]
fn rows_without_a_valid_id_or_time_are_malformed() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("holes.parquet");
    let sensors =
        StringArray::from(vec![Some("a"), None, Some("a"), Some("an id of 21 bytes ..."), Some("b")]);
    let stamps = Int64Array::from(vec![Some(1), Some(2), None, Some(4), Some(i64::MAX)]);
    let value = Float64Array::from(vec![None, Some(1.0), Some(1.0), Some(1.0), Some(1.0)]);
    let named: [Named; 3] =
        [("sensor", Arc::new(sensors)), ("time", Arc::new(stamps)), ("value", Arc::new(value))];
    write(&path, 5, &named);
    let all = [
        (1, "no series id".to_string()),
        (2, "no time".to_string()),
        (3, "series id of 21 bytes, more than 20".to_string()),
        (4, "the time does not fit into 64 bits of microseconds".to_string()),
    ];
    assert_eq!(at(&path).rows(), [row(0, "a", 1000, None)]);
    assert_eq!(malformed(&at(&path)), all);
    assert_eq!(malformed(&Open { order: Order::Time, ..at(&path) }), all);
    // A filter on a missing value drops the row.
    let some = Open { series: Some(&["a"]), ..at(&path) };
    assert_eq!(malformed(&some), all[1..2]);
    let early = Open { range: TimeRange { since: None, until: Some(3000) }, ..at(&path) };
    assert_eq!(malformed(&early), all[..1]);
}

#[test]
fn empty_input_is_not_an_error() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("empty.parquet");
    write(&path, 1, &[("sensor", ids(&[])), ("time", times(&[])), ("value", values(&[]))]);
    for order in [Order::File, Order::Time] {
        assert_eq!(Open { order, ..at(&path) }.rows(), []);
    }
    assert_eq!(summarize(&path, &columns(), TimeUnit::default()).unwrap().times, None);
}

async fn read_all(input: &mut ParquetSource) -> Vec<Batch> {
    let mut batches = Vec::new();
    loop {
        match input.next().await.unwrap() {
            SourceEvent::Batch(batch) => batches.push(batch),
            SourceEvent::EndOfInput => return batches,
            other => panic!("unexpected event {other:?}"),
        }
    }
}

#[tokio::test]
async fn source_gives_the_same_batches_as_the_iterator() {
    let folder = TempDir::new().unwrap();
    let path = write_forty_rows(&folder);
    for order in [Order::File, Order::Time] {
        let mut input = Open { order, ..at(&path) }.open().unwrap();
        let expected: Vec<_> = input.batches().map(Result::unwrap).collect();
        let batches = read_all(&mut input).await;
        assert_eq!(format!("{batches:?}"), format!("{expected:?}"));
        assert!(matches!(input.next().await.unwrap(), SourceEvent::EndOfInput));
        input.close().await.unwrap();
    }
}

#[tokio::test]
async fn next_is_cancel_safe_and_close_ends_the_input() {
    let folder = TempDir::new().unwrap();
    let path = write_forty_rows(&folder);
    let mut input = at(&path).open().unwrap();
    let mut batches = Vec::new();
    while batches.len() < 4 {
        tokio::select! {
            biased;
            event = input.next() => match event.unwrap() {
                SourceEvent::Batch(batch) => batches.push(batch),
                other => panic!("unexpected event {other:?}"),
            },
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(rows(&batches, &columns()), at(&path).rows());

    let mut input = at(&path).open().unwrap();
    input.next().await.unwrap();
    input.close().await.unwrap();
    assert!(matches!(input.next().await.unwrap(), SourceEvent::EndOfInput));
}

#[tokio::test]
async fn failure_is_not_the_end_of_the_input() {
    let folder = TempDir::new().unwrap();
    let path = write_forty_rows(&folder);
    let mut input = at(&path).open().unwrap();
    fs::remove_file(&path).unwrap();
    assert_contains(&format!("{:#}", input.next().await.unwrap_err()), &["forty.parquet", "No such file"]);
    assert_contains(&format!("{:#}", input.next().await.unwrap_err()), &["has stopped"]);
}

#[test]
fn summary_has_files_rows_columns_and_times() {
    let folder = TempDir::new().unwrap();
    let path = write_forty_rows(&folder);
    let summary = summarize(&path, &columns(), TimeUnit::default()).unwrap();
    assert_eq!((summary.files, summary.row_groups, summary.rows, summary.times), (1, 4, 40, Some((0, 309))));
    let fields = [("sensor", "text"), ("time", "timestamp[µs, UTC]"), ("value", "float64")];
    assert_eq!(summary.fields, fields.map(|(name, found)| (name.to_string(), found.to_string())));
    let mut columns = columns();
    columns.time = "when".into();
    assert_contains(
        &format!("{:#}", summarize(&path, &columns, TimeUnit::default()).unwrap_err()),
        &["no column `when`"],
    );
}

/// 1500 rows, many with the same time: 1200 row groups of one row, then row groups of 90.
fn write_shuffled(folder: &TempDir) {
    for (file, rows, group) in [("1", 0..1200i64, 1), ("2", 1200..1500, 90)] {
        let names: Vec<String> = rows.clone().map(|row| format!("s{}", row % 7)).collect();
        let named = [
            ("sensor", ids(&names.iter().map(String::as_str).collect::<Vec<_>>())),
            ("time", times(&rows.clone().map(|row| (row * 7919) % 101 - 50).collect::<Vec<_>>())),
            ("value", values(&rows.map(|row| row as f64).collect::<Vec<_>>())),
        ];
        write(&folder.path().join(file).with_extension("parquet"), group, &named);
    }
}

/// Number of temporary folders of this process. Only the test below exceeds the memory for sorting.
fn temp_folders() -> usize {
    let prefix = format!("tidecast-sort-{}-", std::process::id());
    let names = fs::read_dir(std::env::temp_dir()).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with(&prefix)).count()
}

#[tokio::test]
async fn time_order_is_a_stable_sort_for_any_run_size() {
    let folder = TempDir::new().unwrap();
    write_shuffled(&folder);
    let range = TimeRange { since: Some(-48), until: Some(50) };
    let input = |run_rows| {
        let open = Open { range, order: Order::Time, ..at(folder.path()) };
        open.open().unwrap().with_run_rows(run_rows)
    };
    let mut expected = Open { range, ..at(folder.path()) }.rows();
    expected.sort_by_key(|row| row.time);
    // Runs of one row need three levels of merges.
    assert!(expected.len() > 1200);
    for run_rows in [1 << 20, 500, 37, 1] {
        let mut batches = input(run_rows).batches();
        let first = batches.next().unwrap().unwrap();
        assert_eq!(temp_folders(), usize::from(run_rows < expected.len()));
        let batches = std::iter::once(Ok(first)).chain(batches).collect::<anyhow::Result<Vec<_>>>().unwrap();
        assert_eq!(rows(&batches, &columns()), expected, "runs of {run_rows} rows");
        assert_eq!(temp_folders(), 0);
    }
    let mut closed = input(37);
    closed.next().await.unwrap();
    closed.close().await.unwrap();
    assert_eq!(temp_folders(), 0);
}

#[test]
fn truncated_file_is_an_error() {
    let folder = TempDir::new().unwrap();
    let bytes = fs::read(write_forty_rows(&folder)).unwrap();
    let path = folder.path().join("cut.parquet");
    for length in (0..bytes.len()).step_by(7).chain([1, 4, 8, 12, bytes.len() - 1]) {
        fs::write(&path, &bytes[..length]).unwrap();
        assert_contains(
            &at(&path).error(),
            &["cut.parquet", &format!("({length} bytes) is not a complete Parquet file")],
        );
    }
    fs::write(&path, "sensor,time,value\na,1,2\n".repeat(50)).unwrap();
    assert_contains(&at(&path).error(), &["cut.parquet", "not a complete Parquet file"]);
}

#[test]
fn file_with_a_hole_is_an_error() {
    let folder = TempDir::new().unwrap();
    let bytes = fs::read(write_forty_rows(&folder)).unwrap();
    let path = folder.path().join("hole.parquet");
    // A lost disk block reads as zeros: in the data, then in the footer.
    for hole in [4..200, bytes.len() - 300..bytes.len() - 100] {
        let mut damaged = bytes.clone();
        damaged[hole].fill(0);
        fs::write(&path, &damaged).unwrap();
        assert_contains(&at(&path).error(), &["hole.parquet"]);
    }
}

#[test]
fn file_that_changes_while_reading_is_an_error() {
    let folder = TempDir::new().unwrap();
    for name in ["1", "2"] {
        write_row(&folder.path().join(format!("{name}.parquet")), name, 1);
    }
    let mut batches = at(folder.path()).open().unwrap().batches();
    batches.next().unwrap().unwrap();
    let named = [("sensor", ids(&["a", "b"])), ("time", times(&[1, 2])), ("value", values(&[1.0, 2.0]))];
    write(&folder.path().join("2.parquet"), 2, &named);
    assert_contains(&format!("{:#}", batches.next().unwrap().unwrap_err()), &["2.parquet changed"]);
    assert!(batches.next().is_none());
}
