//! `study`: what is found, kept and taken up again. The studies themselves are tested where they are made, at small sizes.

use super::*;

/// A recipe that trains in a moment.
const TRAIN: &str = "[train]\nhidden = 4\nlookback = 6\nhorizon = 3\nbatch = 32\n";
const LINE: &str = "study convergence --pipeline p.toml --data in.parquet";

#[test]
fn a_study_of_convergence_is_kept_and_not_done_twice() {
    let workspace = Workspace::new(&format!(
        "{TRAIN}[source.parquet]\npath = \"in.parquet\"\n[sink.parquet]\npath = \"x\"\n"
    ));
    workspace.readings("in.parquet", &readings(&["a", "b"], 0..300));
    let first = workspace.run(&format!("{LINE} --out kept --html pages/c.html --svg pages/c.svg")).succeeds();
    let kept = fs::read_to_string(workspace.path("kept/convergence.jsonl")).unwrap();
    // Three cells: two rates each, then three shares and three seeds.
    assert_eq!(kept.lines().count(), 3 * 2 + 3 * 3 * 3);
    assert_eq!(first.stderr.matches("validation loss").count(), kept.lines().count());
    for cell in ["gru", "lstm", "lstm-coupled"] {
        let rows = first.stdout.lines().filter(|line| line.split_whitespace().any(|word| word == cell));
        assert_eq!(rows.count(), 3, "{}", first.stdout);
    }
    let page = fs::read_to_string(workspace.path("pages/c.html")).unwrap();
    assert_eq!(page.matches("<svg").count(), 3);
    let picture = fs::read_to_string(workspace.path("pages/c.svg")).unwrap();
    // Two charts, each in its frame.
    assert!(picture.starts_with("<svg") && picture.matches("<svg").count() == 1 + 2 * 2, "{picture}");

    let again = workspace.run(&format!("{LINE} --out kept")).succeeds();
    assert_eq!((again.stdout, again.stderr.matches("validation loss").count()), (first.stdout, 0));
    assert_eq!(fs::read_to_string(workspace.path("kept/convergence.jsonl")).unwrap(), kept);

    // Half of it and the beginning of a line, as after a crash.
    let half = kept.match_indices('\n').nth(14).unwrap().0 + 9;
    fs::write(workspace.path("kept/convergence.jsonl"), &kept[..half]).unwrap();
    let rest = workspace.run(&format!("{LINE} --out kept --json")).succeeds();
    assert_eq!(rest.stderr.matches("validation loss").count(), kept.lines().count() - 15);
    assert_eq!(rest.stdout.lines().count(), 1);
    let rows: serde_json::Value = serde_json::from_str(&rest.stdout).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 9);
}

#[test]
fn what_a_stopped_study_of_memory_did_is_kept() {
    let workspace = Workspace::new("");
    let mut run = workspace.start("study memory --out kept");
    run.wait_for("recall rnn, gap 10");
    run.signal("INT");
    run.finish().fails(&["nothing to report", "the same command goes on from here"]);
    let kept = fs::read_to_string(workspace.path("kept/memory.jsonl")).unwrap();
    assert!(kept.ends_with('\n') && kept.contains(r#""task":"recall","gap":10,"cell":"rnn""#), "{kept}");
}

#[test]
fn results_of_something_else_are_left_alone() {
    let workspace = Workspace::new("");
    fs::create_dir(workspace.path("kept")).unwrap();
    fs::write(workspace.path("kept/memory.jsonl"), "id,value\n").unwrap();
    workspace.run("study memory --out kept").fails(&["memory.jsonl", "line 1 is no result of this study"]);
    assert_eq!(fs::read_to_string(workspace.path("kept/memory.jsonl")).unwrap(), "id,value\n");
}
