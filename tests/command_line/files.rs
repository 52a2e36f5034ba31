//! `backfill`: what it reads, what it leaves behind, and what it does not.

use super::table::{parsed, stored};
use super::*;

const ENDS: &str = "[source.parquet]\npath = \"in\"\n[sink.parquet]\npath = \"out.parquet\"\n";

/// A pipeline from the folder `in` to `out.parquet`.
fn workspace() -> Workspace {
    let workspace = Workspace::new(ENDS);
    fs::create_dir(workspace.path("in")).unwrap();
    workspace
}

/// That the output of last time is untouched and nothing else lies beside it.
#[track_caller]
fn nothing_was_written(workspace: &Workspace) {
    assert_eq!(fs::read(workspace.path("out.parquet")).unwrap(), b"the file of last time");
    assert_eq!(workspace.files(""), ["in", "model.safetensors", "out.parquet", "p.toml"]);
}

#[test]
fn lines_and_files_hold_what_the_forecaster_says() {
    let workspace = workspace();
    let rows = readings(&["a", "b", "c"], 0..50);
    workspace.readings("in/1.parquet", &rows[..70]);
    workspace.readings("in/2.parquet", &rows[70..]);
    let outcome = workspace.run("backfill p.toml --to -").succeeds();
    assert_eq!(by_series(outcome.stdout.lines()), expected(&Case::default(), &rows, true));
    assert_eq!((outcome.count("rows"), outcome.count("forecasts"), outcome.count("series")), (150, 144, 3));

    let outcome = workspace.run("backfill p.toml").succeeds();
    assert_eq!(outcome.stdout, "");
    let written = stored(&workspace.path("out.parquet"));
    assert_eq!(written, parsed(workspace.run("backfill p.toml --to -").stdout.lines()));
    // What is there is replaced, by the same bytes.
    let bytes = fs::read(workspace.path("out.parquet")).unwrap();
    fs::write(workspace.path("out.parquet"), "the file of last time").unwrap();
    workspace.run("backfill p.toml --quiet").succeeds();
    assert_eq!(fs::read(workspace.path("out.parquet")).unwrap(), bytes);
    workspace.run("backfill p.toml --to elsewhere/x.parquet").succeeds();
    assert_eq!(fs::read(workspace.path("elsewhere/x.parquet")).unwrap(), bytes);
}

#[test]
fn a_part_of_the_history_is_forecast_as_if_it_were_all() {
    let workspace = workspace();
    let rows = readings(&["a", "b", "c"], 0..60);
    workspace.readings("in/1.parquet", &rows);
    let within = |row: &Row, from: i64, to: i64| (from..to).contains(&(row.time / 1_000_000));
    let of = |keep: &dyn Fn(&Row) -> bool, finish| {
        let kept: Vec<Row> = rows.iter().filter(|row| keep(row)).cloned().collect();
        expected(&Case::default(), &kept, finish)
    };
    let lines = |words: &str| {
        by_series(workspace.run(&format!("backfill p.toml --to - {words}")).succeeds().stdout.lines())
    };
    let (since, until) = ("--since 1970-01-01T00:02:00Z", "--until 1970-01-01T00:06:00Z");
    assert_eq!(lines(since), of(&|row| within(row, 120, 999), true));
    assert_eq!(lines(until), of(&|row| within(row, 0, 360), true));
    assert_eq!(lines(&format!("{since} {until}")), of(&|row| within(row, 120, 360), true));
    assert_eq!(lines("--series b"), of(&|row| row.series == "b", true));
    assert_eq!(lines("--series c --series a"), of(&|row| row.series != "b", true));
    assert_eq!(lines("--leave-open"), of(&|_| true, false));
    assert_ne!(lines("--leave-open"), lines(""));
    assert_eq!(lines("--series nobody"), Lines::new());
}

#[test]
fn no_rows_are_an_empty_whole_file() {
    let workspace = workspace();
    workspace.readings("in/1.parquet", &[]);
    workspace.run("backfill p.toml").succeeds().says(&["in has no rows", "0 rows"]);
    assert_eq!(stored(&workspace.path("out.parquet")), []);
    assert_eq!(workspace.run("backfill p.toml --to -").succeeds().stdout, "");
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let workspace = workspace();
    let whole = fs::read(workspace.readings("in/1.parquet", &readings(&["a"], 0..20))).unwrap();
    fs::write(workspace.path("out.parquet"), "the file of last time").unwrap();
    let half = whole.len() / 2;
    for bytes in [&b""[..], b"time,sensor,value\n1,a,2.5\n", &whole[..half], &whole[..whole.len() - 1]] {
        fs::write(workspace.path("in/1.parquet"), bytes).unwrap();
        let why =
            format!("({} bytes) is not a whole Parquet file (write it anew, or take it away)", bytes.len());
        workspace.run("backfill p.toml").fails(&["in/1.parquet", &why]);
        nothing_was_written(&workspace);
    }
    fs::remove_file(workspace.path("in/1.parquet")).unwrap();
    workspace.run("backfill p.toml").fails(&["no *.parquet file in the folder in"]);
    workspace.run("backfill p.toml --from gone.parquet").fails(&["cannot read gone.parquet"]);
    workspace.run("backfill p.toml --from gone/*.parquet").fails(&["no file matches gone/*.parquet"]);
    nothing_was_written(&workspace);
}

#[test]
fn a_missing_column_is_named_with_those_that_are_there() {
    let workspace = workspace();
    workspace.readings("in/1.parquet", &readings(&["a"], 0..20));
    workspace.change("targets = [\"value\"]", "targets = [\"level\"]");
    workspace.run("backfill p.toml").fails(&["in/1.parquet", "level", "sensor", "value"]);
}

#[test]
fn a_failure_midway_leaves_what_was_there() {
    let workspace = workspace();
    let rows = readings(&["a", "b"], 0..2000);
    workspace.readings("in/1.parquet", &rows[..2000]);
    let mut damaged = fs::read(workspace.readings("in/2.parquet", &rows[2000..])).unwrap();
    fs::write(workspace.path("out.parquet"), "the file of last time").unwrap();
    // A block that the disk never got: the footer is whole, so that it shows only once the second file is read.
    damaged[4..400].fill(0);
    fs::write(workspace.path("in/2.parquet"), &damaged).unwrap();
    workspace.run("backfill p.toml").fails(&["in/2.parquet"]);
    nothing_was_written(&workspace);
    // What was said before it went wrong stays said.
    let outcome = workspace.run("backfill p.toml --to -").fails(&["in/2.parquet"]);
    let said = parsed(outcome.stdout.lines());
    assert!(said.len() < 1996, "{}", said.len());
}

#[test]
fn a_reader_that_leaves_ends_it() {
    let workspace = workspace();
    workspace.readings("in/1.parquet", &readings(&["a", "b"], 0..3000));
    let mut running = workspace.start("backfill p.toml --to -");
    running.read_lines(1);
    running.stop_reading();
    running.finish().fails(&["the program reading the forecasts has ended"]);
}
