//! The pipelines of the project, and what a slip of an editor makes of them.

use proptest::prelude::*;
use tidecast::config::Pipeline;

use super::load;

fn pipelines() -> Vec<std::path::PathBuf> {
    let pattern = concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/*.toml");
    glob::glob(pattern).expect("a pattern").map(|path| path.expect("a readable folder")).collect()
}

#[test]
fn every_pipeline_of_the_project_loads() {
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

/// What a slip of an editor does to a file.
#[derive(Clone, Debug)]
enum Slip {
    Drop(usize),
    Repeat(usize, usize),
    Swap(usize, usize),
    Type(usize, usize, char),
}

fn slips() -> impl Strategy<Value = Vec<Slip>> {
    let line = || any::<usize>();
    let typed = prop::sample::select("\"[]{}=.,# \n0-9ax$_é'\\:".chars().collect::<Vec<_>>());
    let slip = prop_oneof![
        line().prop_map(Slip::Drop),
        (line(), line()).prop_map(|(from, to)| Slip::Repeat(from, to)),
        (line(), line()).prop_map(|(a, b)| Slip::Swap(a, b)),
        (line(), line(), typed).prop_map(|(line, at, typed)| Slip::Type(line, at, typed)),
    ];
    prop::collection::vec(slip, 1..6)
}

fn slipped(text: &str, slips: &[Slip]) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
    for slip in slips {
        let count = lines.len().max(1);
        lines.resize(count, String::new());
        match *slip {
            Slip::Drop(line) => drop(lines.remove(line % count)),
            Slip::Repeat(from, to) => lines.insert(to % count, lines[from % count].clone()),
            Slip::Swap(a, b) => lines.swap(a % count, b % count),
            Slip::Type(line, at, typed) => {
                let line = &mut lines[line % count];
                let mut chars: Vec<char> = line.chars().collect();
                let at = at % (chars.len() + 1);
                chars.splice(at..(at + 1).min(chars.len()), [typed]);
                *line = chars.into_iter().collect();
            }
        }
    }
    lines.join("\n")
}

proptest! {
    /// Whatever a slip makes of a file, it is refused at a line that it has, or is a pipeline whose plan means the same.
    #[test]
    fn no_slip_panics(slips in slips(), which in any::<prop::sample::Index>()) {
        let files = pipelines();
        let text = std::fs::read_to_string(&files[which.index(files.len())]).unwrap();
        let text = slipped(&text, &slips);
        match load(&text) {
            Ok(pipeline) => {
                let plan = pipeline.plan();
                let again = load(&plan).map_err(|error| TestCaseError::fail(format!("{error}\n{plan}")))?;
                prop_assert_eq!(again.plan(), plan);
                prop_assert_eq!(again.state_keys(), pipeline.state_keys());
            }
            Err(error) => {
                prop_assert!(!error.problems.is_empty());
                let lines = text.lines().count().max(1) + 1;
                let within = |line: Option<usize>| line.is_none_or(|line| (1..=lines).contains(&line));
                prop_assert!(error.problems.iter().all(|problem| within(problem.line)), "{}", error);
            }
        }
    }
}
