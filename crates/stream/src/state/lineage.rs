//! The lineage of a state: everything it depends on besides the rows and their start. A snapshot is restored only by a
//! pipeline of the same lineage.

use super::file::{FORMAT, hex, sha256};

/// State-affecting configuration, model hash and snapshot format as key-value pairs, in a fixed order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    keys: Vec<(String, String)>,
    hash: String,
}

impl Lineage {
    pub fn new(mut keys: Vec<(String, String)>, model_hash: &str) -> Self {
        keys.push(("model".to_owned(), model_hash.to_owned()));
        keys.push(("snapshot format".to_owned(), FORMAT.to_string()));
        Self { hash: hash(&keys), keys }
    }

    pub fn keys(&self) -> &[(String, String)] {
        &self.keys
    }

    /// Twelve hexadecimal digits that identify the lineage.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The keys whose values differ in `other`, as text, sorted.
    pub fn differences(&self, other: &[(String, String)]) -> Vec<String> {
        let value_of = |keys: &[(String, String)], key: &String| {
            keys.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone())
        };
        let mut differences = Vec::new();
        for (key, value) in &self.keys {
            match value_of(other, key) {
                Some(before) if before == *value => {}
                Some(before) => differences.push(format!("{key} was {before}, is {value}")),
                None => differences.push(format!("{key} is {value}, the snapshot has none")),
            }
        }
        let removed = other.iter().filter(|(key, _)| value_of(&self.keys, key).is_none());
        differences.extend(removed.map(|(key, _)| format!("{key} was removed")));
        differences.sort();
        differences
    }
}

fn hash(keys: &[(String, String)]) -> String {
    let mut bytes = Vec::new();
    for text in keys.iter().flat_map(|(key, value)| [key, value]) {
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.as_bytes());
    }
    hex(&sha256(&bytes)[..6])
}
