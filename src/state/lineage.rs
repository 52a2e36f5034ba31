//! What a state is a function of, besides the rows and where they start: the configuration that shapes it, the model and
//! the format of the file. Only a snapshot of the same lineage is restored.

use super::file::{digest, hex};

/// Version of the file. A reader knows only its own.
pub const FORMAT: u32 = 3;

/// Names and values, in a fixed order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    keys: Vec<(String, String)>,
    hash: String,
}

impl Lineage {
    pub fn new(keys: Vec<(String, String)>, model: &str) -> Self {
        let mut keys = keys;
        keys.push(("model".to_owned(), model.to_owned()));
        keys.push(("snapshot format".to_owned(), FORMAT.to_string()));
        let mut bytes = Vec::new();
        for part in keys.iter().flat_map(|(key, value)| [key, value]) {
            bytes.extend((part.len() as u64).to_le_bytes());
            bytes.extend(part.as_bytes());
        }
        let hash = hex(&digest(&bytes)[..6]);
        Self { keys, hash }
    }

    /// Names and values.
    pub fn keys(&self) -> &[(String, String)] {
        &self.keys
    }

    /// Twelve letters that stand for all of it.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The keys in which `other` differs, as text.
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
        let gone = other.iter().filter(|(key, _)| value_of(&self.keys, key).is_none());
        differences.extend(gone.map(|(key, _)| format!("{key} is not there any more")));
        differences.sort();
        differences
    }
}
