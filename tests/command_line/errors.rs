//! Errors before any work starts: each names the location and the remedy.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::*;

pub(super) const PARQUET: &str =
    "[source.parquet]\npath = \"in.parquet\"\n[sink.parquet]\npath = \"out.parquet\"\n";

/// An address without a listener.
fn unused_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn an_unknown_key_is_reported_with_its_line_and_a_suggestion() {
    let workspace = Workspace::new(PARQUET);
    workspace.change("every = \"10s\"", "every = \"10s\"\nlatenes = \"5s\"");
    for command in ["backfill p.toml", "run p.toml", "check p.toml", "replay p.toml --from in.parquet"] {
        let why = "p.toml:9: unknown key \"latenes\" in [grid]; did you mean \"lateness\"?";
        workspace.run(command).fails(&[why]);
    }
}

#[test]
fn all_problems_of_a_pipeline_are_reported_at_once() {
    let workspace = Workspace::new(PARQUET);
    workspace.change("every = \"10s\"", "every = \"ten\"");
    workspace.change("levels = [0.8]", "levels = [80]");
    workspace
        .run("check p.toml")
        .fails(&["p.toml:8: \"every\" in [grid]", "p.toml:12: \"levels[0]\" in [forecast]"]);
}

#[test]
fn a_missing_file_is_named_with_its_absolute_path() {
    let workspace = Workspace::new(PARQUET);
    let folder = fs::canonicalize(workspace.path("")).unwrap();
    let resolved = |name: &str| format!("resolved to {}", folder.join(name).display());
    for (command, name, texts) in [
        ("check q.toml", "q.toml", ["q.toml: cannot be read", "tidecast init HISTORY.parquet --out q.toml"]),
        ("inspect q.arrow", "q.arrow", ["cannot read q.arrow", "`train` and `import-torch` write models"]),
        ("init q.parquet", "q.parquet", ["cannot read q.parquet", "relative to the folder of that file"]),
        ("backfill p.toml", "in.parquet", ["cannot read in.parquet", "relative to the folder of that file"]),
    ] {
        workspace.run(command).fails(&texts).logs(&[&resolved(name)]);
    }
}

#[test]
fn a_missing_series_is_warned_about() {
    let workspace = Workspace::new(PARQUET);
    workspace.write_readings("in.parquet", &readings(&["a"], 0..20));
    let missed = "in.parquet has no row of `b` in the requested time range; check --series";
    workspace.run("backfill p.toml --series b --to -").succeeds().logs(&[missed]);
    assert!(!workspace.run("backfill p.toml --series a --to -").succeeds().stderr.contains("check --series"));
}

#[test]
fn quiet_and_json_logs_apply_to_check() {
    let workspace = Workspace::new(PARQUET);
    workspace.write_readings("in.parquet", &readings(&["a"], 0..20));
    workspace.change("max_gap = \"1m\"", "max_gap = \"2m\"");
    workspace
        .run("check p.toml")
        .succeeds()
        .logs(&["note: grid.max_gap is 2m, but the model was trained with gaps up to 1m", "\nok\n"]);
    assert_eq!(workspace.run("check p.toml -q").succeeds().stderr, "");
    let log = workspace.run("check p.toml --log-format json").succeeds().stderr;
    let message = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["message"].clone();
    let messages: Vec<_> = log.lines().map(message).collect();
    assert!(messages.len() == 2 && messages[1] == "ok", "{log}");
}

#[test]
fn a_missing_model_is_reported_with_the_command_to_train_one() {
    let workspace = Workspace::new(PARQUET);
    fs::remove_file(workspace.path("model.safetensors")).unwrap();
    for command in ["backfill p.toml", "run p.toml", "check p.toml"] {
        let remedy = "train one: tidecast train p.toml --data HISTORY --out model.safetensors";
        workspace.run(command).fails(&["model model.safetensors does not exist", remedy]);
    }
}

#[test]
fn an_invalid_model_file_is_named() {
    let workspace = Workspace::new(PARQUET);
    let model = fs::read(workspace.path("model.safetensors")).unwrap();
    for (bytes, why) in
        [(&b""[..], "truncated"), (&model[..1000], "truncated"), (b"PAR1 etc.", "not a safetensors")]
    {
        fs::write(workspace.path("model.safetensors"), bytes).unwrap();
        for command in ["backfill p.toml", "inspect model.safetensors"] {
            workspace.run(command).fails(&[
                "model.safetensors is not a tidecast model (`train` and `import-torch` write models)",
                why,
            ]);
        }
    }
    workspace.run("inspect missing.safetensors").fails(&["cannot read missing.safetensors"]);
}

#[test]
fn all_mismatches_of_pipeline_and_model_are_reported() {
    let workspace = Workspace::new(PARQUET);
    workspace.write_readings("in.parquet", &readings(&["a"], 0..5));
    workspace.change("every = \"10s\"", "every = \"20s\"\naggregate = \"sum\"\ngap_fill = \"linear\"");
    workspace.change("targets = [\"value\"]", "targets = [\"value\"]\ncovariates = [\"wind\"]");
    let mismatches = [
        "grid.every is 20s, but the model was trained with 10s",
        "grid.aggregate is Sum, but the model was trained with Mean",
        "grid.gap_fill is Linear, but the model was trained with Hold",
        "columns.covariates is [\"wind\"], but the model was trained with []",
    ];
    let outcome = workspace.run("backfill p.toml").fails(&mismatches);
    outcome.logs(&["p.toml does not match its model model.safetensors", "; adapt the pipeline"]);
    workspace.run("check p.toml").fails(&mismatches);
}

