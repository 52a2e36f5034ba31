//! Tokens for SASL OAUTHBEARER.
//!
//! `sasl.oauthbearer.config` names the source of the token: `token_file=PATH` or `token_env=NAME`, followed by
//! `, lifetime=5m` for tokens without an `exp` claim. The source is read again for every refresh. No error message
//! contains a token.

use std::error::Error;
use std::ffi::CString;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, anyhow, bail};
use rdkafka::ClientContext;
use rdkafka::admin::AdminClient;
use rdkafka::bindings::rd_kafka_oauthbearer_set_token;
use rdkafka::client::OAuthToken;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::producer::{BaseProducer, Producer, ProducerContext, ThreadedProducer};
use rdkafka::types::{RDKafka, RDKafkaRespErr};
use serde_json::Value;
use tidecast_core::time::{duration_text, parse_micros};

/// The property that names the source. librdkafka leaves its format to the application.
pub const TOKEN_PROPERTY: &str = "sasl.oauthbearer.config";

/// Maximum size of a token in bytes. Tokens with many roles take thousands; brokers accept half a megabyte at most.
const TOKEN_BYTES_MAX: u64 = 1 << 19;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSource {
    pub location: TokenLocation,
    /// Lifetime of a token without an `exp` claim.
    pub lifetime: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenLocation {
    /// A file that another program keeps up to date.
    File(PathBuf),
    Env(String),
}

impl TokenSource {
    /// # Errors
    /// With a reason that does not quote `text`, which may be a token given by mistake.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut location, mut lifetime) = (None, None);
        for part in text.split(',').map(str::trim) {
            let value = |name: &str| part.strip_prefix(name).map(str::trim).filter(|value| !value.is_empty());
            if let Some(path) = value("token_file=").filter(|_| location.is_none()) {
                location = Some(TokenLocation::File(path.into()));
            } else if let Some(name) = value("token_env=").filter(|_| location.is_none()) {
                location = Some(TokenLocation::Env(name.to_string()));
            } else if let Some(text) = value("lifetime=").filter(|_| lifetime.is_none()) {
                let micros = parse_micros(text).ok().filter(|micros| *micros > 0);
                let micros = micros.ok_or("has a `lifetime` that is not a duration such as \"5m\"")?;
                lifetime = Some(Duration::from_micros(micros as u64));
            } else {
                return Err(SYNTAX.to_string());
            }
        }
        Ok(Self { location: location.ok_or(SYNTAX)?, lifetime })
    }

    /// The same source with a relative path resolved against `folder`.
    pub fn relative_to(self, folder: &Path) -> Self {
        let location = match self.location {
            TokenLocation::File(path) => TokenLocation::File(folder.join(path)),
            location => location,
        };
        Self { location, ..self }
    }

    fn read(&self) -> Result<String, String> {
        let text = match &self.location {
            TokenLocation::Env(name) => std::env::var(name).map_err(|_| "is not set".to_string())?,
            TokenLocation::File(path) => {
                let mut bytes = Vec::new();
                let read =
                    File::open(path).and_then(|file| file.take(TOKEN_BYTES_MAX + 1).read_to_end(&mut bytes));
                read.map_err(|error| format!("cannot be read: {error}"))?;
                if bytes.len() as u64 > TOKEN_BYTES_MAX {
                    return Err(format!("has more than {TOKEN_BYTES_MAX} bytes"));
                }
                String::from_utf8(bytes).map_err(|_| "is not text".to_string())?
            }
        };
        match text.trim() {
            "" => Err("is empty".to_string()),
            text => Ok(text.to_string()),
        }
    }
}

const SYNTAX: &str = "must be \"token_file=PATH\" or \"token_env=NAME\", followed by \", lifetime=5m\" if the token has \
                      no `exp` claim";

impl fmt::Display for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            TokenLocation::File(path) => write!(f, "token_file={}", path.display())?,
            TokenLocation::Env(name) => write!(f, "token_env={name}")?,
        }
        match self.lifetime {
            Some(lifetime) => write!(f, ", lifetime={}", duration_text(lifetime.as_micros() as i64)),
            None => Ok(()),
        }
    }
}

/// A client of any kind as librdkafka's own handle.
pub(crate) trait NativeClient {
    fn handle(&self) -> *mut RDKafka;
}

