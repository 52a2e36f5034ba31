//! Where a running pipeline can be looked at, and what its values are measured in.

use std::net::{Ipv4Addr, SocketAddr};

use glob::Pattern;

use super::checks::Checks;
use super::plan::{Text, key_text, value};
use super::spec;

#[derive(Clone, Debug)]
pub struct Serve {
    pub address: SocketAddr,
    /// It is ready while it is behind by no more rows than this.
    pub ready_lag: u64,
    pub units: Units,
}

impl Default for Serve {
    fn default() -> Self {
        Self {
            // Nobody but this machine: what is shown names series, and there are no passwords.
            address: (Ipv4Addr::LOCALHOST, 8080).into(),
            // Less than a second's work.
            ready_lag: 10_000,
            units: Units::default(),
        }
    }
}

/// Units by patterns of names.
#[derive(Clone, Debug, Default)]
pub struct Units(Vec<(Pattern, String)>);

/// Patterns; each is held against each series once.
const UNITS_MOST: usize = 256;
/// Characters of a unit: it stands behind every value.
const UNIT_MOST: usize = 16;

impl Units {
    /// The unit of a target of a series: of the longest pattern that `ID`, `TARGET` or `ID/TARGET` matches.
    pub fn of(&self, id: &str, target: &str) -> Option<&str> {
        let both = format!("{id}/{target}");
        let names = [id, target, both.as_str()];
        let fits = |(pattern, _): &&(Pattern, String)| names.iter().any(|name| pattern.matches(name));
        let best = self.0.iter().filter(fits).max_by_key(|(pattern, _)| pattern.as_str().len());
        best.map(|(_, unit)| unit.as_str())
    }
}

impl Serve {
    pub(super) fn plan(&self, out: &mut Text) {
        out.table("serve");
        out.key("address", &self.address.to_string());
        out.because("ready_lag", &self.ready_lag, "ready while it is behind by no more rows");
        let units: Vec<String> = (self.units.0.iter())
            .map(|(pattern, unit)| format!("{} = {}", key_text(pattern.as_str()), value(unit)))
            .collect();
        if !units.is_empty() {
            out.line(format!("units = {{ {} }}", units.join(", ")));
        }
    }
}

impl Checks<'_> {
    pub(super) fn serve(&mut self, spec: spec::Serve) -> Serve {
        let default = Serve::default();
        let address = spec.address.map(|text| match text.parse() {
            Ok(address) => address,
            Err(_) => {
                let what = "it is an IP address and a port, such as 127.0.0.1:8080, or 0.0.0.0:8080 for all who reach this machine";
                self.problems.value("serve.address", format!("is `{text}`: {what}"));
                default.address
            }
        });
        if spec.units.len() > UNITS_MOST {
            self.problems
                .value("serve.units", format!("has {} patterns, more than {UNITS_MOST}", spec.units.len()));
        }
        let mut units = Vec::new();
        for (pattern, unit) in spec.units {
            if unit.chars().count() > UNIT_MOST {
                self.problems
                    .value("serve.units", format!("has `{unit}`, of more than {UNIT_MOST} characters"));
            }
            match Pattern::new(&pattern) {
                Ok(pattern) => units.push((pattern, unit)),
                Err(error) => {
                    self.problems.value("serve.units", format!("has `{pattern}`, no pattern: {error}"))
                }
            }
        }
        Serve {
            address: address.unwrap_or(default.address),
            ready_lag: self.whole(
                "serve.ready_lag",
                spec.ready_lag,
                default.ready_lag as usize,
                0..=1_000_000_000,
                "it counts the rows that are there and not yet read",
            ) as u64,
            units: Units(units),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_pattern_names_the_unit() {
        let units = [
            ("*/temperature", "°C"),
            ("*", "?"),
            ("miami/*", "F"),
            ("miami/temperature*", "K"),
            ("power", "kW"),
        ];
        let units =
            Units(units.map(|(pattern, unit)| (Pattern::new(pattern).unwrap(), unit.to_owned())).into());
        assert_eq!(units.of("oslo/temperature", "value"), Some("°C"));
        assert_eq!(units.of("miami/temperature", "value"), Some("K"));
        assert_eq!(units.of("oslo", "temperature"), Some("°C"));
        assert_eq!(units.of("pump", "power"), Some("kW"));
        assert_eq!(units.of("pump", "flow"), Some("?"));
        assert_eq!(Units::default().of("pump", "flow"), None);
    }
}
