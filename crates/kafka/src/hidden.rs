//! Values of client properties that may be secrets, kept out of what librdkafka logs and complains of: it hides those of
//! the properties that it knows for secrets, but quotes others, and a password may stand in the wrong one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::RwLock;

use crate::config::{MASK, is_secret};

/// Of all clusters of this process, the longest first: the contexts that logs go through are made before they meet the
/// settings, and a line must not show another cluster's secret either.
static HIDDEN: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// What is shorter is no secret, and to hide it would spoil every line.
const SHORTEST: usize = 4;

/// From here on no line shows the values of these properties that may be secrets.
pub(super) fn hide(properties: &BTreeMap<String, String>) {
    let secrets = properties.iter().filter(|(name, value)| is_secret(name, value));
    let secrets = secrets.map(|(_, value)| value).filter(|value| value.len() >= SHORTEST);
    let mut hidden = HIDDEN.write().expect("no holder panics");
    for value in secrets {
        if !hidden.contains(value) {
            hidden.push(value.clone());
        }
    }
    hidden.sort_by_key(|value| std::cmp::Reverse(value.len()));
}

/// A line without what is hidden.
pub(super) fn masked(line: &str) -> Cow<'_, str> {
    let hidden = HIDDEN.read().expect("no holder panics");
    let secrets = hidden.iter().filter(|secret| line.contains(secret.as_str()));
    secrets.fold(Cow::Borrowed(line), |line, secret| Cow::Owned(line.replace(secret.as_str(), MASK)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_shows_what_was_given_for_a_secret() {
        let given =
            [("sasl.password", "tide-7"), ("ssl.key.password", "tide-7-and-more"), ("debug", "broker")];
        hide(&given.map(|(name, value)| (name.to_string(), value.to_string())).into());
        assert_eq!(masked("broker: tide-7-and-more, then tide-7"), "broker: ***, then ***");
    }
}
