//! From the text of a pipeline file to a [`PipelineFile`]: TOML, then variables, then types. Parsing continues after each
//! problem, so a file with five mistakes reports five.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::file::PipelineFile;
use super::problems::{Lines, Problems, join};
use super::unknown_keys::{is_table, nearest, remove_unknown, type_name};
use super::variables::Variables;

/// Parses `text`. Returns the readable keys with the problems of the others; only problems if `text` is not TOML.
pub(super) fn parse(text: &str, variables: &Variables<'_>) -> Result<(PipelineFile, Problems), Problems> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut lines = Lines::new(text);
    if !errors.is_empty() {
        // The structure is uncertain: any further problem might be a consequence.
        let mut problems = Problems::new(lines);
        for error in errors {
            let offset = error.span().map(|span| span.start);
            problems.at_offset(offset, format!("invalid TOML: {}", error.message()));
        }
        return Err(problems);
    }
    let span = root.span();
    let mut root = root.into_inner();
    lines.add(&root, "");
    let mut problems = Problems::new(lines);
    variables.substitute(&mut root, "", &mut problems);
    remove_unknown(&mut root, &mut problems);
    let file = deserialize(root, span, &mut problems);
    Ok((file, problems))
}

/// serde stops at the first value of a wrong type. The value is reported and removed, and the rest deserialized again;
/// this ends, since each attempt has one key less.
fn deserialize(mut root: DeTable<'_>, span: Range<usize>, problems: &mut Problems) -> PipelineFile {
    loop {
        let copy = Spanned::new(span.clone(), root.clone());
        let error = match PipelineFile::deserialize(Deserializer::from(copy)) {
            Ok(file) => return file,
            Err(error) => error,
        };
        let rejected = error.span().and_then(|at| find(&root, &at, ""));
        let Some(RejectedValue { keys, path, value }) = rejected else {
            problems.at_offset(error.span().map(|span| span.start), "unreadable value".to_owned());
            return PipelineFile::default();
        };
        problems.value(&path, wrong_type(error.message(), &value));
        remove(&mut root, &keys);
    }
}

/// A value that serde rejected.
struct RejectedValue<'i> {
    /// The keys from the root to its entry.
    keys: Vec<String>,
    /// The same as a path, with the index in a list.
    path: String,
    value: DeValue<'i>,
}

/// The innermost entry of `table` whose key or value contains the span `at`.
fn find<'i>(table: &DeTable<'i>, at: &Range<usize>, path: &str) -> Option<RejectedValue<'i>> {
    let contains = |span: Range<usize>| span.start <= at.start && at.end <= span.end;
    for (key, value) in table {
        let name = key.get_ref().to_string();
        let path = join(path, &name);
        if let DeValue::Table(below) = value.get_ref()
            && is_table(&path)
            && let Some(mut rejected) = find(below, at, &path)
        {
            rejected.keys.insert(0, name);
            return Some(rejected);
        }
        if !contains(value.span()) && !contains(key.span()) {
            continue;
        }
        let items = value.get_ref().as_array().into_iter().flatten().enumerate();
        let item = items.filter(|(_, item)| contains(item.span())).last();
        let (path, value) = item.map_or((path.clone(), value), |(i, item)| (format!("{path}[{i}]"), item));
        return Some(RejectedValue { keys: vec![name], path, value: value.get_ref().clone() });
    }
    None
}

fn remove(table: &mut DeTable<'_>, keys: &[String]) {
    match keys {
        [] => {}
        [last] => drop(table.remove(last.as_str())),
        [first, rest @ ..] => {
            if let Some(DeValue::Table(below)) = table.get_mut(first.as_str()).map(Spanned::get_mut) {
                remove(below, rest);
            }
        }
    }
}

/// The problem of a value of a wrong type. serde's message may quote the value, so only the part after "expected" is used.
/// The value is shown only if one of a closed set of words, or an integer, was expected.
fn wrong_type(message: &str, value: &DeValue<'_>) -> String {
    let expected = message.rsplit_once(", expected ").map_or(message, |(_, expected)| expected);
    let choices: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    match value {
        DeValue::String(word) if !choices.is_empty() => {
            let hint = nearest(word, &choices).map(|nearest| format!("; did you mean \"{nearest}\"?"));
            let choices: Vec<String> = choices.iter().map(|choice| format!("\"{choice}\"")).collect();
            format!("must be one of {}, not \"{word}\"{}", choices.join(", "), hint.unwrap_or_default())
        }
        DeValue::Integer(number) if expected == "i64" => format!("must be a 64-bit integer, not {number}"),
        _ => format!("must be {}, not {}", expected_type(expected), type_name(value)),
    }
}

/// The type that serde expects, in the words of the documentation.
fn expected_type(expected: &str) -> &str {
    match expected {
        "i64" => "an integer",
        "f64" => "a number",
        "a sequence" => "a list",
        "integer number overflowed" | "floating-point number overflowed" => "a smaller number",
        "a map" => "a table",
        // The words of a closed set, which serde announces in several ways.
        _ => "a string",
    }
}
