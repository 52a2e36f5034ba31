//! `evaluate`: a model trained on the sample, scored beside the baselines, as text, as a document and as a page.

use super::*;

/// A folder with the sensors' pipeline, their readings in reach, and a model of a memory alone: it is trained in seconds.
fn sensors() -> TempDir {
    let folder = TempDir::new().unwrap();
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    let text = fs::read_to_string(samples.join("sensors.toml")).unwrap();
    let text = text
        .replace("cell = \"gru\"", "cell = \"none\"")
        .replace("sensors/model.safetensors", "model.safetensors")
        .replace("sensors/readings.parquet", &samples.join("sensors/readings.parquet").display().to_string());
    fs::write(folder.path().join("p.toml"), text).unwrap();
    let readings = samples.join("sensors/readings.parquet");
    let line = format!("train p.toml --data {} --out model.safetensors", readings.display());
    Running::start(folder.path(), &line).finish().succeeds();
    folder
}

#[test]
fn the_sensors_are_scored_beside_the_baselines() {
    let folder = sensors();
    let run = |line: &str| Running::start(folder.path(), line).finish();
    let outcome = run("evaluate p.toml --json --html page.html").succeeds();
    assert_eq!(outcome.stdout.lines().count(), 1);
    let found: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    let mase = |method: usize| found["overall"]["methods"][method]["mase"].as_f64().unwrap();
    assert_eq!(
        found["methods"],
        serde_json::json!(["ours", "repeat last", "day before", "week before", "ridge", "smoothing"])
    );
    assert!((1..6).all(|baseline| mase(0) < mase(baseline)), "{}", found["overall"]);
    assert_eq!(found["series"].as_array().unwrap().len(), 25);
    for level in found["overall"]["methods"][0]["levels"].as_array().unwrap() {
        let short = level["level"].as_f64().unwrap() - level["coverage"].as_f64().unwrap();
        assert!(short.abs() < 0.1, "{level}");
    }
    let page = fs::read_to_string(folder.path().join("page.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("Worst") && !page.contains("NaN"));

    // The same, whatever the cores.
    if let Some(alone) = Running::start_on_one(folder.path(), "evaluate p.toml --json --quiet") {
        let alone = alone.finish().succeeds();
        assert!(alone.stdout == outcome.stdout, "another document on one core");
        assert_eq!(alone.stderr, "");
    }

    let text = run("evaluate p.toml").succeeds().stdout;
    for part in ["this part it has never seen", "MASE by step ahead", "ridge", "better on", "miami/humidity"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }

    let mut stopped = Running::start(folder.path(), "evaluate p.toml --html stopped.html");
    stopped.wait_for("25 series,");
    stopped.signal("INT");
    let stopped = stopped.finish().fails(&["stopped before the history was scored"]);
    assert!(stopped.stdout.is_empty() && !folder.path().join("stopped.html").exists(), "{stopped:?}");

    // One series by itself scores as it does among all.
    let one = run("evaluate p.toml --json --series miami/humidity").succeeds();
    let one: serde_json::Value = serde_json::from_str(&one.stdout).unwrap();
    let among =
        found["series"].as_array().unwrap().iter().find(|series| series["series"] == "miami/humidity");
    assert_eq!(Some(&one["series"][0]), among);
    assert_eq!(one["series"].as_array().unwrap().len(), 1);
    run("evaluate p.toml --series nobody").fails(&["no series `nobody`", "the nearest of the "]);
    run("evaluate p.toml --since 2023-12-31T20:00:00Z").fails(&["nothing to score", "--since"]);
    run("evaluate p.toml --html model.safetensors").fails(&["is read", "--html"]);
    let part = run("evaluate p.toml --since 2023-06-01 --until 2023-06-02").succeeds().stdout;
    assert!(
        part.contains("were fitted or chosen on some of it") && part.contains("too short to tell"),
        "{part}"
    );
}

#[test]
fn a_model_that_does_not_say_when_it_learned_meets_new_data() {
    let workspace = Workspace::new("[source.parquet]\npath = \"in.parquet\"\n");
    workspace.readings("in.parquet", &readings(&["a", "b"], 0..400));
    let text = workspace.run("evaluate p.toml").succeeds().stdout;
    assert!(text.contains("does not say until when it learned"), "{text}");
    workspace.readings("in.parquet", &[]);
    workspace.run("evaluate p.toml").fails(&["the history is empty", "; give one with readings"]);
    workspace.run("evaluate p.toml --data gone.parquet").fails(&["gone.parquet"]);
    workspace.run("evaluate p.toml --model gone.safetensors").fails(&["gone.safetensors", "tidecast train"]);
}
