//! Command line options of a bench.

use std::path::PathBuf;
use std::str::FromStr;

pub struct Options(Vec<String>);

impl Options {
    pub fn from_args() -> Self {
        Self(std::env::args().skip(1).collect())
    }

    /// The argument after `name`.
    pub fn value(&self, name: &str) -> Option<String> {
        let index = self.0.iter().position(|argument| argument == name)?;
        self.0.get(index + 1).cloned()
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|argument| argument == name)
    }

    /// The number after `name`.
    pub fn number<T: FromStr>(&self, name: &str, default: T) -> T {
        let parse =
            |value: String| value.parse().unwrap_or_else(|_| panic!("{name} {value} is not a number"));
        self.value(name).map_or(default, parse)
    }

    /// The folder of the data sets, which are not part of the repository. Exits without it, since a plain `cargo bench` runs
    /// every bench.
    pub fn data_folder(&self, bench: &str) -> PathBuf {
        self.value("--data").map_or_else(
            || {
                eprintln!(
                    "skipped: pass the folder of the data sets: cargo bench --bench {bench} -- --data DIR"
                );
                std::process::exit(0)
            },
            PathBuf::from,
        )
    }
}
