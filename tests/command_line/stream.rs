//! `run` and `replay` with a broker: forecasts and rejects.

use super::forecasts::{parse_lines, read_parquet};
use super::*;
use crate::broker::StoredMessage;

const RUN: &str = "run p.toml --until-end --to -";

/// Invalid messages, each with its reason and a part of the detail.
const BAD: [(&str, &str, &str); 12] = [
    (r#"{"sensor":"a","time":"#, "malformed", "not one JSON object"),
    ("three", "malformed", "not one JSON object"),
    ("[1, 2]", "malformed", "another JSON value"),
    (r#"{"sensor":"a","time":100,"value":NaN}"#, "malformed", "not one JSON object"),
    (
        r#"{"sensor":"a","time":100,"value":"NaN"}"#,
        "malformed",
        "`value` must be a number, not the text `NaN`",
    ),
    (r#"{"sensor":"a","time":100,"value":[1]}"#, "malformed", "`value` must be a number, not a list"),
    (
        r#"{"sensor":true,"time":100,"value":1}"#,
        "malformed",
        "`sensor` must be a string or an integer, not true",
    ),
    (r#"{"sensor":"a","time":"noon","value":1}"#, "malformed", "the text `noon` is not a time such as"),
    (r#"{"sensor":"a","value":1}"#, "malformed", "`time` is missing"),
    (r#"{"time":100,"value":1}"#, "malformed", "`sensor` is missing"),
    (r#"{"sensor":"a","time":100}"#, "not_finite", ""),
    (r#"{"sensor":"a","time":100,"value":null}"#, "not_finite", ""),
];

/// A reading in the year 2099.
const FAR: &str = r#"{"sensor":"a","time":"2099-01-01T00:00:00Z","value":1}"#;

/// The same reading with additional fields.
fn with_extra_fields(row: &Row) -> String {
    message(row).replace('}', r#","unit":"C","tags":["x",{"y":null}]}"#)
}

#[test]
fn invalid_messages_do_not_affect_forecasts() {
    let (topics, rows) = (Topics::new(1), readings(&["a", "b"], 0..40));
    let mut messages = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        messages.push(if i % 2 == 0 { message(row) } else { with_extra_fields(row) });
        if i >= 20 {
            messages.extend(BAD.get(i - 20).map(|bad| bad.0.to_string()));
        }
        if i == 50 {
            messages.push(FAR.to_string());
        }
    }
    broker::produce(&topics.readings, None, messages.iter().map(|value| ("key", value.as_str())));
    let workspace = Workspace::new(&between(&topics));
    let outcome = workspace.run(RUN).succeeds().logs(&["refused malformed: 10 too_far: 1 not_finite: 2\n"]);
    assert_eq!((outcome.count("rows"), outcome.count("forecasts")), (80 + 13, 74));
    assert_eq!(by_series(outcome.stdout.lines()), expected(&Case::default(), &rows, OnEndOfInput::LeaveOpen));

    // To Kafka: the same forecasts, and the invalid messages unchanged.
    workspace.change(&topics.group, &broker::unique("group"));
    workspace
        .run("run p.toml --until-end")
        .succeeds()
        .logs(&["refused malformed: 10 too_far: 1 not_finite: 2\n"]);
    let forecasts = broker::read_all(&topics.forecasts);
    let values = forecasts.iter().map(|stored| stored.value.as_deref().unwrap());
    assert_eq!(by_series(values), expected(&Case::default(), &rows, OnEndOfInput::LeaveOpen));
    for StoredMessage { key, value, headers, .. } in &forecasts {
        assert_eq!(*key, Some(parse_lines(value.as_deref())[0].series.clone()));
        assert!(headers[0].0 == "source" && headers[0].1.starts_with(&format!("{}/0/", topics.readings)));
    }
    let rejects = broker::read_all(&topics.rejects);
    assert_eq!(rejects.len(), 13);
    for (message, reason, detail) in BAD {
        let stored = rejects.iter().find(|stored| stored.value.as_deref() == Some(message)).expect(message);
        assert_reject(stored, reason, detail, &topics.readings, &messages);
    }
    let far: Vec<_> = rejects.iter().filter(|stored| header(stored, "reason") == "too_far").collect();
    assert_eq!(far.len(), 1);
    assert_eq!(messages[header(far[0], "offset").parse::<usize>().unwrap()], FAR);
}

fn header<'a>(stored: &'a StoredMessage, name: &str) -> &'a str {
    stored.headers.iter().find(|header| header.0 == name).map_or("", |header| &header.1)
}

#[track_caller]
fn assert_reject(stored: &StoredMessage, reason: &str, detail: &str, topic: &str, messages: &[String]) {
    assert_eq!(
        (header(stored, "reason"), header(stored, "topic"), header(stored, "partition")),
        (reason, topic, "0")
    );
    assert!(header(stored, "detail").contains(detail), "{stored:#?}");
    let offset: usize = header(stored, "offset").parse().unwrap();
    assert_eq!((stored.key.as_deref(), stored.value.as_ref()), (Some("key"), Some(&messages[offset])));
}

#[test]
fn an_empty_topic_is_not_an_error() {
    let workspace = Workspace::new(&between(&Topics::new(2)));
    let outcome = workspace.run(RUN).succeeds().logs(&["0 series", "0 rows"]);
    assert_eq!(outcome.stdout, "");
}

#[test]
fn a_second_run_continues_where_the_first_ended() {
    let (topics, rows) = (Topics::new(2), readings(&["a", "b", "c"], 0..60));
    let workspace = Workspace::new(&format!("{}\n[state]\nstore = \"state\"\n", between(&topics)));
    let mut lines = String::new();
    for part in rows.chunks(50) {
        topics.send(part);
        let outcome = workspace.run(RUN).succeeds();
        assert_eq!(outcome.count("rows"), part.len());
        lines += &outcome.stdout;
    }
    assert_eq!(by_series(lines.lines()), expected(&Case::default(), &rows, OnEndOfInput::LeaveOpen));
    assert_eq!(workspace.run(RUN).succeeds().stdout, "", "nothing is left");
}

#[test]
fn runs_add_parquet_files_to_a_folder() {
    let (topics, rows) = (Topics::new(3), readings(&["a", "b", "c", "d", "e"], 0..30));
    let tables = "[sink.parquet]\npath = \"out\"\n[state]\nstore = \"state\"\n";
    let workspace = Workspace::new(&format!("{}{tables}", between(&topics)));
    workspace.change("\n[columns]", "delivery = \"at_least_once\"\n[columns]");
    for part in rows.chunks(75) {
        topics.send(part);
        workspace.run("run p.toml --until-end --to parquet").succeeds();
    }
    let used: std::collections::BTreeSet<i32> =
        broker::read_all(&topics.readings).iter().map(|stored| stored.partition).collect();
    let names = workspace.files("out");
    for number in &used {
        let files =
            names.iter().filter(|name| name.starts_with(&format!("{}-{number}-0000", topics.readings)));
        assert_eq!(files.count(), 2, "one file per run of partition {number}: {names:?}");
    }
    assert_eq!(names.len(), 2 * used.len(), "{names:?}");
    let mut written: Vec<_> =
        names.iter().flat_map(|name| read_parquet(&workspace.path("out").join(name))).collect();

    workspace.change(&topics.group, &broker::unique("group"));
    let mut printed = parse_lines(workspace.run(RUN).succeeds().stdout.lines());
    written.sort();
    printed.sort();
    assert_eq!(written, printed);
    assert_eq!(printed.len(), 5 * 27);
}

#[test]
fn files_of_a_run_are_cut_at_multiples_of_positions() {
    let (topics, rows) = (Topics::new(1), readings(&["a", "b"], 0..60));
    let tables = "[sink.parquet]\npath = \"out\"\npositions_per_file = 25\n[state]\nstore = \"state\"\n";
    let workspace = Workspace::new(&format!("{}{tables}", between(&topics)));
    for part in rows.chunks(35) {
        topics.send(part);
        workspace.run("run p.toml --until-end --to parquet").succeeds();
    }
    // 120 messages; the last 20 are not enough for a file.
    let names: Vec<String> = (0..4)
        .map(|i| format!("{}-0-{:020}-{:020}.parquet", topics.readings, 25 * i, 25 * (i + 1)))
        .collect();
    assert_eq!(workspace.files("out"), names);
    let in_parts: Vec<Vec<u8>> =
        names.iter().map(|name| fs::read(workspace.path("out").join(name)).unwrap()).collect();

    // A single run from the start writes the same files.
    workspace.change(&topics.group, &broker::unique("group"));
    workspace.change("\"out\"", "\"other\"");
    workspace.run("run p.toml --until-end --to parquet").succeeds();
    assert_eq!(workspace.files("other"), names);
    for (name, bytes) in names.iter().zip(&in_parts) {
        assert_eq!(&fs::read(workspace.path("other").join(name)).unwrap(), bytes, "{name}");
    }
    let written: usize = names.iter().map(|name| read_parquet(&workspace.path("out").join(name)).len()).sum();
    assert_eq!(written, 100 - 2 * 3, "every forecast of the first hundred messages");

    // Other cuts apply from the committed position, and replace nothing.
    workspace.change("positions_per_file = 25", "positions_per_file = 40");
    workspace.run("run p.toml --until-end --to parquet").succeeds();
    let last = format!("{}-0-{:020}-{:020}.parquet", topics.readings, 80, 120);
    assert_eq!(workspace.files("other"), [&names[..], std::slice::from_ref(&last)].concat());
    assert_eq!(read_parquet(&workspace.path("other").join(last)).len(), 20, "the last twenty messages");
}

#[test]
fn a_run_to_parquet_needs_a_folder() {
    let workspace =
        Workspace::new(&format!("{}\n[sink.parquet]\npath = \"out.parquet\"\n", between(&Topics::new(1))));
    workspace.run("run p.toml --until-end --to parquet").fails(&["out.parquet", "set a folder"]);
}

#[test]
fn a_replay_gives_the_forecasts_of_a_backfill() {
    let (topics, rows) = (Topics::new(3), readings(&["a", "b", "ünï/4", "7"], 0..80));
    let workspace = Workspace::new(&between(&topics));
    workspace.write_readings("in.parquet", &rows);
    let sent = format!("320 of 320 rows sent to {} at ", topics.readings);
    workspace.run("replay p.toml --from in.parquet --speed max").succeeds().logs(&[&sent]);
    let live = by_series(workspace.run(RUN).succeeds().stdout.lines());
    let past = by_series(
        workspace.run("backfill p.toml --from in.parquet --leave-open --to -").succeeds().stdout.lines(),
    );
    assert_eq!(live, past);
    assert_eq!(past.values().map(Vec::len).sum::<usize>(), 4 * 77);
}

#[test]
fn an_embedded_broker_is_not_reachable_by_another_process() {
    let workspace = Workspace::new("[source.kafka]\nbrokers = \"embedded\"\ntopic = \"in\"\n");
    workspace.write_readings("in.parquet", &readings(&["a"], 0..5));
    workspace.run("replay p.toml --from in.parquet").fails(&["inside one process", "give an address"]);
}
