//! `train`: resumption after a kill or a stop, threads, checkpoints and insufficient histories.

use std::fs;

use super::errors::PARQUET;
use super::{Row, Workspace, readings};
use crate::harness::row;

const RECIPE: &str = "
[train]
recurrence = false
hidden = 8
lookback = 24
horizon = 2
batch_size = 64
epochs = 60
patience = 60
";

fn workspace() -> Workspace {
    let workspace = Workspace::new(&format!("{PARQUET}{RECIPE}"));
    workspace.write_readings("in.parquet", &readings(&["a", "b"], 0..1500));
    workspace
}

#[test]
fn an_interrupted_training_resumes_and_writes_the_same_model() {
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
            outcome.succeeds().logs(&["resuming from", "stopped early: the same command resumes"]);
            assert_ne!(fs::read(workspace.path("killed.safetensors")).unwrap(), whole);
        }
        assert!(workspace.path("killed.safetensors.checkpoint").exists());
    }
    workspace.run(train).succeeds().logs(&["resuming from killed.safetensors.checkpoint after epoch"]);
    assert_eq!(fs::read(workspace.path("killed.safetensors")).unwrap(), whole);
    assert!(!workspace.path("killed.safetensors.checkpoint").exists());
}

#[test]
fn the_model_does_not_depend_on_the_number_of_threads() {
    let workspace = Workspace::new(&format!("{PARQUET}{RECIPE}quantiles = true\nembedding = 2\n"));
    workspace.write_readings("in.parquet", &readings(&["a", "b"], 0..1500));
    let train = "train p.toml --data in.parquet --epochs 2 --out";
    workspace.run(&format!("{train} several.safetensors")).succeeds();
    let Some(one) = workspace.run_on_one_core(&format!("{train} one.safetensors")) else { return };
    one.succeeds();
    let file = |name| fs::read(workspace.path(name)).unwrap();
    assert_eq!(file("one.safetensors"), file("several.safetensors"));
}

#[test]
fn an_invalid_checkpoint_is_ignored_and_replaced() {
    let workspace = workspace();
    fs::write(workspace.path("m.safetensors.checkpoint"), "invalid").unwrap();
    workspace
        .run("train p.toml --data in.parquet --out m.safetensors --epochs 1")
        .succeeds()
        .logs(&["note: checkpoint m.safetensors.checkpoint is ignored: "]);
    assert!(!workspace.path("m.safetensors.checkpoint").exists());
}

#[test]
fn an_insufficient_history_is_rejected_with_a_remedy() {
    let workspace = Workspace::new(&format!("{PARQUET}[train]\nhorizon = 2\n"));
    let constant: Vec<Row> = (0..600).map(|i| row("a", 10 * i, 5.0)).collect();
    let few = readings(&["a"], 0..6);
    for (rows, why) in [
        (&constant[..], ["every series is constant in the training split", "provide a history in which"]),
        (
            &few[..],
            ["observed steps before it that vary", "; provide a longer history, or reduce the horizon"],
        ),
        (&[], ["the history is empty", "; provide observations"]),
    ] {
        workspace.write_readings("in.parquet", rows);
        workspace.run("train p.toml --data in.parquet --out m.safetensors").fails(&why);
    }
}
