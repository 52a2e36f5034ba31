//! `init` and `completions`.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch};

use super::*;

#[test]
fn init_writes_a_valid_pipeline_for_each_sample() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    for (sample, texts) in [
        (
            "sensors",
            ["series = \"sensor\"", "targets = [\"value\"]", "every = \"1h\"", "\ncomplete_after = 1"],
        ),
        (
            "motes",
            [
                "series = \"mote\"",
                "targets = [\"humidity\", \"temperature\"]",
                "every = \"5s\"",
                "\ncomplete_after = 1",
            ],
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let data = samples.join(sample).join("readings.parquet");
        let line = format!("init {} --out {sample}.toml", data.display());
        let created = Running::start(folder.path(), &line).finish().succeeds();
        created.logs(&[
            &format!("tidecast check {sample}.toml"),
            &format!("tidecast train {sample}.toml --data"),
        ]);
        let text = fs::read_to_string(folder.path().join(format!("{sample}.toml"))).unwrap();
        for expected in texts {
            assert!(text.contains(expected), "{expected} is not in {text}");
        }
        // Only the model is missing.
        let check = Running::start(folder.path(), &format!("check {sample}.toml")).finish();
        let problems = check.fails(&["does not exist; train one"]).stderr;
        assert_eq!(problems.lines().filter(|line| line.starts_with("  ")).count(), 1, "{problems}");
        // The commented tables are valid, too.
        let whole: String = text.lines().skip(2).map(|line| format!("{}\n", uncommented(line))).collect();
        fs::write(folder.path().join("whole.toml"), &whole).unwrap();
        for table in ["[source.kafka]", "[sink.kafka]", "[state]", "[scores]", "[sink.scores]", "[serve]"] {
            assert!(whole.lines().any(|line| line == table), "{table} is not in {whole}");
        }
        let check = Running::start(folder.path(), "check whole.toml").finish();
        let problems = check.fails(&["does not exist; train one"]).stderr;
        assert_eq!(problems.lines().filter(|line| line.starts_with("  ")).count(), 1, "{problems}");
        Running::start(folder.path(), &line).finish().fails(&["exists already", "--out"]);
    }
}

/// A line of a pipeline file, with a commented table or key uncommented.
fn uncommented(line: &str) -> &str {
    let bare = line.strip_prefix("# ").unwrap_or(line);
    let is_key = bare.starts_with('[') || bare.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
    if is_key { bare } else { line }
}

/// Writes a reading every quarter of an hour, with integer times of this many units per second.
fn write_integer_times(path: &Path, per_second: i64) {
    let times = (0..50).map(|i| (1_700_000_000 + 900 * i) * per_second);
    let columns: [(&str, ArrayRef); 2] = [
        ("ts", Arc::new(Int64Array::from_iter_values(times))),
        ("kw", Arc::new(Float64Array::from_iter_values((0..50).map(f64::from)))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut table = TableWriter::create(path, &batch.schema()).unwrap();
    table.write_group(&batch).unwrap();
    table.finish().unwrap();
}

#[test]
fn the_unit_of_integer_times_is_detected() {
    let workspace = Workspace::new("");
    for (unit, per_second) in [("s", 1), ("ms", 1000), ("us", 1_000_000), ("ns", 1_000_000_000)] {
        write_integer_times(&workspace.path(&format!("{unit}.parquet")), per_second);
        workspace.run(&format!("init {unit}.parquet --out {unit}.toml")).succeeds();
        let text = fs::read_to_string(workspace.path(&format!("{unit}.toml"))).unwrap();
        for expected in [&format!("time_unit = \"{unit}\""), "time = \"ts\"", "every = \"15m\"", "# series ="]
        {
            assert!(text.contains(expected), "{expected} is not in {text}");
        }
        workspace.run(&format!("check {unit}.toml")).fails(&["does not exist; train one"]);
    }
}

#[test]
fn a_hive_partition_can_be_the_series() {
    let workspace = Workspace::new("");
    for id in ["a", "b"] {
        fs::create_dir_all(workspace.path(&format!("in/plant={id}"))).unwrap();
        write_integer_times(&workspace.path(&format!("in/plant={id}/1.parquet")), 1);
    }
    workspace.run("init in --out a.toml").succeeds();
    let text = fs::read_to_string(workspace.path("a.toml")).unwrap();
    assert!(text.contains("series = \"plant\"") && text.contains(": 2 series"), "{text}");
}

#[test]
fn invalid_roles_are_rejected_and_nothing_is_written() {
    let workspace = Workspace::new("");
    let rows: Vec<Row> = (0..50).map(|i| row("a", 1_700_000_000 + 900 * i, 1.0)).collect();
    workspace.write_readings("in.parquet", &rows);
    workspace
        .run("init in.parquet --out b.toml --target time")
        .fails(&["has two roles; name the columns with --time"]);
    workspace
        .run("init in.parquet --out b.toml --target missing")
        .fails(&["there is no column \"missing\"", "has the columns"]);
    assert!(!workspace.path("b.toml").exists());
}

#[test]
fn completion_scripts_contain_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = Workspace::new("").run(&format!("completions {shell}")).succeeds().stdout;
        for command in ["backfill", "evaluate", "init"] {
            assert!(script.contains(command), "{command} is not in {script}");
        }
    }
}
