//! The closed sets that a network is configured with, and their names in files and on the command line.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A recurrent cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CellKind {
    Rnn,
    Lstm,
    LstmPeephole,
    LstmCoupled,
    LstmPeepholeCoupled,
    #[default]
    Gru,
}

/// How the head produces the values of a forecast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decoder {
    /// All values at once, from the last hidden state.
    #[default]
    Direct,
    /// One value a step, each fed back as the input of the next.
    Recursive,
}

/// The origin of the state that a forecast is made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StateKind {
    /// Computed from a window of the last steps for every forecast.
    #[default]
    Window,
    /// Carried from step to step: an observation costs one step, whatever the history.
    Carried,
}

/// The loss of a forecast that training minimises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    Mse,
    #[default]
    Mae,
    /// With delta 1: half the squared error up to 1, linear beyond.
    Huber,
}

/// A name that is in no closed set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {set} `{name}`: it must be one of {allowed}")]
pub struct UnknownName {
    set: &'static str,
    name: String,
    allowed: String,
}

/// `ALL`, `Display` and `FromStr` of an enum, with the names that serde writes.
macro_rules! named {
    ($kind:ident, $set:literal, $($member:ident = $name:literal),+) => {
        impl $kind {
            pub const ALL: &[$kind] = &[$($kind::$member),+];

            /// The name in files and on the command line.
            pub fn name(self) -> &'static str {
                match self { $($kind::$member => $name),+ }
            }
        }

        impl fmt::Display for $kind {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.pad(self.name())
            }
        }

        impl FromStr for $kind {
            type Err = UnknownName;

            fn from_str(name: &str) -> Result<Self, UnknownName> {
                let found = Self::ALL.iter().find(|member| member.name() == name);
                found.copied().ok_or_else(|| UnknownName {
                    set: $set,
                    name: name.to_owned(),
                    allowed: Self::ALL.iter().map(|member| member.name()).collect::<Vec<_>>().join(", "),
                })
            }
        }
    };
}

named!(
    CellKind,
    "cell",
    Rnn = "rnn",
    Lstm = "lstm",
    LstmPeephole = "lstm-peephole",
    LstmCoupled = "lstm-coupled",
    LstmPeepholeCoupled = "lstm-peephole-coupled",
    Gru = "gru"
);
named!(Decoder, "decoder", Direct = "direct", Recursive = "recursive");
named!(StateKind, "state", Window = "window", Carried = "carried");
named!(Loss, "loss", Mse = "mse", Mae = "mae", Huber = "huber");

#[cfg(test)]
mod tests {
    use super::*;

    fn check_names<T>(all: &[T])
    where
        T: Copy + fmt::Display + fmt::Debug + FromStr<Err = UnknownName> + PartialEq + Serialize,
    {
        for member in all {
            assert_eq!(serde_json::to_value(member).unwrap(), member.to_string());
            assert_eq!(member.to_string().parse::<T>().as_ref(), Ok(member));
        }
    }

    #[test]
    fn displayed_and_parsed_names_match_those_of_serde() {
        check_names(CellKind::ALL);
        check_names(Decoder::ALL);
        check_names(StateKind::ALL);
        check_names(Loss::ALL);
    }

    #[test]
    fn an_unknown_name_lists_the_allowed_names() {
        let error = "transformer".parse::<Decoder>().unwrap_err().to_string();
        assert_eq!(error, "unknown decoder `transformer`: it must be one of direct, recursive");
    }
}
