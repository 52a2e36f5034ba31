//! `backfill`: input files, output files, and failures that leave the output unchanged.

use super::forecasts::{parse_lines, read_parquet};
use super::*;

const TABLES: &str = "[source.parquet]\npath = \"in\"\n[sink.parquet]\npath = \"out.parquet\"\n";

/// A pipeline from the folder `in` to `out.parquet`.
fn workspace() -> Workspace {
    let workspace = Workspace::new(TABLES);
    fs::create_dir(workspace.path("in")).unwrap();
    workspace
}

/// Asserts that the previous output is unchanged and there is no other file.
#[track_caller]
fn assert_nothing_written(workspace: &Workspace) {
    assert_eq!(fs::read(workspace.path("out.parquet")).unwrap(), b"the previous output");
    assert_eq!(workspace.files(""), ["in", "model.safetensors", "out.parquet", "p.toml"]);
}

#[test]
fn lines_and_files_contain_the_forecasts() {
    let workspace = workspace();
    let rows = readings(&["a", "b", "c"], 0..50);
    workspace.write_readings("in/1.parquet", &rows[..70]);
    workspace.write_readings("in/2.parquet", &rows[70..]);
    let outcome = workspace.run("backfill p.toml --to -").succeeds();
    assert_eq!(
        by_series(outcome.stdout.lines()),
        expected(&Case::default(), &rows, OnEndOfInput::CloseSteps)
    );
    assert_eq!((outcome.count("rows"), outcome.count("forecasts"), outcome.count("series")), (150, 144, 3));

    let outcome = workspace.run("backfill p.toml").succeeds();
    assert_eq!(outcome.stdout, "");
    let written = read_parquet(&workspace.path("out.parquet"));
    assert_eq!(written, parse_lines(workspace.run("backfill p.toml --to -").stdout.lines()));
    // The file is replaced by an equal one.
    let bytes = fs::read(workspace.path("out.parquet")).unwrap();
    fs::write(workspace.path("out.parquet"), "the previous output").unwrap();
    workspace.run("backfill p.toml --quiet").succeeds();
    assert_eq!(fs::read(workspace.path("out.parquet")).unwrap(), bytes);
    workspace.run("backfill p.toml --to elsewhere/x.parquet").succeeds();
    assert_eq!(fs::read(workspace.path("elsewhere/x.parquet")).unwrap(), bytes);
}

#[test]
fn selected_rows_are_forecast_like_a_whole_history() {
    let workspace = workspace();
    let rows = readings(&["a", "b", "c"], 0..60);
    workspace.write_readings("in/1.parquet", &rows);
    let within = |row: &Row, from: i64, to: i64| (from..to).contains(&(row.time / 1_000_000));
    let selected = |filter: &dyn Fn(&Row) -> bool, on_end_of_input| {
        let selected: Vec<Row> = rows.iter().filter(|row| filter(row)).cloned().collect();
        expected(&Case::default(), &selected, on_end_of_input)
    };
    let lines = |flags: &str| {
        by_series(workspace.run(&format!("backfill p.toml --to - {flags}")).succeeds().stdout.lines())
    };
    let (since, until) = ("--since 1970-01-01T00:02:00Z", "--until 1970-01-01T00:06:00Z");
    assert_eq!(lines(since), selected(&|row| within(row, 120, 999), OnEndOfInput::CloseSteps));
    assert_eq!(lines(until), selected(&|row| within(row, 0, 360), OnEndOfInput::CloseSteps));
    assert_eq!(
        lines(&format!("{since} {until}")),
        selected(&|row| within(row, 120, 360), OnEndOfInput::CloseSteps)
    );
    assert_eq!(lines("--series b"), selected(&|row| row.series == "b", OnEndOfInput::CloseSteps));
    assert_eq!(lines("--series c --series a"), selected(&|row| row.series != "b", OnEndOfInput::CloseSteps));
    assert_eq!(lines("--leave-open"), selected(&|_| true, OnEndOfInput::LeaveOpen));
    assert_ne!(lines("--leave-open"), lines(""));
    assert_eq!(lines("--series missing"), Lines::new());
}

#[test]
fn an_input_without_rows_gives_an_empty_file() {
    let workspace = workspace();
    workspace.write_readings("in/1.parquet", &[]);
    workspace.run("backfill p.toml").succeeds().logs(&["in has no rows", "0 rows"]);
    assert_eq!(read_parquet(&workspace.path("out.parquet")), []);
    assert_eq!(workspace.run("backfill p.toml --to -").succeeds().stdout, "");
}

#[test]
fn unreadable_files_are_named() {
    let workspace = workspace();
    let whole = fs::read(workspace.write_readings("in/1.parquet", &readings(&["a"], 0..20))).unwrap();
    fs::write(workspace.path("out.parquet"), "the previous output").unwrap();
    let half = whole.len() / 2;
    for bytes in [&b""[..], b"time,sensor,value\n1,a,2.5\n", &whole[..half], &whole[..whole.len() - 1]] {
        fs::write(workspace.path("in/1.parquet"), bytes).unwrap();
        let why =
            format!("({} bytes) is not a complete Parquet file (rewrite it, or remove it)", bytes.len());
        workspace.run("backfill p.toml").fails(&["in/1.parquet", &why]);
        assert_nothing_written(&workspace);
    }
    fs::remove_file(workspace.path("in/1.parquet")).unwrap();
    workspace.run("backfill p.toml").fails(&["no *.parquet file in the folder in"]);
    workspace.run("backfill p.toml --from gone.parquet").fails(&["cannot read gone.parquet"]);
    workspace.run("backfill p.toml --from gone/*.parquet").fails(&["no file matches gone/*.parquet"]);
    assert_nothing_written(&workspace);
}

#[test]
fn a_missing_column_is_named_with_the_existing_ones() {
    let workspace = workspace();
    workspace.write_readings("in/1.parquet", &readings(&["a"], 0..20));
    workspace.change("targets = [\"value\"]", "targets = [\"level\"]");
    workspace.run("backfill p.toml").fails(&["in/1.parquet", "level", "sensor", "value"]);
}

#[test]
fn a_failure_leaves_the_previous_output() {
    let workspace = workspace();
    let rows = readings(&["a", "b"], 0..2000);
    workspace.write_readings("in/1.parquet", &rows[..2000]);
    let mut damaged = fs::read(workspace.write_readings("in/2.parquet", &rows[2000..])).unwrap();
    fs::write(workspace.path("out.parquet"), "the previous output").unwrap();
    // The footer is intact, so the damage is found only when the second file is read.
    damaged[4..400].fill(0);
    fs::write(workspace.path("in/2.parquet"), &damaged).unwrap();
    workspace.run("backfill p.toml").fails(&["in/2.parquet"]);
    assert_nothing_written(&workspace);
    // Forecasts before the failure are printed.
    let outcome = workspace.run("backfill p.toml --to -").fails(&["in/2.parquet"]);
    let printed = parse_lines(outcome.stdout.lines());
    assert!(printed.len() < 1996, "{}", printed.len());
}

#[test]
fn a_closed_standard_output_ends_the_program() {
    let workspace = workspace();
    workspace.write_readings("in/1.parquet", &readings(&["a", "b"], 0..3000));
    let mut running = workspace.start("backfill p.toml --to -");
    running.read_lines(1);
    running.stop_reading();
    running.finish().fails(&["the reading program has exited"]);
}
