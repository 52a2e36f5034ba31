//! `[sink.scores]`: scores in topics and files.

use std::collections::BTreeMap;

use polars::prelude::{DataType, ParquetReader, SerReader};
use serde_json::Value;

use super::*;
use crate::broker::StoredMessage;

const SCORES: &str = "[scores]\nhorizons = [1, 2]\nevery = 10\n";

/// By series, period and horizon: the number of forecasts, and the bits of the scores.
type Scores = BTreeMap<(String, i64, i64), (i64, Vec<u32>)>;

const NUMBERS: [&str; 4] = ["mae", "naive_mae", "bias", "coverage_80"];

fn read_topic(topic: &str) -> Scores {
    let score = |message: StoredMessage| {
        let value: Value = serde_json::from_str(message.value.as_deref().expect("a value")).expect("JSON");
        let text = |name: &str| value[name].as_str().expect(name).to_owned();
        assert_eq!(message.key, Some(text("series")));
        assert!(!value["drift"].as_bool().expect("drift"), "the history is too short for a drift");
        let from = chrono::DateTime::parse_from_rfc3339(&text("from")).expect("RFC 3339").timestamp();
        let number = |name: &&str| (value[*name].as_f64().expect("a number") as f32).to_bits();
        let key = (text("series"), from, value["horizon"].as_i64().unwrap());
        (key, (value["forecasts"].as_i64().unwrap(), NUMBERS.iter().map(number).collect()))
    };
    broker::read_all(topic).into_iter().map(score).collect()
}

fn read_file(path: &Path) -> Scores {
    let frame = ParquetReader::new(fs::File::open(path).unwrap()).finish().expect("a whole file");
    let column = |name: &str| frame.column(name).unwrap().clone();
    let whole = |name: &str, row: usize| {
        column(name).cast(&DataType::Int64).unwrap().i64().unwrap().get(row).unwrap()
    };
    let score = |row: usize| {
        let series = column("series").str().unwrap().get(row).unwrap().to_owned();
        let key = (series, whole("from", row) / 1_000_000, whole("horizon", row));
        let number = |name: &&str| column(name).f32().unwrap().get(row).unwrap().to_bits();
        (key, (whole("forecasts", row), NUMBERS.iter().map(number).collect()))
    };
    (0..frame.height()).map(score).collect()
}

#[test]
fn a_topic_and_a_file_have_the_same_scores() {
    let (topics, rows) = (Topics::new(1), readings(&["a", "b"], 0..60));
    topics.send(&rows);
    let name = Topics::new(1).forecasts;
    let tables = format!("{}[sink.scores]\ntopic = \"{name}\"\n{SCORES}", between(&topics));
    let workspace = Workspace::new(&tables);
    workspace.run("run p.toml --until-end").succeeds();
    let streamed = read_topic(&name);
    // Six periods of ten steps, of which the last is open.
    assert!(streamed.len() >= 2 * 2 * 4, "{streamed:?}");
    assert!(streamed.values().any(|(forecasts, _)| *forecasts == 10), "{streamed:?}");

    let files = "[source.parquet]\npath = \"in.parquet\"\n[sink.parquet]\npath = \"out.parquet\"\n\
                 [sink.scores]\npath = \"scores.parquet\"\n";
    let workspace = Workspace::new(&format!("{files}{SCORES}"));
    workspace.write_readings("in.parquet", &rows);
    workspace.run("backfill p.toml --leave-open").succeeds();
    assert_eq!(read_file(&workspace.path("scores.parquet")), streamed);
}

#[test]
fn a_backfill_to_another_path_writes_its_scores_next_to_it() {
    let workspace = Workspace::new(&format!(
        "[source.parquet]\npath = \"in.parquet\"\n[sink.parquet]\npath = \"out\"\n[sink.scores]\npath = \"scores\"\n{SCORES}"
    ));
    workspace.write_readings("in.parquet", &readings(&["a", "b"], 0..60));
    let own = "forecasts are in out/forecasts.parquet, scores in scores/scores.parquet\n";
    workspace.run("backfill p.toml").succeeds().logs(&[own]);
    let whole = || {
        ["out/forecasts.parquet", "scores/scores.parquet"].map(|name| fs::read(workspace.path(name)).unwrap())
    };
    let (before, scores) = (whole(), read_file(&workspace.path("scores/scores.parquet")));
    for (to, forecasts, scores_path) in [
        ("part.parquet", "part.parquet", "part.scores.parquet"),
        ("part", "part/forecasts.parquet", "part/scores.parquet"),
    ] {
        let stderr = format!("forecasts are in {forecasts}, scores in {scores_path}\n");
        workspace.run(&format!("backfill p.toml --series a --to {to}")).succeeds().logs(&[&stderr]);
        let of_a: Scores = scores.clone().into_iter().filter(|((series, ..), _)| series == "a").collect();
        assert_eq!(read_file(&workspace.path(scores_path)), of_a);
    }
    assert!(before == whole(), "the pipeline's own files have changed");
    // Without [sink.scores] there are none.
    workspace.change("[sink.scores]\npath = \"scores\"\n", "");
    let stderr = workspace.run("backfill p.toml --series a --to none.parquet").succeeds().stderr;
    assert!(!stderr.contains("scores") && !workspace.path("none.scores.parquet").exists(), "{stderr}");
}

#[test]
fn scores_without_a_destination_are_warned_about() {
    let missing = "scores are not written: [sink.scores] needs ";
    let topics = Topics::new(1);
    topics.send(&readings(&["a"], 0..20));
    let files =
        "[source.parquet]\npath = \"in.parquet\"\n[sink.parquet]\npath = \"out.parquet\"\n[sink.scores]\n";
    let workspace =
        Workspace::new(&format!("{}{files}path = \"scores.parquet\"\n{SCORES}", between(&topics)));
    workspace.write_readings("in.parquet", &readings(&["a"], 0..20));
    let assert_warning =
        |line: &str, of: &str| drop(workspace.run(line).succeeds().logs(&[&format!("{missing}{of}\n")]));
    assert_warning("run p.toml --until-end", "`topic` when the forecasts go to Kafka");
    for command in ["backfill p.toml", "backfill p.toml --to -"] {
        let stderr = workspace.run(command).succeeds().stderr;
        assert!(!stderr.contains(missing), "{stderr}");
    }
    workspace.change("path = \"scores.parquet\"", &format!("topic = \"{}-scores\"", topics.forecasts));
    let assert_warning =
        |line: &str, of: &str| drop(workspace.run(line).succeeds().logs(&[&format!("{missing}{of}\n")]));
    assert_warning("backfill p.toml", "`path` when the forecasts go to Parquet");
}
