//! librdkafka's properties in a pipeline: which of them are ours, which are secrets, how they are printed.

use std::collections::BTreeMap;
use std::fmt;

/// Properties that the promises of the stream stand on: a pipeline may not set them. Beside each, what it may do
/// instead, or why.
pub const RESERVED: [(&str, &str); 17] = [
    ("bootstrap.servers", "use the key \"brokers\""),
    ("metadata.broker.list", "use the key \"brokers\""),
    ("group.id", "use the key \"group\""),
    ("auto.offset.reset", "use the key \"start\""),
    ("auto.commit.interval.ms", "use the key \"every\" in [source.kafka.commit]"),
    ("enable.auto.commit", "positions are committed with the output"),
    ("enable.auto.offset.store", "positions are committed with the output"),
    ("enable.partition.eof", "it is how `--until-end` finds the end"),
    ("isolation.level", "only committed records are read"),
    ("log.connection.close", "that a connection broke has to be known: what was asked for is asked again"),
    ("partition.assignment.strategy", "partitions are handed over one by one"),
    ("partitioner", "all records of a series have to go to one partition"),
    ("group.instance.id", "use the keys \"instance\" and \"static_member\""),
    ("statistics.interval.ms", "the dashboard hears by it how far behind it is"),
    ("transactional.id", "use the key \"instance\""),
    ("enable.idempotence", "a retry must not write a second time"),
    ("enable.sasl.oauthbearer.unsecure.jwt", "tokens come from \"sasl.oauthbearer.config\""),
];

/// What stands in place of a secret.
pub const MASK: &str = "***";

/// Properties that may be printed whatever they hold: who and where a client is.
const NAMES: [&str; 5] =
    ["client.id", "client.rack", "group.instance.id", "sasl.username", "ssl.ca.location"];

/// Endings of properties that are numbers.
const NUMBERS: [&str; 6] = [".ms", ".bytes", ".kbytes", ".messages", ".retries", ".max"];

/// Properties that are words of closed sets, and the words; whatever else they hold was meant for another property.
const WORDED: [&str; 12] = [
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
const WORDS: [&str; 46] = [
    "0",
    "1",
    "-1",
    "all",
    "true",
    "false",
    "none",
    "gzip",
    "snappy",
    "lz4",
    "zstd",
    "classic",
    "consumer",
    "plain",
    "scram-sha-256",
    "scram-sha-512",
    "oauthbearer",
    "gssapi",
    "default",
    "oidc",
    "plaintext",
    "ssl",
    "sasl_plaintext",
    "sasl_ssl",
    "https",
    "generic",
    "broker",
    "topic",
    "metadata",
    "feature",
    "queue",
    "msg",
    "protocol",
    "cgrp",
    "security",
    "fetch",
    "interceptor",
    "plugin",
    "admin",
    "eos",
    "mock",
    "assignor",
    "conf",
    "telemetry",
    "acks",
    "",
];

/// Whether the value of a librdkafka property must never be printed: it may be a secret, unless the property is known
/// and the value is of its kind. So neither a mistyped property nor a secret in a wrong place shows one.
pub fn is_secret(property: &str, value: &str) -> bool {
    let is_number =
        || NUMBERS.iter().any(|ending| property.ends_with(ending)) && value.parse::<f64>().is_ok();
    let is_word = |word: &str| WORDS.contains(&word.trim().to_lowercase().as_str());
    let is_worded = || WORDED.contains(&property) && value.split(',').all(is_word);
    !(NAMES.contains(&property) || is_number() || is_worded())
}

/// Client properties as they may be printed.
pub struct Masked<'a>(pub &'a BTreeMap<String, String>);

impl<'a> Masked<'a> {
    /// Property and printable value.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), if is_secret(name, value) { MASK } else { value.as_str() }))
    }
}

impl fmt::Debug for Masked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_to_be_no_secret_is_shown() {
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
    }
}
