//! `train` that is broken off: killed or stopped, the same command goes on and writes the same model.

use std::fs;

use super::mistakes::PARQUET;
use super::{Workspace, Row, readings};
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

fn workspace() -> Workspace {
    let workspace = Workspace::new(&format!("{PARQUET}{RECIPE}"));
    workspace.readings("in.parquet", &readings(&["a", "b"], 0..1500));
    workspace
}

#[test]
fn a_killed_training_goes_on_and_writes_the_same_model() {
    let workspace = workspace();
    workspace.run("train p.toml --data in.parquet --out whole.safetensors").succeeds();
    let whole = fs::read(workspace.path("whole.safetensors")).unwrap();
    let train = "train p.toml --data in.parquet --out killed.safetensors";
    for (epoch, signal) in [("epoch   2:", "KILL"), ("epoch   4:", "INT")] {
        let mut running = workspace.start(train);
        running.wait_for(epoch);
        running.signal(signal);
        let outcome = running.finish();
        if signal == "INT" {
            outcome.succeeds().says(&["going on from", "stopped early: the same command goes on"]);
            assert_ne!(fs::read(workspace.path("killed.safetensors")).unwrap(), whole);
        }
        assert!(workspace.path("killed.safetensors.checkpoint").exists());
    }
    workspace.run(train).succeeds().says(&["going on from killed.safetensors.checkpoint, after epoch"]);
    assert_eq!(fs::read(workspace.path("killed.safetensors")).unwrap(), whole);
    assert!(!workspace.path("killed.safetensors.checkpoint").exists());
}

#[test]
fn one_thread_learns_what_several_learn() {
    let workspace = Workspace::new(&format!("{PARQUET}{RECIPE}quantiles = true\nembedding = 2\n"));
    workspace.readings("in.parquet", &readings(&["a", "b"], 0..1500));
    let train = "train p.toml --data in.parquet --epochs 2 --out";
    workspace.run(&format!("{train} several.safetensors")).succeeds();
    let Some(one) = workspace.run_on_one(&format!("{train} one.safetensors")) else { return };
    one.succeeds();
    let file = |name| fs::read(workspace.path(name)).unwrap();
    assert_eq!(file("one.safetensors"), file("several.safetensors"));
}

#[test]
fn a_checkpoint_of_something_else_is_ignored_and_replaced() {
    let workspace = workspace();
    fs::write(workspace.path("m.safetensors.checkpoint"), "not one").unwrap();
    workspace
        .run("train p.toml --data in.parquet --out m.safetensors --epochs 1")
        .succeeds()
        .says(&["note: m.safetensors.checkpoint is not gone on from: "]);
    assert!(!workspace.path("m.safetensors.checkpoint").exists());
}

#[test]
fn a_history_that_teaches_nothing_comes_with_what_would() {
    let workspace = Workspace::new(&format!("{PARQUET}[train]\nhorizon = 2\n"));
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
        workspace.readings("in.parquet", rows);
        workspace.run("train p.toml --data in.parquet --out m.safetensors").fails(&why);
    }
}
