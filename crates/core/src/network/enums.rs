//! The closed sets that a network is configured with, and their names in files and on the command line.

use std::fmt;

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
    /// Carried from step to step: an observation costs one step, regardless of the history.
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

/// `ALL`, `name` and `Display` of an enum, with the names that serde writes.
macro_rules! named {
    ($kind:ident, $($member:ident = $name:literal),+) => {
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
    };
}

named!(
    CellKind,
    Rnn = "rnn",
    Lstm = "lstm",
    LstmPeephole = "lstm-peephole",
    LstmCoupled = "lstm-coupled",
    LstmPeepholeCoupled = "lstm-peephole-coupled",
    Gru = "gru"
);
named!(Decoder, Direct = "direct", Recursive = "recursive");
named!(StateKind, Window = "window", Carried = "carried");
named!(Loss, Mse = "mse", Mae = "mae", Huber = "huber");

#[cfg(test)]
mod tests {
    use super::*;

    fn check_names<T: Copy + fmt::Display + Serialize>(all: &[T]) {
        for member in all {
            assert_eq!(serde_json::to_value(member).unwrap(), member.to_string());
        }
    }

    #[test]
    fn displayed_names_match_those_of_serde() {
        check_names(CellKind::ALL);
        check_names(Decoder::ALL);
        check_names(StateKind::ALL);
        check_names(Loss::ALL);
    }
}
