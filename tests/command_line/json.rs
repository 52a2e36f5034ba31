//! `--json` of `check` and `inspect`: one object on one line.

use serde_json::{Value, json};

use super::errors::PARQUET;
use super::program::Outcome;
use super::*;

fn run_in_pipelines(line: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    object(&Running::start(&folder, line).finish().succeeds())
}

/// The printed object: one line, and nothing else.
#[track_caller]
fn object(outcome: &Outcome) -> Value {
    assert_eq!(outcome.stdout.lines().count(), 1, "{outcome:#?}");
    serde_json::from_str(&outcome.stdout).expect("JSON")
}

#[test]
fn inspect_prints_a_model_as_json() {
    let model = run_in_pipelines("inspect sensors/model.safetensors --json");
    let of = |key: &str| &model[key];
    assert_eq!((of("kind"), of("horizon"), of("every")), (&json!("model"), &json!(24), &json!("1h")));
    assert!(of("hash").as_str().is_some_and(|hash| hash.len() == 12), "{model}");
    assert_eq!((of("warmup"), &of("recurrence")["poles"]), (&json!(48), &json!(55)));
    assert_eq!((of("targets"), of("aggregate")), (&json!(["value"]), &json!("mean")));
    assert!(of("parameters").as_u64() > Some(1000) && of("data")["rows"].as_u64() > Some(1000), "{model}");
    let scores = of("scores").as_array().expect("scores");
    assert!(scores.iter().any(|score| score["split"] == "test" && score["mae"].is_f64()), "{model}");
    let model = object(&Workspace::new("").run("inspect model.safetensors --json").succeeds());
    let Value::Object(cells) = &model["cells"] else { panic!("{model}") };
    assert_eq!(
        (&cells["cell"], &cells["hidden"], &cells["state"]),
        (&json!("gru"), &json!(9), &json!("window"))
    );
    assert_eq!(
        (&cells["blend_weights"], &model["recurrence"]),
        (&json!([{ "end": 2, "weight": 0.5 }]), &Value::Null)
    );
    assert_eq!((&model["scores"], &model["intervals"]), (&json!([]), &json!({ "quantiles": [] })));
}

#[test]
fn inspect_prints_a_snapshot_as_json() {
    let (topics, rows) = (Topics::new(1), readings(&["a", "b", "c"], 0..20));
    topics.send(&rows);
    let workspace = Workspace::new(&format!("{}\n[state]\nstore = \"state\"\n", between(&topics)));
    workspace.run("run p.toml --to - --until-end").succeeds();
    let name = workspace.files("state").pop().unwrap();
    let snapshot = object(&workspace.run(&format!("inspect state/{name} --json")).succeeds());
    let expected = [
        ("kind", json!("snapshot")),
        ("topic", json!(topics.readings)),
        ("partition", json!(0)),
        ("start", json!(0)),
        ("position", json!(60)),
        ("ids", json!(3)),
        ("ids_with_closed_steps", json!(3)),
        ("cold_ids", json!(0)),
        ("candidates", json!(0)),
        ("latest_positions", json!([57, 59])),
        ("first_ids", json!(["a", "b", "c"])),
    ];
    for (key, value) in expected {
        assert_eq!(snapshot[key], value, "{key}");
    }
    assert_eq!(snapshot["lineage"]["grid.every"], "10s");
    assert_eq!(snapshot["bytes"], fs::metadata(workspace.path(&format!("state/{name}"))).unwrap().len());
}

