//! From a path to the files to read: a file, a folder, a pattern or a hive-partitioned folder. Knows names only; what
//! is in the files is for `decode`.

use std::ffi::OsStr;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::config::unread;

/// Folders inside folders. Deeper is a link that leads back to itself.
const FOLDER_DEPTH_MAX: usize = 64;

/// Files of one input. Each costs a footer to read at the start and some hundred bytes for the whole run.
const FILES_MAX: usize = 1_000_000;

/// What a reader who misses a file may not know.
const PASSED_OVER: &str = "names that begin with `.` or `_` are passed over";

/// The name of a hive partition for null.
const HIVE_NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// The files of an input, in byte order of their path.
///
/// - a file is itself, whatever its name
/// - a folder is all `*.parquet` files in it and in the folders below
/// - anything else is a pattern with `*`, `?`, `[...]` and `**`; a folder that it matches is read as a folder
///
/// Names starting with `.` or `_` (other programs' bookkeeping) and `*.partial` (files being written) are passed over.
///
/// # Errors
/// If there is nothing to read, or a folder cannot be read.
pub(super) fn find(path: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            folder(path, 0, &mut files)?;
            ensure!(
                !files.is_empty(),
                "no *.parquet file in the folder {} or below; name the one that they are in, or say which files by a \
                 pattern ({PASSED_OVER})",
                path.display()
            );
        }
        Ok(_) => files.push(path.to_path_buf()),
        Err(_) if is_pattern(path.as_os_str()) => {
            pattern(path, &mut files)?;
            ensure!(
                !files.is_empty(),
                "no file matches {}; correct the pattern: `*` stays in its folder, `**` goes below it ({PASSED_OVER})",
                path.display()
            );
        }
        Err(error) => {
            bail!(
                "cannot read {} (file, folder or pattern): {}",
                path.display(),
                unread(path, &error, "; one in a pipeline file is relative to the folder of that file")
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

fn pattern(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let text = path.to_str().with_context(|| format!("the pattern {} is not UTF-8", path.display()))?;
    let options = glob::MatchOptions { require_literal_leading_dot: true, ..Default::default() };
    let matches =
        glob::glob_with(text, options).with_context(|| format!("the pattern {text} is not valid"))?;
    // What is written out is meant, whatever its name.
    let written_out = path.components().take_while(|part| !is_pattern(part.as_ref())).count();
    for found in matches {
        let found = found?;
        if found.components().skip(written_out).any(|part| is_passed_over(part.as_ref())) {
            continue;
        }
        if found.is_dir() { folder(&found, 0, files)? } else { push(found, files)? }
    }
    Ok(())
}

fn folder(path: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    let shown = path.display();
    ensure!(depth < FOLDER_DEPTH_MAX, "{shown} is {depth} folders deep: does a link lead back to itself?");
    for entry in fs::read_dir(path).with_context(|| format!("cannot read the folder {shown}"))? {
        let entry = entry.with_context(|| format!("cannot read the folder {shown}"))?.path();
        if is_passed_over(entry.file_name().unwrap_or_default()) {
            continue;
        }
        // Follows links, unlike the entry's own type.
        let found = fs::metadata(&entry).with_context(|| format!("cannot read {}", entry.display()))?;
        if found.is_dir() {
            folder(&entry, depth + 1, files)?;
        } else if entry.extension().is_some_and(|ending| ending == "parquet") {
            push(entry, files)?;
        }
    }
    Ok(())
}

fn push(path: PathBuf, files: &mut Vec<PathBuf>) -> Result<()> {
    if files.len() == FILES_MAX {
        bail!("more than {FILES_MAX} files, up to {}: narrow the path, or join small files", path.display());
    }
    files.push(path);
    Ok(())
}

fn is_passed_over(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".") || name.starts_with(b"_") || name.ends_with(b".partial")
}

/// The columns that a file's folders give.
pub(super) fn hive_names(file: &Path) -> Vec<String> {
    let folders = file.parent().into_iter().flat_map(Path::components);
    let name = |part: Component<'_>| Some(percent_decoded(part.as_os_str().to_str()?.split_once('=')?.0));
    folders.filter_map(name).filter(|name| !name.is_empty()).collect()
}

/// The value that the folders of a file give to a column: `Some(None)` for null, `None` where no folder is called
/// `column=...`. The innermost folder wins.
pub(super) fn hive_value(file: &Path, column: &str) -> Option<Option<String>> {
    let folders = file.parent()?.components().rev();
    let mut names = folders.filter_map(|component| match component {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    names.find_map(|name| {
        let (key, value) = name.split_once('=')?;
        (percent_decoded(key) == column).then(|| (value != HIVE_NULL).then(|| percent_decoded(value)))
    })
}

/// `a%2Fb` as `a/b`. What is no valid escape stays as it is.
fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, _, _) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).unwrap_or_else(|_| text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_give_values() {
        let file = Path::new("/data/sensor=old/day=2024-01-01/sensor=a%2Fb/part.parquet");
        assert_eq!(hive_value(file, "sensor"), Some(Some("a/b".into())));
        assert_eq!(hive_value(file, "day"), Some(Some("2024-01-01".into())));
        assert_eq!(hive_value(file, "part"), None);
        let file = Path::new("x/sensor=__HIVE_DEFAULT_PARTITION__/sensor=c.parquet");
        assert_eq!(hive_value(file, "sensor"), Some(None));
    }

    #[test]
    fn escapes_that_are_none_stay() {
        for text in ["100%", "%zz", "%C3", "a=b"] {
            assert_eq!(percent_decoded(text), text);
        }
        assert_eq!(percent_decoded("%C3%A4%20"), "ä ");
    }
}
