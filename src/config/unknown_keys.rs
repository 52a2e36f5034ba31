//! Unknown keys of a pipeline file, with a suggestion. The known keys are the fields of the types in `file`.

use serde::de::{Deserialize, Deserializer, Error, Visitor, value};
use toml::de::{DeTable, DeValue};

use super::file;
use super::problems::{Problems, join};

type Keys = &'static [&'static str];

/// Every table of a pipeline file with its keys. `client` and `units` are absent: their keys are librdkafka's properties
/// and patterns of names.
fn tables() -> [(&'static str, Keys); 17] {
    [
        ("", keys_of::<file::PipelineFile>()),
        ("columns", keys_of::<file::Columns>()),
        ("grid", keys_of::<file::Grid>()),
        ("forecast", keys_of::<file::Forecast>()),
        ("scores", keys_of::<file::Scores>()),
        ("source", keys_of::<file::Source>()),
        ("source.kafka", keys_of::<file::KafkaSource>()),
        ("source.kafka.commit", keys_of::<file::Commit>()),
        ("source.parquet", keys_of::<file::ParquetSource>()),
        ("sink", keys_of::<file::Sink>()),
        ("sink.kafka", keys_of::<file::KafkaSink>()),
        ("sink.parquet", keys_of::<file::ParquetSink>()),
        ("sink.scores", keys_of::<file::ScoreSink>()),
        ("state", keys_of::<file::State>()),
        ("limits", keys_of::<file::Limits>()),
        ("serve", keys_of::<file::Serve>()),
        ("train", keys_of::<file::Train>()),
    ]
}

/// True if `path` is a table with known keys.
pub(super) fn is_table(path: &str) -> bool {
    tables().iter().any(|(table, _)| *table == path)
}

/// Removes and reports unknown keys, and values in place of tables.
pub(super) fn remove_unknown(root: &mut DeTable<'_>, problems: &mut Problems) {
    remove_below(root, "", &tables(), problems);
}

fn remove_below(table: &mut DeTable<'_>, path: &str, tables: &[(&str, Keys)], problems: &mut Problems) {
    let Some((_, known)) = tables.iter().find(|(name, _)| *name == path) else { return };
    let keys: Vec<String> = table.keys().map(|key| key.get_ref().to_string()).collect();
    for key in keys.iter().filter(|key| !known.contains(&key.as_str())) {
        problems.at(&join(path, key), unknown_key(key, path, known, tables));
        table.remove(key.as_str());
    }
    let mut not_tables = Vec::new();
    for (key, value) in table.iter_mut() {
        let path = join(path, key.get_ref());
        match value.get_mut() {
            DeValue::Table(below) => remove_below(below, &path, tables, problems),
            // serde would accept a list as a table, with its items in the order of the fields.
            value if tables.iter().any(|(name, _)| *name == path) => {
                problems.value(&path, format!("must be a table, not {}", type_name(value)));
                not_tables.push(key.get_ref().to_string());
            }
            _ => {}
        }
    }
    for key in not_tables {
        table.remove(key.as_str());
    }
}

fn unknown_key(key: &str, path: &str, known: Keys, tables: &[(&str, Keys)]) -> String {
    let location = if path.is_empty() { "at the top of the file".to_owned() } else { format!("in [{path}]") };
    let mut elsewhere = tables.iter().filter(|(_, keys)| keys.contains(&key));
    let hint = match (elsewhere.next(), elsewhere.next(), nearest(key, known)) {
        (Some(("", _)), None, _) => format!("did you mean \"{key}\" at the top of the file?"),
        (Some((table, _)), None, _) => format!("did you mean \"{key}\" in [{table}]?"),
        (_, _, Some(nearest)) => format!("did you mean \"{nearest}\"?"),
        _ => format!("known keys are {}", known.join(", ")),
    };
    format!("unknown key \"{key}\" {location}; {hint}")
}

/// The known word most similar to `word`, if one is similar enough to be a typo of it.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    // Below this similarity a guess misleads more often than it helps: "evry" is similar to "every", "topic" not to "path".
    const SIMILARITY_MIN: f64 = 0.8;
    let word = word.to_lowercase();
    let similarities = known.iter().map(|key| (strsim::jaro_winkler(&word, key), *key));
    let similar = similarities.filter(|(similarity, _)| *similarity >= SIMILARITY_MIN);
    similar.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, key)| key)
}

/// The type of `value`, in the words of the documentation.
pub(super) fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The field names that the derived `Deserialize` of a struct passes to its deserializer.
fn keys_of<T: for<'de> Deserialize<'de>>() -> Keys {
    let mut keys: Keys = &[];
    // Always fails: the deserializer records the keys and has no value to return.
    let _ = T::deserialize(KeyRecorder(&mut keys));
    keys
}

struct KeyRecorder<'a>(&'a mut Keys);

impl<'de> Deserializer<'de> for KeyRecorder<'_> {
    type Error = value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, value::Error> {
        Err(value::Error::custom("only the keys of structs are recorded"))
    }

    fn deserialize_struct<V>(self, _: &'static str, keys: Keys, visitor: V) -> Result<V::Value, value::Error>
    where
        V: Visitor<'de>,
    {
        *self.0 = keys;
        self.deserialize_any(visitor)
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
    fn every_table_has_keys_and_every_top_level_table_is_listed() {
        for (path, keys) in tables() {
            assert!(!keys.is_empty(), "{path}");
        }
        let top = keys_of::<file::PipelineFile>();
        assert_eq!(top.iter().filter(|key| !is_table(key)).collect::<Vec<_>>(), [&"name", &"delivery"]);
    }

    #[test]
    fn every_key_is_documented_in_the_section_of_its_table() {
        let text = include_str!("../../docs/pipeline.md");
        for (path, keys) in tables() {
            let title = if path.is_empty() { "Top level".to_owned() } else { format!("`[{path}]`") };
            let section = text.split("\n## ").find_map(|section| section.strip_prefix(&title));
            let rows: Vec<&str> = section.unwrap_or_default().lines().collect();
            // A nested table has a section of its own, not a row.
            for key in keys.iter().filter(|key| !is_table(&join(path, key))) {
                let starts = [format!("| `{key}` |"), format!("| `{key}` † |")];
                let documented = rows.iter().any(|row| starts.iter().any(|start| row.starts_with(start)));
                assert!(documented, "docs/pipeline.md: `{key}` of {title}");
            }
        }
    }

    #[test]
    fn only_a_similar_key_is_suggested() {
        let known = ["every", "lateness", "complete_after"];
        assert_eq!(nearest("Complete-After", &known), Some("complete_after"));
        assert_eq!(nearest("topic", &known), None);
    }
}
