//! The words of what shells complete.

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use super::Cli;

/// Print what a shell needs to complete this program's words
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tidecast completions bash > ~/.local/share/bash-completion/completions/tidecast\n  \
                        tidecast completions zsh > ~/.zfunc/_tidecast\n  \
                        tidecast completions fish > ~/.config/fish/completions/tidecast.fish"
)]
pub struct Completions {
    pub shell: Shell,
}

impl Completions {
    /// What the shell reads.
    pub fn script(&self) -> String {
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), "tidecast", &mut script);
        String::from_utf8_lossy(&script).into_owned()
    }
}
