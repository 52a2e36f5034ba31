//! Checks of single values. Each returns a usable value, and reports a problem if the value in the file is not usable.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidecast_core::time::{duration_text, parse_micros};
use tidecast_stream::settings::StateLocation;

use super::problems::Problems;

/// The checks of one file. A value is named by its path, such as `grid.every`.
pub(super) struct Checks<'a> {
    pub problems: Problems,
    /// The base of relative paths.
    pub folder: &'a Path,
}

impl Checks<'_> {
    /// A string that must be present and not empty.
    pub fn required(&mut self, path: &str, value: Option<String>, description: &str) -> String {
        match value {
            Some(text) => self.non_empty(path, text),
            None => {
                self.problems.missing(path, description);
                String::new()
            }
        }
    }

    pub fn non_empty(&mut self, path: &str, text: String) -> String {
        if text.trim().is_empty() {
            self.problems.value(path, "is empty");
        }
        text
    }

    /// An integer within `bounds`; `why` is the reason for the bounds.
    pub fn integer(
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
        let (min, max) = bounds.into_inner();
        self.problems.value(path, format!("must be in {min}..={max}, not {value}: {why}"));
        default
    }

    /// A finite number for which `is_valid` holds; `valid` describes such numbers.
    pub fn number(
        &mut self,
        path: &str,
        value: Option<f64>,
        default: f64,
        is_valid: impl Fn(f64) -> bool,
        valid: &str,
    ) -> f64 {
        match value {
            Some(value) if !(value.is_finite() && is_valid(value)) => {
                self.problems.value(path, format!("must be {valid}, not {value}"));
                default
            }
            Some(value) => value,
            None => default,
        }
    }

    /// A duration in microseconds within `bounds`, `None` if it is missing or invalid; `why` is the reason for the bounds.
    pub fn micros(
        &mut self,
        path: &str,
        value: Option<&str>,
        bounds: RangeInclusive<i64>,
        why: &str,
    ) -> Option<i64> {
        let text = value?;
        match parse_micros(text) {
            Ok(micros) if bounds.contains(&micros) => Some(micros),
            Ok(micros) => {
                let (bound, limit) = if micros < *bounds.start() {
                    ("at least", bounds.start())
                } else {
                    ("at most", bounds.end())
                };
                let limit = duration_text(*limit);
                self.problems.value(path, format!("must be {bound} {limit}, not `{text}`: {why}"));
                None
            }
            Err(why) => {
                self.problems.value(path, format!("is invalid: {why}"));
                None
            }
        }
    }

    /// A duration within `bounds` in microseconds; `why` is the reason for the bounds.
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

    /// A local folder, or a folder in a bucket.
    pub fn location(&mut self, path: &str, text: &str) -> StateLocation {
        let Some((scheme @ ("s3" | "gs" | "az"), rest)) = split_scheme(text) else {
            return StateLocation::Folder(self.resolve(
                path,
                text,
                "`file:`, `s3:`, `gs:`, `az:` and plain paths",
            ));
        };
        let bucket = rest.strip_prefix("//").and_then(|rest| rest.split('/').next()).unwrap_or_default();
        if bucket.is_empty() {
            self.problems.value(path, format!("names no bucket: write `{scheme}://BUCKET/FOLDER`"));
        }
        // The text is not repeated: it may contain a secret.
        if rest.contains(['@', '?', '#']) {
            self.problems.value(
                path,
                format!("has more parts than `{scheme}://BUCKET/FOLDER`: set credentials in the environment"),
            );
        }
        StateLocation::Url(text.to_owned())
    }

    /// A local path.
    pub fn local_path(&mut self, path: &str, text: &str) -> PathBuf {
        self.resolve(path, text, "`file:` and plain paths")
    }

    /// A local path, relative to the folder of the pipeline file; `supported` lists the forms of a path that are.
    fn resolve(&mut self, path: &str, text: &str, supported: &str) -> PathBuf {
        let name = match split_scheme(text) {
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
                let text = format!("is `{text}`: `{scheme}:` is not supported; supported are {supported}");
                self.problems.value(path, text);
                ""
            }
            None => text,
        };
        if name.contains('\0') {
            self.problems.value(path, "contains a zero byte");
        }
        self.folder.join(name)
    }

    /// A valid topic name.
    pub fn topic(&mut self, path: &str, name: String) -> String {
        let is_valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        // 249: the broker names folders `TOPIC-PARTITION`.
        if !name.is_empty()
            && (!name.chars().all(is_valid) || name.len() > 249 || name == "." || name == "..")
        {
            self.problems.value(
                path,
                format!(
                    "is `{name}`: a topic name has 1 to 249 letters, digits, dots, underscores or hyphens"
                ),
            );
        }
        name
    }
}

/// `s3://bucket` as `("s3", "//bucket")`. A single letter is a drive, not a scheme.
fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let is_valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    (scheme.len() > 1 && scheme.chars().all(is_valid)).then_some((scheme, rest))
}
