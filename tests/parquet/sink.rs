//! Forecasts to files.

use polars::prelude::{ParquetReader, SerReader};

use super::*;

const LEVELS: [f64; 2] = [0.8, 0.975];

/// `count` forecasts of three steps, from the one of that number on.
fn forecasts(from: usize, count: usize) -> Output {
    let stamp = ForecastStamp { every: "1h".into(), model: "c0ffee".into() };
    let mut builder = ForecastBuilder::new(&LEVELS, stamp.clone());
    for n in from..from + count {
        let list = |k: f32| vec![k + n as f32, k + 0.5, -k];
        let lists: Vec<Vec<f32>> = (0..5).map(|k| list(k as f32)).collect();
        builder.push(
            n as i64 * 10,
            &format!("s{}", n % 5),
            "value",
            n as i64 * HOUR,
            lists.iter().map(Vec::as_slice),
        );
    }
    let partition = Partition { topic: "in".into(), number: 0 };
    let mut scores = ScoreBuilder::new(&[0.8], stamp);
    for n in from..from + count {
        scores.push(
            n as i64 * 10,
            &format!("s{}", n % 5),
            "value",
            [0, HOUR],
            &crate::harness::scores(n + 1),
        );
    }
    let scores = scores.finish();
    Output { partition, forecasts: builder.finish(), scores, rejects: vec![], origins: Default::default() }
}

const HOUR: i64 = 3_600_000_000;

async fn written(path: &Path, layout: Layout, counts: &[usize]) -> Vec<u8> {
    let mut sink = ParquetOutput::create(path, layout, &LEVELS, HOUR).unwrap();
    let file = sink.path().to_path_buf();
    let mut from = 0;
    for count in counts {
        sink.write(forecasts(from, *count)).await.unwrap();
        sink.commit(&Positions::new()).await.unwrap();
        assert!(!file.exists(), "nothing is under the final name before the end");
        from += count;
    }
    sink.finish().await.unwrap();
    assert!(!partial_of(&file).exists());
    fs::read(file).unwrap()
}

fn partial_of(file: &Path) -> PathBuf {
    PathBuf::from(format!("{}.partial", file.display()))
}

#[tokio::test]
async fn bytes_do_not_depend_on_batches() {
    // Two row groups, the second a partial one.
    for layout in [Layout::Lists, Layout::Long] {
        let mut all = Vec::new();
        for counts in [&[17_000][..], &[1, 0, 16_383, 616], &[8_500; 2]] {
            let folder = TempDir::new().unwrap();
            all.push(written(&folder.path().join("out.parquet"), layout, counts).await);
        }
        assert!(all.iter().all(|bytes| *bytes == all[0]));
    }
}

#[tokio::test]
async fn scores_are_a_table_beside_the_forecasts() {
    let folder = TempDir::new().unwrap();
    let forecasts = ParquetOutput::create(&folder.path().join("out"), Layout::Lists, &LEVELS, HOUR).unwrap();
    let scores = Some(ParquetOutput::create_scores(&folder.path().join("scores"), &[0.8]).unwrap());
    let mut sink = WithScores { forecasts, scores };
    for part in [self::forecasts(0, 3), self::forecasts(3, 4)] {
        sink.write(part).await.unwrap();
    }
    sink.finish().await.unwrap();
    let read = |name: &str| {
        let file = fs::File::open(folder.path().join(name)).unwrap();
        ParquetReader::new(file).finish().unwrap()
    };
    assert_eq!(read("out/forecasts.parquet").height(), 7);
    let scores = read("scores/scores.parquet");
    assert_eq!(scores.height(), 7);
    let horizons: Vec<i32> = scores.column("horizon").unwrap().i32().unwrap().into_no_null_iter().collect();
    assert_eq!(horizons, [1, 2, 3, 4, 5, 6, 7]);
    let within: Vec<f32> = scores.column("coverage_80").unwrap().f32().unwrap().into_no_null_iter().collect();
    assert_eq!(within, [0.75; 7]);
    assert!(scores.column("drift").unwrap().bool().unwrap().all());
}

/// All rows of a written file, as text: one line a row.
fn lines(path: &Path, columns: Columns) -> Vec<(i64, String, i64, Option<f64>)> {
    Open { columns, ..at(path) }.rows()
}

