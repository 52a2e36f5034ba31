//! The sample pipelines, unchanged and with random edits.

use proptest::prelude::*;
use tidecast::config::Pipeline;

use super::load;

fn pipelines() -> Vec<std::path::PathBuf> {
    let pattern = concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/*.toml");
    glob::glob(pattern).expect("a pattern").map(|path| path.expect("a readable folder")).collect()
}

#[test]
fn the_sample_pipelines_load_and_their_plans_mean_the_same() {
    let files = pipelines();
    assert!(files.len() >= 2, "{files:?}");
    for file in files {
        let pipeline = Pipeline::load(&file, &|_| None).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(pipeline.name, file.file_stem().unwrap().to_string_lossy());
        assert_eq!(load(&pipeline.plan()).unwrap().plan().lines().skip(1).collect::<Vec<_>>(), {
            pipeline.plan().lines().skip(1).map(str::to_string).collect::<Vec<_>>()
        });
    }
}

#[derive(Clone, Debug)]
enum Edit {
    DeleteLine(usize),
    CopyLine { from: usize, to: usize },
    SwapLines(usize, usize),
    ReplaceChar { line: usize, at: usize, with: char },
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let line = || any::<usize>();
    let typed = prop::sample::select("\"[]{}=.,# \n0-9ax$_é'\\:".chars().collect::<Vec<_>>());
    let edit = prop_oneof![
        line().prop_map(Edit::DeleteLine),
        (line(), line()).prop_map(|(from, to)| Edit::CopyLine { from, to }),
        (line(), line()).prop_map(|(a, b)| Edit::SwapLines(a, b)),
        (line(), line(), typed).prop_map(|(line, at, with)| Edit::ReplaceChar { line, at, with }),
    ];
    prop::collection::vec(edit, 1..6)
}

fn apply(text: &str, edits: &[Edit]) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
    for edit in edits {
        let count = lines.len().max(1);
        lines.resize(count, String::new());
        match *edit {
            Edit::DeleteLine(line) => drop(lines.remove(line % count)),
            Edit::CopyLine { from, to } => lines.insert(to % count, lines[from % count].clone()),
            Edit::SwapLines(a, b) => lines.swap(a % count, b % count),
            Edit::ReplaceChar { line, at, with } => {
                let line = &mut lines[line % count];
                let mut chars: Vec<char> = line.chars().collect();
                let at = at % (chars.len() + 1);
                chars.splice(at..(at + 1).min(chars.len()), [with]);
                *line = chars.into_iter().collect();
            }
        }
    }
    lines.join("\n")
}

proptest! {
    /// An edited file has errors in existing lines, or is a pipeline whose plan means the same.
    #[test]
    fn an_edited_file_never_panics(edits in edits(), which in any::<prop::sample::Index>()) {
        let files = pipelines();
        let text = std::fs::read_to_string(&files[which.index(files.len())]).unwrap();
        let text = apply(&text, &edits);
        match load(&text) {
            Ok(pipeline) => {
                let plan = pipeline.plan();
                let reloaded = load(&plan).map_err(|error| TestCaseError::fail(format!("{error}\n{plan}")))?;
                prop_assert_eq!(reloaded.plan(), plan);
                prop_assert_eq!(reloaded.state_keys(), pipeline.state_keys());
            }
            Err(error) => {
                prop_assert!(!error.problems.is_empty());
                let lines = text.lines().count().max(1) + 1;
                let exists = |line: Option<usize>| line.is_none_or(|line| (1..=lines).contains(&line));
                prop_assert!(error.problems.iter().all(|problem| exists(problem.line)), "{}", error);
            }
        }
    }
}
