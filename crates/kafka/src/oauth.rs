//! Tokens of SASL OAUTHBEARER: read from where the settings say whenever the client asks for one, and once before its
//! first connection, which would else wait for the first poll. Nothing here shows a token.

use std::error::Error;
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
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

use crate::config::{TOKEN_PROPERTY, TokenFrom, TokenSource};

/// Bytes of a token. Those with many roles in them have thousands; a broker takes half a megabyte at most.
const TOKEN_MAX: u64 = 1 << 19;

/// A client of whichever kind, as librdkafka knows it.
pub(super) trait Native {
    fn native(&self) -> *mut RDKafka;
}

impl<C: ConsumerContext> Native for BaseConsumer<C> {
    fn native(&self) -> *mut RDKafka {
        self.client().native_ptr()
    }
}

impl<C: ProducerContext> Native for BaseProducer<C> {
    fn native(&self) -> *mut RDKafka {
        self.client().native_ptr()
    }
}

impl<C: ProducerContext> Native for ThreadedProducer<C> {
    fn native(&self) -> *mut RDKafka {
        self.client().native_ptr()
    }
}

impl<C: ClientContext> Native for AdminClient<C> {
    fn native(&self) -> *mut RDKafka {
        self.inner().native_ptr()
    }
}

/// Gives a new client its first token.
///
/// # Errors
/// When there is none that is still good.
pub(super) fn give(client: &impl Native, config: Option<&str>) -> Result<()> {
    let OAuthToken { token, principal_name, lifetime_ms } = current(config)?;
    let (token, principal) = (CString::new(token)?, CString::new(principal_name)?);
    let mut why = [0; 512];
    // SAFETY: the handle is that of a client that is borrowed here, the texts end in 0 and are copied, the list of
    // extensions is empty, and `why` is as long as is said.
    let code = unsafe {
        rd_kafka_oauthbearer_set_token(
            client.native(),
            token.as_ptr(),
            lifetime_ms,
            principal.as_ptr(),
            std::ptr::null_mut(),
            0,
            why.as_mut_ptr(),
            why.len(),
        )
    };
    match code {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        _ => bail!(
            "client property `{TOKEN_PROPERTY}`: what it names is not the characters of a token; see that it holds the \
             token alone"
        ),
    }
}

/// What [`ClientContext::generate_oauth_token`] is to return.
pub(super) fn token(config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
    Ok(current(config)?)
}

fn current(config: Option<&str>) -> Result<OAuthToken> {
    let source = TokenSource::parse(config.unwrap_or_default());
    let source = source.map_err(|why| anyhow!("client property `{TOKEN_PROPERTY}` {why}"))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let token = read(&source).and_then(|text| good(text, source.lifetime, now));
    let token = token.map_err(|why| {
        let place = match &source.from {
            TokenFrom::File(path) => format!("the token file {}", path.display()),
            TokenFrom::Env(name) => format!("the token in the environment variable `{name}`"),
        };
        anyhow!("{place} {why} (client property `{TOKEN_PROPERTY}`)")
    })?;
    tracing::debug!(seconds = token.lifetime_ms / 1000 - now.as_secs() as i64, "token taken");
    Ok(token)
}

fn read(source: &TokenSource) -> Result<String, String> {
    let text = match &source.from {
        TokenFrom::Env(name) => std::env::var(name).map_err(|_| "is not set".to_string())?,
        TokenFrom::File(path) => {
            let mut bytes = Vec::new();
            let read = File::open(path).and_then(|file| file.take(TOKEN_MAX + 1).read_to_end(&mut bytes));
            read.map_err(|error| format!("cannot be read: {error}"))?;
            if bytes.len() as u64 > TOKEN_MAX {
                return Err(format!("has more than {TOKEN_MAX} bytes"));
            }
            String::from_utf8(bytes).map_err(|_| "is not text".to_string())?
        }
    };
    match text.trim() {
        "" => Err("is empty".to_string()),
        text => Ok(text.to_string()),
    }
}

