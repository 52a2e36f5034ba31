//! The pipeline file: from TOML text to [`Pipeline`], with every value checked and every default filled in.
//!
//! | module | task |
//! |---|---|
//! | `file` | the tables and keys as written: types only |
//! | `parse`, `variables`, `unknown_keys` | TOML text to `file`, with variables substituted |
//! | `checks` | checks of single values |
//! | `series`, `connectors`, `limits`, `serve`, `train` | checks of the tables; the crates own the resulting settings |
//! | `pipeline` | loading, and checks across tables |
//! | `plan`, `plan_text` | the pipeline as text again, and the keys that determine the state |
//! | `problems` | all problems of a file, each with its line |
//!
//! Nothing here opens a connection or reads data; `tidecast check` does.

mod checks;
mod connectors;
mod file;
mod limits;
mod parse;
mod pipeline;
mod plan;
mod plan_text;
mod problems;
mod series;
mod serve;
mod train;
mod unknown_keys;
mod variables;

pub use connectors::ScoreSinkConfig;
pub use pipeline::{Forecast, Pipeline, Scores};
pub use problems::{ConfigError, Problem};
pub use serve::{ServeConfig, Units};
pub use tidecast_stream::read_error::describe_read_error as read_error;
pub use variables::Env;