#[test]
fn check_prints_the_plan_as_json() {
    let workspace = Workspace::new(PARQUET);
    workspace.change("series = \"sensor\"", "series = \"$${sensor}\"");
    let rows: Vec<Row> = readings(&["a", "b"], 0..20);
    workspace.write_readings("in.parquet", &rows);
    workspace.run("check p.toml --json").fails(&["there is no column `${sensor}`"]);
    let plan = |outcome: &Outcome| object(outcome)["plan"].clone();
    let escaped = plan(&workspace.run("check p.toml --json"));
    assert_eq!(escaped["columns"]["series"], "${sensor}", "{escaped}");

    workspace.change("\"$${sensor}\"", "\"sensor\"");
    let outcome = workspace.run("check p.toml --json").succeeds().logs(&["ok"]);
    // The text is the same plan.
    let text = workspace.run("check p.toml").succeeds().stdout;
    let plan_text: Value = toml::from_str(&text).expect("a pipeline file");
    assert_eq!(plan(&outcome), plan_text);
    assert_eq!(plan_text["grid"]["every"], "10s");
    let found = object(&outcome);
    assert_eq!((&found["ok"], &found["problems"]), (&json!(true), &json!([])));
    assert_eq!(
        (&found["kind"], &found["pipeline"], &found["topics"]),
        (&json!("pipeline"), &json!("p.toml"), &Value::Null)
    );
    assert_eq!(found["model"], object(&workspace.run("inspect model.safetensors --json").succeeds()));
    let history = &found["history"];
    assert_eq!(
        (&history["files"], &history["rows"], &history["last"]),
        (&json!(1), &json!(40), &json!("1970-01-01T00:03:10Z"))
    );
    assert_eq!(history["sample"], json!({ "rows": 40, "series": 2, "restarts": 0, "refused": {} }));
}

#[test]
fn problems_have_their_file_and_line() {
    let workspace = Workspace::new("[source.parquet]\npath = \"missing/*.parquet\"\n");
    fs::write(workspace.path("model.safetensors"), "no model").unwrap();
    let found = object(&workspace.run("check p.toml --json").fails(&["would not run"]));
    assert_eq!((&found["ok"], &found["plan"]["grid"]["every"]), (&json!(false), &json!("10s")));
    let problems = found["problems"].as_array().expect("a list");
    let at = |problem: &Value| (problem["path"].clone(), problem["line"].clone());
    let locations: Vec<_> = problems.iter().map(at).collect();
    assert_eq!(locations, [(json!("p.toml"), json!(11)), (json!("p.toml"), json!(14))]);
    assert!(problems[1]["text"].as_str().unwrap().contains("no file matches"), "{found}");

    workspace.change("every = \"10s\"", "every = \"ten\"");
    workspace.change("levels = [0.8]", "levels = [80]");
    let found = object(&workspace.run("check p.toml --json").fails(&["p.toml:8: "]));
    assert_eq!((&found["ok"], &found["plan"]), (&json!(false), &Value::Null));
    let problems: Vec<_> = found["problems"].as_array().expect("a list").iter().map(at).collect();
    assert_eq!(problems, [(json!("p.toml"), json!(8)), (json!("p.toml"), json!(12))]);
    let found = object(&workspace.run("check q.toml --json").fails(&["q.toml"]));
    assert_eq!(found["problems"][0].get("line"), Some(&Value::Null), "no line");
}

#[test]
fn mismatches_and_connection_errors_have_their_line() {
    let kafka = "[source.kafka]\nbrokers = \"127.0.0.1:1\"\ntopic = \"in\"\n[sink.kafka]\ntopic = \"out\"\n";
    let workspace = Workspace::new(kafka);
    workspace.change("every = \"10s\"", "every = \"20s\"");
    let found =
        object(&workspace.run("check p.toml --connect --json").fails(&["p.toml:8: grid.every is 20s, but"]));
    let lines: Vec<_> =
        found["problems"].as_array().unwrap().iter().map(|problem| &problem["line"]).collect();
    assert_eq!(lines, [&json!(8), &json!(13)], "{found}");
}

#[test]
fn topics_have_their_partitions() {
    let topics = Topics::new(3);
    let workspace = Workspace::new(&between(&topics));
    let found = object(&workspace.run("check p.toml --connect --json").succeeds());
    let Topics { readings, forecasts, rejects, .. } = &topics;
    let expected = json!({ "source": { readings: 3 }, "sink": { forecasts: 3, rejects: 3 } });
    assert_eq!(found["topics"], expected);
}
