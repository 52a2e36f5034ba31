//! Runs that are stopped, killed, or restarted as another pipeline: no forecast is lost or changed.

use std::time::{Duration, Instant};

use super::*;

pub const RUN: &str = "run p.toml --to -";
/// A snapshot at the end of each run only.
pub const STATE: &str = "\n[state]\nstore = \"state\"\nevery = \"1h\"\n";
pub const IDS: [&str; 4] = ["a", "b", "c", "d"];

/// A pipe holds 64 KiB, about 400 lines: a run whose output is not read blocks long before its end.
const STEPS: i64 = 3000;

fn busy_pipeline() -> (Workspace, Vec<Row>) {
    let (topics, rows) = (Topics::new(2), readings(&IDS, 0..STEPS));
    topics.send(&rows);
    let workspace = Workspace::new(&format!("{}{STATE}", between(&topics)));
    (workspace, rows)
}

/// Reads a quarter of all lines, which blocks the run in the middle of the rest; then sends the signal.
fn interrupt(workspace: &Workspace, signal: &str) -> Outcome {
    let mut run = workspace.start(RUN);
    run.read_lines(STEPS as usize);
    run.signal(signal);
    if signal == "KILL" {
        return run.finish();
    }
    // The run is blocked, so it receives the signal before its output is read.
    run.wait_for("stopping");
    let signalled = Instant::now();
    let outcome = run.finish().succeeds().logs(&["stopped after"]);
    assert!(signalled.elapsed() < Duration::from_secs(5), "{:?}", signalled.elapsed());
    outcome
}

/// The complete lines of a run: a killed one may end in the middle of a line.
fn complete_lines(outcome: &Outcome) -> Vec<&str> {
    let end = outcome.stdout.rfind('\n').map_or(0, |end| end + 1);
    outcome.stdout[..end].lines().collect()
}

fn assert_continues_after(signal: &str) {
    let (workspace, rows) = busy_pipeline();
    let runs = [
        interrupt(&workspace, signal),
        interrupt(&workspace, signal),
        workspace.run(&format!("{RUN} --until-end")),
    ];
    assert_eq!(runs.iter().map(|run| run.count("rows")).sum::<usize>(), rows.len(), "every row once");
    let lines = runs.iter().flat_map(|run| run.stdout.lines());
    assert_eq!(by_series(lines), expected(&Case::default(), &rows, OnEndOfInput::LeaveOpen));
    assert!(runs[2].stdout.lines().count() > STEPS as usize, "the others were stopped early");
}

#[test]
fn after_a_sigterm_the_next_run_continues_exactly_there() {
    assert_continues_after("TERM");
}

#[test]
fn after_a_ctrl_c_the_next_run_continues_exactly_there() {
    assert_continues_after("INT");
}

/// Asserts that runs interrupted by these signals, and a final one, print every forecast, and never one with different
/// values.
fn assert_complete_after(workspace: &Workspace, rows: &[Row], signals: &[&str]) {
    let mut runs: Vec<Outcome> = signals.iter().map(|signal| interrupt(workspace, signal)).collect();
    runs.push(workspace.run(&format!("{RUN} --until-end")).succeeds());
    let mut union = BTreeMap::new();
    for line in runs.iter().flat_map(complete_lines) {
        let forecast = forecasts::parse_lines([line]).remove(0);
        let first = union.entry((forecast.series, forecast.origin)).or_insert(line);
        assert_eq!(*first, line, "different values of a forecast");
    }
    assert_eq!(by_series(union.into_values()), expected(&Case::default(), rows, OnEndOfInput::LeaveOpen));
    // A commit lags by at most two batches, so the first forecasts are not repeated.
    let first = runs[0].stdout.lines().next().unwrap();
    assert!(runs[1..].iter().all(|run| !run.stdout.contains(first)), "positions were committed");
}

#[test]
fn after_a_kill_without_a_snapshot_the_state_is_replayed() {
    let (workspace, rows) = busy_pipeline();
    assert_complete_after(&workspace, &rows, &["KILL", "TERM", "KILL"]);
}

#[test]
fn after_a_kill_the_state_is_restored_from_the_snapshot() {
    let (workspace, rows) = busy_pipeline();
    // The second run waits for the session of the first one, so a snapshot is due at its first commit.
    workspace.change("every = \"1h\"", "every = \"1s\"");
    assert_complete_after(&workspace, &rows, &["KILL", "KILL"]);
    assert!(!workspace.files("state").is_empty());
}

#[test]
fn an_idle_run_stops_at_once() {
    let workspace = Workspace::new("[source.kafka]\nbrokers = \"embedded\"\ntopic = \"in\"\n");
    let mut run = workspace.start("-v run p.toml --to -");
    run.wait_for("embedded broker: 127.0.0.1:");
    run.wait_for("partition assigned");
    let signalled = Instant::now();
    run.signal("TERM");
    run.finish().succeeds().logs(&["stopping", "0 rows"]);
    assert!(signalled.elapsed() < Duration::from_secs(5), "{:?}", signalled.elapsed());
}