#[tokio::test]
async fn lists_come_back() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("out.parquet");
    written(&path, Layout::Lists, &[3, 4]).await;
    let lists = ["forecast", "lower_80", "upper_80", "lower_97.5", "upper_97.5"];
    let columns = Columns {
        series: Some("series".into()),
        only_series: String::new(),
        time: "origin".into(),
        targets: vec![],
        covariates: vec![],
        known_ahead: lists.map(String::from).to_vec(),
    };
    let input = Open { columns: columns.clone(), ..at(&path) }.open().unwrap();
    let batch = input.batches().next().unwrap().unwrap();
    let view = Observations::new(&batch.rows, &columns);
    assert_eq!((view.len(), view.series.unwrap().value(6), view.times.value(6)), (7, "s1", 6 * HOUR));
    let list = |k: usize, row| view.known_ahead[k].value(row).as_primitive::<Float64Type>().values().to_vec();
    assert_eq!(list(0, 6), [6.0, 0.5, 0.0]);
    assert_eq!(list(4, 2), [6.0, 4.5, -4.0]);
    let fields = describe(&path, &columns, TimeUnit::default()).unwrap().fields;
    let names =
        |schema: &Schema| schema.fields()[1..].iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    assert_eq!(
        fields.into_iter().map(|(name, _)| name).collect::<Vec<_>>(),
        names(&forecast_schema(&LEVELS))
    );
}

#[tokio::test]
async fn a_row_a_step() {
    let folder = TempDir::new().unwrap();
    written(folder.path(), Layout::Long, &[2]).await;
    let path = folder.path().join("forecasts.parquet");
    let long = |target: &str| {
        let mut columns = columns();
        (columns.series, columns.targets) = (Some("series".into()), vec![target.into()]);
        lines(&path, columns)
    };
    let row = |n: i64, id: &str, time: i64, value: f64| (n, id.to_string(), time * HOUR, Some(value));
    let expected = [
        row(0, "s0", 1, 0.0),
        row(1, "s0", 2, 0.5),
        row(2, "s0", 3, 0.0),
        row(3, "s1", 2, 1.0),
        row(4, "s1", 3, 0.5),
        row(5, "s1", 4, 0.0),
    ];
    assert_eq!(long("forecast"), expected);
    assert_eq!(
        long("upper_97.5").iter().map(|row| row.3.unwrap()).collect::<Vec<_>>(),
        [4.0, 4.5, -4.0, 5.0, 4.5, -4.0]
    );
    assert_eq!(
        long("step").iter().map(|row| row.3.unwrap()).collect::<Vec<_>>(),
        [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]
    );
    let names = describe(
        &path,
        &{
            let mut c = columns();
            c.series = None;
            c.targets = vec![];
            c
        },
        TimeUnit::default(),
    );
    let names: Vec<String> = names.unwrap().fields.into_iter().map(|(name, _)| name).collect();
    let expected =
        "series target origin every step time forecast lower_80 upper_80 lower_97.5 upper_97.5 model";
    assert_eq!(names.join(" "), expected);
}

#[tokio::test]
async fn no_forecasts_are_a_file_without_rows() {
    let folder = TempDir::new().unwrap();
    for layout in [Layout::Lists, Layout::Long] {
        written(&folder.path().join("none.parquet"), layout, &[]).await;
        let mut columns = columns();
        (columns.series, columns.time, columns.targets) = (Some("series".into()), "origin".into(), vec![]);
        let found = describe(&folder.path().join("none.parquet"), &columns, TimeUnit::default()).unwrap();
        assert_eq!((found.rows, found.files), (0, 1));
        fs::remove_file(folder.path().join("none.parquet")).unwrap();
    }
}

