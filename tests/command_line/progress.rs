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
    let place = Place::new(&between(&topics));
    place.run("run p.toml --until-end").succeeds();
    let dry = "rejects p.toml --replay --dry-run";
    assert!(!place.run(dry).succeeds().says(&["40 would be sent"]).stderr.contains("% of"));
    let Some(watched) = place.run_watched("rejects p.toml --replay") else { return };
    let shown = watched.succeeds().stdout;
    assert!(
        shown.contains("40 sent from") && shown.contains("% of ") && shown.contains(" rejects, "),
        "{shown}"
    );
}

#[test]
fn an_adoption_shows_that_it_goes_on() {
    let recipe = "[train]\nmemory = false\ncell = \"gru\"\nhidden = 9\nlayers = 2\nlookback = 6\nsegment = 1\nhorizon = 2\n\
                  calendar = [\"hour-of-day\"]\n";
    let place = Place::new(&format!("{PARQUET}{recipe}"));
    place.readings("in.parquet", &readings(&["a", "b"], 0..100));
    let cells = Case::default().model().cells.expect("it has cells");
    let weights = tidecast::network::tensors::write(cells.tensors(), "format", "pt");
    fs::write(place.path("w.safetensors"), weights).unwrap();
    let adopt = "adopt p.toml --weights w.safetensors --data in.parquet --out m.safetensors";
    let scoring = "scoring the network";
    assert!(!place.run(adopt).succeeds().stderr.contains(scoring));
    let Some(watched) = place.run_watched(adopt) else { return };
    let shown = watched.succeeds().stdout;
    assert!(shown.contains(scoring) && shown.contains("wrote m.safetensors"), "{shown}");
}
