//! Rejects: how many are too many, what lies in their topic, and how they are sent through again.

use super::*;

const RUN: &str = "run p.toml --until-end";

#[test]
fn too_many_rejects_stop_a_run_and_what_was_read_is_committed() {
    let (topics, rows) = (Topics::new(1), readings(&["a", "b"], 0..100));
    let mut messages: Vec<String> = rows.iter().map(message).collect();
    (0..6).for_each(|i| messages.insert(40 + 2 * i, format!("bad {i}")));
    broker::produce(&topics.readings, None, messages.iter().map(|value| ("key", value.as_str())));
    let limits = "[limits]\nrejects = \"2%\"\nrejects_over = 250\n[state]\nstore = \"state\"\n";
    let workspace = Workspace::new(&format!("{}{limits}", between(&topics)));
    workspace.run(RUN).fails(&[
        &format!(
            "{}/0: 6 of the last 51 rows were rejected, more than limits.rejects = \"2%\"",
            topics.readings
        ),
        "offset 46 malformed (not one JSON object",
        "offset 50 malformed",
        "tidecast rejects",
    ]);
    assert_eq!(broker::read_all(&topics.rejects).len(), 6);
    // It is told once: whoever starts again has seen it.
    workspace.run(RUN).succeeds();
    let forecasts = broker::read_all(&topics.forecasts);
    let values = forecasts.iter().map(|stored| stored.value.as_deref().unwrap());
    assert_eq!(by_series(values), expected(&Case::default(), &rows, false));
}

/// What a producer writes who stamps its readings wrongly.
fn misstamped(row: &Row) -> String {
    message(row).replace("\"time\":", "\"time\":\"#").replace(",\"value\"", "\",\"value\"")
}

/// Its correction: the message out of the line, and the number out of the time.
const CORRECTION: &str = r##"#!/bin/sh
sed 's/.*"value":"\(.*\)"}$/\1/; s/\\"/"/g; s/"#\([0-9]*\)"/\1/'
"##;

fn program(workspace: &Workspace, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(workspace.path(name), text).unwrap();
    fs::set_permissions(workspace.path(name), fs::Permissions::from_mode(0o755)).unwrap();
}

fn forecasts(topics: &Topics) -> Lines {
    let stored = broker::read_all(&topics.forecasts);
    by_series(stored.iter().map(|stored| stored.value.as_deref().unwrap()))
}

#[test]
fn corrected_rejects_are_forecast_as_if_they_had_been_right_and_sent_once() {
    if broker::real().is_none() {
        return;
    }
    let (topics, rows) = (Topics::new(3), readings(&["a", "b", "c"], 0..40));
    let wrong = |row: &Row| row.series == "c";
    let messages: Vec<(&str, String)> = rows
        .iter()
        .map(|row| (row.series.as_str(), if wrong(row) { misstamped(row) } else { message(row) }))
        .collect();
    broker::produce(&topics.readings, None, messages.iter().map(|(key, value)| (*key, value.as_str())));
    let workspace = Workspace::new(&between(&topics));
    workspace.run(RUN).succeeds().says(&["refused malformed: 40\n"]);

    let listed = workspace.run("rejects p.toml").succeeds().stdout;
    assert!(listed.contains(&format!("40 messages wait in {}\nmalformed: 40\n", topics.rejects)), "{listed}");
    assert!(listed.contains("the text `#0` is not a time") && listed.contains(&messages[2].1), "{listed}");
    let lines = workspace.run("rejects p.toml --json --reason malformed").succeeds().stdout;
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!((lines.lines().count(), first["value"].as_str()), (40, Some(messages[2].1.as_str())));

    // A program that does not answer for each is no correction; nothing is sent.
    workspace.run("rejects p.toml --replay --map true").fails(&["given 40 lines and said 0"]);
    workspace.run("rejects p.toml --replay --map false").fails(&["the program failed"]);
    program(&workspace, "correct", CORRECTION);
    let dry = workspace.run("rejects p.toml --replay --map ./correct --dry-run").succeeds();
    assert!(dry.stderr.contains("40 would be sent") && dry.stdout.lines().count() == 40, "{dry:#?}");
    let sent = format!("40 sent from {} to {}\n", topics.rejects, topics.readings);
    workspace.run("rejects p.toml --replay --map ./correct").succeeds().says(&[&sent]);
    workspace.run("rejects p.toml --replay --map ./correct").succeeds().says(&["0 sent"]);
    let again = broker::read_all(&topics.readings);
    let again: Vec<_> = again.iter().filter(|stored| !stored.headers.is_empty()).collect();
    assert_eq!(again.len(), 40);
    assert!(again.iter().all(|stored| stored.key.as_deref() == Some("c")));
    assert_eq!(again[0].headers[1], ("replays".to_string(), "1".to_string()));
    assert!(again[0].headers[0].1.starts_with(&format!("{}/", topics.rejects)));

    workspace.run(RUN).succeeds();
    assert_eq!(forecasts(&topics), expected(&Case::default(), &rows, false));
    assert_eq!(
        workspace.run("rejects p.toml").succeeds().stdout,
        format!("0 messages wait in {}\n", topics.rejects)
    );
    let all = workspace.run("rejects p.toml --all").succeeds().stdout;
    assert!(all.contains("40 messages in"), "{all}");
}

