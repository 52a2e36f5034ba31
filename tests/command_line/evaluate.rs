//! `evaluate`: a model trained on the sample, scored with the baselines, as text, JSON and HTML.

use super::*;

/// A folder with the sensor pipeline and a model without cells, which is trained in seconds.
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
fn the_sensors_are_scored_with_the_baselines() {
    let folder = sensors();
    let run = |line: &str| Running::start(folder.path(), line).finish();
    let outcome = run("evaluate p.toml --json --html page.html").succeeds();
    assert_eq!(outcome.stdout.lines().count(), 1);
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    let mase = |method: usize| report["overall"]["methods"][method]["mase"].as_f64().unwrap();
    assert_eq!(
        report["methods"],
        serde_json::json!(["model", "naive", "daily naive", "weekly naive", "ridge", "ETS"])
    );
    assert!((1..6).all(|baseline| mase(0) < mase(baseline)), "{}", report["overall"]);
    assert_eq!(report["series"].as_array().unwrap().len(), 25);
    for level in report["overall"]["methods"][0]["levels"].as_array().unwrap() {
        let error = level["level"].as_f64().unwrap() - level["coverage"].as_f64().unwrap();
        assert!(error.abs() < 0.1, "{level}");
    }
    let page = fs::read_to_string(folder.path().join("page.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("Worst") && !page.contains("NaN"));

    // The same on any number of cores.
    if let Some(single) = Running::start_on_one_core(folder.path(), "evaluate p.toml --json --quiet") {
        let single = single.finish().succeeds();
        assert!(single.stdout == outcome.stdout, "another report on one core");
        assert_eq!(single.stderr, "");
    }

    let text = run("evaluate p.toml").succeeds().stdout;
    for part in ["new to the model", "MASE by step ahead", "ridge", "better on", "miami/humidity"] {
        assert!(text.contains(part), "{part}: {text}");
    }

    let mut stopped = Running::start(folder.path(), "evaluate p.toml --html stopped.html");
    stopped.wait_for("25 series,");
    stopped.signal("INT");
    let stopped = stopped.finish().fails(&["stopped before the whole history was scored"]);
    assert!(stopped.stdout.is_empty() && !folder.path().join("stopped.html").exists(), "{stopped:?}");

    // A series has the same scores by itself and among all.
    let one = run("evaluate p.toml --json --series miami/humidity").succeeds();
    let one: serde_json::Value = serde_json::from_str(&one.stdout).unwrap();
    let in_all =
        report["series"].as_array().unwrap().iter().find(|series| series["series"] == "miami/humidity");
    assert_eq!(Some(&one["series"][0]), in_all);
    assert_eq!(one["series"].as_array().unwrap().len(), 1);
    run("evaluate p.toml --series missing").fails(&["no series `missing`", "the most similar of "]);
    run("evaluate p.toml --since 2023-12-31T20:00:00Z").fails(&["nothing to score", "--since"]);
    run("evaluate p.toml --html model.safetensors").fails(&["is an input", "--html"]);
    let part = run("evaluate p.toml --since 2023-06-01 --until 2023-06-02").succeeds().stdout;
    assert!(part.contains("were fitted or selected on some of it") && part.contains("too short"), "{part}");
}

#[test]
fn a_model_without_training_dates_is_scored_on_new_data() {
    let workspace = Workspace::new("[source.parquet]\npath = \"in.parquet\"\n");
    workspace.write_readings("in.parquet", &readings(&["a", "b"], 0..400));
    let text = workspace.run("evaluate p.toml").succeeds().stdout;
    assert!(text.contains("does not record its training dates"), "{text}");
    workspace.write_readings("in.parquet", &[]);
    workspace.run("evaluate p.toml").fails(&["the history is empty", "; provide observations"]);
    workspace.run("evaluate p.toml --data gone.parquet").fails(&["gone.parquet"]);
    workspace.run("evaluate p.toml --model gone.safetensors").fails(&["gone.safetensors", "tidecast train"]);
}
