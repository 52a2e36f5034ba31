//! `[sink.scores]`: what a topic of scores says, a file of scores says, too.

use std::collections::BTreeMap;

use polars::prelude::{DataType, ParquetReader, SerReader};
use serde_json::Value;

use super::*;
use crate::broker::Stored;

const SCORES: &str = "[scores]\nhorizons = [1, 2]\nevery = 10\n";

/// The scores of one series, period and step ahead: forecasts, and the bits of their errors.
type Scores = BTreeMap<(String, i64, i64), (i64, Vec<u32>)>;

const NUMBERS: [&str; 4] = ["mae", "naive_mae", "bias", "coverage_80"];

fn of_topic(topic: &str) -> Scores {
    let of_one = |message: Stored| {
        let value: Value = serde_json::from_str(message.value.as_deref().expect("a value")).expect("JSON");
        let text = |name: &str| value[name].as_str().expect(name).to_owned();
        assert_eq!(message.key, Some(text("series")));
        assert!(!value["drift"].as_bool().expect("drift"), "there is too little history for a drift");
        let from = chrono::DateTime::parse_from_rfc3339(&text("from")).expect("RFC 3339").timestamp();
        let number = |name: &&str| (value[*name].as_f64().expect("a number") as f32).to_bits();
        let key = (text("series"), from, value["horizon"].as_i64().unwrap());
        (key, (value["forecasts"].as_i64().unwrap(), NUMBERS.iter().map(number).collect()))
    };
    broker::read_all(topic).into_iter().map(of_one).collect()
}

fn of_file(path: &Path) -> Scores {
    let frame = ParquetReader::new(fs::File::open(path).unwrap()).finish().expect("a whole file");
    let column = |name: &str| frame.column(name).unwrap().clone();
    let whole = |name: &str, row: usize| {
        column(name).cast(&DataType::Int64).unwrap().i64().unwrap().get(row).unwrap()
    };
    let of_one = |row: usize| {
        let series = column("series").str().unwrap().get(row).unwrap().to_owned();
        let key = (series, whole("from", row) / 1_000_000, whole("horizon", row));
        let number = |name: &&str| column(name).f32().unwrap().get(row).unwrap().to_bits();
        (key, (whole("forecasts", row), NUMBERS.iter().map(number).collect()))
    };
    (0..frame.height()).map(of_one).collect()
}

#[test]
fn a_topic_and_a_file_have_the_same_scores() {
    let (topics, rows) = (Topics::new(1), readings(&["a", "b"], 0..60));
    topics.send(&rows);
    let name = Topics::new(1).forecasts;
    let ends = format!("{}[sink.scores]\ntopic = \"{name}\"\n{SCORES}", between(&topics));
    let workspace = Workspace::new(&ends);
    workspace.run("run p.toml --until-end").succeeds();
    let streamed = of_topic(&name);
    // Six periods of ten steps; what closes the last one has not come.
    assert!(streamed.len() >= 2 * 2 * 4, "{streamed:?}");
    assert!(streamed.values().any(|(forecasts, _)| *forecasts == 10), "{streamed:?}");

    let files = "[source.parquet]\npath = \"in.parquet\"\n[sink.parquet]\npath = \"out.parquet\"\n\
                 [sink.scores]\npath = \"scores.parquet\"\n";
    let workspace = Workspace::new(&format!("{files}{SCORES}"));
    workspace.readings("in.parquet", &rows);
    workspace.run("backfill p.toml --leave-open").succeeds();
    assert_eq!(of_file(&workspace.path("scores.parquet")), streamed);
}

#[test]
fn a_backfill_to_elsewhere_leaves_the_scores_of_the_whole_one_alone() {
    let workspace = Workspace::new(&format!(
        "[source.parquet]\npath = \"in.parquet\"\n[sink.parquet]\npath = \"out\"\n[sink.scores]\npath = \"scores\"\n{SCORES}"
    ));
    workspace.readings("in.parquet", &readings(&["a", "b"], 0..60));
    let own = "forecasts are in out/forecasts.parquet, scores in scores/scores.parquet\n";
    workspace.run("backfill p.toml").succeeds().says(&[own]);
    let whole =
        || ["out/forecasts.parquet", "scores/scores.parquet"].map(|name| fs::read(workspace.path(name)).unwrap());
    let (before, scores) = (whole(), of_file(&workspace.path("scores/scores.parquet")));
    for (to, forecasts, beside) in [
        ("part.parquet", "part.parquet", "part.scores.parquet"),
        ("part", "part/forecasts.parquet", "part/scores.parquet"),
    ] {
        let said = format!("forecasts are in {forecasts}, scores in {beside}\n");
        workspace.run(&format!("backfill p.toml --series a --to {to}")).succeeds().says(&[&said]);
        let of_a: Scores = scores.clone().into_iter().filter(|((series, ..), _)| series == "a").collect();
        assert_eq!(of_file(&workspace.path(beside)), of_a);
    }
    assert!(before == whole(), "the files of the whole are others");
    // Nobody who has no scores is told of some.
    workspace.change("[sink.scores]\npath = \"scores\"\n", "");
    let said = workspace.run("backfill p.toml --series a --to none.parquet").succeeds().stderr;
    assert!(!said.contains("scores") && !workspace.path("none.scores.parquet").exists(), "{said}");
}

#[test]
fn scores_that_have_no_place_are_missed_aloud() {
    let missed = "scores are not written: [sink.scores] says nothing of forecasts that go to ";
    let topics = Topics::new(1);
    topics.send(&readings(&["a"], 0..20));
    let files =
        "[source.parquet]\npath = \"in.parquet\"\n[sink.parquet]\npath = \"out.parquet\"\n[sink.scores]\n";
    let workspace = Workspace::new(&format!("{}{files}path = \"scores.parquet\"\n{SCORES}", between(&topics)));
    workspace.readings("in.parquet", &readings(&["a"], 0..20));
    let says = |line: &str, of: &str| drop(workspace.run(line).succeeds().says(&[&format!("{missed}{of}\n")]));
    says("run p.toml --until-end", "a topic: name its `topic`");
    for command in ["backfill p.toml", "backfill p.toml --to -"] {
        let said = workspace.run(command).succeeds().stderr;
        assert!(!said.contains(missed), "{said}");
    }
    workspace.change("path = \"scores.parquet\"", &format!("topic = \"{}-scores\"", topics.forecasts));
    let says = |line: &str, of: &str| drop(workspace.run(line).succeeds().says(&[&format!("{missed}{of}\n")]));
    says("backfill p.toml", "files: name its `path`");
}