impl<C: ConsumerContext> NativeClient for BaseConsumer<C> {
    fn handle(&self) -> *mut RDKafka {
        self.client().native_ptr()
    }
}

impl<C: ProducerContext> NativeClient for BaseProducer<C> {
    fn handle(&self) -> *mut RDKafka {
        self.client().native_ptr()
    }
}

impl<C: ProducerContext> NativeClient for ThreadedProducer<C> {
    fn handle(&self) -> *mut RDKafka {
        self.client().native_ptr()
    }
}

impl<C: ClientContext> NativeClient for AdminClient<C> {
    fn handle(&self) -> *mut RDKafka {
        self.inner().native_ptr()
    }
}

/// Gives a new client its first token. librdkafka would ask for it only at the first poll, after the first connection.
///
/// # Errors
/// If there is no token, or it has expired.
pub(crate) fn set_first_token(client: &impl NativeClient, config: Option<&str>) -> Result<()> {
    let OAuthToken { token, principal_name, lifetime_ms } = current_token(config)?;
    let (token, principal) = (CString::new(token)?, CString::new(principal_name)?);
    let mut reason = [0; 512];
    // SAFETY: the handle belongs to a client that is borrowed here; both strings end in 0 and are copied; the list of
    // extensions is empty; the length passed is that of `reason`.
    let code = unsafe {
        rd_kafka_oauthbearer_set_token(
            client.handle(),
            token.as_ptr(),
            lifetime_ms,
            principal.as_ptr(),
            std::ptr::null_mut(),
            0,
            reason.as_mut_ptr(),
            reason.len(),
        )
    };
    match code {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        // librdkafka's reason quotes the token.
        _ => bail!(
            "client property `{TOKEN_PROPERTY}`: the source contains characters that a token cannot have; it must hold \
             nothing but the token"
        ),
    }
}

/// Answers [`ClientContext::generate_oauth_token`].
pub(crate) fn refresh_token(config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
    Ok(current_token(config)?)
}

fn current_token(config: Option<&str>) -> Result<OAuthToken> {
    let source = TokenSource::parse(config.unwrap_or_default());
    let source = source.map_err(|reason| anyhow!("client property `{TOKEN_PROPERTY}` {reason}"))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let token = source.read().and_then(|text| with_expiry(text, source.lifetime, now));
    let token = token.map_err(|reason| {
        let location = match &source.location {
            TokenLocation::File(path) => format!("the token file {}", path.display()),
            TokenLocation::Env(name) => format!("the token in the environment variable `{name}`"),
        };
        anyhow!("{location} {reason} (client property `{TOKEN_PROPERTY}`)")
    })?;
    tracing::debug!(seconds = token.lifetime_ms / 1000 - now.as_secs() as i64, "token refreshed");
    Ok(token)
}

/// The token with its principal and its expiry, from its claims or from `lifetime`.
fn with_expiry(token: String, lifetime: Option<Duration>, now: Duration) -> Result<OAuthToken, String> {
    let claims = jwt_claims(&token);
    let exp = claims.as_ref().and_then(|claims| claims["exp"].as_f64()).filter(|exp| *exp >= 0.0);
    let expiry_ms = match (exp, lifetime) {
        // The cast saturates: a number beyond all calendars never expires.
        (Some(seconds), _) => (seconds * 1000.0) as u64,
        (None, Some(lifetime)) => (now + lifetime).as_millis() as u64,
        (None, None) => return Err("has no `exp` claim: give its lifetime, `lifetime=5m`".to_string()),
    };
    if u128::from(expiry_ms) <= now.as_millis() {
        let seconds = (now.as_millis() - u128::from(expiry_ms)) / 1000;
        return Err(format!("expired {seconds} s ago: renew it"));
    }
    let principal_name = claims.and_then(|claims| claims["sub"].as_str().map(str::to_string));
    // librdkafka counts microseconds in 64 bits.
    let lifetime_ms = expiry_ms.min(i64::MAX as u64 / 1_000_000) as i64;
    let principal_name = principal_name.unwrap_or_default().replace('\0', "");
    Ok(OAuthToken { token, principal_name, lifetime_ms })
}

