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
    ("group.instance.id", "use the keys \"instance\" and \"static_member\""),
    ("transactional.id", "use the key \"instance\""),
    ("enable.idempotence", "a retry must not write a second time"),
];

/// What stands in place of a secret.
pub const MASK: &str = "***";

/// Whether the value of a librdkafka property must never be printed. Rather one too many than one too few: a path to a
/// key is masked as well as the key.
pub fn is_secret(property: &str) -> bool {
    const PARTS: [&str; 8] =
        ["password", "passphrase", "secret", "token", "credential", "key", "sasl.jaas", "oauthbearer"];
    let property = property.to_lowercase();
    PARTS.iter().any(|part| property.contains(part))
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
    fn secrets_are_known_by_their_names() {
        for property in
            ["sasl.password", "ssl.key.pem", "SASL.OAuthBearer.Client.Secret", "ssl.keystore.password"]
        {
            assert!(is_secret(property), "{property}");
        }
        for property in ["security.protocol", "sasl.username", "fetch.max.bytes", "ssl.ca.location"] {
            assert!(!is_secret(property), "{property}");
        }
    }
}
