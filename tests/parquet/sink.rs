//! Forecasts and scores as files.

use polars::prelude::{ParquetReader, SerReader};

use super::*;
use tidecast_core::time::HOUR;

const LEVELS: [f64; 2] = [0.8, 0.975];

/// `count` forecasts of three steps, the first with number `first`.
fn forecasts(first: usize, count: usize) -> Output {
    let stamp = OutputLabels { every: "1h".into(), model: "c0ffee".into() };
    let mut builder = ForecastBuilder::new(&LEVELS, stamp.clone());
    for n in first..first + count {
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
    for n in first..first + count {
        scores.push(
            n as i64 * 10,
            &format!("s{}", n % 5),
            "value",
            [0, HOUR],
            &crate::harness::scores(n + 1),
        );
    }
    let scores = scores.finish();
    Output { partition, forecasts: builder.finish(), scores, rejects: vec![], source: Default::default() }
}

/// Writes batches of these sizes and returns the bytes of the file.
async fn write_file(path: &Path, layout: Layout, counts: &[usize]) -> Vec<u8> {
    let mut sink = ParquetSink::create(path, layout, &LEVELS, HOUR).unwrap();
    let file = sink.path().to_path_buf();
    let mut first = 0;
    for count in counts {
        sink.write(forecasts(first, *count)).await.unwrap();
        sink.commit(&Positions::new()).await.unwrap();
        assert!(!file.exists(), "the final name does not exist before the end");
        first += count;
    }
    sink.finish().await.unwrap();
    assert!(!staged_path(&file).exists());
    fs::read(file).unwrap()
}

fn staged_path(file: &Path) -> PathBuf {
    PathBuf::from(format!("{}.partial", file.display()))
}

#[tokio::test]
async fn bytes_do_not_depend_on_the_batches() {
    // Two row groups, the second incomplete.
    for layout in [Layout::Lists, Layout::Long] {
        let mut all = Vec::new();
        for counts in [&[17_000][..], &[1, 0, 16_383, 616], &[8_500; 2]] {
            let folder = TempDir::new().unwrap();
            all.push(write_file(&folder.path().join("out.parquet"), layout, counts).await);
        }
        assert!(all.iter().all(|bytes| *bytes == all[0]));
    }
}

#[tokio::test]
async fn scores_are_written_to_their_own_table() {
    let folder = TempDir::new().unwrap();
    let forecasts = ParquetSink::create(&folder.path().join("out"), Layout::Lists, &LEVELS, HOUR).unwrap();
    let scores = Some(ParquetSink::create_scores(&folder.path().join("scores"), &[0.8]).unwrap());
    let mut sink = ForecastAndScores { forecasts, scores };
    for output in [self::forecasts(0, 3), self::forecasts(3, 4)] {
        sink.write(output).await.unwrap();
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
    let coverage: Vec<f32> =
        scores.column("coverage_80").unwrap().f32().unwrap().into_no_null_iter().collect();
    assert_eq!(coverage, [0.75; 7]);
    assert!(scores.column("drift").unwrap().bool().unwrap().all());
}

#[tokio::test]
async fn lists_layout_has_one_row_per_forecast() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("out.parquet");
    write_file(&path, Layout::Lists, &[3, 4]).await;
    let lists = ["forecast", "lower_80", "upper_80", "lower_97.5", "upper_97.5"];
    let columns = Columns {
        series: Some("series".into()),
        only_series: String::new(),
        time: "origin".into(),
        targets: vec![],
        covariates: vec![],
        future_covariates: lists.map(String::from).to_vec(),
    };
    let input = Open { columns: columns.clone(), ..at(&path) }.open().unwrap();
    let batch = input.batches().next().unwrap().unwrap();
    let view = Observations::new(&batch.rows, &columns);
    assert_eq!((view.len(), view.series.unwrap().value(6), view.times.value(6)), (7, "s1", 6 * HOUR));
    let list =
        |k: usize, row| view.future_covariates[k].value(row).as_primitive::<Float64Type>().values().to_vec();
    assert_eq!(list(0, 6), [6.0, 0.5, 0.0]);
    assert_eq!(list(4, 2), [6.0, 4.5, -4.0]);
    let fields = summarize(&path, &columns, TimeUnit::default()).unwrap().fields;
    let names =
        |schema: &Schema| schema.fields()[1..].iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    assert_eq!(
        fields.into_iter().map(|(name, _)| name).collect::<Vec<_>>(),
        names(&forecast_schema(&LEVELS))
    );
}

#[tokio::test]
async fn long_layout_has_one_row_per_step() {
    let folder = TempDir::new().unwrap();
    write_file(folder.path(), Layout::Long, &[2]).await;
    let path = folder.path().join("forecasts.parquet");
    let long = |target: &str| {
        let mut columns = columns();
        (columns.series, columns.targets) = (Some("series".into()), vec![target.into()]);
        Open { columns, ..at(&path) }.rows()
    };
    let row = |position: i64, id: &str, time: i64, value: f64| row(position, id, time * HOUR, Some(value));
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
        long("upper_97.5").iter().map(|row| row.value.unwrap()).collect::<Vec<_>>(),
        [4.0, 4.5, -4.0, 5.0, 4.5, -4.0]
    );
    assert_eq!(
        long("step").iter().map(|row| row.value.unwrap()).collect::<Vec<_>>(),
        [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]
    );
    let time_only = Columns { series: None, targets: vec![], ..columns() };
    let names = summarize(&path, &time_only, TimeUnit::default());
    let names: Vec<String> = names.unwrap().fields.into_iter().map(|(name, _)| name).collect();
    let expected =
        "series target origin every step time forecast lower_80 upper_80 lower_97.5 upper_97.5 model";
    assert_eq!(names.join(" "), expected);
}

