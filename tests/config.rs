//! Pipeline files. Each test is a short file, or the shortest right one with a change, and what comes of it.

use std::path::Path;

use tidecast::config::{ConfigError, Pipeline};

mod mistakes;
mod slips;
mod values;

/// The least that a pipeline file says. Seven lines, so what a test adds starts in line 8.
const LEAST: &str = r#"[columns]
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

#[track_caller]
fn loaded(added: &str) -> Pipeline {
    load(&format!("{LEAST}{added}")).unwrap_or_else(|error| panic!("{error}"))
}

/// That `text` is refused for exactly these reasons, each without the `/p/x.toml:` before it.
#[track_caller]
fn refused(text: &str, expected: &[&str]) {
    let error = load(text).expect_err("this file is wrong").to_string();
    let lines: Vec<&str> =
        error.lines().map(|line| line.strip_prefix("/p/x.toml:").expect("the file's name")).collect();
    assert_eq!(lines, expected);
}

/// The same for a right file with a wrong addition.
#[track_caller]
fn refused_addition(added: &str, expected: &[&str]) {
    refused(&format!("{LEAST}{added}"), expected);
}

/// The same for a right file in which one line is another one.
#[track_caller]
fn refused_change(line: &str, new: &str, expected: &[&str]) {
    assert!(LEAST.contains(line));
    refused(&LEAST.replace(line, new), expected);
}
