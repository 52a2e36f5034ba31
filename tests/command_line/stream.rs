//! `run` and `replay` against a broker: what comes out of a topic's messages, the bad ones among them.

use super::table::{parsed, stored};
use super::*;
use crate::broker::Stored;

const RUN: &str = "run p.toml --until-end --to -";

/// Messages that are no readings, each with its reason and a part of the detail.
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

/// A reading stamped in the year 2099.
const FAR: &str = r#"{"sensor":"a","time":"2099-01-01T00:00:00Z","value":1}"#;

/// The same reading with fields that no pipeline asked for.
fn adorned(row: &Row) -> String {
    message(row).replace('}', r#","unit":"C","tags":["x",{"y":null}]}"#)
}

#[test]
fn bad_messages_change_nothing_but_their_counts() {
    let (topics, rows) = (Topics::new(1), readings(&["a", "b"], 0..40));
    let mut messages = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        messages.push(if i % 2 == 0 { message(row) } else { adorned(row) });
        if i >= 20 {
            messages.extend(BAD.get(i - 20).map(|bad| bad.0.to_string()));
        }
        if i == 50 {
            messages.push(FAR.to_string());
        }
    }
    broker::produce(&topics.readings, None, messages.iter().map(|value| ("key", value.as_str())));
    let workspace = Workspace::new(&between(&topics));
    let outcome = workspace.run(RUN).succeeds().says(&["refused malformed: 10 too_far: 1 not_finite: 2\n"]);
    assert_eq!((outcome.count("rows"), outcome.count("forecasts")), (80 + 13, 74));
    assert_eq!(by_series(outcome.stdout.lines()), expected(&Case::default(), &rows, false));

    // To Kafka: the same forecasts, and the bad messages as they came.
    workspace.change(&topics.group, &broker::unique("group"));
    workspace
        .run("run p.toml --until-end")
        .succeeds()
        .says(&["refused malformed: 10 too_far: 1 not_finite: 2\n"]);
    let forecasts = broker::read_all(&topics.forecasts);
    let values = forecasts.iter().map(|stored| stored.value.as_deref().unwrap());
    assert_eq!(by_series(values), expected(&Case::default(), &rows, false));
    for Stored { key, value, headers, .. } in &forecasts {
        assert_eq!(*key, Some(parsed(value.as_deref())[0].series.clone()));
        assert!(headers[0].0 == "source" && headers[0].1.starts_with(&format!("{}/0/", topics.readings)));
    }
    let rejects = broker::read_all(&topics.rejects);
    assert_eq!(rejects.len(), 13);
    for (message, reason, detail) in BAD {
        let stored = rejects.iter().find(|stored| stored.value.as_deref() == Some(message)).expect(message);
        rejected(stored, reason, detail, &topics.readings, &messages);
    }
    let far: Vec<_> = rejects.iter().filter(|stored| header(stored, "reason") == "too_far").collect();
    assert_eq!(far.len(), 1);
    assert_eq!(messages[header(far[0], "offset").parse::<usize>().unwrap()], FAR);
}

fn header<'a>(stored: &'a Stored, name: &str) -> &'a str {
    stored.headers.iter().find(|header| header.0 == name).map_or("", |header| &header.1)
}

#[track_caller]
fn rejected(stored: &Stored, reason: &str, detail: &str, topic: &str, messages: &[String]) {
    assert_eq!(
        (header(stored, "reason"), header(stored, "topic"), header(stored, "partition")),
        (reason, topic, "0")
    );
    assert!(header(stored, "detail").contains(detail), "{stored:#?}");
    let offset: usize = header(stored, "offset").parse().unwrap();
    assert_eq!((stored.key.as_deref(), stored.value.as_ref()), (Some("key"), Some(&messages[offset])));
}

#[test]
fn an_empty_topic_is_no_error() {
    let workspace = Workspace::new(&between(&Topics::new(2)));
    let outcome = workspace.run(RUN).succeeds().says(&["0 series", "0 rows"]);
    assert_eq!(outcome.stdout, "");
}

