//! States from history: `bootstrap`, and the policies after a change.

use super::shutdown::{IDS, RUN, STATE};
use super::*;

/// Readings of many ids, so every partition has some.
fn many_readings(steps: std::ops::Range<i64>) -> Vec<Row> {
    let ids: Vec<String> = (0..20).map(|i| format!("id-{i}")).collect();
    readings(&ids.iter().map(String::as_str).collect::<Vec<_>>(), steps)
}

/// The forecasts of all rows that were triggered after the first `count` rows.
fn forecasts_after(rows: &[Row], count: usize) -> Lines {
    let mut all = expected(&Case::default(), rows, OnEndOfInput::LeaveOpen);
    for (series, lines) in expected(&Case::default(), &rows[..count], OnEndOfInput::LeaveOpen) {
        if let Some(forecasts) = all.get_mut(&series) {
            forecasts.drain(..lines.len());
        }
    }
    all
}

#[test]
fn a_bootstrapped_pipeline_continues_as_if_it_had_read_the_history() {
    let (topics, rows) = (Topics::new(3), many_readings(0..60));
    let (past, live) = rows.split_at(20 * 40);
    let workspace = Workspace::new(&format!("{}{STATE}", between(&topics)));
    workspace.write_readings("past.parquet", past);
    // Step 40 starts at 400 s; later rows of the file are ignored.
    workspace.write_readings("all.parquet", &rows);
    let at = "--at 1970-01-01T00:06:40Z";
    workspace
        .run(&format!("bootstrap p.toml --from all.parquet {at}"))
        .succeeds()
        .logs(&["starts at 0", "start it with"]);
    topics.send(live);
    let run = workspace.run(&format!("{RUN} --until-end")).succeeds();
    assert_eq!(by_series(run.stdout.lines()), forecasts_after(&rows, past.len()));
    assert_eq!(run.count("rows"), live.len());
    // Only once.
    workspace
        .run(&format!("bootstrap p.toml --from past.parquet {at}"))
        .fails(&["is already in use", "another `group`"]);
}

#[test]
fn another_partitioner_is_warned_about() {
    let topics = Topics::new(3);
    let workspace = Workspace::new(&format!("{}{STATE}", between(&topics)));
    workspace.write_readings("past.parquet", &many_readings(0..5));
    topics.send(&many_readings(5..9));
    let bootstrap = "bootstrap p.toml --from past.parquet --at 1970-01-02";
    assert!(!workspace.run(bootstrap).succeeds().stderr.contains("murmur2"));
    workspace.change(&topics.group, &broker::unique("group"));
    // `id-7` belongs to one of them.
    let row = message(&super::row("id-7", 90, 1.0));
    (0..3).for_each(|number| broker::produce(&topics.readings, Some(number), [("id-7", row.as_str())]));
    workspace
        .run(bootstrap)
        .succeeds()
        .logs(&["key `id-7` is not in the partition that murmur2 gives it", "partitioner"]);
}

#[test]
fn a_bootstrapped_pipeline_without_snapshots_fails() {
    let (topics, rows) = (Topics::new(1), many_readings(0..20));
    let workspace = Workspace::new(&format!("{}{STATE}", between(&topics)));
    workspace.write_readings("past.parquet", &rows);
    workspace.run("bootstrap p.toml --from past.parquet --at 1970-01-02").succeeds();
    topics.send(&many_readings(20..22));
    fs::remove_dir_all(workspace.path("state")).unwrap();
    workspace
        .run(&format!("{RUN} --until-end"))
        .fails(&["it began with a bootstrap history", "no snapshot of it is left"]);
}

