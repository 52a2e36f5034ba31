//! Runs that are stopped, killed, or started again as another pipeline: what was said is never said otherwise, and
//! nothing is left out.

use std::time::{Duration, Instant};

use super::*;

pub const RUN: &str = "run p.toml --to -";
/// A snapshot at each end, and none before.
pub const STATE: &str = "\n[state]\nstore = \"state\"\nevery = \"1h\"\n";
pub const IDS: [&str; 4] = ["a", "b", "c", "d"];

/// A pipe holds 64 KiB, some four hundred lines: a run whose lines nobody takes stands still long before its end.
const STEPS: i64 = 3000;

fn busy() -> (Workspace, Vec<Row>) {
    let (topics, rows) = (Topics::new(2), readings(&IDS, 0..STEPS));
    topics.send(&rows);
    let workspace = Workspace::new(&format!("{}{STATE}", between(&topics)));
    (workspace, rows)
}

/// Reads a quarter of all lines, so that the run stands in the middle of the rest; then sends the signal.
fn broken_off(workspace: &Workspace, signal: &str) -> Outcome {
    let mut run = workspace.start(RUN);
    run.read_lines(STEPS as usize);
    run.signal(signal);
    if signal == "KILL" {
        return run.finish();
    }
    // It waits with its lines in hand: it has heard the signal before we take them.
    run.wait_for("stopping");
    let asked = Instant::now();
    let outcome = run.finish().succeeds().says(&["stopped after"]);
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    outcome
}

/// What a run said; of a killed one without the line that it was at.
fn whole_lines(outcome: &Outcome) -> Vec<&str> {
    let end = outcome.stdout.rfind('\n').map_or(0, |end| end + 1);
    outcome.stdout[..end].lines().collect()
}

fn stopped(signal: &str) {
    let (workspace, rows) = busy();
    let runs =
        [broken_off(&workspace, signal), broken_off(&workspace, signal), workspace.run(&format!("{RUN} --until-end"))];
    assert_eq!(
        runs.iter().map(|run| run.count("rows")).sum::<usize>(),
        rows.len(),
        "no row twice, none left out"
    );
    let lines = runs.iter().flat_map(|run| run.stdout.lines());
    assert_eq!(by_series(lines), expected(&Case::default(), &rows, false));
    assert!(runs[2].stdout.lines().count() > STEPS as usize, "the others were stopped midway");
}

#[test]
fn after_a_sigterm_the_next_run_goes_on_exactly_there() {
    stopped("TERM");
}

#[test]
fn after_a_ctrl_c_the_next_run_goes_on_exactly_there() {
    stopped("INT");
}

/// Runs broken off by these signals, and a last one to the end, say all that there is to say, and never the same
/// forecast with other numbers.
fn killed(workspace: &Workspace, rows: &[Row], signals: &[&str]) {
    let mut runs: Vec<Outcome> = signals.iter().map(|signal| broken_off(workspace, signal)).collect();
    runs.push(workspace.run(&format!("{RUN} --until-end")).succeeds());
    let mut union = BTreeMap::new();
    for line in runs.iter().flat_map(whole_lines) {
        let forecast = table::parsed([line]).remove(0);
        let said = union.entry((forecast.series, forecast.origin)).or_insert(line);
        assert_eq!(*said, line, "the same forecast with other numbers");
    }
    assert_eq!(by_series(union.into_values()), expected(&Case::default(), rows, false));
    // A commit is never farther behind than two batches, so that the first forecasts are not said again.
    let first = runs[0].stdout.lines().next().unwrap();
    assert!(runs[1..].iter().all(|run| !run.stdout.contains(first)), "positions were committed");
}

#[test]
fn after_a_kill_without_a_snapshot_the_state_is_read_again() {
    let (workspace, rows) = busy();
    killed(&workspace, &rows, &["KILL", "TERM", "KILL"]);
}

#[test]
fn after_a_kill_the_state_is_that_of_the_last_snapshot() {
    let (workspace, rows) = busy();
    // The second run waits for the first one's session to end, so that its first commit comes with a snapshot.
    workspace.change("every = \"1h\"", "every = \"1s\"");
    killed(&workspace, &rows, &["KILL", "KILL"]);
    assert!(!workspace.files("state").is_empty());
}

#[test]
fn an_idle_run_stops_at_once() {
    let workspace = Workspace::new("[source.kafka]\nbrokers = \"embedded\"\ntopic = \"in\"\n");
    let mut run = workspace.start("-v run p.toml --to -");
    run.wait_for("broker inside this process: 127.0.0.1:");
    run.wait_for("partition assigned");
    let asked = Instant::now();
    run.signal("TERM");
    run.finish().succeeds().says(&["stopping", "0 rows"]);
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
}

