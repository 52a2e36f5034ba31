//! From a path (a file, a folder, a pattern or a hive-partitioned folder) to the files to read. Knows only names.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use percent_encoding::percent_decode_str;
use tidecast_stream::read_error::describe_read_error;

/// Maximum depth of nested folders. Deeper nesting is a link back to a parent.
const FOLDER_DEPTH_MAX: usize = 64;

/// Maximum number of files of an input. Each costs a footer to read at the start, and some hundred bytes of memory.
const FILES_MAX: usize = 1_000_000;

const IGNORED_NAMES: &str = "names that begin with `.` or `_` are ignored";

/// Value of a hive partition folder for null.
const HIVE_NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// The files of an input, in byte order of their path.
///
/// - a file is itself, whatever its name
/// - a folder is all `*.parquet` files in it and in the folders below
/// - anything else is a pattern with `*`, `?`, `[...]` and `**`; a matching folder is read as a folder
///
/// Names starting with `.` or `_` (metadata of other programs) and `*.partial` (files being written) are ignored.
///
/// # Errors
/// If there are no files, or a folder cannot be read.
pub(super) fn find(path: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            add_folder(path, 0, &mut files)?;
            ensure!(
                !files.is_empty(),
                "no *.parquet file in the folder {} or below; name the right folder, or give a pattern ({IGNORED_NAMES})",
                path.display()
            );
        }
        Ok(_) => files.push(path.to_path_buf()),
        Err(_) if is_pattern(path.as_os_str()) => {
            add_matches(path, &mut files)?;
            ensure!(
                !files.is_empty(),
                "no file matches {}; correct the pattern: `*` stays in its folder, `**` goes below it ({IGNORED_NAMES})",
                path.display()
            );
        }
        Err(error) => {
            bail!(
                "cannot read {} (file, folder or pattern): {}",
                path.display(),
                describe_read_error(
                    path,
                    &error,
                    "; a path in a pipeline file is relative to the folder of that file"
                )
            );
        }
    }
    files.sort_by(|a, b| a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes()));
    // A pattern such as `**` matches a folder and the files in it.
    files.dedup();
    Ok(files)
}

fn is_pattern(path: &OsStr) -> bool {
    path.as_encoded_bytes().iter().any(|byte| matches!(byte, b'*' | b'?' | b'['))
}

fn add_matches(pattern: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let text = pattern.to_str().with_context(|| format!("the pattern {} is not UTF-8", pattern.display()))?;
    let options = glob::MatchOptions { require_literal_leading_dot: true, ..Default::default() };
    let matches =
        glob::glob_with(text, options).with_context(|| format!("the pattern {text} is not valid"))?;
    // Names that are written out are never ignored.
    let literal_components = pattern.components().take_while(|part| !is_pattern(part.as_ref())).count();
    for found in matches {
        let found = found?;
        if found.components().skip(literal_components).any(|part| is_ignored(part.as_ref())) {
            continue;
        }
        if found.is_dir() { add_folder(&found, 0, files)? } else { push(found, files)? }
    }
    Ok(())
}

fn add_folder(path: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    let name = path.display();
    ensure!(depth < FOLDER_DEPTH_MAX, "{name} is {depth} folders deep: does a link lead back to a parent?");
    for entry in fs::read_dir(path).with_context(|| format!("cannot read the folder {name}"))? {
        let entry = entry.with_context(|| format!("cannot read the folder {name}"))?.path();
        if is_ignored(entry.file_name().unwrap_or_default()) {
            continue;
        }
        // Follows links, unlike the entry's own type.
        let found = fs::metadata(&entry).with_context(|| format!("cannot read {}", entry.display()))?;
        if found.is_dir() {
            add_folder(&entry, depth + 1, files)?;
        } else if entry.extension().is_some_and(|extension| extension == "parquet") {
            push(entry, files)?;
        }
    }
    Ok(())
}

fn push(path: PathBuf, files: &mut Vec<PathBuf>) -> Result<()> {
    if files.len() == FILES_MAX {
        bail!("more than {FILES_MAX} files, up to {}: narrow the path, or merge small files", path.display());
    }
    files.push(path);
    Ok(())
}

fn is_ignored(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".") || name.starts_with(b"_") || name.ends_with(b".partial")
}

/// The value of a hive partition, from a folder named `COLUMN=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HiveValue {
    Null,
    Text(String),
}

impl HiveValue {
    pub fn as_deref(&self) -> Option<&str> {
        match self {
            Self::Null => None,
            Self::Text(text) => Some(text),
        }
    }
}

/// The columns that the folders of a file give.
pub(super) fn hive_columns(file: &Path) -> Vec<String> {
    let folders = file.parent().into_iter().flat_map(Path::components);
    let name = |part: Component<'_>| Some(percent_decode(part.as_os_str().to_str()?.split_once('=')?.0));
    folders.filter_map(name).filter(|name| !name.is_empty()).collect()
}

/// The value that the folders of a file give to a column. The innermost folder wins.
pub(super) fn hive_value(file: &Path, column: &str) -> Option<HiveValue> {
    let mut folders = file.parent()?.components().rev().filter_map(|component| match component {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    folders.find_map(|folder| match folder.split_once('=')? {
        (name, _) if percent_decode(name) != column => None,
        (_, HIVE_NULL) => Some(HiveValue::Null),
        (_, value) => Some(HiveValue::Text(percent_decode(value))),
    })
}

/// `a%2Fb` as `a/b`. Invalid escapes are unchanged.
fn percent_decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8().map_or_else(|_| text.to_string(), Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hive_folders_give_values() {
        let file = Path::new("/data/sensor=old/day=2024-01-01/sensor=a%2Fb/part.parquet");
        assert_eq!(hive_value(file, "sensor"), Some(HiveValue::Text("a/b".into())));
        assert_eq!(hive_value(file, "day"), Some(HiveValue::Text("2024-01-01".into())));
        assert_eq!(hive_value(file, "part"), None);
        let file = Path::new("x/sensor=__HIVE_DEFAULT_PARTITION__/sensor=c.parquet");
        assert_eq!(hive_value(file, "sensor"), Some(HiveValue::Null));
    }

    #[test]
    fn invalid_escapes_are_unchanged() {
        for text in ["100%", "%zz", "%C3", "a=b"] {
            assert_eq!(percent_decode(text), text);
        }
        assert_eq!(percent_decode("%C3%A4%20"), "ä ");
    }
}
