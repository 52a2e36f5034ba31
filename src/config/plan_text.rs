//! The text of a plan: tables, keys and values as TOML.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use tidecast_core::time::duration_text;
use tidecast_kafka::settings::ClientProperties;

/// A duration in microseconds. Durations of a pipeline file are whole microseconds in an i64, so nothing is lost.
pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// A value as TOML, with `${` escaped as a file requires.
pub(super) fn toml_value(value: &(impl Serialize + ?Sized)) -> String {
    let value = toml::Value::try_from(value).expect("strings, numbers and lists of them are TOML values");
    value.to_string().replace("${", "$${")
}

/// Reverts the escaping of [`toml_value`].
pub(super) fn unescape(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => *text = text.replace("$${", "${"),
        serde_json::Value::Array(values) => values.iter_mut().for_each(unescape),
        serde_json::Value::Object(keys) => keys.values_mut().for_each(unescape),
        _ => {}
    }
}

/// A plan under construction.
pub(super) struct PlanText(pub String);

impl PlanText {
    pub fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    pub fn table(&mut self, name: &str) {
        self.line(&format!("\n[{name}]"));
    }

    pub fn key(&mut self, key: &str, value: &(impl Serialize + ?Sized)) {
        self.line(&format!("{key} = {}", toml_value(value)));
    }

    /// A key, or a comment that describes its absence.
    pub fn optional_key(&mut self, key: &str, value: Option<&impl Serialize>, absence: &str) {
        match value {
            Some(value) => self.key(key, value),
            None => self.line(&format!("# no {key}: {absence}")),
        }
    }

    pub fn key_with_comment(&mut self, key: &str, value: &(impl Serialize + ?Sized), comment: &str) {
        self.line(&format!("{key} = {} # {comment}", toml_value(value)));
    }

    pub fn duration(&mut self, key: &str, micros: i64) {
        self.key(key, &duration_text(micros));
    }

    pub fn path(&mut self, key: &str, path: &Path) {
        self.key(key, &path.to_string_lossy());
    }

    pub fn client(&mut self, client: &ClientProperties) {
        let mut list = String::new();
        for (property, value) in client.redacted() {
            let comma = if list.is_empty() { "" } else { "," };
            // Writing to a string cannot fail.
            let _ = write!(list, "{comma} {} = {}", toml_key(property), toml_value(value));
        }
        let end = if list.is_empty() { "" } else { " " };
        self.line(&format!("client = {{{list}{end}}}"));
    }
}

/// A name as a quoted TOML key, in which no variable is substituted.
pub(super) fn toml_key(name: &str) -> String {
    toml::Value::from(name).to_string()
}