#[test]
fn a_second_run_goes_on_where_the_first_ended() {
    let (topics, rows) = (Topics::new(2), readings(&["a", "b", "c"], 0..60));
    let workspace = Workspace::new(&format!("{}\n[state]\nstore = \"state\"\n", between(&topics)));
    let mut lines = String::new();
    for part in rows.chunks(50) {
        topics.send(part);
        let outcome = workspace.run(RUN).succeeds();
        assert_eq!(outcome.count("rows"), part.len());
        lines += &outcome.stdout;
    }
    assert_eq!(by_series(lines.lines()), expected(&Case::default(), &rows, false));
    assert_eq!(workspace.run(RUN).succeeds().stdout, "", "all is done");
}

#[test]
fn runs_into_parquet_fill_a_folder() {
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
        let own = names.iter().filter(|name| name.starts_with(&format!("{}-{number}-0000", topics.readings)));
        assert_eq!(own.count(), 2, "a file a run of partition {number}: {names:?}");
    }
    assert_eq!(names.len(), 2 * used.len(), "{names:?}");
    let mut written: Vec<_> = names.iter().flat_map(|name| stored(&workspace.path("out").join(name))).collect();

    workspace.change(&topics.group, &broker::unique("group"));
    let mut said = parsed(workspace.run(RUN).succeeds().stdout.lines());
    written.sort();
    said.sort();
    assert_eq!(written, said);
    assert_eq!(said.len(), 5 * 27);
}

#[test]
fn files_of_a_run_are_cut_at_multiples_of_positions_whoever_writes_them() {
    let (topics, rows) = (Topics::new(1), readings(&["a", "b"], 0..60));
    let tables = "[sink.parquet]\npath = \"out\"\npositions = 25\n[state]\nstore = \"state\"\n";
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

    // At once, from the beginning: the same files, byte for byte.
    workspace.change(&topics.group, &broker::unique("group"));
    workspace.change("\"out\"", "\"again\"");
    workspace.run("run p.toml --until-end --to parquet").succeeds();
    assert_eq!(workspace.files("again"), names);
    for (name, bytes) in names.iter().zip(&in_parts) {
        assert_eq!(&fs::read(workspace.path("again").join(name)).unwrap(), bytes, "{name}");
    }
    let written: usize = names.iter().map(|name| stored(&workspace.path("out").join(name)).len()).sum();
    assert_eq!(written, 100 - 2 * 3, "every forecast of the first hundred messages");

    // Other cuts begin where the group is, and take the place of nothing.
    workspace.change("positions = 25", "positions = 40");
    workspace.run("run p.toml --until-end --to parquet").succeeds();
    let last = format!("{}-0-{:020}-{:020}.parquet", topics.readings, 80, 120);
    assert_eq!(workspace.files("again"), [&names[..], std::slice::from_ref(&last)].concat());
    assert_eq!(stored(&workspace.path("again").join(last)).len(), 20, "those of the last twenty messages");
}

#[test]
fn a_run_wants_a_folder_for_parquet() {
    let workspace =
        Workspace::new(&format!("{}\n[sink.parquet]\npath = \"out.parquet\"\n", between(&Topics::new(1))));
    workspace.run("run p.toml --until-end --to parquet").fails(&["out.parquet", "name a folder"]);
}

#[test]
fn what_is_replayed_is_forecast_as_the_file_is() {
    let (topics, rows) = (Topics::new(3), readings(&["a", "b", "ünï/4", "7"], 0..80));
    let workspace = Workspace::new(&between(&topics));
    workspace.readings("in.parquet", &rows);
    let sent = format!("320 of 320 rows sent to {} at ", topics.readings);
    workspace.run("replay p.toml --from in.parquet --speed max").succeeds().says(&[&sent]);
    let live = by_series(workspace.run(RUN).succeeds().stdout.lines());
    let past = by_series(
        workspace.run("backfill p.toml --from in.parquet --leave-open --to -").succeeds().stdout.lines(),
    );
    assert_eq!(live, past);
    assert_eq!(past.values().map(Vec::len).sum::<usize>(), 4 * 77);
}

#[test]
fn a_broker_inside_one_process_is_not_for_two() {
    let workspace = Workspace::new("[source.kafka]\nbrokers = \"embedded\"\ntopic = \"in\"\n");
    workspace.readings("in.parquet", &readings(&["a"], 0..5));
    workspace.run("replay p.toml --from in.parquet").fails(&["inside one process", "give an address"]);
}
