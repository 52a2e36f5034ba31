//! Documentation: links resolve, every guide is in the book, and every documented command runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::broker;

/// The root of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Markdown files of the repository.
fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the repository") {
            let path = entry.expect("a directory entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                folders.push(path);
            } else if name.ends_with(".md") {
                pages.push(path);
            }
        }
    }
    pages.sort();
    assert!(pages.len() > 10, "the repository has more pages than {pages:?}");
    pages
}

/// The lines of a page outside of code blocks, with their numbers.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut in_code = false;
    let mut lines = Vec::new();
    for (i, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            lines.push((i + 1, line));
        }
    }
    lines
}

/// The anchors of a page's headings, as GitHub and mdBook derive them.
fn anchors(text: &str) -> Vec<String> {
    let headings = prose(text).into_iter().filter(|(_, line)| line.starts_with('#'));
    let anchor = |line: &str| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(|(_, line)| anchor(line)).collect()
}

/// The targets of the links in a line of Markdown: `[text](target)`.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

/// Why a link of a page is broken; `None` if it is not.
fn broken(page: &Path, text: &str, target: &str) -> Option<String> {
    if target.starts_with("http") {
        return None;
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if file.is_empty() { page.to_owned() } else { page.with_file_name("").join(file) };
    if !path.exists() {
        return Some(format!("`{target}`: no such file"));
    }
    let linked =
        if file.is_empty() { text.to_owned() } else { fs::read_to_string(&path).unwrap_or_default() };
    let is_known = anchor.is_empty() || anchors(&linked).iter().any(|known| known == anchor);
    (!is_known).then(|| format!("`{target}`: no such heading"))
}

#[test]
fn links_resolve() {
    let mut problems = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page is text");
        for (number, line) in prose(&text) {
            for problem in links(line).filter_map(|target| broken(&page, &text, target)) {
                problems.push(format!("{}:{number}: {problem}", page.display()));
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn broken_links_are_found() {
    let (page, text) = (root().join("README.md"), "# One title\n\n[a](#one-title)");
    assert_eq!(broken(&page, text, "#one-title"), None);
    assert_eq!(broken(&page, text, "docs/pipeline.md"), None);
    assert!(broken(&page, text, "#another-title").is_some());
    assert!(broken(&page, text, "docs/pipelines.md").is_some());
    assert!(broken(&page, text, "docs/pipeline.md#no-such-heading").is_some());
}

#[test]
fn every_guide_is_in_the_book() {
    let summary = fs::read_to_string(root().join("docs/SUMMARY.md")).expect("the summary of the book");
    let listed: Vec<&str> = summary.lines().flat_map(links).collect();
    for page in pages() {
        let Ok(name) = page.strip_prefix(root().join("docs")) else { continue };
        let name = name.to_string_lossy().into_owned();
        assert!(
            name == "SUMMARY.md" || listed.contains(&name.as_str()),
            "docs/SUMMARY.md does not list {name}"
        );
    }
}

/// Programs of the documentation that are replaced by one that does nothing: the gate runs `cargo`, `docker` needs an engine, and the others
/// belong to the reader.
const NOT_RUN: [&str; 6] = ["cargo", "docker", "jq", "curl", "mdbook", "python"];

/// Guides with commands, besides the README and the first one.
const OTHER_GUIDES: [&str; 4] =
    ["docs/training.md", "docs/data-quality.md", "docs/json.md", "python/README.md"];

/// `tidecast` for documented commands: without a broker, commands that need one are skipped; endless commands end, and long ones are shortened.
const TIDECAST: &str = r#"#!/bin/sh
case "$*" in
  run*|replay*|bootstrap*|rejects*|*--connect*) [ -n "${TIDECAST_BROKERS:-}" ] || exit 0 ;;
esac
case "$1" in
  # `command_line::python` imports a network that PyTorch trained.
  import-torch) exit 0 ;;
  run) exec "$PROGRAM" "$@" --until-end ;;
  train) exec "$PROGRAM" "$@" --epochs 1 ;;
  replay) exec "$PROGRAM" replay "$2" --from "$4" --speed max ;;
  # A reader removes the `#` before the tables for Kafka and names the topics.
  init) "$PROGRAM" "$@" && sed -i -e 's/"plant-readings"/"'"$READINGS"'"/' -e '/source.kafka/,/store = /s/^# \{0,1\}//' plant.toml ;;
  *) exec "$PROGRAM" "$@" ;;
