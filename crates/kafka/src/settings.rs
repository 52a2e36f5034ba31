//! Settings of the Kafka source and sink, and the rules for librdkafka properties in a pipeline file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Deref;
use std::time::Duration;

pub use crate::oauth::{TOKEN_PROPERTY, TokenLocation, TokenSource};
use tidecast_core::series::Refusal;
use tidecast_stream::settings::{Commit, MessageFormat, OnDataLoss, StartOffset};

#[derive(Clone, Debug)]
pub struct KafkaSourceConfig {
    pub brokers: Brokers,
    pub topic: String,
    pub group: String,
    pub format: MessageFormat,
    /// Applied to partitions without a committed position; the driver applies it to those with one.
    pub start: StartOffset,
    /// The policy for needed rows that retention has deleted.
    pub on_data_loss: OnDataLoss,
    /// Accept a compacted topic.
    pub allow_compacted: bool,
    /// Name of this process within the group. It must not change between starts.
    pub instance: String,
    /// Join as a static member: a restart gets its partitions back without a rebalance.
    pub static_membership: bool,
    /// Duration of the part of the topic that is replayed after a change of the pipeline, if `[state]` asks for it.
    pub replay_window: Option<Duration>,
    /// Maximum number of messages read ahead.
    pub queue_rows: usize,
    /// Track the end offsets of the partitions, to report the lag.
    pub track_lag: bool,
    pub client: ClientProperties,
    pub commit: Commit,
}

#[derive(Clone, Debug)]
pub struct KafkaSinkConfig {
    /// The source's brokers by default.
    pub brokers: Brokers,
    pub topic: String,
    /// Topic for scores, from `[sink.scores]`.
    pub scores_topic: Option<String>,
    /// Topic for refused messages, byte for byte.
    pub rejects_topic: Option<String>,
    /// Refusals that are written to the rejects topic; all others are only counted.
    pub reject_reasons: Vec<Refusal>,
    pub client: ClientProperties,
}

impl KafkaSinkConfig {
    /// Refusals that indicate a faulty producer. All others are normal in a stream with late or repeated rows.
    pub const DEFAULT_REJECT_REASONS: [Refusal; 3] =
        [Refusal::Malformed, Refusal::TooFar, Refusal::NotFinite];
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Brokers {
    /// `host:port[,host:port...]`
    Addresses(String),
    /// A broker inside this process.
    Embedded,
}

impl Brokers {
    /// Compares the addresses in any order.
    pub fn is_same_as(&self, other: &Self) -> bool {
        let addresses = |brokers: &Self| match brokers {
            Self::Addresses(list) => list.split(',').map(str::to_owned).collect::<BTreeSet<_>>(),
            Self::Embedded => BTreeSet::new(),
        };
        addresses(self) == addresses(other)
    }
}

/// librdkafka properties as given by the user. `Debug` redacts the values that may be secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ClientProperties(BTreeMap<String, String>);

impl ClientProperties {
    /// Each property with a value that is safe to print.
    pub fn redacted(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter().map(|(name, value)| {
            (name.as_str(), if is_secret(name, value) { REDACTED } else { value.as_str() })
        })
    }

