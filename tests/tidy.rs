//! Rules of the source that the compiler does not check.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Heavy or platform-bound dependencies, and the only packages that may depend on them outside of tests.
const CONFINED_DEPENDENCIES: [(&str, &[&str]); 16] = [
    ("rdkafka", &["tidecast-kafka"]),
    ("polars", &[]),
    ("polars-arrow", &["tidecast-tables"]),
    ("polars-parquet", &["tidecast-tables"]),
    ("object_store", &["tidecast-stream"]),
    ("reqwest", &["tidecast-stream"]),
    ("nalgebra", &["tidecast-core"]),
    ("hashbrown", &["tidecast-core"]),
    ("statrs", &["tidecast-train"]),
    ("rayon", &["tidecast-train", "tidecast-stream", "tidecast-study"]),
    ("tokio", &["tidecast", "tidecast-kafka", "tidecast-stream", "tidecast-study", "tidecast-tables"]),
    ("axum", &["tidecast"]),
    ("plotters", &["tidecast"]),
    ("prometheus-client", &["tidecast"]),
    ("clap", &["tidecast", "tidecast-study"]),
    ("indicatif", &["tidecast", "tidecast-study"]),
];

/// Modules of the program, and the only other ones that they may use. Modules without an entry may use all.
const MODULE_USES: [(&str, &[&str]); 5] = [
    ("cli", &[]),
    ("config", &[]),
    ("dataset", &["config"]),
    ("report", &["config"]),
    ("serve", &["config"]),
];

/// Effects that the results of the engine must not depend on.
const EFFECTS: [&str; 7] = ["fs", "net", "thread", "env", "process", "Instant", "SystemTime"];

/// Collections whose order of iteration is random.
const UNORDERED: [&str; 4] = ["HashMap", "HashSet", "HashTable", "hash_map"];

/// Files of the engine with such a collection, and its name: it is only looked up, never iterated.
const LOOKUPS: [(&str, &str); 2] =
    [("crates/core/src/forecaster/index.rs", "entries"), ("crates/core/src/network/tensors.rs", "metadata")];
const ITERATIONS: [&str; 8] =
    ["iter()", "iter_mut()", "keys()", "values()", "values_mut()", "drain", "into_iter()", "retain"];

/// The source files in `folder`, with their contents.
fn sources(folder: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    collect_files(&root.join(folder), &mut paths);
    let paths = paths.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    paths
        .map(|path| {
            let name = path.strip_prefix(root).unwrap().display().to_string();
            (name, fs::read_to_string(&path).unwrap())
        })
        .collect()
}

fn collect_files(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { collect_files(&path, paths) } else { paths.push(path) }
    }
}

/// The code of a file without comments and without its tests.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = text.lines().map(|line| line.split("//").next().unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

/// The paths in `code`, such as `std::fs::read`, with the groups of imports expanded.
fn paths(code: &str) -> BTreeSet<String> {
    let (mut paths, mut rest) = (BTreeSet::new(), code);
    while let Some(start) = rest.find(is_identifier) {
        rest = expand(&rest[start..], "", &mut paths);
    }
    paths
}

/// Adds the paths at the start of `text`, and returns the text after them.
fn expand<'a>(text: &'a str, prefix: &str, paths: &mut BTreeSet<String>) -> &'a str {
    let end = text.find(|c| !is_identifier(c)).unwrap_or(text.len());
    let (path, mut rest) = (format!("{prefix}{}", &text[..end]), &text[end..]);
    if let Some(after) = rest.strip_prefix("::") {
        let prefix = format!("{path}::");
        let Some(group) = after.strip_prefix('{') else {
            return if after.starts_with(is_identifier) { expand(after, &prefix, paths) } else { after };
        };
        rest = group.trim_start();
        while let Some(next) = rest.find(|c| is_identifier(c) || c == '}') {
            if rest[next..].starts_with('}') {
                return &rest[next + 1..];
            }
            rest = expand(&rest[next..], &prefix, paths);
        }
    }
    paths.insert(path);
    rest
}

