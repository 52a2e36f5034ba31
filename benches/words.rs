//! The words behind `--` on a bench's command line.

use std::path::PathBuf;

pub struct Words(Vec<String>);

#[allow(dead_code, reason = "each bench asks for some of these")]
impl Words {
    pub fn new() -> Self {
        Self(std::env::args().skip(1).collect())
    }

    /// The word after `name`.
    pub fn after(&self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|word| word == name)?;
        self.0.get(at + 1).cloned()
    }

    /// Whether a word is there.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|word| word == name)
    }

    /// The number after `name`.
    pub fn number<T: std::str::FromStr>(&self, name: &str, otherwise: T) -> T {
        let number = |word: String| word.parse().unwrap_or_else(|_| panic!("{name} {word}: a number"));
        self.after(name).map_or(otherwise, number)
    }

    /// The folder of the data sets. They are no part of the repository, and a plain `cargo bench` runs all benches: without
    /// it nothing is done.
    pub fn data(&self, bench: &str) -> PathBuf {
        self.after("--data").map_or_else(
            || {
                eprintln!("skipped: say where the sets are with cargo bench --bench {bench} -- --data DIR");
                std::process::exit(0)
            },
            PathBuf::from,
        )
    }
}
