//! `check`, `inspect` and `demo`.

use super::*;

/// The folder of the sample pipelines.
fn pipelines() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines")
}

#[test]
fn the_sample_pipelines_are_valid() {
    for file in ["sensors.toml", "motes.toml"] {
        let outcome =
            Running::start(&pipelines(), &format!("check {file}")).finish().succeeds().logs(&["ok"]);
        for text in ["[grid]\nevery = ", "# model", "# history", " series, "] {
            assert!(outcome.stdout.contains(text), "`{text}` is not in {outcome:#?}");
        }
    }
}

#[test]
fn the_printed_plan_is_an_equivalent_pipeline() {
    let workspace = Workspace::new(&between(&Topics::new(1)));
    let plan = workspace.run("check p.toml").succeeds().stdout;
    fs::write(workspace.path("plan.toml"), &plan).unwrap();
    let plan_of_plan = workspace.run("check plan.toml").succeeds().stdout;
    assert_eq!(plan_of_plan.replace("plan.toml", "p.toml"), plan);
    // Defaults are filled in.
    for key in ["complete_after", "lateness = \"0s\"", "start = \"earliest\"", "hidden = 32"] {
        assert!(plan.contains(key), "{key} is not in {plan}");
    }
}

#[test]
fn check_reports_all_problems() {
    let workspace = Workspace::new("[source.parquet]\npath = \"missing/*.parquet\"\n");
    fs::write(workspace.path("model.safetensors"), "no model").unwrap();
    let problems =
        ["would not run", "model.safetensors is not a tidecast model", "source.parquet: no file matches"];
    workspace.run("check p.toml").fails(&problems);
}

#[test]
fn check_rejects_a_max_gap_below_the_interval_of_the_data() {
    let workspace = Workspace::new("[source.parquet]\npath = \"in.parquet\"\n");
    let hourly: Vec<Row> = (0..50).map(|i| row("a", 3600 * i, 1.0)).collect();
    workspace.write_readings("in.parquet", &hourly);
    workspace.run("check p.toml").fails(&["grid.max_gap is 1m", "increase it to the interval of the data"]);
}

#[test]
fn check_connect_looks_up_the_topics() {
    let topics = Topics::new(3);
    let scores = broker::unique("scores");
    let workspace = Workspace::new(&format!("{}[sink.scores]\ntopic = \"{scores}\"\n", between(&topics)));
    let outcome = workspace.run("check p.toml --connect").succeeds();
    for text in [
        format!("# reads topic {}: 3 partitions", topics.readings),
        format!("# writes topic {}: 3 partitions", topics.forecasts),
        format!("# writes topic {scores}: does not exist yet, will be created"),
    ] {
        assert!(outcome.stdout.contains(&text), "{text} is not in {outcome:#?}");
    }
}

#[test]
fn inspect_prints_model_data_and_errors() {
    let outcome = Running::start(&pipelines(), "inspect sensors/model.safetensors").finish().succeeds();
    let texts = ["55 poles", "24 steps of 1h", "48 observed steps", "value", "sha256 ", " series, "];
    for text in texts.into_iter().chain(["mean absolute error", "seasonal naive", "test "]) {
        assert!(outcome.stdout.contains(text), "`{text}` is not in {outcome:#?}");
    }
    let outcome = Workspace::new("").run("inspect model.safetensors").succeeds();
    assert!(outcome.stdout.contains("none: the history was too short for a split to score"), "{outcome:#?}");
}

#[test]
fn inspect_prints_the_header_and_totals_of_a_snapshot() {
    let (topics, rows) = (Topics::new(1), readings(&["a", "b", "c", "d", "e", "f"], 0..20));
    topics.send(&rows);
    let workspace = Workspace::new(&format!("{}\n[state]\nstore = \"state\"\n", between(&topics)));
    workspace.run("run p.toml --to - --until-end").succeeds();
    let name = workspace.files("state").pop().unwrap();
    let outcome = workspace.run(&format!("inspect state/{name}")).succeeds();
    let header = format!("{}/0, format {}", topics.readings, tidecast_stream::state::FORMAT);
    let ids = "\"a\", \"b\", \"c\", \"d\", \"e\", ...";
    for text in
        [&header, "120: the rows from 0 up to it", "114 to 119", ids, "grid.every = 10s", "bytes", "per id"]
    {
        assert!(outcome.stdout.contains(text), "`{text}` is not in {outcome:#?}");
    }
    let mut bytes = fs::read(workspace.path(&format!("state/{name}"))).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(workspace.path("x.arrow"), bytes).unwrap();
    let wrong = ["snapshot x.arrow is unusable; remove it", "the contents are damaged"];
    workspace.run("inspect x.arrow").fails(&wrong);
    workspace.run("inspect y.arrow").fails(&["cannot read y.arrow"]);
}

#[test]
fn the_demo_forecasts_without_any_setup() {
    let outcome = Workspace::new("").run("demo --for 5s --speed max").succeeds();
    assert!(outcome.stdout.contains("embedded broker: 127.0.0.1:"), "{outcome:#?}");
    let summary = outcome.stdout.rsplit("\n\n").next().unwrap();
    assert!(
        program::count(summary, "forecasts") > 0 && program::count(summary, "sensors") > 0,
        "{outcome:#?}"
    );
}
