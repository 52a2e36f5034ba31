//! The recurrent networks.

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

/// What training minimises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    Mse,
    #[default]
    Mae,
    Huber,
}