esac
"#;

/// The shell blocks of a page.
fn shell_blocks(text: &str) -> Vec<String> {
    text.split("```sh\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("```").map(|(block, _)| block.to_owned()))
        .collect()
}

/// Writes an executable script.
fn script(path: &Path, text: &str) {
    fs::write(path, text).expect("a script");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("an executable script");
}

/// Runs the shell blocks of a page, in order and in one folder with the samples.
fn run_page(page: &str) {
    let (folder, shims) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let (folder, pipelines) = (folder.path(), root().join("pipelines"));
    for name in ["sensors", "motes"] {
        let target = folder.join("pipelines").join(name);
        fs::create_dir_all(&target).expect("a folder");
        for file in ["readings.parquet", "model.safetensors"] {
            fs::copy(pipelines.join(name).join(file), target.join(file)).expect("a copy of the sample");
        }
    }
    fs::copy(pipelines.join("motes.toml"), folder.join("pipelines/motes.toml"))
        .expect("a copy of the pipeline");
    fs::copy(pipelines.join("motes/readings.parquet"), folder.join("history.parquet")).expect("a history");
    fs::create_dir(folder.join("history")).expect("a folder");
    fs::copy(pipelines.join("sensors/readings.parquet"), folder.join("history/2023.parquet"))
        .expect("a history");
    fs::create_dir(folder.join("python")).expect("a folder");
    fs::copy(root().join("python/sensors.toml"), folder.join("python/sensors.toml")).expect("a pipeline");
    script(&folder.join("correct"), "#!/bin/sh\nwhile read -r line; do echo; done\n");
    script(&shims.path().join("tidecast"), TIDECAST);
    NOT_RUN
        .iter()
        .for_each(|name| script(&shims.path().join(name), "#!/bin/sh\n[ -t 0 ] || cat >/dev/null\n"));

    let broker = broker::real().unwrap_or_default();
    let path = format!("{}:{}", shims.path().display(), std::env::var("PATH").expect("a path"));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let blocks = shell_blocks(&fs::read_to_string(root().join(page)).expect("a page is text"));
    assert!(!blocks.is_empty(), "{page} documents no command");
    for block in blocks {
        // Each block has a pipeline of its own on the cluster.
        let [readings, rejects] =
            ["readings", "rejects"].map(|name| runtime.block_on(broker::topic(name, 2)));
        let sensors = fs::read_to_string(pipelines.join("sensors.toml")).expect("the sample pipeline");
        let sensors =
            sensors.replace("name = \"sensors\"", &format!("name = \"{}\"", broker::unique("sensors")));
        let sensors = sensors.replace("\"sensor-readings\"", &format!("\"{readings}\""));
        let sensors = sensors.replace("\"sensor-rejects\"", &format!("\"{rejects}\""));
        fs::write(folder.join("pipelines/sensors.toml"), sensors).expect("a pipeline");
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &block])
            .current_dir(folder)
            .env("PATH", &path)
            .env("PROGRAM", env!("CARGO_BIN_EXE_tidecast"))
            .env("READINGS", &readings)
            .env("TIDECAST_BROKERS", broker)
            .env("TIDECAST_SERVE", "127.0.0.1:0")
            .stdin(Stdio::null())
            .output()
            .expect("a shell");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{page}: a documented command failed:\n{block}\n{errors}");
    }
}

#[test]
fn commands_of_the_readme_run() {
    run_page("README.md");
}

#[test]
fn commands_of_getting_started_run() {
    run_page("docs/getting-started.md");
}

#[test]
fn commands_of_all_other_guides_run() {
    OTHER_GUIDES.into_iter().for_each(run_page);
}

#[test]
fn every_page_with_commands_is_run() {
    let run = ["README.md", "docs/getting-started.md"].into_iter().chain(OTHER_GUIDES).collect::<Vec<_>>();
    for page in pages() {
        let name =
            page.strip_prefix(root()).expect("a page of the repository").to_string_lossy().into_owned();
        let text = fs::read_to_string(&page).expect("a page is text");
        let commands = shell_blocks(&text).concat();
        let has_program = commands.lines().any(|line| line.trim_start().starts_with("tidecast "));
        assert!(!has_program || run.contains(&name.as_str()), "no test runs the commands of {name}");
    }
}
