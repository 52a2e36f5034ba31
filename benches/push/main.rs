//! Readings per second of one core, from batch to batch: rows of a partition in, a forecast at every reading out. One line
//! of JSON a case.
//!
//! `cargo bench --bench push` runs all cases; `-- --series 10000 --state carried --cell lstm --hidden 32 --horizon 12
//! --poles 54 --levels 2` one of one's own (`--state window` reads windows of `--lookback` steps; `--cell none` is the
//! memory alone).

mod case;
#[path = "../model.rs"]
mod model;
#[path = "../readings.rs"]
mod readings;
#[path = "../words.rs"]
mod words;

use case::Case;
use words::Words;

fn main() {
    let words = Words::new();
    let is_own = model::WORDS.iter().chain(&["--series", "--levels"]).any(|word| words.after(word).is_some());
    let cases = if is_own { vec![Case::of(&words)] } else { Case::all() };
    for case in cases {
        println!("{}", case.run());
    }
}
