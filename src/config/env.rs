//! `${NAME}`, `${NAME:-default}` and `${file:PATH}` in the strings of a pipeline file. They are replaced after the file was
//! parsed, so no value can change the shape of the file, and what came from elsewhere is not looked at again. No problem
//! ever shows such a value: it may be a secret.

use std::io::Read;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::problems::{Problems, join, named};

/// Looks up a variable; `None` where it is not set.
pub type Env<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Bytes of a file that a value is taken from. A password has dozens, a chain of certificates thousands, the bundle of
/// all public authorities a quarter of a million; a data file given by mistake is not worth reading.
const FILE_MAX: u64 = 1 << 19;

/// Where values come from that do not stand in the file.
pub(super) struct Outside<'a> {
    pub env: &'a Env<'a>,
    /// What `${file:PATH}` is relative to.
    pub folder: &'a Path,
}

impl Outside<'_> {
    /// Replaces what comes from outside in every string of `table`.
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
                let hide = |value: &str, written: &str| problems.hide(path, value, written);
                match replaced(text, self, hide) {
                    Ok(new) => *text = new.into(),
                    Err(why) => problems.at(path, format!("{}: {why}", named(path))),
                }
            }
            _ => {}
        }
    }
}

/// `text` with its values put in, each told to `hide` with what stands for it in the file. The reasons name variables and
/// files, never values.
fn replaced(text: &str, from: &Outside<'_>, mut hide: impl FnMut(&str, &str)) -> Result<String, String> {
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
        let end =
            after.find('}').ok_or("a `${` has no `}`; write `$${` for the two characters themselves")?;
        let inside = &after[..end];
        let value = match inside.strip_prefix("file:") {
            Some(path) => content(&from.folder.join(path))?,
            None => value_of(inside, from.env)?,
        };
        hide(&value, &format!("${{{inside}}}"));
        out.push_str(&value);
        rest = &after[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// What a file holds, without the end of its last line, which editors and `echo` add.
fn content(path: &Path) -> Result<String, String> {
    let fails = |why: &str| {
        format!("the file {} {why}; `${{file:PATH}}` is relative to the pipeline's folder", path.display())
    };
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(path).and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut bytes));
    opened.map_err(|error| fails(&format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(fails(&format!("has more than {FILE_MAX} bytes: not a secret")));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| fails("is not UTF-8 text"))?;
    text.truncate(text.strip_suffix('\n').map_or(text.len(), |line| line.trim_end_matches('\r').len()));
    match text.is_empty() {
        true => Err(fails("is empty")),
        false => Ok(text),
    }
}

/// The value for what stands between the braces. As in a shell, an empty variable gives way to the default.
fn value_of(inside: &str, env: &Env<'_>) -> Result<String, String> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err("a variable is written `${NAME}` or `${NAME:-default}`, \
                    its name of letters, digits and underscores; a file `${file:PATH}`"
            .to_string());
    }
    match (env(name), default) {
        (_, Some(default)) if default.contains("${") => {
            Err(format!("the default of `{name}` holds another variable; a default is plain text"))
        }
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_string()),
        (None, None) => Err(format!(
            "the environment variable `{name}` is not set; set it or write `${{{name}:-default}}`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let env = |name: &str| match name {
            "SET" => Some("${OTHER} \"]".to_string()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let folder = tempfile::tempdir().unwrap();
        let write = |name, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        write("one", b"${SET} one\r\n");
        write("two", b"1\n2\n\n");
        write("empty", b"\n");
        write("bytes", b"\xff");
        write("huge", &vec![b'x'; FILE_MAX as usize + 1]);
        let from = Outside { env: &env, folder: folder.path() };
        match (replaced(text, &from, |_, _| ()), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
            (found, expected) => panic!("{text}: {found:?}, not {expected:?}"),
        }
    }

    #[test]
    fn variables_defaults_and_escapes() {
        check("a ${SET} b", Ok("a ${OTHER} \"] b"));
        check("${SET:-x}${UNSET:-y}${EMPTY:-z}${EMPTY}", Ok("${OTHER} \"]yz"));
        check("${UNSET:-}", Ok(""));
        check("${UNSET:-a:-b}", Ok("a:-b"));
        check("$${SET} $SET 5$ $", Ok("${SET} $SET 5$ $"));
        check("${UNSET}", Err("`UNSET` is not set"));
        check("${SET", Err("has no `}`"));
        check("${}", Err("is written"));
        check("${A B}", Err("is written"));
        check("${A:-${B}}", Err("holds another variable"));
    }

    #[test]
    fn files_whole_but_for_the_end_of_their_last_line() {
        check("a ${file:one}${file:two}b", Ok("a ${SET} one1\n2\nb"));
        check("$${file:one}", Ok("${file:one}"));
        check("${file:none}", Err("/none cannot be read: No such file"));
        check("${file:.}", Err("cannot be read: Is a directory"));
        check("${file:empty}", Err("/empty is empty; `${file:PATH}` is relative to the pipeline's folder"));
        check("${file:bytes}", Err("is not UTF-8 text"));
        check("${file:huge}", Err("has more than 524288 bytes"));
        check("${file:/dev/zero}", Err("has more than 524288 bytes"));
    }
}
