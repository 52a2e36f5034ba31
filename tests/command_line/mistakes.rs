//! What is wrong before any work starts: each names its place and the way out.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::*;

pub(super) const PARQUET: &str =
    "[source.parquet]\npath = \"in.parquet\"\n[sink.parquet]\npath = \"out.parquet\"\n";

/// An address at which nobody listens.
fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn an_unknown_key_is_named_with_file_line_and_the_nearest() {
    let workspace = Workspace::new(PARQUET);
    workspace.change("every = \"10s\"", "every = \"10s\"\nlatenes = \"5s\"");
    for command in ["backfill p.toml", "run p.toml", "check p.toml", "replay p.toml --from in.parquet"] {
        let why = "p.toml:9: unknown key \"latenes\" in [grid]; did you mean \"lateness\"?";
        workspace.run(command).fails(&[why]);
    }
}

#[test]
fn every_mistake_in_a_pipeline_is_told_at_once() {
    let workspace = Workspace::new(PARQUET);
    workspace.change("every = \"10s\"", "every = \"ten\"");
    workspace.change("levels = [0.8]", "levels = [80]");
    workspace
        .run("check p.toml")
        .fails(&["p.toml:8: \"every\" in [grid]", "p.toml:12: \"levels[0]\" in [forecast]"]);
}

#[test]
fn what_is_not_there_is_named_with_the_way_to_it() {
    let workspace = Workspace::new(PARQUET);
    let folder = fs::canonicalize(workspace.path("")).unwrap();
    let led = |name: &str| format!("which led to {}", folder.join(name).display());
    for (command, name, ways) in [
        ("check q.toml", "q.toml", ["q.toml: cannot be read", "tidecast init HISTORY.parquet --out q.toml"]),
        ("inspect q.arrow", "q.arrow", ["cannot read q.arrow", "`train` and `adopt` write models"]),
        ("init q.parquet", "q.parquet", ["cannot read q.parquet", "relative to the folder of that file"]),
        ("backfill p.toml", "in.parquet", ["cannot read in.parquet", "relative to the folder of that file"]),
    ] {
        workspace.run(command).fails(&ways).says(&[&led(name)]);
    }
}

#[test]
fn a_series_that_nobody_has_is_missed_aloud() {
    let workspace = Workspace::new(PARQUET);
    workspace.readings("in.parquet", &readings(&["a"], 0..20));
    let missed = "no row of in.parquet is of `b`: correct --series";
    workspace.run("backfill p.toml --series b --to -").succeeds().says(&[missed]);
    assert!(!workspace.run("backfill p.toml --series a --to -").succeeds().stderr.contains("correct --series"));
}

#[test]
fn who_asks_for_quiet_or_for_json_gets_it_of_every_command() {
    let workspace = Workspace::new(PARQUET);
    workspace.readings("in.parquet", &readings(&["a"], 0..20));
    workspace.change("max_gap = \"1m\"", "max_gap = \"2m\"");
    workspace.run("check p.toml").succeeds().says(&["note: gaps of up to 2m are filled here", "\nok\n"]);
    assert_eq!(workspace.run("check p.toml -q").succeeds().stderr, "");
    let told = workspace.run("check p.toml --log-format json").succeeds().stderr;
    let message = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["message"].clone();
    let messages: Vec<_> = told.lines().map(message).collect();
    assert!(messages.len() == 2 && messages[1] == "ok", "{told}");
}

#[test]
fn a_missing_model_comes_with_the_way_to_train_one() {
    let workspace = Workspace::new(PARQUET);
    fs::remove_file(workspace.path("model.safetensors")).unwrap();
    for command in ["backfill p.toml", "run p.toml", "check p.toml"] {
        let remedy = "train one: tidecast train p.toml --data HISTORY --out model.safetensors";
        workspace.run(command).fails(&["there is no model model.safetensors", remedy]);
    }
}

#[test]
fn a_file_that_is_no_model_is_named() {
    let workspace = Workspace::new(PARQUET);
    let model = fs::read(workspace.path("model.safetensors")).unwrap();
    for (bytes, why) in
        [(&b""[..], "cut short"), (&model[..1000], "cut short"), (b"PAR1 etc.", "not a safetensors")]
    {
        fs::write(workspace.path("model.safetensors"), bytes).unwrap();
        for command in ["backfill p.toml", "inspect model.safetensors"] {
            workspace.run(command).fails(&[
                "model.safetensors is not a model of tidecast (`train` and `adopt` write them)",
                why,
            ]);
        }
    }
    workspace.run("inspect missing.safetensors").fails(&["cannot read missing.safetensors"]);
}

#[test]
fn all_differences_between_pipeline_and_model_are_named() {
    let workspace = Workspace::new(PARQUET);
    workspace.readings("in.parquet", &readings(&["a"], 0..5));
    workspace.change("every = \"10s\"", "every = \"20s\"\naggregate = \"sum\"\ngaps = \"linear\"");
    workspace.change("targets = [\"value\"]", "targets = [\"value\"]\ncovariates = [\"wind\"]");
    let differences = [
        "grid.every is 20s here, the model was trained with 10s",
        "grid.aggregate is Sum here, the model was trained with Mean",
        "grid.gap_fill is Linear here, the model was trained with Hold",
        "columns.covariates is [\"wind\"] here, the model was trained with []",
    ];
    let outcome = workspace.run("backfill p.toml").fails(&differences);
    outcome.says(&["p.toml and its model model.safetensors disagree", "; make the pipeline as its model is"]);
    workspace.run("check p.toml").fails(&differences);
}

