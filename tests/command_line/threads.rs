//! On one processor or on several: what is written has the same bytes.

use super::mistakes::PARQUET;
use super::*;

/// Whether there are several processors to compare one with.
fn are_several() -> bool {
    let several = std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1);
    if !several {
        eprintln!("SKIPPED: there is one processor");
    }
    several
}

fn many(ids: usize, steps: i64) -> Vec<Row> {
    let ids: Vec<String> = (0..ids).map(|id| format!("s{id}")).collect();
    readings(&ids.iter().map(String::as_str).collect::<Vec<_>>(), 0..steps)
}

#[test]
fn one_processor_backfills_what_several_do() {
    let workspace = Workspace::new(&format!("{PARQUET}[sink.scores]\npath = \"scores\"\n"));
    workspace.readings("in.parquet", &many(20, 500));
    let written = |name: &str| {
        [".parquet", ".scores.parquet"].map(|end| fs::read(workspace.path(&format!("{name}{end}"))).unwrap())
    };
    let Some(one) = workspace.run_on_one("backfill p.toml --to one.parquet").filter(|_| are_several()) else {
        return;
    };
    one.succeeds();
    let one = written("one");
    workspace.run("backfill p.toml --to several.parquet").succeeds();
    assert!(one == written("several"), "the bytes differ");
}

#[test]
fn one_processor_forecasts_partitions_side_by_side_as_several_do() {
    if !are_several() {
        return;
    }
    // As many rows in each partition as are worth a thread, some times over.
    let (topics, rows) = (Topics::new(4), many(16, 500));
    topics.send(&rows);
    let workspace =
        Workspace::new(&format!("{}[sink.parquet]\npath = \"several\"\npositions = 500\n", between(&topics)));
    let files = |folder: &str| {
        let of = |name: String| (fs::read(workspace.path(&format!("{folder}/{name}"))).unwrap(), name);
        workspace.files(folder).into_iter().map(of).collect::<Vec<_>>()
    };
    workspace.run("run p.toml --until-end --to parquet").succeeds();
    workspace.change(&topics.group, &broker::unique("group"));
    workspace.change("path = \"several\"", "path = \"one\"");
    let Some(one) = workspace.run_on_one("run p.toml --until-end --to parquet") else { return };
    one.succeeds();
    let (one, several) = (files("one"), files("several"));
    assert!(one.len() >= 12, "{} files of 8000 rows", one.len());
    assert!(one == several, "the bytes differ");
}
