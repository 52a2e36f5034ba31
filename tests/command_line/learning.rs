//! `train` that is broken off: killed or stopped, the same command goes on and writes the same model.

use std::fs;

use super::mistakes::PARQUET;
use super::{Place, Row, readings};
use crate::harness::row;

const RECIPE: &str = "
[train]
memory = false
hidden = 8
lookback = 24
horizon = 2
batch = 64
epochs = 60
patience = 60
";

fn place() -> Place {
    let place = Place::new(&format!("{PARQUET}{RECIPE}"));
    place.readings("in.parquet", &readings(&["a", "b"], 0..1500));
    place
}

#[test]
fn a_killed_training_goes_on_and_writes_the_same_model() {
    let place = place();
    place.run("train p.toml --data in.parquet --out whole.safetensors").succeeds();
    let whole = fs::read(place.path("whole.safetensors")).unwrap();
    let train = "train p.toml --data in.parquet --out killed.safetensors";
    for (epoch, signal) in [("epoch   2:", "KILL"), ("epoch   4:", "INT")] {
        let mut running = place.start(train);
        running.wait_for(epoch);
        running.signal(signal);
        let outcome = running.finish();
        if signal == "INT" {
            outcome.succeeds().says(&["going on from", "stopped early: the same command goes on"]);
            assert_ne!(fs::read(place.path("killed.safetensors")).unwrap(), whole);
        }
        assert!(place.path("killed.safetensors.checkpoint").exists());
    }
    place.run(train).succeeds().says(&["going on from killed.safetensors.checkpoint, after epoch"]);
    assert_eq!(fs::read(place.path("killed.safetensors")).unwrap(), whole);
    assert!(!place.path("killed.safetensors.checkpoint").exists());
}

#[test]
fn one_thread_learns_what_several_learn() {
    let place = Place::new(&format!("{PARQUET}{RECIPE}quantiles = true\nembedding = 2\n"));
    place.readings("in.parquet", &readings(&["a", "b"], 0..1500));
    let train = "train p.toml --data in.parquet --epochs 2 --out";
    place.run(&format!("{train} several.safetensors")).succeeds();
    let Some(one) = place.run_on_one(&format!("{train} one.safetensors")) else { return };
    one.succeeds();
    let file = |name| fs::read(place.path(name)).unwrap();
    assert_eq!(file("one.safetensors"), file("several.safetensors"));
}

#[test]
fn a_checkpoint_of_something_else_is_ignored_and_replaced() {
    let place = place();
    fs::write(place.path("m.safetensors.checkpoint"), "not one").unwrap();
    place
        .run("train p.toml --data in.parquet --out m.safetensors --epochs 1")
        .succeeds()
        .says(&["note: m.safetensors.checkpoint is not gone on from: "]);
    assert!(!place.path("m.safetensors.checkpoint").exists());
}

#[test]
fn a_history_that_teaches_nothing_comes_with_what_would() {
    let place = Place::new(&format!("{PARQUET}[train]\nhorizon = 2\n"));
    let alike: Vec<Row> = (0..600).map(|i| row("a", 10 * i, 5.0)).collect();
    let few = readings(&["a"], 0..6);
    for (rows, why) in [
        (
            &alike[..],
            ["all readings of each series in the training part are equal", "; give a history in which"],
        ),
        (&few[..], ["that are not all alike", "; give more history, or a shorter horizon"]),
        (&[], ["the history is empty", "; give one with readings"]),
    ] {
        place.readings("in.parquet", rows);
        place.run("train p.toml --data in.parquet --out m.safetensors").fails(&why);
    }
}