#[test]
fn a_second_signal_stops_at_once() {
    let (workspace, _) = busy_pipeline();
    let mut run = workspace.start(RUN);
    run.read_lines(1);
    run.signal("TERM");
    run.wait_for("a second signal stops at once");
    run.signal("TERM");
    run.finish().exits(130);
}

#[test]
fn an_interrupted_backfill_leaves_the_previous_output() {
    let workspace = Workspace::new("[sink.parquet]\npath = \"out.parquet\"\n");
    workspace.change("every = \"10s\"", "every = \"10s\"\ncomplete_after = 1");
    workspace.write_readings("in.parquet", &readings(&IDS, 0..10_000));
    fs::write(workspace.path("out.parquet"), "the previous output").unwrap();
    // A pipe in place of the unfinished file accepts at most one row group until it is read.
    let pipe = workspace.path("out.parquet.partial");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut backfill = workspace.start("backfill p.toml --from in.parquet");
    let mut written = fs::File::open(&pipe).unwrap();
    backfill.signal("INT");
    backfill.wait_for("stopping");
    std::io::copy(&mut written, &mut std::io::sink()).unwrap();
    backfill.finish().fails(&["stopped before the end of the input; an unfinished output file is discarded"]);
    assert_eq!(fs::read(workspace.path("out.parquet")).unwrap(), b"the previous output");
    assert!(!pipe.exists());
}

/// Runs over the first half of the rows with the model of a case, changes the pipeline, and sends the second half, which is
/// returned.
fn changed(case: &Case, change: impl FnOnce(&Workspace)) -> (Workspace, Vec<Row>) {
    let (topics, mut rows) = (Topics::new(2), readings(&IDS, 0..60));
    let workspace = Workspace::new(&format!("{}{STATE}", between(&topics)));
    fs::write(workspace.path("model.safetensors"), case.model().to_bytes()).unwrap();
    let rest = rows.split_off(rows.len() / 2);
    topics.send(&rows);
    workspace.run(&format!("{RUN} --until-end")).succeeds();
    change(&workspace);
    topics.send(&rest);
    (workspace, rest)
}

/// Asserts that the changed pipeline fails with `why`, and continues cold with that policy.
fn assert_fails_or_continues_cold(before: &Case, change: impl FnOnce(&Workspace), after: &Case, why: &str) {
    let (workspace, rest) = changed(before, change);
    let outcome = workspace.run(&format!("{RUN} --until-end")).fails(&[why, "state.on_change = \"cold\""]);
    assert_eq!(outcome.stdout, "");
    workspace.change("every = \"1h\"", "every = \"1h\"\non_change = \"cold\"");
    let outcome = workspace.run(&format!("{RUN} --until-end")).succeeds();
    assert_eq!(by_series(outcome.stdout.lines()), expected(after, &rest, OnEndOfInput::LeaveOpen));
    assert_eq!(outcome.count("rows"), rest.len(), "{outcome:#?}");
}

#[test]
fn the_state_of_another_grid_is_rejected_with_the_key() {
    let mut case = Case::default();
    case.step_config.lateness = 20_000_000;
    let change =
        |workspace: &Workspace| workspace.change("max_gap = \"1m\"", "max_gap = \"1m\"\nlateness = \"20s\"");
    assert_fails_or_continues_cold(&case, change, &case, "grid.lateness was 0s, is 20s");
}

#[test]
fn the_state_of_another_model_is_rejected_with_the_hash() {
    let (before, after) = (Case::default(), Case { lookback: 5, ..Case::default() });
    let change = |workspace: &Workspace| {
        fs::write(workspace.path("model.safetensors"), after.model().to_bytes()).unwrap()
    };
    let why = format!("model was {}, is {}", before.model().hash, after.model().hash);
    assert_fails_or_continues_cold(&before, change, &after, &why);
}

#[test]
fn an_equivalent_pipeline_continues_warm() {
    let (workspace, rest) = changed(&Case::default(), |workspace| workspace.change("\"1m\"", "\"60s\""));
    let outcome = workspace.run(&format!("{RUN} --until-end")).succeeds();
    assert_eq!(outcome.count("forecasts"), rest.len());
}

#[test]
fn a_run_stops_if_snapshots_fail_for_too_long() {
    let topics = Topics::new(1);
    let workspace = Workspace::new(&format!("{}{STATE}", between(&topics)));
    workspace.change("every = \"1h\"", "every = \"1s\"\n[limits]\nsnapshot_age = \"3s\"");
    let mut run = workspace.start("-v run p.toml --to -");
    run.wait_for("partition assigned");
    // A file in place of the folder makes every snapshot fail.
    while fs::remove_dir_all(workspace.path("state"))
        .and_then(|()| fs::write(workspace.path("state"), ""))
        .is_err()
    {}
    let started = Instant::now();
    for step in 0.. {
        topics.send(&readings(&IDS, step..step + 1));
        if run.has_ended() {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "still running: {}", run.stderr_so_far());
    }
    run.finish().fails(&["no snapshot could be saved", "limits.snapshot_age", "check the state store"]);
}
