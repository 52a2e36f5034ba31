//! The closed sets that a network is configured with, and their names in files and on the command line.

use crate::named_enum::named_enum;

named_enum! {
    /// A recurrent cell.
    #[derive(Default)]
    pub enum CellKind {
        Rnn = "rnn",
        Lstm = "lstm",
        LstmPeephole = "lstm-peephole",
        LstmCoupled = "lstm-coupled",
        LstmPeepholeCoupled = "lstm-peephole-coupled",
        #[default]
        Gru = "gru",
    }
}

named_enum! {
    /// The way in which the head produces the values of a forecast.
    #[derive(Default)]
    pub enum Decoder {
        /// All values at once, from the last hidden state.
        #[default]
        Direct = "direct",
        /// One value a step, each fed back as the input of the next.
        Recursive = "recursive",
    }
}

named_enum! {
    /// The origin of the state that a forecast is made from.
    #[derive(Default)]
    pub enum StateKind {
        /// Computed from a window of the last steps for every forecast.
        #[default]
        Window = "window",
        /// Carried from step to step: an observation costs one step, regardless of the history.
        Carried = "carried",
    }
}

named_enum! {
    /// The loss of a forecast that training minimises.
    #[derive(Default)]
    pub enum Loss {
        Mse = "mse",
        #[default]
        Mae = "mae",
        /// With delta 1: half the squared error up to 1, linear beyond.
        Huber = "huber",
    }
}
