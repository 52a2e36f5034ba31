//! What is wrong with a pipeline file: every problem with its line, all of them at once. Nothing here ever holds a
//! value of a client property.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Line in the file, from 1; `None` for what concerns the file as a whole, such as a key that is not there.
    pub line: Option<usize>,
    pub text: String,
}

/// Why a pipeline file could not be used. Prints one line a problem: `pipelines/x.toml:12: unknown key ...`.
#[derive(Clone, Debug)]
pub struct ConfigError {
    pub file: PathBuf,
    /// In the order of their lines, never empty.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    pub(super) fn whole(file: &Path, text: String) -> Self {
        Self { file: file.to_path_buf(), problems: vec![Problem { line: None, text }] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { "\n" })?;
            match problem.line {
                Some(line) => write!(f, "{}:{}: {}", self.file.display(), line, problem.text)?,
                None => write!(f, "{}: {}", self.file.display(), problem.text)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Gathers problems. A place in the file is a path such as `grid.every` or `columns.targets[1]`.
pub(super) struct Problems {
    lines: Lines,
    found: Vec<Problem>,
    /// Places already complained about: what is missing below them is no news.
    bad: BTreeSet<String>,
    /// Place, value that came from outside, and what stands for it in the file.
    hidden: Vec<(String, String, String)>,
}

impl Problems {
    pub fn new(lines: Lines) -> Self {
        Self { lines, found: Vec::new(), bad: BTreeSet::new(), hidden: Vec::new() }
    }

    /// From here on what is said of `path` shows `written`, as the file does, in the place of `value`.
    pub fn hide(&mut self, path: &str, value: &str, written: &str) {
        if !value.is_empty() {
            self.hidden.push((path.to_string(), value.to_string(), written.to_string()));
        }
    }

    /// Complains about the value at `path`: `"every" in [grid] TEXT`.
    pub fn value(&mut self, path: &str, text: impl fmt::Display) {
        let text = format!("{} {text}", named(path));
        self.at(path, text);
    }

    /// Complains in free words about the place `path`. One complaint a place: the second follows from the first.
    pub fn at(&mut self, path: &str, text: String) {
        let line = self.lines.of(path);
        let hidden = self.hidden.iter().filter(|(place, ..)| place.starts_with(path));
        let text = hidden.fold(text, |text, (_, value, written)| text.replace(value, written));
        if self.bad.insert(path.to_string()) {
            self.push(line, &text);
        }
        if let Some((list, _)) = path.split_once('[') {
            self.bad.insert(list.to_string());
        }
    }

    pub fn at_offset(&mut self, offset: Option<usize>, text: String) {
        let line = offset.map(|offset| self.lines.at(offset));
        self.push(line, &text);
    }

    /// A problem is one line, and nothing that a file or a variable holds can steer a terminal.
    fn push(&mut self, line: Option<usize>, text: &str) {
        let plain = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
        self.found.push(Problem { line, text: text.chars().map(plain).collect() });
    }

    /// Complains that `path` is not there, unless it is and was complained about.
    pub fn missing(&mut self, path: &str, why: &str) {
        if ancestors(path).all(|place| !self.bad.contains(place)) {
            self.at(path, format!("missing key {}: {why}", named(path)));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub fn into_lines(self) -> Lines {
        self.lines
    }

    pub fn into_error(mut self, file: &Path) -> ConfigError {
        self.found.sort();
        self.found.dedup();
        ConfigError { file: file.to_path_buf(), problems: self.found }
    }
}

/// `grid.every`, then `grid`.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| Some(path.rsplit_once('.')?.0))
}

/// `grid.every` as `"every" in [grid]`.
pub(super) fn named(path: &str) -> String {
    match path.strip_prefix(CLIENT_OF_SOURCE).or(path.strip_prefix(CLIENT_OF_SINK)) {
        Some(property) => format!("\"{property}\" in [{}]", &path[..path.len() - property.len() - 1]),
        None => match path.rsplit_once('.') {
            Some((table, key)) => format!("\"{key}\" in [{table}]"),
            None => format!("\"{path}\""),
        },
    }
}

const CLIENT_OF_SOURCE: &str = "source.kafka.client.";
const CLIENT_OF_SINK: &str = "sink.kafka.client.";

/// The line of every key and list element of a file.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    /// Byte at which each line starts.
    starts: Vec<usize>,
    places: BTreeMap<String, usize>,
}

impl Lines {
    pub fn new(text: &str) -> Self {
        let after = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(i, _)| i + 1);
        Self { starts: std::iter::once(0).chain(after).collect(), places: BTreeMap::new() }
    }

    /// Learns where the keys of `table` are.
    pub fn learn(&mut self, table: &DeTable<'_>, path: &str) {
        for (key, value) in table {
            let path = join(path, key.get_ref());
            self.places.insert(path.clone(), self.at(key.span().start));
            match value.get_ref() {
                DeValue::Table(table) => self.learn(table, &path),
                DeValue::Array(items) => {
                    for (i, item) in items.iter().enumerate() {
                        self.places.insert(format!("{path}[{i}]"), self.at(item.span().start));
                    }
                }
                _ => {}
            }
        }
    }

    /// Line of the byte at `offset`.
    fn at(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }

    /// Line of `path`, or of the innermost table around it.
    pub fn of(&self, path: &str) -> Option<usize> {
        ancestors(path).find_map(|place| self.places.get(place)).copied()
    }
}

/// `grid` and `every` as `grid.every`.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_string() } else { format!("{path}.{key}") }
}
