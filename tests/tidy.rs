//! The house rules that the compiler does not know: who may import whom, what lives only where, how long a file may be.

use std::fs;
use std::path::{Path, PathBuf};

/// Parts of the crate that know no runtime, no broker, no file and no clock.
const PURE: [&str; 9] =
    ["near", "simd", "table", "series", "network", "intervals", "forecaster", "model", "report"];

/// What each part may import from the crate.
const MAY_IMPORT: [(&str, &[&str]); 21] = [
    ("near", &[]),
    ("simd", &[]),
    ("series", &["series", "near", "simd"]),
    ("intervals", &["intervals", "near", "simd"]),
    ("network", &["network", "near", "simd"]),
    ("table", &["intervals"]),
    ("model", &["series", "network", "intervals"]),
    ("forecaster", &["forecaster", "table", "series", "network", "intervals", "model", "near"]),
    ("train", &["train", "forecaster", "table", "series", "network", "intervals", "model", "config"]),
    ("evaluate", &["evaluate", "train", "table", "series", "network", "model"]),
    ("config", &["config", "series", "network", "table", "intervals"]),
    ("io", &["io", "table", "config", "series"]),
    ("state", &["io", "config"]),
    ("drive", &["drive", "config", "forecaster", "io", "series", "state", "table"]),
    ("serve", &["serve", "drive", "config", "forecaster", "intervals", "io", "series", "state", "table"]),
    ("dataset", &["dataset", "io", "config", "forecaster", "model", "series", "table", "train"]),
    ("report", &["report"]),
    ("study", &["study", "network", "report"]),
    ("cli", &[]),
    ("commands", &["*"]),
    ("main", &["*"]),
];

/// Crates that live in one part only.
const LIVES_IN: [(&str, &[&str]); 9] = [
    ("rdkafka", &["src/io/kafka/"]),
    ("polars", &["src/io/parquet/", "src/dataset"]),
    ("nalgebra", &["src/network/"]),
    ("clap", &["src/cli.rs", "src/cli/", "src/main.rs"]),
    ("object_store", &["src/state/"]),
    ("plotters", &["src/report/"]),
    ("axum", &["src/serve/"]),
    ("prometheus_client", &["src/serve/"]),
    ("indicatif", &["src/commands/"]),
];

fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    walk(&root.join("src"), &mut files);
    assert!(files.len() > 30, "the sources are under src/");
    let name = |path: &PathBuf| path.strip_prefix(root).expect("under the root").display().to_string();
    files.iter().map(|path| (name(path), fs::read_to_string(path).expect("a source is text"))).collect()
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// `src/io/kafka/source.rs` belongs to `io`.
fn part(file: &str) -> &str {
    let rest = file.strip_prefix("src/").unwrap_or(file);
    rest.split(['/', '.']).next().unwrap_or(rest)
}

/// Lines without what stands in line comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(i, line)| (i + 1, line.split("//").next().unwrap_or(line)))
}

/// Names that follow `prefix::` in a line.
fn after<'a>(line: &'a str, prefix: &str) -> Vec<&'a str> {
    let name = |rest: &'a str| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("");
    let boundary = |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
    let found = line.match_indices(prefix).filter(|(at, _)| boundary(*at));
    found.map(|(at, _)| name(&line[at + prefix.len()..])).collect()
}

fn assert_none(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn parts_import_only_what_they_may() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let part = part(&file);
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == part) else {
            if part != "lib" {
                wrong.push(format!("{file}: no rule says what `{part}` may import"));
            }
            continue;
        };
        for (line, code) in code(&text) {
            for name in after(code, "crate::").into_iter().filter(|name| !name.is_empty()) {
                if name != part && !allowed.contains(&name) && !allowed.contains(&"*") {
                    wrong.push(format!("{file}:{line}: `{part}` imports `{name}`"));
                }
            }
        }
    }
    assert_none(wrong);
}

#[test]
fn the_pure_parts_know_no_runtime_no_file_and_no_clock() {
    let outside = [
        "tokio",
        "rdkafka",
        "polars",
        "std::fs",
        "std::net",
        "std::thread",
        "Instant",
        "SystemTime",
        "File::",
    ];
    let mut wrong = Vec::new();
    for (file, text) in sources().into_iter().filter(|(file, _)| PURE.contains(&part(file))) {
        for (line, code) in code(&text) {
            let known = outside.iter().filter(|name| code.contains(*name));
            wrong.extend(known.map(|name| format!("{file}:{line}: knows {name}")));
        }
    }
    assert_none(wrong);
}

#[test]
fn each_heavy_crate_lives_in_one_place() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        for (line, code) in code(&text) {
            for (name, places) in LIVES_IN {
                let used = !after(code, &format!("{name}::")).is_empty();
                if used && !places.iter().any(|place| file.starts_with(place)) {
                    wrong.push(format!("{file}:{line}: {name} outside of {places:?}"));
                }
            }
        }
    }
    assert_none(wrong);
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        if text.lines().count() > 450 {
            wrong.push(format!("{file}: {} lines", text.lines().count()));
        }
        if !text.starts_with("//!") {
            wrong.push(format!("{file}: does not say what lives in it"));
        }
    }
    assert_none(wrong);
}

#[test]
fn no_map_is_walked_where_results_are_made() {
    // A walk over a HashMap depends on its random keys.
    let mut wrong = Vec::new();
    for (file, text) in sources().into_iter().filter(|(file, _)| PURE.contains(&part(file))) {
        let named = text.lines().filter(|line| line.contains(": HashMap<") || line.contains("HashSet<"));
        let names: Vec<&str> =
            named.filter_map(|line| line.trim().trim_start_matches("pub ").split(':').next()).collect();
        for (line, code) in code(&text) {
            for name in &names {
                let walks = ["iter()", "values()", "keys()", "values_mut()", "drain()", "into_iter()"];
                if walks.iter().any(|walk| code.contains(&format!("{name}.{walk}"))) {
                    wrong.push(format!("{file}:{line}: walks over {name}"));
                }
            }
        }
    }
    assert_none(wrong);
}