#[tokio::test]
async fn file_without_forecasts_has_no_rows() {
    let folder = TempDir::new().unwrap();
    for layout in [Layout::Lists, Layout::Long] {
        write_file(&folder.path().join("none.parquet"), layout, &[]).await;
        let mut columns = columns();
        (columns.series, columns.time, columns.targets) = (Some("series".into()), "origin".into(), vec![]);
        let summary = summarize(&folder.path().join("none.parquet"), &columns, TimeUnit::default()).unwrap();
        assert_eq!((summary.rows, summary.files), (0, 1));
        fs::remove_file(folder.path().join("none.parquet")).unwrap();
    }
}

#[tokio::test]
async fn unfinished_file_never_has_the_final_name() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("deep/er/out.parquet");
    let mut sink = ParquetSink::create(&path, Layout::Lists, &LEVELS, HOUR).unwrap();
    fs::write(&path, "an earlier file").unwrap();
    sink.write(forecasts(0, 20_000)).await.unwrap();
    assert!(staged_path(&path).exists());
    drop(sink);
    assert!(!staged_path(&path).exists());
    assert_eq!(fs::read(&path).unwrap(), b"an earlier file");

    // A finished file replaces it, and the staged file of a killed process.
    fs::write(staged_path(&path), "half").unwrap();
    let mut sink = ParquetSink::create(&path, Layout::Lists, &LEVELS, HOUR).unwrap();
    sink.write(forecasts(0, 5)).await.unwrap();
    sink.finish().await.unwrap();
    assert!(fs::read(&path).unwrap().starts_with(b"PAR1"));
    assert_contains(&format!("{:#}", sink.finish().await.unwrap_err()), &["out.parquet", "is finished"]);
}

#[tokio::test]
async fn second_writer_of_a_file_is_an_error_and_does_not_damage_it() {
    let (folder, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let path = folder.path().join("out.parquet");
    let mut first = ParquetSink::create(&path, Layout::Lists, &LEVELS, HOUR).unwrap();
    first.write(forecasts(0, 17_000)).await.unwrap();
    let second = ParquetSink::create(&path, Layout::Lists, &LEVELS, HOUR).err().unwrap();
    assert_contains(
        &format!("{second:#}"),
        &["out.parquet is being written by another process", "name another path"],
    );
    first.finish().await.unwrap();
    let expected = write_file(&other.path().join("out.parquet"), Layout::Lists, &[17_000]).await;
    assert!(fs::read(&path).unwrap() == expected);
    // The staged file is unlocked again.
    ParquetSink::create(&path, Layout::Lists, &LEVELS, HOUR).unwrap();
}

#[tokio::test]
async fn writers_of_the_same_file_do_not_conflict_and_stale_files_are_removed() {
    let folder = TempDir::new().unwrap();
    let create = |instance: &str| {
        let config =
            ParquetSinkConfig { path: folder.path().into(), layout: Layout::Lists, positions_per_file: 100 };
        RollingParquetSink::create(&config, &LEVELS, HOUR, Delivery::ExactlyOnce, instance).unwrap()
    };
    let names = || {
        let entries = fs::read_dir(folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<BTreeSet<_>>()
    };
    let name = format!("in-0-{:020}-{:020}.parquet", 0, 100);
    let file = folder.path().join(&name);
    // Two of killed processes with the same name, and one of another instance.
    for suffix in [".a.3.partial", ".a.partial", ".b.0.partial"] {
        fs::write(folder.path().join(format!("{name}{suffix}")), "half").unwrap();
    }
    let mut old = create("a");
    old.write(forecasts(0, 5)).await.unwrap();
    let mut new = create("a");
    new.write(forecasts(0, 10)).await.unwrap();
    let open = [".a.0.partial", ".a.1.partial", ".b.0.partial"].map(|suffix| format!("{name}{suffix}"));
    assert_eq!(names(), open.into());
    // Both complete the file, with the same bytes.
    new.commit(&[(forecasts(0, 0).partition, Position(100))].into()).await.unwrap();
    let complete = fs::read(&file).unwrap();
    old.write(forecasts(5, 6)).await.unwrap();
    assert!(fs::read(&file).unwrap() == complete);
    drop((old, new));
    assert_eq!(names(), [name.clone(), format!("{name}.b.0.partial")].into());
}

#[tokio::test]
async fn write_failures_are_errors_that_name_the_file() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let create = |path: &Path| ParquetSink::create(path, Layout::Lists, &LEVELS, HOUR);
    let error = create(&folder.path().join("file/out.parquet")).err().unwrap();
    assert_contains(&format!("{error:#}"), &["cannot create", "file"]);

    // The staged file is a device that is always full.
    if cfg!(target_os = "linux") {
        let path = folder.path().join("full.parquet");
        #[cfg(unix)]
        std::os::unix::fs::symlink("/dev/full", staged_path(&path)).unwrap();
        let mut sink = create(&path).unwrap();
        sink.write(forecasts(0, 10)).await.unwrap();
        let error = sink.finish().await.unwrap_err();
        assert_contains(&format!("{error:#}"), &["cannot write", "full.parquet.partial", "No space left"]);
        assert!(!path.exists() && !staged_path(&path).exists());
    }
}
