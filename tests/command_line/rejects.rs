//! Rejects: the limit, the listing and the replay.

use super::*;

const RUN: &str = "run p.toml --until-end";

#[test]
fn too_many_rejects_stop_a_run_after_a_commit() {
    let (topics, rows) = (Topics::new(1), readings(&["a", "b"], 0..100));
    let mut messages: Vec<String> = rows.iter().map(message).collect();
    (0..6).for_each(|i| messages.insert(40 + 2 * i, format!("bad {i}")));
    broker::produce(&topics.readings, None, messages.iter().map(|value| ("key", value.as_str())));
    let limits = "[limits]\nreject_rate = \"2%\"\nreject_window = 250\n[state]\nstore = \"state\"\n";
    let workspace = Workspace::new(&format!("{}{limits}", between(&topics)));
    workspace.run(RUN).fails(&[
        &format!(
            "{}/0: 6 of the last 51 rows were rejected, more than limits.reject_rate = \"2%\"",
            topics.readings
        ),
        "offset 46 malformed (not one JSON object",
        "offset 50 malformed",
        "tidecast rejects",
    ]);
    assert_eq!(broker::read_all(&topics.rejects).len(), 6);
    // The committed rejects do not stop the next run.
    workspace.run(RUN).succeeds();
    let forecasts = broker::read_all(&topics.forecasts);
    let values = forecasts.iter().map(|stored| stored.value.as_deref().unwrap());
    assert_eq!(by_series(values), expected(&Case::default(), &rows, OnEndOfInput::LeaveOpen));
}

/// A message with an invalid time.
fn with_invalid_time(row: &Row) -> String {
    message(row).replace("\"time\":", "\"time\":\"#").replace(",\"value\"", "\",\"value\"")
}

/// Extracts the message from a line, and the number from its time.
const CORRECTION: &str = r##"#!/bin/sh
sed 's/.*"value":"\(.*\)"}$/\1/; s/\\"/"/g; s/"#\([0-9]*\)"/\1/'
"##;

fn write_script(workspace: &Workspace, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(workspace.path(name), text).unwrap();
    fs::set_permissions(workspace.path(name), fs::Permissions::from_mode(0o755)).unwrap();
}

fn forecasts(topics: &Topics) -> Lines {
    let stored = broker::read_all(&topics.forecasts);
    by_series(stored.iter().map(|stored| stored.value.as_deref().unwrap()))
}

#[test]
fn corrected_rejects_are_sent_once_and_forecast() {
    if broker::real().is_none() {
        return;
    }
    let (topics, rows) = (Topics::new(3), readings(&["a", "b", "c"], 0..40));
    let wrong = |row: &Row| row.series == "c";
    let messages: Vec<(&str, String)> = rows
        .iter()
        .map(|row| (row.series.as_str(), if wrong(row) { with_invalid_time(row) } else { message(row) }))
        .collect();
    broker::produce(&topics.readings, None, messages.iter().map(|(key, value)| (*key, value.as_str())));
    let workspace = Workspace::new(&between(&topics));
    workspace.run(RUN).succeeds().logs(&["refused malformed: 40\n"]);

    let listed = workspace.run("rejects p.toml").succeeds().stdout;
    assert!(
        listed.contains(&format!("40 pending messages in {}\nmalformed: 40\n", topics.rejects)),
        "{listed}"
    );
    assert!(listed.contains("the text `#0` is not a time") && listed.contains(&messages[2].1), "{listed}");
    let lines = workspace.run("rejects p.toml --json --reason malformed").succeeds().stdout;
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!((lines.lines().count(), first["value"].as_str()), (40, Some(messages[2].1.as_str())));

    // Nothing is sent if the program does not print a line for each message.
    workspace.run("rejects p.toml --replay --map true").fails(&["read 40 lines and printed 0"]);
    workspace.run("rejects p.toml --replay --map false").fails(&["the program failed"]);
    write_script(&workspace, "correct", CORRECTION);
    let dry = workspace.run("rejects p.toml --replay --map ./correct --dry-run").succeeds();
    assert!(dry.stderr.contains("40 would be sent") && dry.stdout.lines().count() == 40, "{dry:#?}");
    let sent = format!("40 sent from {} to {}\n", topics.rejects, topics.readings);
    workspace.run("rejects p.toml --replay --map ./correct").succeeds().logs(&[&sent]);
    workspace.run("rejects p.toml --replay --map ./correct").succeeds().logs(&["0 sent"]);
    let replayed = broker::read_all(&topics.readings);
    let replayed: Vec<_> = replayed.iter().filter(|stored| !stored.headers.is_empty()).collect();
    assert_eq!(replayed.len(), 40);
    assert!(replayed.iter().all(|stored| stored.key.as_deref() == Some("c")));
    assert_eq!(replayed[0].headers[1], ("replays".to_string(), "1".to_string()));
    assert!(replayed[0].headers[0].1.starts_with(&format!("{}/", topics.rejects)));

    workspace.run(RUN).succeeds();
    assert_eq!(forecasts(&topics), expected(&Case::default(), &rows, OnEndOfInput::LeaveOpen));
    assert_eq!(
        workspace.run("rejects p.toml").succeeds().stdout,
        format!("0 pending messages in {}\n", topics.rejects)
    );
    let all = workspace.run("rejects p.toml --all").succeeds().stdout;
    assert!(all.contains("40 messages in"), "{all}");
}

