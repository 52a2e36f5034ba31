//! `init` and `completions`: what a newcomer begins with.

use super::*;

#[test]
fn a_pipeline_is_made_for_a_history_and_trains_on_it() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    for (sample, texts) in [
        (
            "sensors",
            ["series = \"sensor\"", "targets = [\"value\"]", "every = \"1h\"", "\ncomplete_after = 1"],
        ),
        (
            "motes",
            [
                "series = \"mote\"",
                "targets = [\"humidity\", \"temperature\"]",
                "every = \"5s\"",
                "\ncomplete_after = 1",
            ],
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let data = samples.join(sample).join("readings.parquet");
        let line = format!("init {} --out {sample}.toml", data.display());
        let made = Running::start(folder.path(), &line).finish().succeeds();
        made.says(&[
            &format!("tidecast check {sample}.toml"),
            &format!("tidecast train {sample}.toml --data"),
        ]);
        let text = fs::read_to_string(folder.path().join(format!("{sample}.toml"))).unwrap();
        for expected in texts {
            assert!(text.contains(expected), "{expected} is not in {text}");
        }
        // All that is missing is what training makes.
        let check = Running::start(folder.path(), &format!("check {sample}.toml")).finish();
        let problems = check.fails(&["there is no model"]).stderr;
        assert_eq!(problems.lines().filter(|line| line.starts_with("  ")).count(), 1, "{problems}");
        let again = Running::start(folder.path(), &line).finish();
        again.fails(&["is there already", "--out"]);
    }
}

#[test]
fn whole_numbers_are_times_of_the_unit_that_fits() {
    let place = Place::new("");
    let rows: Vec<Row> = (0..50).map(|i| row("a", 1_700_000_000 + 900 * i, 1.0)).collect();
    place.readings("in.parquet", &rows);
    place.run("init in.parquet --out a.toml").succeeds();
    let text = fs::read_to_string(place.path("a.toml")).unwrap();
    assert!(text.contains("every = \"15m\""), "{text}");
    place
        .run("init in.parquet --out b.toml --target gone")
        .fails(&["there is no column \"gone\"", "has the columns"]);
    assert!(!place.path("b.toml").exists());
}

#[test]
fn shells_complete_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = Place::new("").run(&format!("completions {shell}")).succeeds().stdout;
        for command in ["backfill", "evaluate", "init"] {
            assert!(script.contains(command), "{command} is not in {script}");
        }
    }
}
