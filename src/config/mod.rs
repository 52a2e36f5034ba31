//! The pipeline file. [`Pipeline`] is what the program uses: every value checked, every default filled in. On the way
//! from the text to it:
//!
//! - `parse`    TOML to the types of `spec`, by way of `env` (variables) and `unknown` (mistyped keys)
//! - `resolve`  `spec` to [`Pipeline`], with the checks of `checks`, `edges`, `scores` and `recipe`
//! - `problems` everything that is wrong, each with file and line, all of it at once
//! - `plan`     the pipeline as text again, and which of its keys shape the state
//! - `limits`   what a pipeline may take up, with the reasons
//! - `serve`    where a running pipeline can be looked at
//! - `client`   librdkafka's properties: what is ours, what is never printed
//! - `unread`   why a file cannot be read, and what to do about it
//! - `token`    where the token of OAUTHBEARER comes from
//!
//! Nothing here opens a connection or looks at data: that is for `check` to do with the result.

mod checks;
mod client;
mod duration;
mod edges;
mod env;
mod limits;
mod load;
mod parse;
mod pipeline;
mod plan;
mod problems;
mod recipe;
mod resolve;
mod scores;
mod serve;
mod spec;
mod token;
mod unknown;
mod unread;

pub use client::{MASK, Masked, RESERVED, is_secret};
pub use duration::{duration_text, parse_duration};
pub use env::Env;
pub use limits::{Limits, Share};
pub use pipeline::*;
pub use problems::{ConfigError, Problem};
pub use scores::{ScoreSink, Scores};
pub use serve::{Serve, Units};
pub use token::{TOKEN_PROPERTY, TokenFrom, TokenSource};
pub use unread::unread;