#[test]
fn repeatedly_refused_messages_are_given_up_and_reasons_are_independent() {
    if broker::real().is_none() {
        return;
    }
    let topics = Topics::new(1);
    let bad = ["no reading", r#"{"sensor":"a","time":100}"#];
    broker::produce(&topics.readings, None, bad.map(|value| ("key", value)));
    let workspace = Workspace::new(&between(&topics));
    for _ in 0..3 {
        workspace.run(RUN).succeeds().logs(&["malformed: 1"]);
        workspace.run("rejects p.toml --replay --reason malformed").succeeds().logs(&["1 sent"]);
    }
    workspace.run(RUN).succeeds().logs(&["malformed: 1"]);
    let given_up = "0 sent from ";
    workspace.run("rejects p.toml --replay --reason malformed").succeeds().logs(&[given_up, ", 1 given up"]);
    // The other reason is still pending.
    workspace.run("rejects p.toml --replay").succeeds().logs(&["1 sent"]);
    let readings = broker::read_all(&topics.readings);
    assert_eq!(readings.last().unwrap().value.as_deref(), Some(bad[1]));
    assert_eq!(readings.len(), 2 + 3 + 1);
    workspace
        .run("rejects p.toml --reason unlucky")
        .fails(&["unknown --reason unlucky; known reasons are malformed, late"]);
}

#[test]
fn a_candidate_dropped_after_a_restart_is_rejected_unchanged() {
    if broker::real().is_none() {
        return;
    }
    let topics = Topics::new(1);
    let workspace = Workspace::new(&format!("{}\n[state]\nstore = \"state\"\n", between(&topics)));
    let far = r#"{"sensor":"a","time":99999,"value":1}"#;
    topics.send(&readings(&["a"], 0..5));
    broker::produce(&topics.readings, None, [("a", far)]);
    workspace.run(RUN).succeeds();
    // This run drops the candidate without having read it.
    topics.send(&readings(&["a"], 5..8));
    workspace.run(RUN).succeeds().logs(&["too_far: 1"]);
    let stored = broker::read_all(&topics.rejects);
    assert_eq!((stored.len(), stored[0].value.as_deref()), (1, Some(far)));
    let listed = workspace.run("rejects p.toml").succeeds().stdout;
    assert!(listed.contains(far), "{listed}");
    workspace.run("rejects p.toml --replay").succeeds().logs(&["1 sent"]);
    let last = broker::read_all(&topics.readings).pop().unwrap();
    assert_eq!((last.key.as_deref(), last.value.as_deref()), (Some("a"), Some(far)));
}

#[test]
fn a_rejects_topic_is_required() {
    let workspace =
        Workspace::new("[source.kafka]\nbrokers = \"b\"\ntopic = \"in\"\n[sink.kafka]\ntopic = \"out\"\n");
    workspace
        .run("rejects p.toml")
        .fails(&["there is no rejects topic", "set rejects_topic in [sink.kafka]"]);
    workspace.change("\n[columns]", "delivery = \"at_least_once\"\n[columns]");
    workspace.change("[sink.kafka]", "[sink.kafka]\nbrokers = \"c\"\nrejects_topic = \"no\"");
    workspace.run("rejects p.toml --replay").fails(&["in another cluster", "copy the topic to b"]);
}

#[test]
fn a_message_too_large_for_the_rejects_topic_is_stored_without_its_bytes() {
    if broker::real().is_none() {
        return;
    }
    let (topics, rows) = (Topics::new(1), readings(&["a"], 0..10));
    let mut messages: Vec<String> = rows.iter().map(message).collect();
    messages.insert(5, "#".repeat(1_040_000));
    broker::produce(&topics.readings, None, messages.iter().map(|value| ("key", value.as_str())));
    let workspace = Workspace::new(&between(&topics));
    workspace.run(RUN).succeeds().logs(&["malformed: 1"]);
    assert_eq!(forecasts(&topics), expected(&Case::default(), &rows, OnEndOfInput::LeaveOpen));
    let stored = broker::read_all(&topics.rejects);
    let [reject] = &stored[..] else { panic!("{} rejects", stored.len()) };
    assert_eq!((reject.key.as_deref(), reject.value.as_deref()), (Some("key"), None));
    for (name, value) in [("reason", "malformed"), ("offset", "5"), ("omitted", "payload of 1040000 bytes")] {
        assert!(reject.headers.contains(&(name.to_string(), value.to_string())), "{:?}", reject.headers);
    }
    let listed = workspace.run("rejects p.toml").succeeds().stdout;
    assert!(listed.contains("offset 5: not one JSON object"), "{listed}");
    assert!(listed.contains(&format!("    {}...\n", "#".repeat(120))), "{listed}");
    // It is replayed with the bytes from the source topic.
    workspace.run("rejects p.toml --replay").succeeds().logs(&["1 sent"]);
    assert_eq!(broker::read_all(&topics.readings).pop().unwrap().value.as_ref(), Some(&messages[5]));
    workspace.run(RUN).succeeds().logs(&["malformed: 1"]);
}

/// Replaces one message by one that is too large for any topic.
const ENLARGE: &str = "#!/bin/sh
while read -r line; do
  case \"$line\" in
    *'bad 1'*) head -c 2000000 /dev/urandom | base64 -w 0; echo ;;
    *) echo corrected ;;
  esac