#[test]
fn what_is_refused_again_and_again_is_given_up_and_each_reason_waits_for_itself() {
    if broker::real().is_none() {
        return;
    }
    let topics = Topics::new(1);
    let bad = ["no reading", r#"{"sensor":"a","time":100}"#];
    broker::produce(&topics.readings, None, bad.map(|value| ("key", value)));
    let workspace = Workspace::new(&between(&topics));
    for _ in 0..3 {
        workspace.run(RUN).succeeds().says(&["malformed: 1"]);
        workspace.run("rejects p.toml --replay --reason malformed").succeeds().says(&["1 sent"]);
    }
    workspace.run(RUN).succeeds().says(&["malformed: 1"]);
    let given_up = "0 sent from ";
    workspace.run("rejects p.toml --replay --reason malformed").succeeds().says(&[given_up, ", 1 given up"]);
    // The other one was never touched.
    workspace.run("rejects p.toml --replay").succeeds().says(&["1 sent"]);
    let readings = broker::read_all(&topics.readings);
    assert_eq!(readings.last().unwrap().value.as_deref(), Some(bad[1]));
    assert_eq!(readings.len(), 2 + 3 + 1);
    workspace.run("rejects p.toml --reason unlucky").fails(&["--reason unlucky: it is one of malformed, late"]);
}

#[test]
fn a_candidate_that_is_rejected_after_a_restart_comes_as_it_was() {
    if broker::real().is_none() {
        return;
    }
    let topics = Topics::new(1);
    let workspace = Workspace::new(&format!("{}\n[state]\nstore = \"state\"\n", between(&topics)));
    let far = r#"{"sensor":"a","time":99999,"value":1}"#;
    topics.send(&readings(&["a"], 0..5));
    broker::produce(&topics.readings, None, [("a", far)]);
    workspace.run(RUN).succeeds();
    // The candidate is dropped by a run that did not read it.
    topics.send(&readings(&["a"], 5..8));
    workspace.run(RUN).succeeds().says(&["too_far: 1"]);
    let stored = broker::read_all(&topics.rejects);
    assert_eq!((stored.len(), stored[0].value.as_deref()), (1, Some(far)));
    let listed = workspace.run("rejects p.toml").succeeds().stdout;
    assert!(listed.contains(far), "{listed}");
    workspace.run("rejects p.toml --replay").succeeds().says(&["1 sent"]);
    let last = broker::read_all(&topics.readings).pop().unwrap();
    assert_eq!((last.key.as_deref(), last.value.as_deref()), (Some("a"), Some(far)));
}

#[test]
fn a_pipeline_without_a_rejects_topic_has_none() {
    let workspace =
        Workspace::new("[source.kafka]\nbrokers = \"b\"\ntopic = \"in\"\n[sink.kafka]\ntopic = \"out\"\n");
    workspace.run("rejects p.toml").fails(&["there is no rejects topic", "name one in [sink.kafka]"]);
    workspace.change("\n[columns]", "delivery = \"at_least_once\"\n[columns]");
    workspace.change("[sink.kafka]", "[sink.kafka]\nbrokers = \"c\"\nrejects = \"no\"");
    workspace.run("rejects p.toml --replay").fails(&["on another cluster", "copy the topic to b"]);
}

#[test]
fn a_message_too_large_for_the_rejects_lies_there_without_its_bytes() {
    if broker::real().is_none() {
        return;
    }
    let (topics, rows) = (Topics::new(1), readings(&["a"], 0..10));
    let mut messages: Vec<String> = rows.iter().map(message).collect();
    messages.insert(5, "#".repeat(1_040_000));
    broker::produce(&topics.readings, None, messages.iter().map(|value| ("key", value.as_str())));
    let workspace = Workspace::new(&between(&topics));
    workspace.run(RUN).succeeds().says(&["malformed: 1"]);
    assert_eq!(forecasts(&topics), expected(&Case::default(), &rows, false));
    let stored = broker::read_all(&topics.rejects);
    let [reject] = &stored[..] else { panic!("{} rejects", stored.len()) };
    assert_eq!((reject.key.as_deref(), reject.value.as_deref()), (Some("key"), None));
    for (name, value) in [("reason", "malformed"), ("offset", "5"), ("left_out", "payload of 1040000 bytes")]
    {
        assert!(reject.headers.contains(&(name.to_string(), value.to_string())), "{:?}", reject.headers);
    }
    let listed = workspace.run("rejects p.toml").succeeds().stdout;
    assert!(listed.contains("offset 5: not one JSON object"), "{listed}");
    assert!(listed.contains(&format!("    {}...\n", "#".repeat(120))), "{listed}");
    // It is sent through again as it was read.
    workspace.run("rejects p.toml --replay").succeeds().says(&["1 sent"]);
    assert_eq!(broker::read_all(&topics.readings).pop().unwrap().value.as_ref(), Some(&messages[5]));
    workspace.run(RUN).succeeds().says(&["malformed: 1"]);
}

/// A program that makes more of one message than any topic takes.
const BLOATING: &str = "#!/bin/sh
while read -r line; do
  case \"$line\" in
    *'bad 1'*) head -c 2000000 /dev/urandom | base64 -w 0; echo ;;
    *) echo corrected ;;
  esac
