//! What exactly once costs: the same backlog worked off both ways, in turns, from the same topic.

use super::world::World;
use super::*;
use crate::command_line::program::count;

/// Rows of the backlog.
fn rows() -> i64 {
    // A line for every round asked for: more rows where more time is given.
    if std::env::var("TIDECAST_SOAK").is_ok() { 400_000 } else { 20_000 }
}

#[test]
fn soak_what_exactly_once_costs() {
    let Some(address) = broker::real() else { return };
    let mut rates: [Vec<usize>; 2] = Default::default();
    let worlds = ["exactly_once", "at_least_once"].map(|delivery| World::new(address, address, 1, delivery));
    for world in &worlds {
        world.fill(rows());
        world.place.change("commit = { every = \"20ms\", rows = 500 }", "");
    }
    for turn in 0..3 {
        for (world, rates) in worlds.iter().zip(&mut rates) {
            let outcome = world.work_off(turn);
            assert_eq!(count(&outcome.stderr, "rows") as i64, rows());
            rates.push(count(&outcome.stderr, "rows/s"));
        }
    }
    rates.iter_mut().for_each(|rates| rates.sort_unstable());
    let [exactly, at_least] = [rates[0][1], rates[1][1]];
    let line = serde_json::json!({
        "rows": rows(),
        "exactly_once_rows_s": exactly,
        "at_least_once_rows_s": at_least,
        "ratio": exactly as f64 / at_least as f64,
    });
    eprintln!("{line}");
    assert!(exactly > 0 && at_least > 0);
}
