//! One file a verb: what the command line asks for, wired from the parts that do it.

mod adopt;
mod backfill;
mod bootstrap;
mod check;
mod demo;
mod ends;
mod evaluate;
mod init;
mod inspect;
pub mod log;
mod look;
mod prepare;
mod rejects;
mod replay;
mod report;
mod run;
mod stop;
mod study;
#[cfg(feature = "traces")]
mod traces;
mod train;
mod training_page;

use std::io::Write;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::cli::{Cli, Command};

/// Does what the command line says.
pub fn execute(cli: Cli) -> Result<()> {
    let quiet = cli.quiet;
    match cli.command {
        Command::Demo(arguments) => wait(demo::demo(arguments, quiet)),
        Command::Init(arguments) => init::init(arguments),
        Command::Run(arguments) => wait(run::run(arguments, quiet)),
        Command::Backfill(arguments) => wait(backfill::backfill(arguments, quiet)),
        Command::Bootstrap(arguments) => wait(bootstrap::bootstrap(arguments, quiet)),
        Command::Train(arguments) => wait(train::train(arguments, quiet)),
        Command::Adopt(arguments) => adopt::adopt(&arguments, quiet),
        Command::Evaluate(arguments) => wait(evaluate::evaluate(arguments, quiet)),
        Command::Replay(arguments) => wait(replay::replay(arguments, quiet)),
        Command::Rejects(arguments) => wait(rejects::rejects(arguments, quiet)),
        Command::Check(arguments) => wait(check::check(arguments)),
        Command::Study(arguments) => wait(study::study(arguments, quiet)),
        Command::Inspect(arguments) => wait(inspect::inspect(arguments)),
        Command::Completions(arguments) => print(&arguments.script()),
    }
}

fn wait(work: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let result = runtime.block_on(work);
    // A call into a broken client may never return; nobody waits for it.
    runtime.shutdown_background();
    result
}

/// A value as a line of JSON.
fn json_line(value: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string(value).context("what was found is no JSON")?;
    Ok(format!("{text}\n"))
}

/// Prints text to standard output; a reader that went away is not an error of ours.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}
