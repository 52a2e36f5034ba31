//! Which rows are read, where they stand, and how the source gives them.

use super::*;

#[test]
fn filters_choose_rows_and_keep_positions() {
    let folder = TempDir::new().unwrap();
    let path = forty(&folder);
    let all = at(&path).rows();
    assert_eq!(all.len(), 40);
    let range = Range { since: Some(105), until: Some(203) };
    for series in [None, Some(&["odd"][..]), Some(&["none"][..])] {
        let open = Open { range, series, ..at(&path) };
        let taken = |id: &str| series.is_none_or(|ids| ids.contains(&id));
        let wanted = all.iter().filter(|row| (105..203).contains(&row.2) && taken(&row.1));
        assert_eq!(open.rows(), wanted.cloned().collect::<Vec<_>>());
        // Times 0..10 and 300..310 are never read.
        assert_eq!(open.open().unwrap().row_groups(), (4, 2));
        assert_eq!(open.open().unwrap().total_rows(), 40);
    }
    let edge =
        |since, until| Open { range: Range { since, until }, ..at(&path) }.open().unwrap().row_groups().1;
    assert_eq!(edge(None, Some(100)), 3);
    assert_eq!(edge(None, Some(101)), 2);
    assert_eq!(edge(Some(109), None), 1);
    assert_eq!(edge(Some(110), None), 2);
}

#[test]
fn next_is_where_to_go_on() {
    let folder = TempDir::new().unwrap();
    let path = forty(&folder);
    let next = |open: Open| {
        let batches = open.open().unwrap().batches();
        batches.map(|batch| batch.unwrap().next).collect::<Vec<_>>()
    };
    assert_eq!(next(at(&path)), [10, 20, 30, 40].map(Position));
    let late = Open { range: Range { since: Some(205), until: None }, ..at(&path) };
    assert_eq!(next(late), [30, 40].map(Position));
    assert_eq!(next(Open { order: Order::Time, ..at(&path) }), [Position(40)]);
}

#[test]
fn what_cannot_be_read_is_malformed() {
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
    assert_eq!(at(&path).rows(), [(0, "a".into(), 1000, None)]);
    assert_eq!(malformed(&at(&path)), all);
    assert_eq!(malformed(&Open { order: Order::Time, ..at(&path) }), all);
    // What a row lacks cannot be in a filter; what it has can.
    let some = Open { series: Some(&["a"]), ..at(&path) };
    assert_eq!(malformed(&some), all[1..2]);
    let early = Open { range: Range { since: None, until: Some(3000) }, ..at(&path) };
    assert_eq!(malformed(&early), all[..1]);
}

#[test]
fn no_rows_are_no_error() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("empty.parquet");
    write(&path, 1, &[("sensor", ids(&[])), ("time", times(&[])), ("value", values(&[]))]);
    for order in [Order::File, Order::Time] {
        assert_eq!(Open { order, ..at(&path) }.rows(), []);
    }
    assert_eq!(describe(&path, &columns(), TimeUnit::default()).unwrap().times, None);
}

async fn drained(input: &mut ParquetInput) -> Vec<Batch> {
    let mut batches = Vec::new();
    loop {
        match input.next().await.unwrap() {
            Event::Rows(batch) => batches.push(batch),
            Event::End => return batches,
            other => panic!("a file says {other:?}"),
        }
    }
}

#[tokio::test]
async fn the_source_gives_what_the_iterator_gives() {
    let folder = TempDir::new().unwrap();
    let path = forty(&folder);
    for order in [Order::File, Order::Time] {
        let mut input = Open { order, ..at(&path) }.open().unwrap();
        let expected: Vec<_> = input.batches().map(Result::unwrap).collect();
        let batches = drained(&mut input).await;
        assert_eq!(format!("{batches:?}"), format!("{expected:?}"));
        assert!(matches!(input.next().await.unwrap(), Event::End));
        input.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_dropped_wait_loses_nothing_and_an_early_close_ends() {
    let folder = TempDir::new().unwrap();
    let path = forty(&folder);
    let mut input = at(&path).open().unwrap();
    let mut batches = Vec::new();
    while batches.len() < 4 {
        tokio::select! {
            biased;
            event = input.next() => match event.unwrap() {
                Event::Rows(batch) => batches.push(batch),
                other => panic!("a file says {other:?}"),
            },
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(rows(&batches, &columns()), at(&path).rows());

    let mut input = at(&path).open().unwrap();
    input.next().await.unwrap();
    input.close().await.unwrap();
    assert!(matches!(input.next().await.unwrap(), Event::End));
}

#[tokio::test]
async fn a_failure_is_not_an_end() {
    let folder = TempDir::new().unwrap();
    let path = forty(&folder);
    let mut input = at(&path).open().unwrap();
    fs::remove_file(&path).unwrap();
    says(&format!("{:#}", input.next().await.unwrap_err()), &["forty.parquet", "No such file"]);
    says(&format!("{:#}", input.next().await.unwrap_err()), &["has stopped"]);
}

#[test]
fn a_description_tells_what_is_there() {
    let folder = TempDir::new().unwrap();
    let path = forty(&folder);
    let found = describe(&path, &columns(), TimeUnit::default()).unwrap();
    assert_eq!((found.files, found.row_groups, found.rows, found.times), (1, 4, 40, Some((0, 309))));
    let fields = [("sensor", "text"), ("time", "timestamp[µs, UTC]"), ("value", "float64")];
    assert_eq!(found.fields, fields.map(|(name, found)| (name.to_string(), found.to_string())));
    let mut columns = columns();
    columns.time = "when".into();
    says(
        &format!("{:#}", describe(&path, &columns, TimeUnit::default()).unwrap_err()),
        &["no column `when`"],
    );
}