fn is_identifier(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[track_caller]
fn assert_no_violations(violations: &[String]) {
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn grouped_imports_are_expanded() {
    let expected = ["a", "now", "std::fs", "std::time::Duration", "std::time::Instant", "use"];
    let found = paths("use std::{\n    fs, time::{Duration, Instant},\n};\nstd::fs(a.now())");
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

#[test]
fn heavy_dependencies_are_confined_to_their_packages() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates = fs::read_dir(root.join("crates")).unwrap().map(|entry| entry.unwrap().path());
    let mut violations = Vec::new();
    for folder in crates.chain([root.to_path_buf()]) {
        let text = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let manifest: toml::Table = text.parse().unwrap();
        let package = manifest["package"]["name"].as_str().unwrap();
        let tables = ["dependencies", "build-dependencies"].map(|table| manifest.get(table));
        let tables: Vec<_> = tables.into_iter().flatten().filter_map(toml::Value::as_table).collect();
        assert!(!tables.is_empty(), "{package} has dependencies");
        for (dependency, packages) in CONFINED_DEPENDENCIES {
            if tables.iter().any(|table| table.contains_key(dependency)) && !packages.contains(&package) {
                violations.push(format!("{package} depends on {dependency}, which only {packages:?} may"));
            }
        }
    }
    assert_no_violations(&violations);
}

#[test]
fn modules_use_only_modules_below_them() {
    let mut violations = Vec::new();
    for (file, text) in sources("src") {
        let module = file["src/".len()..].split(['/', '.']).next().unwrap();
        let Some((_, allowed)) = MODULE_USES.iter().find(|(name, _)| *name == module) else { continue };
        for path in paths(&code(&text)) {
            let Some(used) = path.strip_prefix("crate::").and_then(|path| path.split("::").next()) else {
                continue;
            };
            if used != module && !allowed.contains(&used) {
                violations.push(format!("{file}: `{module}` uses `{path}`"));
            }
        }
    }
    assert_no_violations(&violations);
}

#[test]
fn the_engine_has_no_clock_files_network_or_threads() {
    let mut violations = Vec::new();
    for (file, text) in sources("crates/core/src") {
        for path in paths(&code(&text)) {
            let segments: Vec<&str> = path.split("::").collect();
            let is_clock = segments.len() > 1 && segments.last() == Some(&"now");
            if is_clock || segments.iter().any(|segment| segments.len() > 1 && EFFECTS.contains(segment)) {
                violations.push(format!("{file}: uses {path}"));
            }
        }
    }
    assert_no_violations(&violations);
}

#[test]
fn the_engine_does_not_iterate_over_hash_maps() {
    let mut violations = Vec::new();
    for (file, text) in sources("crates/core/src") {
        let code = code(&text);
        let mut used =
            paths(&code).into_iter().filter(|path| UNORDERED.iter().any(|name| path.contains(name)));
        if let Some((_, name)) = LOOKUPS.iter().find(|(lookup, _)| *lookup == file) {
            assert!(used.next().is_some(), "{file} has no hash map: remove it from the list");
            let calls = ITERATIONS.map(|call| format!("{name}.{call}")).into_iter();
            violations.extend(calls.filter(|call| code.contains(call)).map(|call| format!("{file}: {call}")));
        } else {
            violations.extend(used.map(|path| format!("{file}: uses {path}")));
        }
    }
    assert_no_violations(&violations);
}

#[test]
fn every_source_file_starts_with_its_purpose() {
    let folders = ["src", "crates", "tests", "benches", "pipelines"];
    let files: Vec<_> = folders.into_iter().flat_map(sources).collect();
    assert!(files.len() > 100, "{} files", files.len());
    let without = files.iter().filter(|(_, text)| !text.starts_with("//! "));
    assert_no_violations(&without.map(|(file, _)| format!("{file}: no //! line")).collect::<Vec<_>>());
}
