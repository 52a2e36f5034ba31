//! The program: parse, dispatch, exit code.

use std::process::ExitCode;

use clap::Parser;
use tidecast::cli::Cli;
use tidecast::commands::{execute, log};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let told = match log::start(&cli) {
        Ok(told) => told,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    match execute(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            told.failed(&error);
            ExitCode::FAILURE
        }
    }
}