/// The claims of a JWT, unverified: verification is up to the broker.
fn jwt_claims(token: &str) -> Option<Value> {
    serde_json::from_slice(&decode_base64url(token.split('.').nth(1)?)?).ok()
}

fn decode_base64url(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;

    use super::*;

    /// Its claims are `{"sub":"tide","exp":1000}`.
    const JWT: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ0aWRlIiwiZXhwIjoxMDAwfQ.";

    #[test]
    fn token_source_is_parsed_and_printed() {
        let file =
            TokenSource::parse("lifetime=90s, token_file=run/token").unwrap().relative_to(Path::new("/p"));
        assert_eq!(file.location, TokenLocation::File("/p/run/token".into()));
        assert_eq!(file.to_string(), "token_file=/p/run/token, lifetime=1m 30s");
        assert_eq!(TokenSource::parse(&file.to_string()), Ok(file));
        assert_eq!(TokenSource::parse("token_env=TOKEN").unwrap().to_string(), "token_env=TOKEN");
        for invalid in
            ["", "eyJhbGciOiJub25lIn0.e30.", "token_file=", "token_file=a,token_env=b", "lifetime=5m"]
        {
            assert_eq!(TokenSource::parse(invalid), Err(SYNTAX.to_string()), "{invalid}");
        }
        assert!(TokenSource::parse("token_file=a, lifetime=soon").unwrap_err().contains("duration"));
    }

    #[test]
    fn token_expires_at_its_claim_or_after_its_declared_lifetime() {
        let at = |seconds: u64, token: &str, lifetime: Option<u64>| {
            let lifetime = lifetime.map(Duration::from_secs);
            let token = with_expiry(token.to_string(), lifetime, Duration::from_secs(seconds))?;
            Ok::<_, String>((token.principal_name, token.lifetime_ms))
        };
        assert_eq!(at(999, JWT, Some(5)), Ok(("tide".into(), 1_000_000)));
        assert!(at(1003, JWT, Some(5)).unwrap_err().contains("expired 3 s ago"));
        assert_eq!(at(1000, "opaque", Some(5)), Ok((String::new(), 1_005_000)));
        assert!(at(1000, "opaque", None).unwrap_err().contains("has no `exp`"));
    }

    #[test]
    fn base64url_is_decoded() {
        assert_eq!(decode_base64url("_-8").as_deref(), Some(&[0xff, 0xef][..]));
        assert_eq!(decode_base64url("YWJjZA==").as_deref(), Some(&b"abcd"[..]));
        assert_eq!(decode_base64url("a b"), None);
    }

    #[test]
    fn errors_name_the_source_and_never_the_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let config = format!("token_file={}", path.display());
        let error = |config: &str| format!("{:#}", current_token(Some(config)).err().unwrap());
        assert!(error(&config).contains("/token cannot be read: No such file"));
        std::fs::write(&path, "  \n").unwrap();
        assert!(error(&config).contains("/token is empty"));
        std::fs::write(&path, [0xff]).unwrap();
        assert!(error(&config).contains("/token is not text"));
        std::fs::write(&path, vec![b'a'; TOKEN_BYTES_MAX as usize + 1]).unwrap();
        assert!(error(&config).contains("/token has more than 524288 bytes"));
        std::fs::write(&path, JWT).unwrap();
        assert!(error(&config).contains("renew it") && !error(&config).contains(JWT));
        assert!(error(JWT).contains("token_file=PATH") && !error(JWT).contains(JWT));
        assert!(error("token_env=TIDECAST_NO_SUCH_TOKEN").contains("is not set"));
    }

    #[test]
    fn invalid_token_is_refused_without_being_printed() {
        let properties = [("security.protocol", "sasl_plaintext"), ("sasl.mechanism", "OAUTHBEARER")];
        let properties = properties.into_iter().map(|(key, value)| (key.into(), value.into()));
        let client: BaseConsumer = properties.collect::<ClientConfig>().create().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let config = format!("token_file={}, lifetime=5m", file.path().display());
        std::fs::write(file.path(), "opaque").unwrap();
        assert!(set_first_token(&client, Some(&config)).is_ok());
        std::fs::write(file.path(), "gehäuse").unwrap();
        let error = set_first_token(&client, Some(&config)).unwrap_err().to_string();
        assert!(error.contains("nothing but the token") && !error.contains("gehäuse"), "{error}");
    }
}