#[test]
fn a_second_signal_does_not_wait() {
    let (workspace, _) = busy();
    let mut run = workspace.start(RUN);
    run.read_lines(1);
    run.signal("TERM");
    run.wait_for("once more to stop at once");
    run.signal("TERM");
    run.finish().exits(130);
}

#[test]
fn an_interrupted_backfill_leaves_what_was_there() {
    let workspace = Workspace::new("[sink.parquet]\npath = \"out.parquet\"\n");
    workspace.change("every = \"10s\"", "every = \"10s\"\ncomplete_after = 1");
    workspace.readings("in.parquet", &readings(&IDS, 0..10_000));
    fs::write(workspace.path("out.parquet"), "the file of last time").unwrap();
    // A pipe stands in for the unfinished file: it takes one row group at most while nobody reads from it.
    let pipe = workspace.path("out.parquet.partial");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut backfill = workspace.start("backfill p.toml --from in.parquet");
    let mut written = fs::File::open(&pipe).unwrap();
    backfill.signal("INT");
    backfill.wait_for("stopping");
    std::io::copy(&mut written, &mut std::io::sink()).unwrap();
    backfill
        .finish()
        .fails(&["stopped before the input was over; a file that was being written is not put in workspace"]);
    assert_eq!(fs::read(workspace.path("out.parquet")).unwrap(), b"the file of last time");
    assert!(!pipe.exists());
}

/// Runs over the first half of the rows with the model of a case, changes the pipeline, sends the other half; which is
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

/// That the changed pipeline is refused for `why`, and goes on cold where that is declared.
fn fails_or_goes_on_cold(before: &Case, change: impl FnOnce(&Workspace), after: &Case, why: &str) {
    let (workspace, rest) = changed(before, change);
    let outcome = workspace.run(&format!("{RUN} --until-end")).fails(&[why, "state.on_change = \"cold\""]);
    assert_eq!(outcome.stdout, "");
    workspace.change("every = \"1h\"", "every = \"1h\"\non_change = \"cold\"");
    let outcome = workspace.run(&format!("{RUN} --until-end")).succeeds();
    assert_eq!(by_series(outcome.stdout.lines()), expected(after, &rest, false));
    assert_eq!(outcome.count("rows"), rest.len(), "{outcome:#?}");
}

#[test]
fn state_of_another_grid_is_named_by_its_key() {
    let mut case = Case::default();
    case.rules.lateness = 20_000_000;
    let change = |workspace: &Workspace| workspace.change("max_gap = \"1m\"", "max_gap = \"1m\"\nlateness = \"20s\"");
    fails_or_goes_on_cold(&case, change, &case, "grid.lateness was 0s, is 20s");
}

#[test]
fn state_of_another_model_is_named_by_its_hash() {
    let (before, after) = (Case::default(), Case { lookback: 5, ..Case::default() });
    let change =
        |workspace: &Workspace| fs::write(workspace.path("model.safetensors"), after.model().to_bytes()).unwrap();
    let why = format!("model was {}, is {}", before.model().hash, after.model().hash);
    fails_or_goes_on_cold(&before, change, &after, &why);
}

#[test]
fn the_same_pipeline_goes_on_warm() {
    let (workspace, rest) = changed(&Case::default(), |workspace| workspace.change("\"1m\"", "\"60s\""));
    let outcome = workspace.run(&format!("{RUN} --until-end")).succeeds();
    assert_eq!(outcome.count("forecasts"), rest.len());
}

#[test]
fn a_state_that_cannot_be_kept_for_too_long_stops_the_run() {
    let topics = Topics::new(1);
    let workspace = Workspace::new(&format!("{}{STATE}", between(&topics)));
    workspace.change("every = \"1h\"", "every = \"1s\"\n[limits]\nsnapshot_age = \"3s\"");
    let mut run = workspace.start("-v run p.toml --to -");
    run.wait_for("partition assigned");
    // A file where the folder was: nothing can be kept any more.
    while fs::remove_dir_all(workspace.path("state")).and_then(|()| fs::write(workspace.path("state"), "")).is_err() {
    }
    let began = Instant::now();
    for step in 0.. {
        topics.send(&readings(&IDS, step..step + 1));
        if run.has_ended() {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "it goes on: {}", run.said());
    }
    run.finish().fails(&[
        "no snapshot of its state could be kept",
        "limits.snapshot_age",
        "see to the state store",
    ]);
}
