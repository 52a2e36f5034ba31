//! `[serve]`: the address of the dashboard and metrics, and the units of the values.

use std::net::{Ipv4Addr, SocketAddr};

use glob::Pattern;

use super::checks::Checks;
use super::file;
use super::plan_text::{PlanText, toml_key, toml_value};

#[derive(Clone, Debug)]
pub struct ServeConfig {
    pub address: SocketAddr,
    /// Rows that the pipeline may lag behind and still be ready.
    pub ready_lag: u64,
    pub units: Units,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            // Local only: the pages show series names, and there is no authentication.
            address: (Ipv4Addr::LOCALHOST, 8080).into(),
            // Less than a second of work.
            ready_lag: 10_000,
            units: Units::default(),
        }
    }
}

/// Units by patterns of names.
#[derive(Clone, Debug, Default)]
pub struct Units(Vec<(Pattern, String)>);

/// Each pattern is matched once against every series.
const PATTERNS_MAX: usize = 256;
/// Characters of a unit: it follows every value.
const UNIT_CHARS_MAX: usize = 16;

impl Units {
    /// The unit of a target of a series: that of the longest pattern that matches `ID`, `TARGET` or `ID/TARGET`.
    pub fn find(&self, id: &str, target: &str) -> Option<&str> {
        let both = format!("{id}/{target}");
        let names = [id, target, both.as_str()];
        let matches = self.0.iter().filter(|(pattern, _)| names.iter().any(|name| pattern.matches(name)));
        matches.max_by_key(|(pattern, _)| pattern.as_str().len()).map(|(_, unit)| unit.as_str())
    }
}

impl Checks<'_> {
    pub fn serve(&mut self, table: file::Serve) -> ServeConfig {
        let default = ServeConfig::default();
        let address = table.address.map(|text| match text.parse() {
            Ok(address) => address,
            Err(_) => {
                let form = "write an IP address and a port, such as 127.0.0.1:8080, or 0.0.0.0:8080 for all interfaces";
                self.problems.value("serve.address", format!("is `{text}`: {form}"));
                default.address
            }
        });
        if table.units.len() > PATTERNS_MAX {
            let text = format!("has {} patterns, more than {PATTERNS_MAX}", table.units.len());
            self.problems.value("serve.units", text);
        }
        let mut units = Vec::new();
        for (pattern, unit) in table.units {
            if unit.chars().count() > UNIT_CHARS_MAX {
                let text = format!("has the unit `{unit}`, of more than {UNIT_CHARS_MAX} characters");
                self.problems.value("serve.units", text);
            }
            match Pattern::new(&pattern) {
                Ok(pattern) => units.push((pattern, unit)),
                Err(error) => {
                    self.problems
                        .value("serve.units", format!("has the invalid pattern `{pattern}`: {error}"));
                }
            }
        }
        ServeConfig {
            address: address.unwrap_or(default.address),
            ready_lag: self.integer(
                "serve.ready_lag",
                table.ready_lag,
                default.ready_lag as usize,
                0..=1_000_000_000,
                "it counts unread rows of the topic",
            ) as u64,
            units: Units(units),
        }
    }
}

/// Writes `[serve]` of the plan.
pub(super) fn plan(serve: &ServeConfig, out: &mut PlanText) {
    out.table("serve");
    out.key("address", &serve.address.to_string());
    out.key_with_comment("ready_lag", &serve.ready_lag, "ready while the pipeline lags by no more rows");
    let units = serve.units.0.iter();
    let units: Vec<String> = units
        .map(|(pattern, unit)| format!("{} = {}", toml_key(pattern.as_str()), toml_value(unit)))
        .collect();
    if !units.is_empty() {
        out.line(&format!("units = {{ {} }}", units.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_matching_pattern_determines_the_unit() {
        let units = [
            ("*/temperature", "°C"),
            ("*", "?"),
            ("miami/*", "F"),
            ("miami/temperature*", "K"),
            ("power", "kW"),
        ];
        let units =
            Units(units.map(|(pattern, unit)| (Pattern::new(pattern).unwrap(), unit.to_owned())).into());
        assert_eq!(units.find("oslo/temperature", "value"), Some("°C"));
        assert_eq!(units.find("miami/temperature", "value"), Some("K"));
        assert_eq!(units.find("oslo", "temperature"), Some("°C"));
        assert_eq!(units.find("pump", "power"), Some("kW"));
        assert_eq!(units.find("pump", "flow"), Some("?"));
        assert_eq!(Units::default().find("pump", "flow"), None);
    }
}
