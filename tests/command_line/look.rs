//! The commands that only look: `check`, `inspect` and `demo`.

use super::*;

/// The folder with the pipelines that come with the program.
fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines")
}

#[test]
fn the_pipelines_of_this_repository_are_sound() {
    for file in ["sensors.toml", "motes.toml"] {
        let outcome =
            Running::start(&committed(), &format!("check {file}")).finish().succeeds().says(&["ok"]);
        for text in ["[grid]\nevery = ", "# its model", "# its history", " series, "] {
            assert!(outcome.stdout.contains(text), "`{text}` is not in {outcome:#?}");
        }
    }
}

#[test]
fn what_check_prints_is_the_same_pipeline() {
    let workspace = Workspace::new(&between(&Topics::new(1)));
    let plan = workspace.run("check p.toml").succeeds().stdout;
    fs::write(workspace.path("plan.toml"), &plan).unwrap();
    let again = workspace.run("check plan.toml").succeeds().stdout;
    assert_eq!(again.replace("plan.toml", "p.toml"), plan);
    // Every default is there to be changed.
    for key in ["complete_after", "lateness = \"0s\"", "start = \"earliest\"", "hidden = 32"] {
        assert!(plan.contains(key), "{key} is not in {plan}");
    }
}

#[test]
fn check_names_all_that_is_wrong() {
    let workspace = Workspace::new("[source.parquet]\npath = \"gone/*.parquet\"\n");
    fs::write(workspace.path("model.safetensors"), "no model").unwrap();
    let wrong = ["would not run", "model.safetensors is not a model", "source.parquet: no file matches"];
    workspace.run("check p.toml").fails(&wrong);
}

#[test]
fn check_warns_of_gaps_shorter_than_the_cadence() {
    let workspace = Workspace::new("[source.parquet]\npath = \"in.parquet\"\n");
    let hourly: Vec<Row> = (0..50).map(|i| row("a", 3600 * i, 1.0)).collect();
    workspace.readings("in.parquet", &hourly);
    workspace.run("check p.toml").fails(&["grid.max_gap is 1m", "the data's own cadence is longer"]);
}

#[test]
fn check_connect_asks_for_the_topics() {
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
fn inspect_tells_network_data_and_scores() {
    let outcome = Running::start(&committed(), "inspect sensors/model.safetensors").finish().succeeds();
    let texts = ["55 poles", "24 steps of 1h", "48 observed steps", "value", "sha256 ", " series, "];
    for text in texts.into_iter().chain(["mean absolute error", "seasonal naive", "test "]) {
        assert!(outcome.stdout.contains(text), "`{text}` is not in {outcome:#?}");
    }
    let outcome = Workspace::new("").run("inspect model.safetensors").succeeds();
    assert!(outcome.stdout.contains("none: the history left no part to score on"), "{outcome:#?}");
}

#[test]
fn inspect_tells_what_a_snapshot_is_of() {
    let (topics, rows) = (Topics::new(1), readings(&["a", "b", "c", "d", "e", "f"], 0..20));
    topics.send(&rows);
    let workspace = Workspace::new(&format!("{}\n[state]\nstore = \"state\"\n", between(&topics)));
    workspace.run("run p.toml --to - --until-end").succeeds();
    let name = workspace.files("state").pop().unwrap();
    let outcome = workspace.run(&format!("inspect state/{name}")).succeeds();
    let of = format!("of {}/0, format {}", topics.readings, tidecast_stream::state::FORMAT);
    let ids = "\"a\", \"b\", \"c\", \"d\", \"e\", ...";
    for text in [&of, "120: all rows from 0", "at 114 to 119", ids, "grid.every = 10s", "bytes", "an id"] {
        assert!(outcome.stdout.contains(text), "`{text}` is not in {outcome:#?}");
    }
    let mut bytes = fs::read(workspace.path(&format!("state/{name}"))).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(workspace.path("x.arrow"), bytes).unwrap();
    let wrong = ["x.arrow is of no use: remove it", "its contents are damaged"];
    workspace.run("inspect x.arrow").fails(&wrong);
    workspace.run("inspect y.arrow").fails(&["cannot read y.arrow"]);
}

#[test]
fn the_demo_forecasts_by_itself() {
    let outcome = Workspace::new("").run("demo --for 5s --speed max").succeeds();
    assert!(outcome.stdout.contains("embedded broker: 127.0.0.1:"), "{outcome:#?}");
    let summary = outcome.stdout.rsplit("\n\n").next().unwrap();
    assert!(
        program::count(summary, "forecasts") > 0 && program::count(summary, "sensors") > 0,
        "{outcome:#?}"
    );
}
