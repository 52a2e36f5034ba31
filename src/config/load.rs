//! Reading a pipeline file.

use std::io::Read;
use std::path::Path;

use super::env::{Env, Outside};
use super::parse::parse;
use super::resolve::resolve;
use super::{ConfigError, Pipeline, unread};

/// Bytes of a pipeline file. A real one has a few thousand; a data file given by mistake is not worth reading.
const FILE_MAX: u64 = 1 << 20;

impl Pipeline {
    /// Reads a pipeline file with the variables of this process's environment.
    pub fn open(file: &Path) -> Result<Self, ConfigError> {
        Self::load(file, &|name| std::env::var(name).ok())
    }

    /// Reads a pipeline file; `env` looks up the variables in it.
    pub fn load(file: &Path, env: &Env<'_>) -> Result<Self, ConfigError> {
        let make = format!(", or make one: tidecast init HISTORY.parquet --out {}", file.display());
        let cannot = |error: std::io::Error| {
            ConfigError::whole(file, format!("cannot be read: {}", unread(file, &error, &make)))
        };
        let mut bytes = Vec::new();
        let opened = std::fs::File::open(file).map_err(cannot)?;
        opened.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
        if bytes.len() as u64 > FILE_MAX {
            return Err(ConfigError::whole(
                file,
                format!("has more than {FILE_MAX} bytes: not a pipeline file"),
            ));
        }
        match String::from_utf8(bytes) {
            Ok(text) => Self::from_text(file, &text, env),
            Err(_) => Err(ConfigError::whole(file, "is not UTF-8 text: not a pipeline file".to_string())),
        }
    }

    /// The pipeline that `text`, said to be that of `file`, describes. Touches no file but
    /// those it takes values from.
    pub fn from_text(file: &Path, text: &str, env: &Env<'_>) -> Result<Self, ConfigError> {
        let outside = Outside { env, folder: file.parent().unwrap_or(Path::new("")) };
        match parse(text, &outside) {
            Ok((spec, problems)) => resolve(file, spec, problems),
            Err(problems) => Err(problems.into_error(file)),
        }
    }
}