done
";

#[test]
fn what_is_too_large_to_be_sent_again_is_passed_over_and_holds_nothing_up() {
    if broker::real().is_none() {
        return;
    }
    let topics = Topics::new(1);
    let large = "#".repeat(400_000);
    broker::produce(&topics.readings, None, ["bad 0", "bad 1", "bad 2"].map(|value| ("key", value)));
    let workspace = Workspace::new(&between(&topics));
    workspace.run(RUN).succeeds().says(&["malformed: 3"]);
    program(&workspace, "bloat", BLOATING);
    // By the broker.
    workspace.run("rejects p.toml --replay --map ./bloat").succeeds().says(&[
        &format!("{}/0/1: too large to be sent again", topics.readings),
        "2 sent",
        ", 1 too large to be sent\n",
    ]);
    let values = |topics: &Topics| -> Vec<_> {
        broker::read_all(&topics.readings).into_iter().filter_map(|stored| stored.value).collect()
    };
    assert_eq!(values(&topics)[3..], ["corrected", "corrected"]);
    // And by the client.
    broker::produce(&topics.readings, None, [("key", large.as_str())]);
    workspace.change("rejects =", "client = { \"message.max.bytes\" = \"300000\" }\nrejects =");
    workspace.run(RUN).succeeds().says(&["malformed: 3"]);
    workspace.run("rejects p.toml --replay").succeeds().says(&["2 sent", ", 1 too large to be sent\n"]);
    workspace.run("rejects p.toml --replay").succeeds().says(&["0 sent"]);
    assert_eq!(values(&topics).len(), 3 + 2 + 1 + 2);
}

/// A program that corrects nothing, and at its second start waits for a file.
const WAITING: &str = "#!/bin/sh
echo started >> starts
if [ $(wc -l < starts) -eq 2 ]; then
  echo it waits >&2
  while [ ! -e go ]; do sleep 0.05; done
fi
sed 's/.*\"value\":\"\\(.*\\)\"}$/\\1/'
";

/// Rejects of two and a half transactions, and a replay of them that stands still before the second.
fn standing_still() -> Option<(Topics, Workspace, Running)> {
    broker::real()?;
    let topics = Topics::new(2);
    let bad: Vec<String> = (0..2500).map(|i| format!("bad {i}")).collect();
    broker::produce(&topics.readings, None, bad.iter().map(|value| (value.as_str(), value.as_str())));
    let workspace = Workspace::new(&between(&topics));
    workspace.run(RUN).succeeds().says(&["malformed: 2500"]);
    program(&workspace, "wait", WAITING);
    let mut first = workspace.start("rejects p.toml --replay --map ./wait");
    first.wait_for("it waits");
    Some((topics, workspace, first))
}

/// That each of them was sent again once.
#[track_caller]
fn each_once(topics: &Topics) {
    let stored = broker::read_all(&topics.readings);
    let mut again: Vec<_> =
        stored.into_iter().filter(|stored| !stored.headers.is_empty()).map(|stored| stored.value).collect();
    assert_eq!(again.len(), 2500);
    again.sort();
    again.dedup();
    assert_eq!(again.len(), 2500);
}

#[test]
fn a_replay_that_is_killed_is_gone_on_with() {
    let Some((topics, workspace, first)) = standing_still() else { return };
    first.signal("KILL");
    workspace.run("rejects p.toml --replay").succeeds().says(&["1500 sent"]);
    fs::write(workspace.path("go"), "").unwrap();
    each_once(&topics);
}

#[test]
fn of_two_replays_at_once_the_second_sends_the_rest() {
    let Some((topics, workspace, first)) = standing_still() else { return };
    workspace.run("rejects p.toml --replay").succeeds().says(&["1500 sent"]);
    fs::write(workspace.path("go"), "").unwrap();
    first.finish().fails(&["was broken off; start it again"]);
    each_once(&topics);
}
