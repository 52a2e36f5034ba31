//! `--json` of the commands that look: an object a script can rely on, on one line.

use serde_json::{Value, json};

use super::mistakes::PARQUET;
use super::program::Outcome;
use super::*;

fn committed(line: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    object(&Running::start(&folder, line).finish().succeeds())
}

/// What was printed: one line, and nothing else.
#[track_caller]
fn object(outcome: &Outcome) -> Value {
    assert_eq!(outcome.stdout.lines().count(), 1, "{outcome:#?}");
    serde_json::from_str(&outcome.stdout).expect("JSON")
}

#[test]
fn a_model_is_told_as_an_object() {
    let model = committed("inspect sensors/model.safetensors --json");
    let of = |key: &str| &model[key];
    assert_eq!((of("kind"), of("horizon"), of("every")), (&json!("model"), &json!(24), &json!("1h")));
    assert!(of("hash").as_str().is_some_and(|hash| hash.len() == 12), "{model}");
    assert_eq!((of("warm"), &of("memory")["poles"]), (&json!(48), &json!(55)));
    assert_eq!((of("targets"), of("aggregate")), (&json!(["value"]), &json!("mean")));
    assert!(of("parameters").as_u64() > Some(1000) && of("data")["rows"].as_u64() > Some(1000), "{model}");
    let scores = of("scores").as_array().expect("scores");
    assert!(scores.iter().any(|score| score["part"] == "test" && score["mae"].is_f64()), "{model}");
    let model = object(&Workspace::new("").run("inspect model.safetensors --json").succeeds());
    let Value::Object(cells) = &model["cells"] else { panic!("{model}") };
    assert_eq!(
        (&cells["cell"], &cells["hidden"], &cells["state"]),
        (&json!("gru"), &json!(9), &json!("window"))
    );
    assert_eq!((&cells["shares"], &model["memory"]), (&json!([{ "until": 2, "share": 0.5 }]), &Value::Null));
    assert_eq!((&model["scores"], &model["intervals"]), (&json!([]), &json!({ "quantiles": [] })));
}

#[test]
fn a_snapshot_is_told_as_an_object() {
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
        ("closed", json!(3)),
        ("cold", json!(0)),
        ("waiting", json!(0)),
        ("latest", json!([57, 59])),
        ("first_ids", json!(["a", "b", "c"])),
    ];
    for (key, value) in expected {
        assert_eq!(snapshot[key], value, "{key}");
    }
    assert_eq!(snapshot["lineage"]["grid.every"], "10s");
    assert_eq!(snapshot["bytes"], fs::metadata(workspace.path(&format!("state/{name}"))).unwrap().len());
}

#[test]
fn a_pipeline_is_told_key_by_key() {
    let workspace = Workspace::new(PARQUET);
    workspace.change("series = \"sensor\"", "series = \"$${sensor}\"");
    let rows: Vec<Row> = readings(&["a", "b"], 0..20);
    workspace.readings("in.parquet", &rows);
    workspace.run("check p.toml --json").fails(&["there is no column `${sensor}`"]);
    let plan = |outcome: &Outcome| object(outcome)["plan"].clone();
    let escaped = plan(&workspace.run("check p.toml --json"));
    assert_eq!(escaped["columns"]["series"], "${sensor}", "{escaped}");

    workspace.change("\"$${sensor}\"", "\"sensor\"");
    let outcome = workspace.run("check p.toml --json").succeeds().says(&["ok"]);
    // What is said to a reader is the same plan.
    let text = workspace.run("check p.toml").succeeds().stdout;
    let said: Value = toml::from_str(&text).expect("a pipeline file");
    assert_eq!(plan(&outcome), said);
    assert_eq!(said["grid"]["every"], "10s");
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
    assert_eq!(history["beginning"], json!({ "rows": 40, "series": 2, "restarts": 0, "refused": {} }));
}

#[test]
fn problems_are_told_with_their_file_and_line() {
    let workspace = Workspace::new("[source.parquet]\npath = \"gone/*.parquet\"\n");
    fs::write(workspace.path("model.safetensors"), "no model").unwrap();
    let found = object(&workspace.run("check p.toml --json").fails(&["would not run"]));
    assert_eq!((&found["ok"], &found["plan"]["grid"]["every"]), (&json!(false), &json!("10s")));
    let problems = found["problems"].as_array().expect("a list");
    let at = |problem: &Value| (problem["path"].clone(), problem["line"].clone());
    // Where the file names what is wrong.
    let places: Vec<_> = problems.iter().map(at).collect();
    assert_eq!(places, [(json!("p.toml"), json!(11)), (json!("p.toml"), json!(14))]);
    assert!(problems[1]["text"].as_str().unwrap().contains("no file matches"), "{found}");

    workspace.change("every = \"10s\"", "every = \"ten\"");
    workspace.change("levels = [0.8]", "levels = [80]");
    let found = object(&workspace.run("check p.toml --json").fails(&["p.toml:8: "]));
    assert_eq!((&found["ok"], &found["plan"]), (&json!(false), &Value::Null));
    let problems: Vec<_> = found["problems"].as_array().expect("a list").iter().map(at).collect();
    assert_eq!(problems, [(json!("p.toml"), json!(8)), (json!("p.toml"), json!(12))]);
    let found = object(&workspace.run("check q.toml --json").fails(&["q.toml"]));
    assert_eq!(found["problems"][0].get("line"), Some(&Value::Null), "there is no line, and it is said");
}

#[test]
fn what_disagrees_and_who_does_not_answer_is_told_with_its_line() {
    let kafka = "[source.kafka]\nbrokers = \"127.0.0.1:1\"\ntopic = \"in\"\n[sink.kafka]\ntopic = \"out\"\n";
    let workspace = Workspace::new(kafka);
    workspace.change("every = \"10s\"", "every = \"20s\"");
    let found =
        object(&workspace.run("check p.toml --connect --json").fails(&["p.toml:8: grid.every is 20s here"]));
    let lines: Vec<_> =
        found["problems"].as_array().unwrap().iter().map(|problem| &problem["line"]).collect();
    assert_eq!(lines, [&json!(8), &json!(13)], "{found}");
}

#[test]
fn topics_are_told_with_their_partitions() {
    let topics = Topics::new(3);
    let workspace = Workspace::new(&between(&topics));
    let found = object(&workspace.run("check p.toml --connect --json").succeeds());
    let Topics { readings, forecasts, rejects, .. } = &topics;
    let expected = json!({ "reads": { readings: 3 }, "writes": { forecasts: 3, rejects: 3 } });
    assert_eq!(found["topics"], expected);
}
