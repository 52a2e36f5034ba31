//! Where the token of SASL OAUTHBEARER comes from, as `sasl.oauthbearer.config` says it: `token_file=PATH` or
//! `token_env=NAME`, and after a comma `lifetime=5m` for tokens that do not tell when they end.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidecast_core::time::{duration_text, parse_micros};

/// The property, whose form librdkafka leaves to us.
pub const TOKEN_PROPERTY: &str = "sasl.oauthbearer.config";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSource {
    pub from: TokenFrom,
    /// Of a token that is no JWT with an `exp`.
    pub lifetime: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenFrom {
    /// Read anew whenever a token is needed: whoever renews it writes it there.
    File(PathBuf),
    Env(String),
}

impl TokenSource {
    /// The reason never quotes `text`: a token given in the place of its source must not be shown.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut from, mut lifetime) = (None, None);
        for part in text.split(',').map(str::trim) {
            let value = |name: &str| part.strip_prefix(name).map(str::trim).filter(|value| !value.is_empty());
            if let Some(path) = value("token_file=").filter(|_| from.is_none()) {
                from = Some(TokenFrom::File(path.into()));
            } else if let Some(name) = value("token_env=").filter(|_| from.is_none()) {
                from = Some(TokenFrom::Env(name.to_string()));
            } else if let Some(text) = value("lifetime=").filter(|_| lifetime.is_none()) {
                let micros = parse_micros(text).ok().filter(|micros| *micros > 0);
                let micros = micros.ok_or("has a `lifetime` that is no duration such as \"5m\"")?;
                lifetime = Some(Duration::from_micros(micros as u64));
            } else {
                return Err(FORM.to_string());
            }
        }
        Ok(Self { from: from.ok_or(FORM)?, lifetime })
    }

    /// The same with a relative path taken from `folder`.
    pub fn under(self, folder: &Path) -> Self {
        let from = match self.from {
            TokenFrom::File(path) => TokenFrom::File(folder.join(path)),
            from => from,
        };
        Self { from, ..self }
    }
}

const FORM: &str = "must be \"token_file=PATH\" or \"token_env=NAME\", and, for a token without an end of its own, \
                    \", lifetime=5m\" behind it";

impl fmt::Display for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.from {
            TokenFrom::File(path) => write!(f, "token_file={}", path.display())?,
            TokenFrom::Env(name) => write!(f, "token_env={name}")?,
        }
        match self.lifetime {
            Some(lifetime) => write!(f, ", lifetime={}", duration_text(lifetime.as_micros() as i64)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_file_or_a_variable_and_a_lifetime() {
        let file = TokenSource::parse("lifetime=90s, token_file=run/token").unwrap().under(Path::new("/p"));
        assert_eq!(file.from, TokenFrom::File("/p/run/token".into()));
        assert_eq!(file.to_string(), "token_file=/p/run/token, lifetime=1m 30s");
        assert_eq!(TokenSource::parse(&file.to_string()), Ok(file));
        assert_eq!(TokenSource::parse("token_env=TOKEN").unwrap().to_string(), "token_env=TOKEN");
        for wrong in
            ["", "eyJhbGciOiJub25lIn0.e30.", "token_file=", "token_file=a,token_env=b", "lifetime=5m"]
        {
            assert_eq!(TokenSource::parse(wrong), Err(FORM.to_string()), "{wrong}");
        }
        assert!(TokenSource::parse("token_file=a, lifetime=soon").unwrap_err().contains("duration"));
    }
}
