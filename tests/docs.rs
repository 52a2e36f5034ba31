//! Documentation: links resolve, every guide is in the book, and every documented command runs.

use std::fs;
use std::path::{Path, PathBuf};

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