    /// Copies the security properties of `other` that are not set here.
    pub fn inherit_security(&mut self, other: &Self) {
        const PREFIXES: [&str; 4] = ["security.", "sasl.", "ssl.", "enable.ssl."];
        let is_security = |name: &str| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        for (name, value) in other.iter().filter(|(name, _)| is_security(name)) {
            self.0.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
}

impl From<BTreeMap<String, String>> for ClientProperties {
    fn from(properties: BTreeMap<String, String>) -> Self {
        Self(properties)
    }
}

impl Deref for ClientProperties {
    type Target = BTreeMap<String, String>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl fmt::Debug for ClientProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.redacted()).finish()
    }
}

/// Properties that a pipeline may not set because a guarantee depends on them, each with the alternative or the reason.
pub const RESERVED_PROPERTIES: [(&str, &str); 17] = [
    ("bootstrap.servers", "use the key \"brokers\""),
    ("metadata.broker.list", "use the key \"brokers\""),
    ("group.id", "use the key \"group\""),
    ("auto.offset.reset", "use the key \"start\""),
    ("auto.commit.interval.ms", "use the key \"every\" in [source.kafka.commit]"),
    ("enable.auto.commit", "positions are committed together with the output"),
    ("enable.auto.offset.store", "positions are committed together with the output"),
    ("enable.partition.eof", "`--until-end` depends on it"),
    ("isolation.level", "only committed records are read"),
    ("log.connection.close", "a closed connection replaces the transactional producer"),
    ("partition.assignment.strategy", "partitions are handed over one by one"),
    ("partitioner", "all records of a series belong in one partition"),
    ("group.instance.id", "use the keys \"instance\" and \"static_membership\""),
    ("statistics.interval.ms", "the dashboard derives the lag from the statistics"),
    ("transactional.id", "use the key \"instance\""),
    ("enable.idempotence", "a retry must not write a record twice"),
    ("enable.sasl.oauthbearer.unsecure.jwt", "tokens come from \"sasl.oauthbearer.config\""),
];

/// Replaces a secret in everything that is printed.
pub const REDACTED: &str = "***";

/// Properties that are never secret: names and places of a client.
const PUBLIC_PROPERTIES: [&str; 5] =
    ["client.id", "client.rack", "group.instance.id", "sasl.username", "ssl.ca.location"];

/// Suffixes of properties with a numeric value.
const NUMERIC_SUFFIXES: [&str; 6] = [".ms", ".bytes", ".kbytes", ".messages", ".retries", ".max"];

/// Properties whose value is one or more of [`KEYWORDS`]. Any other value was meant for another property.
const KEYWORD_PROPERTIES: [&str; 12] = [
    "acks",
    "compression.codec",
    "compression.type",
    "debug",
    "enable.ssl.certificate.verification",
    "group.protocol",
    "request.required.acks",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.oauthbearer.method",
    "security.protocol",
    "ssl.endpoint.identification.algorithm",
];
#[rustfmt::skip]
const KEYWORDS: [&str; 46] = [
    "", "0", "1", "-1", "all", "true", "false", "none", "gzip", "snappy", "lz4", "zstd", "classic", "consumer", "plain",
    "scram-sha-256", "scram-sha-512", "oauthbearer", "gssapi", "default", "oidc", "plaintext", "ssl", "sasl_plaintext",
    "sasl_ssl", "https", "generic", "broker", "topic", "metadata", "feature", "queue", "msg", "protocol", "cgrp",
    "security", "fetch", "interceptor", "plugin", "admin", "eos", "mock", "assignor", "conf", "telemetry", "acks",
];

/// Returns false only for a known property with a value of the expected kind. So neither a misspelled property nor a
/// password in the wrong property is printed.
pub(crate) fn is_secret(property: &str, value: &str) -> bool {
    let is_number =
        NUMERIC_SUFFIXES.iter().any(|suffix| property.ends_with(suffix)) && value.parse::<f64>().is_ok();
    let is_keyword = |word: &str| KEYWORDS.contains(&word.trim().to_lowercase().as_str());
    let is_keywords = KEYWORD_PROPERTIES.contains(&property) && value.split(',').all(is_keyword);
    !(PUBLIC_PROPERTIES.contains(&property) || is_number || is_keywords)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_redacts_all_but_known_harmless_values() {
        for property in [
            "sasl.password",
            "ssl.key.pem",
            "sasl.oauthbearer.client.secret",
            "sasl.pasword",
            "fetch.max.bytes",
        ] {
            assert!(is_secret(property, "hunter2"), "{property}");
        }
        for (property, value) in [
            ("security.protocol", "SASL_SSL"),
            ("sasl.username", "me"),
            ("fetch.max.bytes", "1000"),
            ("ssl.ca.location", "/etc/ca.pem"),
            ("debug", "broker, security"),
        ] {
            assert!(!is_secret(property, value), "{property}");
        }
        assert!(is_secret("security.protocol", "hunter2") && is_secret("sasl.password", "1234"));
        let given = [("sasl.password", "hunter2"), ("acks", "all")];
        let given = given.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let properties = ClientProperties::from(BTreeMap::from(given));
        assert_eq!(format!("{properties:?}"), r#"{"acks": "all", "sasl.password": "***"}"#);
    }
}
