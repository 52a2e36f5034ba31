//! Progress bars: in a terminal only.

use super::errors::PARQUET;
use super::*;

#[test]
fn a_replay_of_rejects_shows_its_progress() {
    if broker::real().is_none() {
        return;
    }
    let topics = Topics::new(1);
    let bad: Vec<String> = (0..40).map(|i| format!("bad {i}")).collect();
    broker::produce(&topics.readings, None, bad.iter().map(|value| ("key", value.as_str())));
    let workspace = Workspace::new(&between(&topics));
    workspace.run("run p.toml --until-end").succeeds();
    let dry = "rejects p.toml --replay --dry-run";
    assert_eq!(workspace.run(&format!("{dry} -q")).succeeds().stderr, "");
    workspace
        .run(&format!("{dry} --log-format json"))
        .succeeds()
        .logs(&["\"message\":\"40 would be sent from"]);
    // A dry run prints messages without a bar.
    let Some(dry) = workspace.run_in_terminal(dry) else { return };
    let shown = dry.succeeds().stdout;
    assert!(shown.contains("40 would be sent") && shown.contains("bad 39"), "{shown}");
    assert!(!shown.contains("% of"), "{shown}");
    // Messages of the --map program are on lines of their own.
    fs::write(workspace.path("map"), "echo correcting >&2\nsed 's/.*/better/'\n").unwrap();
    let shown =
        workspace.run_in_terminal("rejects p.toml --replay --map 'sh map'").unwrap().succeeds().stdout;
    assert!(shown.contains("40 sent from") && lines(&shown).any(|line| line == "correcting"), "{shown}");
    // Transaction markers count, too.
    let (_, ended) = shown.split_once("100 % of ").unwrap_or_else(|| panic!("no final bar: {shown}"));
    let (rejects, _) = ended.split_once(" rejects, ").expect("a unit");
    assert!((40..60).contains(&rejects.parse::<u32>().unwrap()), "{shown}");
}

/// The lines of a terminal, without control sequences.
fn lines(shown: &str) -> impl Iterator<Item = &str> {
    shown.split(['\r', '\n']).map(|line| line.rsplit("\u{1b}[2K").next().unwrap_or(line))
}

#[test]
fn an_import_shows_that_it_is_scoring() {
    let recipe = "[train]\nrecurrence = false\ncell = \"gru\"\nhidden = 9\nlayers = 2\nlookback = 6\nsegment = 1\nhorizon = 2\n\
                  calendar = [\"hour-of-day\"]\n";
    let workspace = Workspace::new(&format!("{PARQUET}{recipe}"));
    workspace.write_readings("in.parquet", &readings(&["a", "b"], 0..100));
    let cells = Case::default().model().cells.expect("it has cells");
    let weights = tidecast_core::network::tensors::write(cells.tensors(), "format", "pt");
    fs::write(workspace.path("w.safetensors"), weights).unwrap();
    let import = "import-torch p.toml --weights w.safetensors --data in.parquet --out m.safetensors";
    let scoring = "scoring the network";
    assert!(!workspace.run(import).succeeds().logs(&["wrote m.safetensors"]).stderr.contains(scoring));
    assert_eq!(workspace.run(&format!("{import} -q")).succeeds().stderr, "");
    let Some(in_terminal) = workspace.run_in_terminal(import) else { return };
    let shown = in_terminal.succeeds().stdout;
    assert!(shown.contains(scoring) && shown.contains("wrote m.safetensors"), "{shown}");
}
