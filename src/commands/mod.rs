//! The commands: one module each, which connects the parts that do the work.

mod backfill;
mod bootstrap;
mod check;
mod connectors;
mod dashboard;
mod demo;
mod evaluate;
mod files;
mod import_torch;
mod init;
mod inspect;
mod load;
mod progress;
mod rejects;
mod replay;
mod run;
mod train;

use anyhow::{Context, Result};

use crate::cli::{Cli, Command};
use crate::terminal::print;

/// Runs the command of the command line.
///
/// # Errors
/// If the command fails; the message is for the user.
pub fn execute(cli: Cli) -> Result<()> {
    let quiet = cli.quiet;
    match cli.command {
        Command::Demo(arguments) => block_on(demo::demo(arguments, quiet)),
        Command::Init(arguments) => init::init(arguments),
        Command::Check(arguments) => block_on(check::check(arguments)),
        Command::Train(arguments) => block_on(train::train(arguments, quiet)),
        Command::Evaluate(arguments) => block_on(evaluate::evaluate(arguments, quiet)),
        Command::Backfill(arguments) => block_on(backfill::backfill(arguments, quiet)),
        Command::Run(arguments) => block_on(run::run(arguments, quiet)),
        Command::Bootstrap(arguments) => block_on(bootstrap::bootstrap(arguments, quiet)),
        Command::Replay(arguments) => block_on(replay::replay(arguments, quiet)),
        Command::Rejects(arguments) => block_on(rejects::rejects(arguments, quiet)),
        Command::ImportTorch(arguments) => import_torch::import_torch(&arguments, quiet),
        Command::Inspect(arguments) => block_on(inspect::inspect(arguments)),
        Command::Completions(arguments) => print(&arguments.script()),
    }
}

/// Runs `command` on a new runtime.
///
/// # Errors
/// If the runtime does not start, or the command fails.
pub fn block_on(command: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let result = runtime.block_on(command);
    // A call into a broken client may never return, so pending tasks are abandoned.
    runtime.shutdown_background();
    result
}
