//! The closed sets a network is chosen from, and their names in files and on the command line.

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

/// How the forecast of a horizon comes out of the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decoder {
    /// All values of the horizon at once, from the last hidden state.
    #[default]
    Direct,
    /// One value a step, each fed back as the next step's input.
    Recursive,
}

/// Where the state comes from that a forecast is said from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StateKind {
    /// From a window of the last steps, read anew for every forecast.
    #[default]
    Window,
    /// Carried from step to step: a reading costs one step, whatever the history.
    Carried,
}

/// What training minimises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    Mse,
    #[default]
    Mae,
    /// With delta 1: half the square up to an error of 1, linear beyond.
    Huber,
}

/// A word that names no member of a closed set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {set} `{given}`: it must be one of {allowed}")]
pub struct UnknownName {
    set: &'static str,
    given: String,
    allowed: String,
}

/// `ALL`, `Display` and `FromStr` of an enum; the names are those that serde writes.
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

            fn from_str(given: &str) -> Result<Self, UnknownName> {
                let found = Self::ALL.iter().find(|member| member.name() == given);
                found.copied().ok_or_else(|| UnknownName {
                    set: $set,
                    given: given.to_owned(),
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

    fn same_as_serde<T>(all: &[T])
    where
        T: Copy + fmt::Display + fmt::Debug + FromStr<Err = UnknownName> + PartialEq + Serialize,
    {
        for member in all {
            assert_eq!(serde_json::to_value(member).unwrap(), member.to_string());
            assert_eq!(member.to_string().parse::<T>().as_ref(), Ok(member));
        }
    }

    #[test]
    fn names_are_those_in_files() {
        same_as_serde(CellKind::ALL);
        same_as_serde(Decoder::ALL);
        same_as_serde(StateKind::ALL);
        same_as_serde(Loss::ALL);
    }

    #[test]
    fn an_unknown_name_is_told_what_is_allowed() {
        let error = "transformer".parse::<Decoder>().unwrap_err().to_string();
        assert_eq!(error, "unknown decoder `transformer`: it must be one of direct, recursive");
    }
}
