//! What it means when a cluster turns us away: librdkafka's reason, and which setting to look at.

/// A topic that may not even be looked at.
pub(super) const NO_RIGHT: &str = "this user has no right to it; grant it DESCRIBE, and READ or WRITE, or correct \
                                   \"sasl.username\" in `client`";

/// Parts of reasons, the first that is found counts, and where to look.
const REMEDIES: [(&str, &str); 13] = [
    ("certificate verify failed", AUTHORITY),
    ("ssl.ca.location", "\"ssl.ca.location\" in `client` has to be a file of certificates"),
    ("hostname mismatch", "`brokers` has to be a name that its certificate is for"),
    ("certificate required", OWN_CERTIFICATE),
    ("PLAINTEXT broker listener", NO_TLS),
    ("security.protocol", TLS),
    // It hung up at our first word.
    ("in state APIVERSION_QUERY", TLS),
    ("nsupported SASL mechanism", MECHANISM),
    ("mechanism handshake", MECHANISM),
    ("OAUTHBEARER", TOKEN),
    ("invalid_token", TOKEN),
    ("uthentication fail", "look at \"sasl.username\", \"sasl.password\" and \"sasl.mechanism\" in `client`"),
    ("SSL handshake failed", NO_TLS),
];

const AUTHORITY: &str = "name a file with the authority of its certificate in `client` as \"ssl.ca.location\"; without it \
                         those of the system are asked";
const OWN_CERTIFICATE: &str = "it wants to see a certificate: \"ssl.certificate.location\" and \"ssl.key.location\" in \
                               `client`";
const NO_TLS: &str =
    "it may not speak TLS here: look at \"security.protocol\" in `client` and the port in `brokers`";
const TLS: &str =
    "it may speak TLS or want SASL here: look at \"security.protocol\" in `client` and the port in `brokers`";
const MECHANISM: &str = "look at \"sasl.mechanism\" in `client`";
const TOKEN: &str = "it does not take the token: look at \"sasl.oauthbearer.config\" in `client`";

/// Whether a reason names a setting.
pub(super) fn is_known(reason: &str) -> bool {
    REMEDIES.iter().any(|(part, _)| reason.contains(part))
}

/// A reason with its remedy, if we know one.
pub(super) fn explained(reason: &str) -> String {
    match REMEDIES.iter().find(|(part, _)| reason.contains(part)) {
        Some((_, remedy)) => format!("{reason}; {remedy}"),
        None => reason.to_string(),
    }
}
