//! `${NAME}` and `${NAME:-default}` in the strings of a pipeline file. They are replaced after the file was parsed, so
//! no value of a variable can change the shape of the file, and what came from a variable is not looked at again.

use toml::de::{DeTable, DeValue};

use super::problems::{Problems, join, named};

/// Looks up a variable; `None` where it is not set.
pub type Env<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Replaces the variables in every string of `table`.
pub(super) fn substitute(table: &mut DeTable<'_>, path: &str, env: &Env<'_>, problems: &mut Problems) {
    for (key, value) in table.iter_mut() {
        let path = join(path, key.get_ref());
        substitute_value(value.get_mut(), &path, env, problems);
    }
}

fn substitute_value(value: &mut DeValue<'_>, path: &str, env: &Env<'_>, problems: &mut Problems) {
    match value {
        DeValue::Table(table) => substitute(table, path, env, problems),
        DeValue::Array(items) => {
            for (i, item) in items.iter_mut().enumerate() {
                substitute_value(item.get_mut(), &format!("{path}[{i}]"), env, problems);
            }
        }
        DeValue::String(text) if text.contains("${") => match replaced(text, env) {
            Ok(new) => *text = new.into(),
            Err(why) => problems.at(path, format!("{}: {why}", named(path))),
        },
        _ => {}
    }
}

/// `text` with its variables replaced. The reasons name variables, never values.
fn replaced(text: &str, env: &Env<'_>) -> Result<String, String> {
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
        out.push_str(&value_of(&after[..end], env)?);
        rest = &after[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
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
                    its name of letters, digits and underscores"
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
        match (replaced(text, &env), expected) {
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
}
