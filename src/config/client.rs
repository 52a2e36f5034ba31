//! librdkafka's properties in a pipeline: which of them are ours, which are secrets, how they are printed.

use std::collections::BTreeMap;
use std::fmt;

/// Properties that the promises of the stream stand on: a pipeline may not set them. Beside each, what it may do
/// instead, or why.
pub const RESERVED: [(&str, &str); 14] = [
    ("bootstrap.servers", "use the key \"brokers\""),
    ("metadata.broker.list", "use the key \"brokers\""),
    ("group.id", "use the key \"group\""),
    ("auto.offset.reset", "use the key \"start\""),
    ("auto.commit.interval.ms", "use the key \"every\" in [source.kafka.commit]"),
    ("enable.auto.commit", "positions are committed with the output"),
    ("enable.auto.offset.store", "positions are committed with the output"),
    ("enable.partition.eof", "it is how `--until-end` finds the end"),
    ("isolation.level", "only committed records are read"),
    ("partition.assignment.strategy", "partitions are handed over one by one"),
    ("partitioner", "all records of a series have to go to one partition"),
    ("transactional.id", "delivery is at least once, without transactions"),
    ("enable.idempotence", "a retry must not write a second time"),
    ("enable.sasl.oauthbearer.unsecure.jwt", "tokens come from \"sasl.oauthbearer.config\""),
];

/// What stands in place of a secret.
pub const MASK: &str = "***";

/// Properties whose values may be printed: those that help to see what a client does, and can hold no secret.
const SHOWN: [&str; 24] = [
    "api.version.request",
    "broker.address.family",
    "check.crcs",
    "client.dns.lookup",
    "client.id",
    "client.rack",
    "compression.codec",
    "compression.level",
    "compression.type",
    "debug",
    "enable.ssl.certificate.verification",
    "group.instance.id",
    "group.protocol",
    "group.remote.assignor",
    "log_level",
    "request.required.acks",
    "acks",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.oauthbearer.method",
    "sasl.username",
    "security.protocol",
    "ssl.endpoint.identification.algorithm",
    "ssl.ca.location",
];

/// Endings of properties that are numbers.
const SHOWN_ENDINGS: [&str; 6] = [".ms", ".bytes", ".kbytes", ".messages", ".retries", ".max"];

/// Whether the value of a librdkafka property must never be printed: it holds a secret, or it is none of those that are
/// known not to, which a mistyped one that holds a secret would be, too.
pub fn is_secret(property: &str) -> bool {
    !SHOWN.contains(&property) && !SHOWN_ENDINGS.iter().any(|ending| property.ends_with(ending))
}

/// Client properties as they may be printed.
pub struct Masked<'a>(pub &'a BTreeMap<String, String>);

impl<'a> Masked<'a> {
    /// Property and printable value.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), if is_secret(name) { MASK } else { value.as_str() }))
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
        for property in
            ["sasl.password", "ssl.key.pem", "sasl.oauthbearer.client.secret", "sasl.pasword", "password"]
        {
            assert!(is_secret(property), "{property}");
        }
        for property in ["security.protocol", "sasl.username", "fetch.max.bytes", "ssl.ca.location"] {
            assert!(!is_secret(property), "{property}");
        }
    }
}