#[test]
fn levels_beyond_what_the_model_knows_are_refused() {
    let workspace = Workspace::new(PARQUET);
    workspace.change("levels = [0.8]", "levels = [0.8, 0.995]");
    workspace.run("backfill p.toml").fails(&["forecast.levels has 0.995, the model knows its errors up to 0.99"]);

    let mut model = Case::default().model();
    model.errors = None;
    fs::write(workspace.path("model.safetensors"), model.to_bytes()).unwrap();
    workspace.run("backfill p.toml").fails(&[
        "forecast.levels asks for intervals",
        "could not be validated",
        "say []",
    ]);
    workspace.change("levels = [0.8, 0.995]", "levels = []");
    workspace.readings("in.parquet", &readings(&["a"], 0..5));
    let outcome = workspace.run("backfill p.toml --to -").succeeds();
    assert!(!outcome.stdout.contains("lower") && outcome.stdout.lines().count() == 3, "{outcome:#?}");
}

#[test]
fn a_missing_table_of_the_pipeline_is_named() {
    let workspace = Workspace::new("");
    workspace.readings("in.parquet", &readings(&["a"], 0..5));
    let wanted = |what: &str| format!("p.toml: there is no [{what}]");
    workspace.run("run p.toml --to -").fails(&[&wanted("source.kafka"), "add one with brokers and a topic"]);
    workspace.run("replay p.toml --from in.parquet").fails(&[&wanted("source.kafka")]);
    workspace.run("backfill p.toml --to -").fails(&[&wanted("source.parquet"), "--from PATH"]);
    let neither = "p.toml: there is neither [sink.kafka] nor [sink.parquet]; add one, or say --to -";
    workspace.run("backfill p.toml --from in.parquet").fails(&[neither]);
    workspace.run("backfill p.toml --from in.parquet --to kafka").fails(&[&wanted("sink.kafka"), "--to -"]);
    workspace
        .run("backfill p.toml --from in.parquet --to parquet")
        .fails(&[&wanted("sink.parquet"), "--to PATH"]);
    let workspace = Workspace::new(&format!("[source.kafka]\nbrokers = \"{}\"\ntopic = \"in\"\n", nobody()));
    workspace.run("run p.toml").fails(&[neither]);
}

#[test]
fn a_command_line_that_makes_no_sense_shows_how_to_say_it() {
    let workspace = Workspace::new(PARQUET);
    let said = |line: &str, text: &str| drop(workspace.run(line).exits(2).says(&[text]));
    said("", "Usage: tidecast");
    said("forecast p.toml", "unrecognized subcommand 'forecast'");
    said("backfill p.toml --since yesterday", "a time is a date such as");
    said("run p.toml --to somewhere", "a path goes into [sink.parquet]");
}

#[test]
fn a_broker_that_does_not_answer_is_an_error_within_ten_seconds() {
    let address = nobody();
    let workspace = Workspace::new(&format!(
        "[source.kafka]\nbrokers = \"{address}\"\ntopic = \"in\"\n[sink.kafka]\ntopic = \"out\"\n"
    ));
    workspace.readings("in.parquet", &readings(&["a"], 0..5));
    let started = Instant::now();
    let commands = [
        "run p.toml",
        "replay p.toml --from in.parquet",
        "check p.toml --connect",
        "backfill p.toml --from in.parquet",
    ];
    // Side by side: each takes its time to find out.
    let running = commands.map(|command| workspace.start(command));
    for outcome in running.map(Running::finish) {
        outcome.fails(&[&address, "no kafka broker answers", "check that it runs"]);
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn a_missing_topic_is_named_with_the_nearest() {
    let topics = Topics::new(1);
    let workspace = Workspace::new(&between(&topics));
    workspace.change(&format!("topic = \"{}\"", topics.readings), &format!("topic = \"{}x\"", topics.readings));
    let why = format!("topic `{}x` does not exist", topics.readings);
    for command in ["run p.toml", "check p.toml --connect"] {
        workspace.run(command).fails(&[&why, &format!("is `{}`", topics.readings), "create it"]);
    }
}

#[test]
fn an_output_in_the_place_of_an_input_is_refused() {
    let workspace = Workspace::new(PARQUET);
    let before = fs::read(workspace.readings("in.parquet", &readings(&["a"], 0..5))).unwrap();
    workspace.run("backfill p.toml --from in.parquet --to in.parquet").fails(&["in.parquet is read"]);
    workspace.run("backfill p.toml --from . --to ./in.parquet").fails(&["in.parquet is read"]);
    workspace.run("train p.toml --data in.parquet --out in.parquet").fails(&["in.parquet is read"]);
    workspace.run("train p.toml --data in.parquet --out p.toml").fails(&["p.toml is read"]);
    assert_eq!(fs::read(workspace.path("in.parquet")).unwrap(), before);
}