#[test]
fn levels_without_error_quantiles_are_rejected() {
    let workspace = Workspace::new(PARQUET);
    workspace.change("levels = [0.8]", "levels = [0.8, 0.995]");
    workspace
        .run("backfill p.toml")
        .fails(&["forecast.levels contains 0.995, but models have error quantiles up to 0.99"]);

    let mut model = Case::default().model();
    model.residuals = None;
    fs::write(workspace.path("model.safetensors"), model.to_bytes()).unwrap();
    workspace.run("backfill p.toml").fails(&[
        "forecast.levels requests intervals",
        "too short to validate it",
        "set forecast.levels = []",
    ]);
    workspace.change("levels = [0.8, 0.995]", "levels = []");
    workspace.write_readings("in.parquet", &readings(&["a"], 0..5));
    let outcome = workspace.run("backfill p.toml --to -").succeeds();
    assert!(!outcome.stdout.contains("lower") && outcome.stdout.lines().count() == 3, "{outcome:#?}");
}

#[test]
fn a_missing_table_is_named() {
    let workspace = Workspace::new("");
    workspace.write_readings("in.parquet", &readings(&["a"], 0..5));
    let missing = |table: &str| format!("p.toml: there is no [{table}]");
    workspace.run("run p.toml --to -").fails(&[&missing("source.kafka"), "add one with brokers and a topic"]);
    workspace.run("replay p.toml --from in.parquet").fails(&[&missing("source.kafka")]);
    workspace.run("backfill p.toml --to -").fails(&[&missing("source.parquet"), "--from PATH"]);
    let neither = "p.toml: there is neither [sink.kafka] nor [sink.parquet]; add one, or use --to -";
    workspace.run("backfill p.toml --from in.parquet").fails(&[neither]);
    workspace.run("backfill p.toml --from in.parquet --to kafka").fails(&[&missing("sink.kafka"), "--to -"]);
    workspace
        .run("backfill p.toml --from in.parquet --to parquet")
        .fails(&[&missing("sink.parquet"), "--to PATH"]);
    let workspace =
        Workspace::new(&format!("[source.kafka]\nbrokers = \"{}\"\ntopic = \"in\"\n", unused_address()));
    workspace.run("run p.toml").fails(&[neither]);
}

#[test]
fn an_invalid_command_line_shows_the_usage() {
    let workspace = Workspace::new(PARQUET);
    let rejected = |line: &str, text: &str| drop(workspace.run(line).exits(2).logs(&[text]));
    rejected("", "Usage: tidecast");
    rejected("forecast p.toml", "unrecognized subcommand 'forecast'");
    rejected("backfill p.toml --since yesterday", "a time is a date such as");
    rejected("run p.toml --to somewhere", "set a path in [sink.parquet]");
}

#[test]
fn an_unreachable_broker_is_an_error_within_ten_seconds() {
    let address = unused_address();
    let workspace = Workspace::new(&format!(
        "[source.kafka]\nbrokers = \"{address}\"\ntopic = \"in\"\n[sink.kafka]\ntopic = \"out\"\n"
    ));
    workspace.write_readings("in.parquet", &readings(&["a"], 0..5));
    let started = Instant::now();
    let commands = [
        "run p.toml",
        "replay p.toml --from in.parquet",
        "check p.toml --connect",
        "backfill p.toml --from in.parquet",
    ];
    // In parallel: each waits for its timeout.
    let running = commands.map(|command| workspace.start(command));
    for outcome in running.map(Running::finish) {
        outcome.fails(&[&address, "no kafka broker answers", "check that it runs"]);
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn a_missing_topic_is_reported_with_the_most_similar_one() {
    let topics = Topics::new(1);
    let workspace = Workspace::new(&between(&topics));
    workspace
        .change(&format!("topic = \"{}\"", topics.readings), &format!("topic = \"{}x\"", topics.readings));
    let why = format!("topic `{}x` does not exist", topics.readings);
    for command in ["run p.toml", "check p.toml --connect"] {
        workspace.run(command).fails(&[&why, &format!("is `{}`", topics.readings), "create it"]);
    }
}

#[test]
fn an_output_never_replaces_an_input() {
    let workspace = Workspace::new(PARQUET);
    let before = fs::read(workspace.write_readings("in.parquet", &readings(&["a"], 0..5))).unwrap();
    workspace.run("backfill p.toml --from in.parquet --to in.parquet").fails(&["in.parquet is an input"]);
    workspace.run("backfill p.toml --from . --to ./in.parquet").fails(&["in.parquet is an input"]);
    workspace.run("train p.toml --data in.parquet --out in.parquet").fails(&["in.parquet is an input"]);
    workspace.run("train p.toml --data in.parquet --out p.toml").fails(&["p.toml is an input"]);
    assert_eq!(fs::read(workspace.path("in.parquet")).unwrap(), before);
}
