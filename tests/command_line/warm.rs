//! Pipelines that begin with a past: bootstrapped, or after a change.

use super::stops::{IDS, RUN, STATE};
use super::*;

/// Rows of many ids, so that every partition has some.
fn many(steps: std::ops::Range<i64>) -> Vec<Row> {
    let ids: Vec<String> = (0..20).map(|i| format!("id-{i}")).collect();
    readings(&ids.iter().map(String::as_str).collect::<Vec<_>>(), steps)
}

/// The forecasts of all rows that those from the `count`-th row on have triggered.
fn later(rows: &[Row], count: usize) -> Lines {
    let mut all = expected(&Case::default(), rows, false);
    for (series, lines) in expected(&Case::default(), &rows[..count], false) {
        if let Some(own) = all.get_mut(&series) {
            own.drain(..lines.len());
        }
    }
    all
}

#[test]
fn a_bootstrapped_pipeline_goes_on_as_if_it_had_read_it_all() {
    let (topics, rows) = (Topics::new(3), many(0..60));
    let (past, live) = rows.split_at(20 * 40);
    let workspace = Workspace::new(&format!("{}{STATE}", between(&topics)));
    workspace.readings("past.parquet", past);
    // Step 40 begins at 400 s; what is in the file beyond it belongs to the topic.
    workspace.readings("all.parquet", &rows);
    let at = "--at 1970-01-01T00:06:40Z";
    workspace
        .run(&format!("bootstrap p.toml --from all.parquet {at}"))
        .succeeds()
        .says(&["begins at 0", "go live"]);
    topics.send(live);
    let run = workspace.run(&format!("{RUN} --until-end")).succeeds();
    assert_eq!(by_series(run.stdout.lines()), later(&rows, past.len()));
    assert_eq!(run.count("rows"), live.len());
    // Once and no more.
    workspace
        .run(&format!("bootstrap p.toml --from past.parquet {at}"))
        .fails(&["has begun already", "another `group`"]);
}

#[test]
fn a_producer_that_places_keys_another_way_is_told_of() {
    let topics = Topics::new(3);
    let workspace = Workspace::new(&format!("{}{STATE}", between(&topics)));
    workspace.readings("past.parquet", &many(0..5));
    topics.send(&many(5..9));
    let bootstrap = "bootstrap p.toml --from past.parquet --at 1970-01-02";
    assert!(!workspace.run(bootstrap).succeeds().stderr.contains("murmur2"));
    workspace.change(&topics.group, &broker::unique("group"));
    // `id-7` is at home in one of them.
    let row = message(&super::row("id-7", 90, 1.0));
    (0..3).for_each(|number| broker::produce(&topics.readings, Some(number), [("id-7", row.as_str())]));
    workspace.run(bootstrap).succeeds().says(&["key `id-7` is not where murmur2 places it", "partitioner"]);
}

#[test]
fn a_bootstrapped_pipeline_that_lost_its_snapshots_does_not_go_on_cold_in_silence() {
    let (topics, rows) = (Topics::new(1), many(0..20));
    let workspace = Workspace::new(&format!("{}{STATE}", between(&topics)));
    workspace.readings("past.parquet", &rows);
    workspace.run("bootstrap p.toml --from past.parquet --at 1970-01-02").succeeds();
    topics.send(&many(20..22));
    fs::remove_dir_all(workspace.path("state")).unwrap();
    workspace.run(&format!("{RUN} --until-end")).fails(&["began with a history", "no snapshot of it is left"]);
}

/// Runs half of the rows, changes the lateness, sends the rest; the changed case, and the rows of both halves.
fn changed(lines: &str) -> (Workspace, Case, Vec<Row>, Vec<Row>) {
    let (topics, mut rows) = (Topics::new(2), readings(&IDS, 0..60));
    let workspace = Workspace::new(&format!("{}{STATE}", between(&topics)));
    let rest = rows.split_off(rows.len() / 2);
    topics.send(&rows);
    workspace.run(&format!("{RUN} --until-end")).succeeds();
    workspace.change("max_gap = \"1m\"", "max_gap = \"1m\"\nlateness = \"20s\"");
    workspace.change("every = \"1h\"", &format!("every = \"1h\"\n{lines}"));
    workspace.readings("past.parquet", &rows);
    topics.send(&rest);
    let mut case = Case::default();
    case.rules.lateness = 20_000_000;
    (workspace, case, rows, rest)
}

/// What the changed pipeline says of the rest when it knows the first half, too.
fn goes_on_knowing(lines: &str) {
    let (workspace, case, rows, rest) = changed(lines);
    let run = workspace.run(&format!("{RUN} --until-end")).succeeds();
    let all: Vec<Row> = rows.iter().chain(&rest).cloned().collect();
    let mut wanted = expected(&case, &all, false);
    for (series, lines) in expected(&case, &rows, false) {
        wanted.get_mut(&series).unwrap().drain(..lines.len());
    }
    // The model is the one before the change.
    let (ours, theirs) = (Case::default().model().hash, case.model().hash);
    wanted.values_mut().flatten().for_each(|line| *line = line.replace(&theirs, &ours));
    assert_eq!(by_series(run.stdout.lines()), wanted);
    assert_eq!(run.count("rows"), rest.len(), "what is only read again is not counted");
}

#[test]
fn after_a_change_the_topic_can_be_read_again() {
    goes_on_knowing("on_change = \"replay\"\nreplay = \"1d\"");
}

#[test]
fn after_a_change_a_history_can_be_learned() {
    goes_on_knowing("on_change = \"warm\"\nwarm = \"past.parquet\"");
}

#[test]
fn a_new_life_that_has_no_snapshot_yet_is_read_again_from_its_start() {
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
    // As if it had been killed before it could keep anything.
    for name in workspace.files("state").iter().filter(|name| !before.contains(name)) {
        fs::remove_file(workspace.path("state").join(name)).unwrap();
    }
    topics.send(parts[2]);
    let run = workspace.run(&format!("{RUN} --until-end")).succeeds();
    let mut case = Case::default();
    case.rules.lateness = 20_000_000;
    let mut wanted = expected(&case, &rows[120..], false);
    for (series, lines) in expected(&case, parts[1], false) {
        wanted.get_mut(&series).unwrap().drain(..lines.len());
    }
    let (ours, theirs) = (Case::default().model().hash, case.model().hash);
    wanted.values_mut().flatten().for_each(|line| *line = line.replace(&theirs, &ours));
    assert_eq!(by_series(run.stdout.lines()), wanted);
}

#[test]
fn snapshots_without_a_position_stop_a_start() {
    let (topics, rows) = (Topics::new(1), readings(&IDS, 0..30));
    let workspace = Workspace::new(&format!("{}{STATE}", between(&topics)));
    topics.send(&rows);
    workspace.run(&format!("{RUN} --until-end")).succeeds();
    broker::forget_group(&topics.group);
    workspace.run(&format!("{RUN} --until-end")).fails(&["no committed position", "there is a snapshot at 120"]);
}