#[tokio::test]
async fn an_unfinished_file_never_has_its_name() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("deep/er/out.parquet");
    let mut sink = ParquetOutput::create(&path, Layout::Lists, &LEVELS, HOUR).unwrap();
    fs::write(&path, "the file of last time").unwrap();
    sink.write(forecasts(0, 20_000)).await.unwrap();
    assert!(partial_of(&path).exists());
    drop(sink);
    assert!(!partial_of(&path).exists());
    assert_eq!(fs::read(&path).unwrap(), b"the file of last time");

    // A finished one replaces it, and a partial file that a killed process left.
    fs::write(partial_of(&path), "half").unwrap();
    let mut sink = ParquetOutput::create(&path, Layout::Lists, &LEVELS, HOUR).unwrap();
    sink.write(forecasts(0, 5)).await.unwrap();
    sink.finish().await.unwrap();
    assert!(fs::read(&path).unwrap().starts_with(b"PAR1"));
    says(&format!("{:#}", sink.finish().await.unwrap_err()), &["out.parquet", "is finished"]);
}

#[tokio::test]
async fn a_second_writer_of_a_file_is_told_so_and_does_it_no_harm() {
    let (folder, alone) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let path = folder.path().join("out.parquet");
    let mut first = ParquetOutput::create(&path, Layout::Lists, &LEVELS, HOUR).unwrap();
    first.write(forecasts(0, 17_000)).await.unwrap();
    let second = ParquetOutput::create(&path, Layout::Lists, &LEVELS, HOUR).err().unwrap();
    says(&format!("{second:#}"), &["out.parquet is being written by another process", "name another path"]);
    first.finish().await.unwrap();
    let whole = written(&alone.path().join("out.parquet"), Layout::Lists, &[17_000]).await;
    assert!(fs::read(&path).unwrap() == whole);
    // Its name is free again.
    ParquetOutput::create(&path, Layout::Lists, &LEVELS, HOUR).unwrap();
}

#[tokio::test]
async fn parts_of_one_name_are_written_side_by_side_and_swept_once_nobody_writes_them() {
    let folder = TempDir::new().unwrap();
    let parts = |instance: &str| {
        let config = ParquetSink { path: folder.path().into(), layout: Layout::Lists, positions: 100 };
        ParquetParts::create(&config, &LEVELS, HOUR, Delivery::ExactlyOnce, instance).unwrap()
    };
    let names = || {
        let entries = fs::read_dir(folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<BTreeSet<_>>()
    };
    let part = format!("in-0-{:020}-{:020}.parquet", 0, 100);
    let file = folder.path().join(&part);
    // Of a killed process, of the same in the build before, and of another instance.
    for left in [".a.3.partial", ".a.partial", ".b.0.partial"] {
        fs::write(folder.path().join(format!("{part}{left}")), "half").unwrap();
    }
    let mut taken_for_dead = parts("a");
    taken_for_dead.write(forecasts(0, 5)).await.unwrap();
    let mut next = parts("a");
    next.write(forecasts(0, 10)).await.unwrap();
    let open = [".a.0.partial", ".a.1.partial", ".b.0.partial"].map(|end| format!("{part}{end}"));
    assert_eq!(names(), open.into());
    // Each finishes its own, and they are the same.
    next.commit(&[(forecasts(0, 0).partition, Position(100))].into()).await.unwrap();
    let whole = fs::read(&file).unwrap();
    taken_for_dead.write(forecasts(5, 6)).await.unwrap();
    assert!(fs::read(&file).unwrap() == whole);
    drop((taken_for_dead, next));
    assert_eq!(names(), [part.clone(), format!("{part}.b.0.partial")].into());
}

#[tokio::test]
async fn what_cannot_be_written_is_said() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let create = |path: &Path| ParquetOutput::create(path, Layout::Lists, &LEVELS, HOUR);
    let error = create(&folder.path().join("file/out.parquet")).err().unwrap();
    says(&format!("{error:#}"), &["cannot create", "file"]);

    // The device that is always full stands in for the partial file.
    if cfg!(target_os = "linux") {
        let path = folder.path().join("full.parquet");
        #[cfg(unix)]
        std::os::unix::fs::symlink("/dev/full", partial_of(&path)).unwrap();
        let mut sink = create(&path).unwrap();
        sink.write(forecasts(0, 10)).await.unwrap();
        let error = sink.finish().await.unwrap_err();
        says(&format!("{error:#}"), &["cannot write", "full.parquet.partial", "No space left"]);
        assert!(!path.exists() && !partial_of(&path).exists());
    }
}