/// Runs over half of the rows, changes the lateness, and sends the rest. Returns the changed case and both halves.
fn change_lateness(policy: &str) -> (Workspace, Case, Vec<Row>, Vec<Row>) {
    let (topics, mut rows) = (Topics::new(2), readings(&IDS, 0..60));
    let workspace = Workspace::new(&format!("{}{STATE}", between(&topics)));
    let rest = rows.split_off(rows.len() / 2);
    topics.send(&rows);
    workspace.run(&format!("{RUN} --until-end")).succeeds();
    workspace.change("max_gap = \"1m\"", "max_gap = \"1m\"\nlateness = \"20s\"");
    workspace.change("every = \"1h\"", &format!("every = \"1h\"\n{policy}"));
    workspace.write_readings("past.parquet", &rows);
    topics.send(&rest);
    let mut case = Case::default();
    case.step_config.lateness = 20_000_000;
    (workspace, case, rows, rest)
}

/// Asserts that the changed pipeline forecasts the rest with the history of the first half.
fn assert_continues_with_history(policy: &str) {
    let (workspace, case, rows, rest) = change_lateness(policy);
    let run = workspace.run(&format!("{RUN} --until-end")).succeeds();
    let all: Vec<Row> = rows.iter().chain(&rest).cloned().collect();
    let mut forecasts = expected(&case, &all, OnEndOfInput::LeaveOpen);
    for (series, lines) in expected(&case, &rows, OnEndOfInput::LeaveOpen) {
        forecasts.get_mut(&series).unwrap().drain(..lines.len());
    }
    // The model has not changed.
    let (before, after) = (Case::default().model().hash, case.model().hash);
    forecasts.values_mut().flatten().for_each(|line| *line = line.replace(&after, &before));
    assert_eq!(by_series(run.stdout.lines()), forecasts);
    assert_eq!(run.count("rows"), rest.len(), "replayed rows are not counted");
}

#[test]
fn after_a_change_the_topic_can_be_replayed() {
    assert_continues_with_history("on_change = \"replay\"\nreplay = \"1d\"");
}

#[test]
fn after_a_change_the_state_can_be_bootstrapped() {
    assert_continues_with_history("on_change = \"bootstrap\"\nbootstrap = \"past.parquet\"");
}

#[test]
fn a_new_lineage_without_a_snapshot_is_replayed_from_its_start() {
    let (topics, rows) = (Topics::new(2), readings(&IDS, 0..70));
    let parts: Vec<&[Row]> =
        [0..30, 30..60, 60..70].map(|steps| &rows[4 * steps.start..4 * steps.end]).into();
    let workspace = Workspace::new(&format!("{}{STATE}on_change = \"cold\"\n", between(&topics)));
    topics.send(parts[0]);
    workspace.run(&format!("{RUN} --until-end")).succeeds();
    let before = workspace.files("state");
    workspace.change("max_gap = \"1m\"", "max_gap = \"1m\"\nlateness = \"20s\"");
    topics.send(parts[1]);
    workspace.run(&format!("{RUN} --until-end")).succeeds();
    // As after a kill before the first snapshot.
    for name in workspace.files("state").iter().filter(|name| !before.contains(name)) {
        fs::remove_file(workspace.path("state").join(name)).unwrap();
    }
    topics.send(parts[2]);
    let run = workspace.run(&format!("{RUN} --until-end")).succeeds();
    let mut case = Case::default();
    case.step_config.lateness = 20_000_000;
    let mut forecasts = expected(&case, &rows[120..], OnEndOfInput::LeaveOpen);
    for (series, lines) in expected(&case, parts[1], OnEndOfInput::LeaveOpen) {
        forecasts.get_mut(&series).unwrap().drain(..lines.len());
    }
    let (before, after) = (Case::default().model().hash, case.model().hash);
    forecasts.values_mut().flatten().for_each(|line| *line = line.replace(&after, &before));
    assert_eq!(by_series(run.stdout.lines()), forecasts);
}

#[test]
fn snapshots_without_a_committed_position_stop_a_start() {
    let (topics, rows) = (Topics::new(1), readings(&IDS, 0..30));
    let workspace = Workspace::new(&format!("{}{STATE}", between(&topics)));
    topics.send(&rows);
    workspace.run(&format!("{RUN} --until-end")).succeeds();
    broker::delete_group(&topics.group);
    workspace
        .run(&format!("{RUN} --until-end"))
        .fails(&["no committed position", "there is a snapshot at 120"]);
}
