//! The program: parse the command line, start the log, run the command, return the exit code.

use std::process::ExitCode;

use clap::Parser;
use tidecast::cli::Cli;
use tidecast::commands::execute;
use tidecast::logging::Logging;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let logging = match Logging::start(&cli) {
        Ok(logging) => logging,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    match execute(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            logging.report_failure(&error);
            ExitCode::FAILURE
        }
    }
}
