//! From the text of a pipeline file to its `Spec`: TOML, then variables, then types. Goes on after each problem, so
//! that a file with five mistakes says five things.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::env::Outside;
use super::problems::{Lines, Problems, join};
use super::spec::Spec;
use super::unknown::{is_table, nearest, remove_unknown};

/// What could be read of `text`, and what was wrong with the rest; only problems where it is not TOML.
pub(super) fn parse(text: &str, outside: &Outside<'_>) -> Result<(Spec, Problems), Problems> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut lines = Lines::new(text);
    if !errors.is_empty() {
        // The shape is in doubt: nothing that follows from it would be worth reading.
        let mut problems = Problems::new(lines);
        for error in errors {
            let offset = error.span().map(|span| span.start);
            problems.at_offset(offset, format!("not valid TOML: {}", error.message()));
        }
        return Err(problems);
    }
    let span = root.span();
    let mut root = root.into_inner();
    lines.learn(&root, "");
    let mut problems = Problems::new(lines);
    outside.substitute(&mut root, "", &mut problems);
    remove_unknown(&mut root, &mut problems);
    let spec = typed(root, span, &mut problems);
    Ok((spec, problems))
}

/// serde stops at the first value of a wrong type. It is taken out and the rest read again, so this ends: each turn
/// has one key less.
fn typed(mut root: DeTable<'_>, span: Range<usize>, problems: &mut Problems) -> Spec {
    loop {
        let copy = Spanned::new(span.clone(), root.clone());
        let error = match Spec::deserialize(Deserializer::from(copy)) {
            Ok(spec) => return spec,
            Err(error) => error,
        };
        let place = error.span().and_then(|at| find(&root, &at, ""));
        let Some(Place { key, path, wrong }) = place else {
            problems.at_offset(error.span().map(|span| span.start), "cannot be read".to_string());
            return Spec::default();
        };
        problems.value(&path, complaint(error.message(), &wrong));
        remove(&mut root, &key);
    }
}

/// A value that serde did not take.
struct Place<'i> {
    /// The keys that lead to the entry that holds it.
    key: Vec<String>,
    /// The same as text, with the index in a list.
    path: String,
    wrong: DeValue<'i>,
}

/// The innermost entry of `table` whose value covers `at`.
fn find<'i>(table: &DeTable<'i>, at: &Range<usize>, path: &str) -> Option<Place<'i>> {
    let covers = |span: Range<usize>| span.start <= at.start && at.end <= span.end;
    for (key, value) in table {
        let name = key.get_ref().to_string();
        let path = join(path, &name);
        if let DeValue::Table(below) = value.get_ref()
            && is_table(&path)
            && let Some(mut place) = find(below, at, &path)
        {
            place.key.insert(0, name);
            return Some(place);
        }
        if !covers(value.span()) && !covers(key.span()) {
            continue;
        }
        let items = value.get_ref().as_array().into_iter().flatten().enumerate();
        let place =
            items.filter(|(_, item)| covers(item.span())).map(|(i, item)| (format!("{path}[{i}]"), item));
        let (path, wrong) = place.last().unwrap_or((path, value));
        return Some(Place { key: vec![name], path, wrong: wrong.get_ref().clone() });
    }
    None
}

fn remove(table: &mut DeTable<'_>, key: &[String]) {
    match key {
        [] => {}
        [last] => drop(table.remove(last.as_str())),
        [first, rest @ ..] => {
            if let Some(DeValue::Table(below)) = table.get_mut(first.as_str()).map(Spanned::get_mut) {
                remove(below, rest);
            }
        }
    }
}

/// serde's message in the words of a file. It may quote the value, so only its second half is used. The value itself is
/// quoted only where a word of a closed set or a number was to be.
fn complaint(message: &str, wrong: &DeValue<'_>) -> String {
    let expected = message.rsplit_once(", expected ").map_or(message, |(_, expected)| expected);
    let choices: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    match wrong {
        DeValue::String(value) if !choices.is_empty() => {
            let hint = nearest(value, &choices).map(|near| format!("; did you mean \"{near}\"?"));
            let choices: Vec<String> = choices.iter().map(|choice| format!("\"{choice}\"")).collect();
            format!("cannot be \"{value}\"; it is one of {}{}", choices.join(", "), hint.unwrap_or_default())
        }
        DeValue::Integer(number) if expected == "i64" => {
            format!("must be a whole number of at most 64 bits, not {number}")
        }
        _ => format!("must be {}, not {}", words(expected), kind(wrong)),
    }
}

/// What serde expects, in the words of a file.
fn words(expected: &str) -> &str {
    match expected {
        "i64" => "a whole number",
        "f64" => "a number",
        "a sequence" => "a list",
        "integer number overflowed" | "floating-point number overflowed" => "a smaller number",
        "a map" => "a table",
        // The words of a closed set; serde says this in several ways.
        _ => "a text in quotes",
    }
}

/// What `value` is, in the words of a file.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
