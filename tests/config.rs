//! Pipeline files: the minimal valid file with a change, and the resulting pipeline or errors.

use std::path::Path;

use tidecast::config::{ConfigError, Pipeline};

mod edits;
mod errors;
mod values;

/// The minimal pipeline file. It has seven lines, so an addition starts in line 8.
const MINIMAL: &str = r#"[columns]
time = "t"
targets = ["v"]
[grid]
every = "1h"
[forecast]
model = "m.safetensors"
"#;

fn env(name: &str) -> Option<String> {
    match name {
        "HOST" => Some("kafka.example:9092".to_string()),
        "INJECTED" => Some("a\"\n[grid]\nevery = \"1s\"\n${HOST}".to_string()),
        "PASSWORD" => Some("hunter2".to_string()),
        _ => None,
    }
}

fn load(text: &str) -> Result<Pipeline, ConfigError> {
    Pipeline::from_text(Path::new("/p/x.toml"), text, &env)
}

/// The pipeline of the minimal file with an addition.
#[track_caller]
fn load_with(addition: &str) -> Pipeline {
    load(&format!("{MINIMAL}{addition}")).unwrap_or_else(|error| panic!("{error}"))
}

/// Asserts the errors of a file, each without the leading `/p/x.toml:`.
#[track_caller]
fn assert_errors(text: &str, expected: &[&str]) {
    let error = load(text).expect_err("the file is invalid").to_string();
    let lines: Vec<&str> =
        error.lines().map(|line| line.strip_prefix("/p/x.toml:").expect("the file name")).collect();
    assert_eq!(lines, expected);
}

/// Asserts the errors of the minimal file with an addition.
#[track_caller]
fn assert_addition_errors(addition: &str, expected: &[&str]) {
    assert_errors(&format!("{MINIMAL}{addition}"), expected);
}

/// Asserts the errors of the minimal file with a replaced line.
#[track_caller]
fn assert_change_errors(line: &str, new: &str, expected: &[&str]) {
    assert!(MINIMAL.contains(line));
    assert_errors(&MINIMAL.replace(line, new), expected);
}
