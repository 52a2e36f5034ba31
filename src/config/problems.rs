//! The problems of a pipeline file, each with its line. No problem contains the value of a client property.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use toml::de::{DeTable, DeValue};

/// One problem and its line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// Line in the file, from 1; `None` if the problem concerns the whole file, such as a missing key.
    pub line: Option<usize>,
    pub text: String,
}

impl Problem {
    /// The problem after its location in the file at `path`.
    pub fn at(&self, path: impl fmt::Display) -> String {
        let line = self.line.map_or(String::new(), |line| format!(":{line}"));
        format!("{path}{line}: {}", self.text)
    }
}

/// An unusable pipeline file. Displayed as one line per problem: `pipelines/x.toml:12: unknown key ...`.
#[derive(Clone, Debug)]
pub struct ConfigError {
    pub file: PathBuf,
    /// Sorted by line, never empty.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    pub(super) fn whole_file(file: &Path, text: String) -> Self {
        Self { file: file.to_path_buf(), problems: vec![Problem { line: None, text }] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { "\n" })?;
            f.write_str(&problem.at(self.file.display()))?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// A value substituted from a variable or a file, which no problem may show.
struct Redaction {
    path: String,
    value: String,
    /// The reference in the file, shown instead: `${NAME}`.
    reference: String,
}

/// Collects problems. A location in the file is a path such as `grid.every` or `columns.targets[1]`.
pub(super) struct Problems {
    lines: Lines,
    found: Vec<Problem>,
    /// Paths with a problem: a key missing below one of them is not reported again.
    reported: BTreeSet<String>,
    redactions: Vec<Redaction>,
}

impl Problems {
    pub fn new(lines: Lines) -> Self {
        Self { lines, found: Vec::new(), reported: BTreeSet::new(), redactions: Vec::new() }
    }

    /// Shows `reference` instead of `value` in the problems of `path`.
    pub fn redact(&mut self, path: &str, value: &str, reference: &str) {
        if !value.is_empty() {
            let (path, value, reference) = (path.to_owned(), value.to_owned(), reference.to_owned());
            self.redactions.push(Redaction { path, value, reference });
        }
    }

    /// Reports the value at `path`: `"every" in [grid] TEXT`.
    pub fn value(&mut self, path: &str, text: impl fmt::Display) {
        let text = format!("{} {text}", quoted_key(path));
        self.at(path, text);
    }

    /// Reports `text` at `path`. Only the first problem of a path counts: further ones follow from it.
    pub fn at(&mut self, path: &str, text: String) {
        let line = self.lines.of(path);
        let redactions = self.redactions.iter().filter(|redaction| redaction.path.starts_with(path));
        let text =
            redactions.fold(text, |text, redaction| text.replace(&redaction.value, &redaction.reference));
        if self.reported.insert(path.to_owned()) {
            self.push(line, &text);
        }
        if let Some((list, _)) = path.split_once('[') {
            self.reported.insert(list.to_owned());
        }
    }

    /// Reports `text` at a byte offset of the file.
    pub fn at_offset(&mut self, offset: Option<usize>, text: String) {
        let line = offset.map(|offset| self.lines.at(offset));
        self.push(line, &text);
    }

    /// Control characters are escaped, so a problem is one line and cannot control a terminal.
    fn push(&mut self, line: Option<usize>, text: &str) {
        let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
        self.found.push(Problem { line, text: text.chars().map(escape).collect() });
    }

    /// Reports a missing key, unless it is present with a problem of its own.
    pub fn missing(&mut self, path: &str, description: &str) {
        if ancestors(path).all(|path| !self.reported.contains(path)) {
            self.at(path, format!("missing key {}: {description}", quoted_key(path)));
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

/// Tables whose keys contain dots.
const CLIENT_TABLES: [&str; 2] = ["source.kafka.client", "sink.kafka.client"];

/// `grid.every` as `"every" in [grid]`.
pub(super) fn quoted_key(path: &str) -> String {
    let in_client =
        CLIENT_TABLES.iter().find_map(|table| Some((*table, path.strip_prefix(table)?.strip_prefix('.')?)));
    match in_client.or_else(|| path.rsplit_once('.')) {
        Some((table, key)) => format!("\"{key}\" in [{table}]"),
        None => format!("\"{path}\""),
    }
}

/// The lines of the keys and list elements of a file.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    /// Byte offset of the start of each line.
    starts: Vec<usize>,
    by_path: BTreeMap<String, usize>,
}

impl Lines {
    pub fn new(text: &str) -> Self {
        let starts = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(i, _)| i + 1);
        Self { starts: std::iter::once(0).chain(starts).collect(), by_path: BTreeMap::new() }
    }

    /// Records the lines of the keys of `table`, which is at `path`.
    pub fn add(&mut self, table: &DeTable<'_>, path: &str) {
        for (key, value) in table {
            let path = join(path, key.get_ref());
            self.by_path.insert(path.clone(), self.at(key.span().start));
            match value.get_ref() {
                DeValue::Table(table) => self.add(table, &path),
                DeValue::Array(items) => {
                    for (i, item) in items.iter().enumerate() {
                        self.by_path.insert(format!("{path}[{i}]"), self.at(item.span().start));
                    }
                }
                _ => {}
            }
        }
    }

    /// The line of a byte offset.
    fn at(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }

    /// The line of `path`, or of the innermost table around it.
    pub fn of(&self, path: &str) -> Option<usize> {
        ancestors(path).find_map(|path| self.by_path.get(path)).copied()
    }
}

/// `grid` and `every` as `grid.every`.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
