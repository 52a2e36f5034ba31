//! What long work shows of itself in a terminal, and keeps to itself elsewhere.

use super::mistakes::PARQUET;
use super::*;

#[test]
fn a_replay_of_rejects_shows_how_far_it_is() {
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
    workspace.run(&format!("{dry} --log-format json")).succeeds().says(&["\"message\":\"40 would be sent from"]);
    // A dry run's lines are to be seen, not a bar among them.
    let Some(dry) = workspace.run_watched(dry) else { return };
    let shown = dry.succeeds().stdout;
    assert!(shown.contains("40 would be sent") && shown.contains("bad 39"), "{shown}");
    assert!(!shown.contains("% of"), "{shown}");
    // What the program of --map says stands on lines of its own.
    fs::write(workspace.path("map"), "echo it corrects >&2\nsed 's/.*/better/'\n").unwrap();
    let shown = workspace.run_watched("rejects p.toml --replay --map 'sh map'").unwrap().succeeds().stdout;
    assert!(shown.contains("40 sent from") && lines(&shown).any(|line| line == "it corrects"), "{shown}");
    // Marks of transactions are passed over, too.
    let (_, ended) = shown.split_once("100 % of ").unwrap_or_else(|| panic!("it does not end: {shown}"));
    let (rejects, _) = ended.split_once(" rejects, ").expect("what they are");
    assert!((40..60).contains(&rejects.parse::<u32>().unwrap()), "{shown}");
}

/// Lines of a terminal, without what moves its cursor and clears it.
fn lines(shown: &str) -> impl Iterator<Item = &str> {
    shown.split(['\r', '\n']).map(|line| line.rsplit("\u{1b}[2K").next().unwrap_or(line))
}

#[test]
fn an_adoption_shows_that_it_goes_on() {
    let recipe = "[train]\nmemory = false\ncell = \"gru\"\nhidden = 9\nlayers = 2\nlookback = 6\nsegment = 1\nhorizon = 2\n\
                  calendar = [\"hour-of-day\"]\n";
    let workspace = Workspace::new(&format!("{PARQUET}{recipe}"));
    workspace.readings("in.parquet", &readings(&["a", "b"], 0..100));
    let cells = Case::default().model().cells.expect("it has cells");
    let weights = tidecast_core::network::tensors::write(cells.tensors(), "format", "pt");
    fs::write(workspace.path("w.safetensors"), weights).unwrap();
    let adopt = "adopt p.toml --weights w.safetensors --data in.parquet --out m.safetensors";
    let scoring = "scoring the network";
    assert!(!workspace.run(adopt).succeeds().says(&["wrote m.safetensors"]).stderr.contains(scoring));
    assert_eq!(workspace.run(&format!("{adopt} -q")).succeeds().stderr, "");
    let Some(watched) = workspace.run_watched(adopt) else { return };
    let shown = watched.succeeds().stdout;
    assert!(shown.contains(scoring) && shown.contains("wrote m.safetensors"), "{shown}");
}
