//! `${NAME}`, `${NAME:-default}` and `${file:PATH}` in the strings of a pipeline file. Substitution happens after parsing and
//! is not recursive, so a value cannot change the structure of the file. No problem shows a substituted value: it may be a
//! secret.

use std::io::Read;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::problems::{Problems, join, quoted_key};

/// Looks up a variable; `None` if it is unset.
pub type Env<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Maximum size of a file that provides a value, in bytes. The bundle of all public certificate authorities has about
/// 250 KiB.
const FILE_BYTES_MAX: u64 = 1 << 19;

/// The sources of substituted values.
pub(super) struct Variables<'a> {
    pub env: &'a Env<'a>,
    /// The base of relative paths in `${file:PATH}`.
    pub folder: &'a Path,
}

/// A reference in a string, and its value.
struct Substitution {
    reference: String,
    value: String,
}

impl Variables<'_> {
    /// Substitutes the references in all strings of `table`, which is at `path`.
    pub fn substitute(&self, table: &mut DeTable<'_>, path: &str, problems: &mut Problems) {
        for (key, value) in table.iter_mut() {
            let path = join(path, key.get_ref());
            self.substitute_value(value.get_mut(), &path, problems);
        }
    }

    fn substitute_value(&self, value: &mut DeValue<'_>, path: &str, problems: &mut Problems) {
        match value {
            DeValue::Table(table) => self.substitute(table, path, problems),
            DeValue::Array(items) => {
                for (i, item) in items.iter_mut().enumerate() {
                    self.substitute_value(item.get_mut(), &format!("{path}[{i}]"), problems);
                }
            }
            DeValue::String(text) if text.contains("${") => {
                let mut substitutions = Vec::new();
                let expanded = self.expand(text, &mut substitutions);
                for Substitution { reference, value } in &substitutions {
                    problems.redact(path, value, reference);
                }
                match expanded {
                    Ok(expanded) => *text = expanded.into(),
                    Err(why) => problems.at(path, format!("{}: {why}", quoted_key(path))),
                }
            }
            _ => {}
        }
    }

    /// `text` with its references replaced, each recorded in `substitutions`. Errors name variables and files, never values.
    fn expand(&self, text: &str, substitutions: &mut Vec<Substitution>) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let before = &rest[..start];
            let after = &rest[start + 2..];
            if let Some(before) = before.strip_suffix('$') {
                out.push_str(before);
                out.push_str("${");
                rest = after;
                continue;
            }
            out.push_str(before);
            let end = after.find('}').ok_or("`${` without `}`; write `$${` for a literal `${`")?;
            let inside = &after[..end];
            let value = match inside.strip_prefix("file:") {
                Some(path) => read_value(&self.folder.join(path))?,
                None => variable(inside, self.env)?,
            };
            out.push_str(&value);
            substitutions.push(Substitution { reference: format!("${{{inside}}}"), value });
            rest = &after[end + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }
}

/// The content of a file without its last line break, which editors and `echo` add.
fn read_value(path: &Path) -> Result<String, String> {
    let unusable = |why: &str| {
        format!(
            "file {} {why}; the path in `${{file:PATH}}` is relative to the pipeline's folder",
            path.display()
        )
    };
    let mut bytes = Vec::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    read.map_err(|error| unusable(&format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(unusable(&format!("has more than {FILE_BYTES_MAX} bytes")));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| unusable("is not UTF-8 text"))?;
    text.truncate(text.strip_suffix('\n').map_or(text.len(), |line| line.trim_end_matches('\r').len()));
    if text.is_empty() { Err(unusable("is empty")) } else { Ok(text) }
}

/// The value of the reference `${inside}`. As in a shell, the default replaces an empty variable, too.
fn variable(inside: &str, env: &Env<'_>) -> Result<String, String> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let valid_start = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !valid_start || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err("invalid reference; write `${NAME}`, `${NAME:-default}` or `${file:PATH}`, where NAME has letters, digits \
                    and underscores"
            .to_owned());
    }
    match (env(name), default) {
        (_, Some(default)) if default.contains("${") => {
            Err(format!("the default of `{name}` contains another reference; a default is plain text"))
        }
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => {
            Err(format!("environment variable `{name}` is not set; set it, or write `${{{name}:-default}}`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        let env = |name: &str| match name {
            "SET" => Some("${OTHER} \"]".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let folder = tempfile::tempdir().unwrap();
        let write = |name, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        write("one", b"${SET} one\r\n");
        write("two", b"1\n2\n\n");
        write("empty", b"\n");
        write("bytes", b"\xff");
        write("huge", &vec![b'x'; FILE_BYTES_MAX as usize + 1]);
        let variables = Variables { env: &env, folder: folder.path() };
        match (variables.expand(text, &mut Vec::new()), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
            (found, expected) => panic!("{text}: {found:?}, not {expected:?}"),
        }
    }

    #[test]
    fn variables_defaults_and_escapes_are_expanded() {
        check("a ${SET} b", Ok("a ${OTHER} \"] b"));
        check("${SET:-x}${UNSET:-y}${EMPTY:-z}${EMPTY}", Ok("${OTHER} \"]yz"));
        check("${UNSET:-}", Ok(""));
        check("${UNSET:-a:-b}", Ok("a:-b"));
        check("$${SET} $SET 5$ $", Ok("${SET} $SET 5$ $"));
        check("${UNSET}", Err("`UNSET` is not set"));
        check("${SET", Err("without `}`"));
        check("${}", Err("invalid reference"));
        check("${A B}", Err("invalid reference"));
        check("${A:-${B}}", Err("contains another reference"));
    }

    #[test]
    fn files_are_expanded_without_their_last_line_break() {
        check("a ${file:one}${file:two}b", Ok("a ${SET} one1\n2\nb"));
        check("$${file:one}", Ok("${file:one}"));
        check("${file:none}", Err("/none cannot be read: No such file"));
        check("${file:.}", Err("cannot be read: Is a directory"));
        check(
            "${file:empty}",
            Err("/empty is empty; the path in `${file:PATH}` is relative to the pipeline's folder"),
        );
        check("${file:bytes}", Err("is not UTF-8 text"));
        check("${file:huge}", Err("has more than 524288 bytes"));
        check("${file:/dev/zero}", Err("has more than 524288 bytes"));
    }
}