done
";

#[test]
fn a_message_too_large_for_the_source_topic_is_skipped() {
    if broker::real().is_none() {
        return;
    }
    let topics = Topics::new(1);
    let large = "#".repeat(400_000);
    broker::produce(&topics.readings, None, ["bad 0", "bad 1", "bad 2"].map(|value| ("key", value)));
    let workspace = Workspace::new(&between(&topics));
    workspace.run(RUN).succeeds().logs(&["malformed: 3"]);
    write_script(&workspace, "enlarge", ENLARGE);
    // Refused by the broker.
    workspace.run("rejects p.toml --replay --map ./enlarge").succeeds().logs(&[
        &format!("{}/0/1: too large to be replayed", topics.readings),
        "2 sent",
        ", 1 too large\n",
    ]);
    let values = |topics: &Topics| -> Vec<_> {
        broker::read_all(&topics.readings).into_iter().filter_map(|stored| stored.value).collect()
    };
    assert_eq!(values(&topics)[3..], ["corrected", "corrected"]);
    // Refused by the client.
    broker::produce(&topics.readings, None, [("key", large.as_str())]);
    workspace.change("rejects_topic =", "client = { \"message.max.bytes\" = \"300000\" }\nrejects_topic =");
    workspace.run(RUN).succeeds().logs(&["malformed: 3"]);
    workspace.run("rejects p.toml --replay").succeeds().logs(&["2 sent", ", 1 too large\n"]);
    workspace.run("rejects p.toml --replay").succeeds().logs(&["0 sent"]);
    assert_eq!(values(&topics).len(), 3 + 2 + 1 + 2);
}

/// Changes nothing, and waits for a file at its second start.
const WAIT: &str = "#!/bin/sh
echo started >> starts
if [ $(wc -l < starts) -eq 2 ]; then
  echo waiting >&2
  while [ ! -e go ]; do sleep 0.05; done
fi
sed 's/.*\"value\":\"\\(.*\\)\"}$/\\1/'
";

/// A replay of two and a half transactions that is blocked before the second.
fn blocked_replay() -> Option<(Topics, Workspace, Running)> {
    broker::real()?;
    let topics = Topics::new(2);
    let bad: Vec<String> = (0..2500).map(|i| format!("bad {i}")).collect();
    broker::produce(&topics.readings, None, bad.iter().map(|value| (value.as_str(), value.as_str())));
    let workspace = Workspace::new(&between(&topics));
    workspace.run(RUN).succeeds().logs(&["malformed: 2500"]);
    write_script(&workspace, "wait", WAIT);
    let mut first = workspace.start("rejects p.toml --replay --map ./wait");
    first.wait_for("waiting");
    Some((topics, workspace, first))
}

/// Asserts that each reject was replayed once.
#[track_caller]
fn assert_each_replayed_once(topics: &Topics) {
    let stored = broker::read_all(&topics.readings);
    let mut replayed: Vec<_> =
        stored.into_iter().filter(|stored| !stored.headers.is_empty()).map(|stored| stored.value).collect();
    assert_eq!(replayed.len(), 2500);
    replayed.sort();
    replayed.dedup();
    assert_eq!(replayed.len(), 2500);
}

#[test]
fn a_killed_replay_is_resumed() {
    let Some((topics, workspace, first)) = blocked_replay() else { return };
    first.signal("KILL");
    workspace.run("rejects p.toml --replay").succeeds().logs(&["1500 sent"]);
    fs::write(workspace.path("go"), "").unwrap();
    assert_each_replayed_once(&topics);
}

#[test]
fn a_second_replay_takes_over_from_the_first() {
    let Some((topics, workspace, first)) = blocked_replay() else { return };
    workspace.run("rejects p.toml --replay").succeeds().logs(&["1500 sent"]);
    fs::write(workspace.path("go"), "").unwrap();
    first.finish().fails(&["was interrupted; start it again"]);
    assert_each_replayed_once(&topics);
}
