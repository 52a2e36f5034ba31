//! Runs the studies.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use tidecast_study::convergence::{self, ConvergenceOptions};
use tidecast_study::{StudyOptions, memory};
use tokio_util::sync::CancellationToken;

/// Measure textbook claims about recurrent networks
#[derive(Debug, Parser)]
#[command(
    name = "tidecast-study",
    after_help = "Examples:\n  tidecast-study memory --html memory.html\n  \
                  tidecast-study convergence --full --out studies/ --json > convergence.json"
)]
struct Cli {
    #[command(subcommand)]
    study: Study,
}

#[derive(Debug, Subcommand)]
enum Study {
    /// Memory span of each cell: recall, adding and timing over growing gaps
    Memory(StudyOptions),
    /// Learning speed of each cell: validation error against windows and seconds
    Convergence(ConvergenceOptions),
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let stop = CancellationToken::new();
    runtime.spawn(cancel_on_ctrl_c(stop.clone()));
    match cli.study {
        Study::Memory(options) => memory::run(&options, &stop),
        Study::Convergence(options) => convergence::run(&options, &stop),
    }
}

async fn cancel_on_ctrl_c(stop: CancellationToken) {
    if tokio::signal::ctrl_c().await.is_ok() {
        eprintln!("stopping: the finished trainings are summarized; a second signal stops at once");
        stop.cancel();
        let _ = tokio::signal::ctrl_c().await;
        std::process::exit(130);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &str) -> Result<Study, String> {
        let words = format!("tidecast-study {arguments}");
        Cli::try_parse_from(words.split_whitespace()).map(|cli| cli.study).map_err(|error| error.to_string())
    }

    #[test]
    fn both_studies_take_the_common_options() {
        let Ok(Study::Memory(options)) = parse("memory --full --json --html a/b.html --out o") else {
            panic!("memory is a study")
        };
        assert!(options.full && options.json && options.html == Some("a/b.html".into()));
        assert_eq!(options.out, Some("o".into()));
        let Ok(Study::Convergence(options)) = parse("convergence --pipeline p.toml --data d") else {
            panic!("convergence is a study")
        };
        assert!(!options.study.full && options.pipeline == Some("p.toml".into()));
        assert_eq!(options.data, Some("d".into()));
    }

    #[test]
    fn incomplete_arguments_are_rejected() {
        for (arguments, reason) in [
            ("", "subcommand"),
            ("convergence --pipeline p.toml", "--data"),
            ("convergence --data d", "--pipeline"),
            ("memory --data d", "unexpected argument"),
        ] {
            let error = parse(arguments).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
