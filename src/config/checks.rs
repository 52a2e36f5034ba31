//! Checks of single values: each returns something usable and complains where the file's value is not.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Place;
use super::duration::{duration_text, micros};
use super::problems::Problems;

pub(super) const MILLISECOND: i64 = 1_000;
pub(super) const SECOND: i64 = 1_000 * MILLISECOND;
pub(super) const DAY: i64 = 86_400 * SECOND;

/// The checks of one file. Places are paths such as `grid.every`.
pub(super) struct Checks<'a> {
    pub problems: Problems,
    /// Relative paths are relative to this.
    pub folder: &'a Path,
}

impl Checks<'_> {
    /// A text that has to be there and not be empty.
    pub fn required(&mut self, path: &str, value: Option<String>, why: &str) -> String {
        match value {
            Some(text) => self.filled(path, text),
            None => {
                self.problems.missing(path, why);
                String::new()
            }
        }
    }

    pub fn filled(&mut self, path: &str, text: String) -> String {
        if text.trim().is_empty() {
            self.problems.value(path, "is empty");
        }
        text
    }

    /// A whole number within `bounds`; `why` says what the bounds are good for.
    pub fn whole(
        &mut self,
        path: &str,
        value: Option<i64>,
        default: usize,
        bounds: RangeInclusive<i64>,
        why: &str,
    ) -> usize {
        let Some(value) = value else { return default };
        if bounds.contains(&value) {
            return value as usize;
        }
        let (low, high) = bounds.into_inner();
        self.problems.value(path, format!("must be in {low}..={high}, not {value}: {why}"));
        default
    }

    /// A finite number that `fits`; `what` describes those that do.
    pub fn number(
        &mut self,
        path: &str,
        value: Option<f64>,
        default: f64,
        fits: impl Fn(f64) -> bool,
        what: &str,
    ) -> f64 {
        match value {
            Some(value) if !(value.is_finite() && fits(value)) => {
                self.problems.value(path, format!("must be {what}, not {value}"));
                default
            }
            Some(value) => value,
            None => default,
        }
    }

    /// A duration in microseconds within `bounds`, `None` where it is missing or wrong; `why` says what the bounds are
    /// good for.
    pub fn micros(
        &mut self,
        path: &str,
        value: Option<&str>,
        bounds: RangeInclusive<i64>,
        why: &str,
    ) -> Option<i64> {
        let text = value?;
        let (low, high) = (*bounds.start(), *bounds.end());
        match micros(text) {
            Ok(length) if bounds.contains(&length) => Some(length),
            Ok(length) => {
                let limit = if length < low { low } else { high };
                let side = if length < low { "at least" } else { "at most" };
                let limit = duration_text(limit);
                self.problems.value(path, format!("must be {side} {limit}, not `{text}`: {why}"));
                None
            }
            Err(why) => {
                self.problems.value(path, format!("cannot be read: {why}"));
                None
            }
        }
    }

    pub fn duration(
        &mut self,
        path: &str,
        value: Option<&str>,
        default: Duration,
        bounds: RangeInclusive<i64>,
        why: &str,
    ) -> Duration {
        let micros = self.micros(path, value, bounds, why);
        micros.map_or(default, |micros| Duration::from_micros(micros.unsigned_abs()))
    }

    /// A folder of this machine, or one in a bucket.
    pub fn place(&mut self, path: &str, text: &str) -> Place {
        let Some((scheme @ ("s3" | "gs" | "az"), rest)) = scheme_of(text) else {
            return Place::Folder(self.path(path, text, "`file:`, `s3:`, `gs:`, `az:` and plain paths"));
        };
        let bucket = rest.strip_prefix("//").and_then(|rest| rest.split('/').next()).unwrap_or_default();
        if bucket.is_empty() {
            self.problems.value(path, format!("names no bucket: write `{scheme}://BUCKET/FOLDER`"));
        }
        // What stands there might be secret: it is not repeated.
        if rest.contains(['@', '?', '#']) {
            self.problems.value(
                path,
                format!("holds more than `{scheme}://BUCKET/FOLDER`: credentials come from the environment"),
            );
        }
        Place::Url(text.to_owned())
    }

    /// A path of this machine, joined to the folder of the file.
    pub fn local(&mut self, path: &str, text: &str) -> PathBuf {
        self.path(path, text, "`file:` and plain paths")
    }

    fn path(&mut self, path: &str, text: &str, supported: &str) -> PathBuf {
        let name = match scheme_of(text) {
            Some(("file", rest)) => match rest.strip_prefix("//") {
                Some(absolute) if absolute.starts_with('/') => absolute,
                Some(_) => {
                    self.problems.value(
                        path,
                        format!("names a host: `{text}`; write `file:FOLDER` or `file:///FOLDER`"),
                    );
                    rest
                }
                None => rest,
            },
            Some((scheme, _)) => {
                self.problems
                    .value(path, format!("is `{text}`: `{scheme}:` is not supported; only {supported} are"));
                text
            }
            None => text,
        };
        if name.contains('\0') {
            self.problems.value(path, "holds a zero byte");
        }
        self.folder.join(name)
    }

    /// A name that Kafka takes for a topic.
    pub fn topic(&mut self, path: &str, name: String) -> String {
        // 249: the broker makes a folder of the name and a partition number.
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if !name.is_empty() && (!name.chars().all(fits) || name.len() > 249 || name == "." || name == "..") {
            self.problems.value(
                path,
                format!("is `{name}`: a topic has 1 to 249 letters, digits, dots, underscores or hyphens"),
            );
        }
        name
    }
}

/// `s3://bucket` as `("s3", "//bucket")`; one letter is a drive, not a scheme.
fn scheme_of(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    (scheme.len() > 1 && scheme.chars().all(fits)).then_some((scheme, rest))
}
