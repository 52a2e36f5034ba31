//! What a state is a function of, besides the rows and where they start: the configuration that shapes it, the model and
//! the format of the file. Only a snapshot of the same lineage is restored.

use super::file::{digest, hex};

/// Version of the file.
pub const FORMAT: u32 = 6;

/// The versions before, which are read too. What they know of forecasts that were issued are other numbers: such a series goes
/// on with the intervals of the model, and the promise of equal bits starts anew there.
pub const FORMERS: [u32; 2] = [4, 5];

const FORMAT_KEY: &str = "snapshot format";

/// Names and values, in a fixed order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    keys: Vec<(String, String)>,
    hash: String,
    /// Those of the same pipeline in the versions before.
    formers: [String; FORMERS.len()],
}

impl Lineage {
    pub fn new(keys: Vec<(String, String)>, model: &str) -> Self {
        let mut of = keys;
        of.push(("model".to_owned(), model.to_owned()));
        let of_format = |format: u32| {
            let format = (FORMAT_KEY.to_owned(), format.to_string());
            of.iter().cloned().chain([format]).collect::<Vec<_>>()
        };
        let keys = of_format(FORMAT);
        Self { hash: hash(&keys), formers: FORMERS.map(|format| hash(&of_format(format))), keys }
    }

    /// Whether a state of the lineage with this hash is one to go on from: its own, or that of a version before.
    pub fn continues(&self, hash: &str) -> bool {
        self.hash == hash || self.formers.iter().any(|former| former == hash)
    }

    /// Names and values.
    pub fn keys(&self) -> &[(String, String)] {
        &self.keys
    }

    /// Twelve letters that stand for all of it.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Those of the versions before, as [`FORMERS`].
    pub fn formers(&self) -> &[String] {
        &self.formers
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

fn hash(keys: &[(String, String)]) -> String {
    let mut bytes = Vec::new();
    for part in keys.iter().flat_map(|(key, value)| [key, value]) {
        bytes.extend((part.len() as u64).to_le_bytes());
        bytes.extend(part.as_bytes());
    }
    hex(&digest(&bytes)[..6])
}
