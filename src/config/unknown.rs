//! Keys that a pipeline file may not have, and the key that was probably meant. The known keys are those of the
//! `Spec` types themselves, so there is no second list to keep.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use toml::de::{DeTable, DeValue};

use super::parse::kind;
use super::problems::{Problems, join};
use super::spec;

type Keys = &'static [&'static str];

/// Every table of a pipeline file with its keys. `client` is not here: librdkafka knows its properties, we do not. Nor is
/// `units`: its keys are patterns of names.
fn tables() -> [(&'static str, Keys); 17] {
    [
        ("", keys_of::<spec::Spec>()),
        ("columns", keys_of::<spec::Columns>()),
        ("grid", keys_of::<spec::Grid>()),
        ("forecast", keys_of::<spec::Forecast>()),
        ("scores", keys_of::<spec::Scores>()),
        ("source", keys_of::<spec::Source>()),
        ("source.kafka", keys_of::<spec::KafkaSource>()),
        ("source.kafka.commit", keys_of::<spec::Commit>()),
        ("source.parquet", keys_of::<spec::ParquetSource>()),
        ("sink", keys_of::<spec::Sink>()),
        ("sink.kafka", keys_of::<spec::KafkaSink>()),
        ("sink.parquet", keys_of::<spec::ParquetSink>()),
        ("sink.scores", keys_of::<spec::ScoreSink>()),
        ("state", keys_of::<spec::State>()),
        ("limits", keys_of::<spec::Limits>()),
        ("serve", keys_of::<spec::Serve>()),
        ("train", keys_of::<spec::Train>()),
    ]
}

/// Whether `path` is a table of a pipeline file.
pub(super) fn is_table(path: &str) -> bool {
    tables().iter().any(|(table, _)| *table == path)
}

/// Takes the unknown keys out of `root`, and what stands where a table has to, and complains about each.
pub(super) fn remove_unknown(root: &mut DeTable<'_>, problems: &mut Problems) {
    remove_below(root, "", &tables(), problems);
}

fn remove_below(table: &mut DeTable<'_>, path: &str, tables: &[(&str, Keys)], problems: &mut Problems) {
    let Some((_, known)) = tables.iter().find(|(name, _)| *name == path) else { return };
    let keys: Vec<String> = table.keys().map(|key| key.get_ref().to_string()).collect();
    for key in keys.iter().filter(|key| !known.contains(&key.as_str())) {
        problems.at(&join(path, key), complaint(key, path, known, tables));
        table.remove(key.as_str());
    }
    let mut wrong = Vec::new();
    for (key, value) in table.iter_mut() {
        let path = join(path, key.get_ref());
        match value.get_mut() {
            DeValue::Table(below) => remove_below(below, &path, tables, problems),
            // serde would take a list for a table, its items for the keys in the order of the type.
            value if tables.iter().any(|(name, _)| *name == path) => {
                problems.value(&path, format!("must be a table, not {}", kind(value)));
                wrong.push(key.get_ref().to_string());
            }
            _ => {}
        }
    }
    for key in wrong {
        table.remove(key.as_str());
    }
}

fn complaint(key: &str, path: &str, known: Keys, tables: &[(&str, Keys)]) -> String {
    let place = if path.is_empty() { "at the top of the file".to_string() } else { format!("in [{path}]") };
    let mut elsewhere = tables.iter().filter(|(_, keys)| keys.contains(&key));
    let hint = match (elsewhere.next(), elsewhere.next(), nearest(key, known)) {
        (Some(("", _)), None, _) => format!("did you mean \"{key}\" at the top of the file?"),
        (Some((table, _)), None, _) => format!("did you mean \"{key}\" in [{table}]?"),
        (_, _, Some(near)) => format!("did you mean \"{near}\"?"),
        _ => format!("known keys are {}", known.join(", ")),
    };
    format!("unknown key \"{key}\" {place}; {hint}")
}

/// The likeliest of `known` for a mistyped word, if one is near.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    // Below this likeness a guess misleads more often than it helps: "topic" is not like "path", "evry" is like "every".
    const LIKE: f64 = 0.8;
    let word = word.to_lowercase();
    let likeness = known.iter().map(|key| (strsim::jaro_winkler(&word, key), *key));
    likeness.filter(|(like, _)| *like >= LIKE).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, key)| key)
}

/// The keys that the derived `Deserialize` of a struct asks for.
fn keys_of<T: for<'de> Deserialize<'de>>() -> Keys {
    let mut keys: Keys = &[];
    // It always fails: the deserializer notes the keys and has no value to give.
    let _ = T::deserialize(Listener(&mut keys));
    keys
}

struct Listener<'a>(&'a mut Keys);

#[derive(Debug)]
struct Heard;

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("only the keys were asked for")
    }
}

impl std::error::Error for Heard {}

impl de::Error for Heard {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

impl<'de> Deserializer<'de> for Listener<'_> {
    type Error = Heard;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Heard> {
        Err(Heard)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        keys: Keys,
        _: V,
    ) -> Result<V::Value, Heard> {
        *self.0 = keys;
        Err(Heard)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_has_keys_and_every_table_key_is_listed() {
        for (path, keys) in tables() {
            assert!(!keys.is_empty(), "{path}");
        }
        let top = keys_of::<spec::Spec>();
        let listed = |key: &&&str| tables().iter().any(|(path, _)| *path == **key);
        assert_eq!(top.iter().filter(|key| !listed(key)).collect::<Vec<_>>(), [&"name", &"delivery"]);
    }

    #[test]
    fn every_key_is_documented_in_the_section_of_its_table() {
        let text = include_str!("../../docs/pipeline.md");
        for (path, keys) in tables() {
            let title = if path.is_empty() { "The top".to_owned() } else { format!("`[{path}]`") };
            let section = text.split("\n## ").find_map(|section| section.strip_prefix(&title));
            let rows: Vec<&str> = section.unwrap_or_default().lines().collect();
            // Tables of tables have sections, not rows.
            let is_row = |key: &&&str| !is_table(&join(path, key));
            for key in keys.iter().filter(is_row) {
                let starts = [format!("| `{key}` |"), format!("| `{key}` † |")];
                let is_there = rows.iter().any(|row| starts.iter().any(|start| row.starts_with(start)));
                assert!(is_there, "docs/pipeline.md: `{key}` of {title}");
            }
        }
    }

    #[test]
    fn near_words() {
        let known = ["every", "lateness", "complete_after"];
        assert_eq!(nearest("evry", &known), Some("every"));
        assert_eq!(nearest("Complete-After", &known), Some("complete_after"));
        assert_eq!(nearest("topic", &known), None);
    }
}