/// The token with its end, if that is still to come.
fn good(token: String, lifetime: Option<Duration>, now: Duration) -> Result<OAuthToken, String> {
    let claims = claims(&token);
    let seconds = claims.as_ref().and_then(|claims| claims["exp"].as_f64()).filter(|end| *end >= 0.0);
    let end = match (seconds, lifetime) {
        // A number of seconds beyond all calendars is cut by the cast, and good for ever.
        (Some(seconds), _) => (seconds * 1000.0) as u64,
        (None, Some(lifetime)) => (now + lifetime).as_millis() as u64,
        (None, None) => return Err("has no `exp`: say for how long it is good, `lifetime=5m`".to_string()),
    };
    if u128::from(end) <= now.as_millis() {
        return Err(format!(
            "ended {} s ago: see to it that it is renewed",
            (now.as_millis() - u128::from(end)) / 1000
        ));
    }
    let principal_name = claims.and_then(|claims| claims["sub"].as_str().map(str::to_string));
    // librdkafka counts microseconds in 64 bits.
    let lifetime_ms = end.min(i64::MAX as u64 / 1_000_000) as i64;
    let principal_name = principal_name.unwrap_or_default().replace('\0', "");
    Ok(OAuthToken { token, principal_name, lifetime_ms })
}

/// What a JWT says of itself; nothing of it is trusted, the broker is who checks it.
fn claims(token: &str) -> Option<Value> {
    serde_json::from_slice(&from_base64(token.split('.').nth(1)?)?).ok()
}

/// Bytes of base64 in the alphabet of URLs, as JWT has it.
fn from_base64(text: &str) -> Option<Vec<u8>> {
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

    fn at(seconds: u64, token: &str, lifetime: Option<u64>) -> Result<(String, i64), String> {
        let lifetime = lifetime.map(Duration::from_secs);
        let found = good(token.to_string(), lifetime, Duration::from_secs(seconds))?;
        Ok((found.principal_name, found.lifetime_ms))
    }

    #[test]
    fn a_token_ends_when_it_says_or_after_its_declared_lifetime() {
        assert_eq!(at(999, JWT, Some(5)), Ok(("tide".into(), 1_000_000)));
        assert!(at(1003, JWT, Some(5)).unwrap_err().contains("ended 3 s ago"));
        assert_eq!(at(1000, "opaque", Some(5)), Ok((String::new(), 1_005_000)));
        assert!(at(1000, "opaque", None).unwrap_err().contains("has no `exp`"));
    }

    #[test]
    fn base64_of_urls() {
        assert_eq!(from_base64("_-8").as_deref(), Some(&[0xff, 0xef][..]));
        assert_eq!(from_base64("YWJjZA==").as_deref(), Some(&b"abcd"[..]));
        assert_eq!(from_base64("a b"), None);
    }

    #[test]
    fn what_is_wrong_with_a_source_is_said_without_the_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let config = format!("token_file={}", path.display());
        let why = |config: &str| format!("{:#}", current(Some(config)).err().unwrap());
        assert!(why(&config).contains("/token cannot be read: No such file"));
        std::fs::write(&path, "  \n").unwrap();
        assert!(why(&config).contains("/token is empty"));
        std::fs::write(&path, [0xff]).unwrap();
        assert!(why(&config).contains("/token is not text"));
        std::fs::write(&path, vec![b'a'; TOKEN_MAX as usize + 1]).unwrap();
        assert!(why(&config).contains("/token has more than 524288 bytes"));
        std::fs::write(&path, JWT).unwrap();
        assert!(why(&config).contains("renewed") && !why(&config).contains(JWT));
        assert!(why(JWT).contains("token_file=PATH") && !why(JWT).contains(JWT));
        assert!(why("token_env=TIDECAST_NO_SUCH_TOKEN").contains("is not set"));
    }

    #[test]
    fn a_text_that_is_no_token_is_not_given_to_the_client_nor_shown() {
        let settings = [("security.protocol", "sasl_plaintext"), ("sasl.mechanism", "OAUTHBEARER")];
        let client: BaseConsumer = settings
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()))
            .collect::<ClientConfig>()
            .create()
            .unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let config = format!("token_file={}, lifetime=5m", file.path().display());
        std::fs::write(file.path(), "opaque").unwrap();
        assert!(give(&client, Some(&config)).is_ok());
        std::fs::write(file.path(), "gehäuse").unwrap();
        let why = give(&client, Some(&config)).unwrap_err().to_string();
        assert!(why.contains("see that it holds the token alone") && !why.contains("gehäuse"), "{why}");
    }
}
