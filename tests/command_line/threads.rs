//! Output files do not depend on the number of cores.

use super::errors::PARQUET;
use super::*;

/// True if there are several cores to compare one with.
fn has_several_cores() -> bool {
    let several = std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1);
    if !several {
        eprintln!("SKIPPED: there is one core");
    }
    several
}

fn many_readings(ids: usize, steps: i64) -> Vec<Row> {
    let ids: Vec<String> = (0..ids).map(|id| format!("s{id}")).collect();
    readings(&ids.iter().map(String::as_str).collect::<Vec<_>>(), 0..steps)
}

#[test]
fn a_backfill_is_the_same_on_one_core() {
    let workspace = Workspace::new(&format!("{PARQUET}[sink.scores]\npath = \"scores\"\n"));
    workspace.write_readings("in.parquet", &many_readings(20, 500));
    let written = |name: &str| {
        [".parquet", ".scores.parquet"].map(|end| fs::read(workspace.path(&format!("{name}{end}"))).unwrap())
    };
    let Some(one) =
        workspace.run_on_one_core("backfill p.toml --to one.parquet").filter(|_| has_several_cores())
    else {
        return;
    };
    one.succeeds();
    let one = written("one");
    workspace.run("backfill p.toml --to several.parquet").succeeds();
    assert!(one == written("several"), "the bytes differ");
}

#[test]
fn a_run_is_the_same_on_one_core() {
    if !has_several_cores() {
        return;
    }
    // Enough rows in each partition to be processed in parallel.
    let (topics, rows) = (Topics::new(4), many_readings(16, 500));
    topics.send(&rows);
    let workspace = Workspace::new(&format!(
        "{}[sink.parquet]\npath = \"several\"\npositions_per_file = 500\n",
        between(&topics)
    ));
    let files = |folder: &str| {
        let of = |name: String| (fs::read(workspace.path(&format!("{folder}/{name}"))).unwrap(), name);
        workspace.files(folder).into_iter().map(of).collect::<Vec<_>>()
    };
    workspace.run("run p.toml --until-end --to parquet").succeeds();
    workspace.change(&topics.group, &broker::unique("group"));
    workspace.change("path = \"several\"", "path = \"one\"");
    let Some(one) = workspace.run_on_one_core("run p.toml --until-end --to parquet") else { return };
    one.succeeds();
    let (one, several) = (files("one"), files("several"));
    assert!(one.len() >= 12, "{} files of 8000 rows", one.len());
    assert!(one == several, "the bytes differ");
}
