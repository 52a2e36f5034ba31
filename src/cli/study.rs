//! The words of `study`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Measure what recurrent networks can and cannot do
///
/// Takes claims of the textbooks and measures where they are true with the cells that forecasts are made with.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tidecast study memory --html memory.html\n  \
                        tidecast study convergence --full --out studies/ --json > convergence.json")]
pub struct Study {
    #[command(subcommand)]
    pub of: StudyOf,
}

#[derive(Debug, Subcommand)]
pub enum StudyOf {
    Memory(StudyMemory),
    Convergence(StudyConvergence),
}

/// How many steps back each cell remembers: recall, adding and timing over growing gaps
#[derive(Args, Debug)]
pub struct StudyMemory {
    #[command(flatten)]
    pub how: How,
}

/// How soon each cell learns: validation error against readings seen and seconds spent, and against the history given
#[derive(Args, Debug)]
pub struct StudyConvergence {
    #[command(flatten)]
    pub how: How,

    /// Pipeline file whose recipe is trained [default: the sample's, and ETTh1 where TIDECAST_DATA holds it]
    #[arg(long, value_name = "PIPELINE", requires = "data")]
    pub pipeline: Option<PathBuf>,

    /// History of that pipeline: a file, a folder or a pattern
    #[arg(long, value_name = "PATH", requires = "pipeline")]
    pub data: Option<PathBuf>,
}

/// What every study can be told.
#[derive(Args, Debug)]
pub struct How {
    /// More gaps, seeds and training: hours instead of minutes
    #[arg(long)]
    pub full: bool,

    /// Print one line of JSON instead of tables
    #[arg(long)]
    pub json: bool,

    /// Also write a page with charts
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// Also write the most telling charts as one picture, an SVG file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,

    /// Folder in which every finished training is kept; what is there already is not done again
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(line: &str) -> Result<StudyOf, String> {
        let cli = Cli::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())?;
        let Command::Study(study) = cli.command else { panic!("not a study") };
        Ok(study.of)
    }

    #[test]
    fn studies_are_told_apart_and_asked_in_the_same_words() {
        let line = "tidecast study memory --full --json --html a/b.html --out o";
        let Ok(StudyOf::Memory(StudyMemory { how })) = parse(line) else { panic!("not of memory") };
        assert!(how.full && how.json && how.html == Some("a/b.html".into()) && how.out == Some("o".into()));
        let line = "tidecast study convergence --pipeline p.toml --data d";
        let Ok(StudyOf::Convergence(said)) = parse(line) else { panic!("not of convergence") };
        assert!(!said.how.full && said.pipeline == Some("p.toml".into()) && said.data == Some("d".into()));
    }

    #[test]
    fn a_pipeline_without_data_and_a_study_of_nothing_are_refused() {
        for (line, why) in [
            ("tidecast study", "subcommand"),
            ("tidecast study convergence --pipeline p.toml", "--data"),
            ("tidecast study convergence --data d", "--pipeline"),
            ("tidecast study memory --data d", "unexpected argument"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
