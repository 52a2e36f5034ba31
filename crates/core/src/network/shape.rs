//! The sizes of a network: what they may be, and which tensors follow from them.

use serde::{Deserialize, Serialize};

use super::{CellKind, Decoder};

/// Everything that decides which tensors a network has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    pub cell: CellKind,
    /// Inputs of one step; with the recursive decoder input 0 is the value that is forecast.
    pub inputs: usize,
    /// Hidden values of a layer.
    pub hidden: usize,
    pub layers: usize,
    /// Values of a forecast.
    pub horizon: usize,
    /// Inputs of the head known ahead for each step of the horizon.
    pub known: usize,
    /// Quantiles that are said of each value beside the forecast itself; only with the direct decoder.
    pub quantiles: usize,
    /// Learned numbers of each series that is known, read beside the inputs at every step; 0 is without.
    pub embedding: usize,
    /// Series that have them; with an `embedding` of 0 there are none.
    pub series: usize,
    pub decoder: Decoder,
}

/// Above this a step's weights leave every cache and no stream keeps up.
pub const HIDDEN_MAX: usize = 4096;
/// Gradients do not survive deeper stacks, and every layer costs a state per series.
pub const LAYERS_MAX: usize = 16;
/// A wider step is a mistake in the column names rather than a series.
pub const INPUTS_MAX: usize = 4096;
/// More than a month of minutes; each value is a row of the head and a number in each forecast.
pub const HORIZON_MAX: usize = 65_536;
/// Two for each level that a pipeline may ask for; each is a row of the head for every step of the horizon.
pub const QUANTILES_MAX: usize = 32;
/// A few numbers tell hundreds of series apart; each widens every step.
pub const EMBEDDING_MAX: usize = 64;
/// 256 Mi parameters: 1 GiB of weights, and four times that in training.
pub const PARAMETERS_MAX: u64 = 256 << 20;

/// A size that no network may have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    #[error("`{what}` is 0: it must be at least 1")]
    Zero { what: &'static str },
    #[error("`{what}` is {found}, more than {max}: {reason}")]
    TooLarge { what: &'static str, found: usize, max: usize, reason: &'static str },
    #[error(
        "`quantiles` is {found} with the recursive decoder, which says one value a step and feeds it back: \
         use the direct decoder"
    )]
    Quantiles { found: usize },
    #[error("`embedding` is {embedding} for {series} `series`: both are 0 or neither is")]
    Embedding { embedding: usize, series: usize },
    #[error(
        "the network would have {found} parameters, more than {max} (1 GiB): \
         lower `hidden`, `layers`, `horizon` or the number of inputs"
    )]
    TooManyParameters { found: u64, max: u64 },
}

/// Name of the learned numbers of each series, as in torch.nn.Embedding.
pub(super) const EMBEDDING: &str = "embedding.weight";

/// Name and shape of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub name: String,
    pub shape: Vec<usize>,
}

impl Shape {
    /// Whether a network of these sizes can be built.
    pub fn check(&self) -> Result<(), ShapeError> {
        let sizes = [
            (
                "inputs",
                self.inputs,
                1,
                INPUTS_MAX,
                "each is read whole; leave columns out or shorten the segment",
            ),
            ("hidden", self.hidden, 1, HIDDEN_MAX, "the weights grow with its square; use more layers"),
            ("layers", self.layers, 1, LAYERS_MAX, "gradients do not survive deeper stacks"),
            (
                "horizon",
                self.horizon,
                1,
                HORIZON_MAX,
                "every forecast carries that many values; use a coarser grid",
            ),
            (
                "known",
                self.known,
                0,
                INPUTS_MAX,
                "the head reads it for each step of the horizon; leave columns out",
            ),
            (
                "quantiles",
                self.quantiles,
                0,
                QUANTILES_MAX,
                "each is a row of the head for every step of the horizon; ask for fewer levels",
            ),
            (
                "embedding",
                self.embedding,
                0,
                EMBEDDING_MAX,
                "each is read at every step; fewer tell series apart",
            ),
        ];
        for (what, found, min, max, reason) in sizes {
            if found < min {
                return Err(ShapeError::Zero { what });
            }
            if found > max {
                return Err(ShapeError::TooLarge { what, found, max, reason });
            }
        }
        if self.quantiles > 0 && self.decoder == Decoder::Recursive {
            return Err(ShapeError::Quantiles { found: self.quantiles });
        }
        let (embedding, series) = (self.embedding, self.series);
        if (embedding == 0) != (series == 0) {
            return Err(ShapeError::Embedding { embedding, series });
        }
        let found = self.parameters();
        if found > PARAMETERS_MAX {
            return Err(ShapeError::TooManyParameters { found, max: PARAMETERS_MAX });
        }
        Ok(())
    }

    /// How many numbers are learned.
    pub fn parameters(&self) -> u64 {
        let count =
            |slot: Slot| slot.shape.iter().fold(1, |product: u64, &n| product.saturating_mul(n as u64));
        self.slots().into_iter().map(count).fold(0, u64::saturating_add)
    }

    /// Inputs of layer `layer`: the first one reads `[x; e]`.
    pub(super) fn inputs_of(&self, layer: usize) -> usize {
        if layer == 0 { self.inputs.saturating_add(self.embedding) } else { self.hidden }
    }

    /// Numbers that are said of a column, `[quantity][horizon]`: the forecast, then each quantile.
    pub fn outputs(&self) -> usize {
        self.horizon.saturating_mul(self.quantiles.saturating_add(1))
    }

    /// Steps of the horizon that the head says at once.
    pub(super) fn head_steps(&self) -> usize {
        match self.decoder {
            Decoder::Direct => self.horizon,
            Decoder::Recursive => 1,
        }
    }

    /// Rows of the head, `[quantity][step]`: the forecast of each step that it says at once, then each quantile.
    pub(super) fn head_rows(&self) -> usize {
        self.head_steps().saturating_mul(self.quantiles.saturating_add(1))
    }

    /// Known inputs that the head reads at once.
    pub(super) fn head_known(&self) -> usize {
        self.head_steps().saturating_mul(self.known)
    }

    /// Cell steps after the last input: the recursive decoder feeds back all but the last value.
    pub(super) fn fed_back(&self) -> usize {
        match self.decoder {
            Decoder::Direct => 0,
            Decoder::Recursive => self.horizon - 1,
        }
    }

    /// Every tensor of the network, in the order in which they are initialised.
    pub(super) fn slots(&self) -> Vec<Slot> {
        let hidden = self.hidden;
        let rows = self.cell.gates().saturating_mul(hidden);
        let mut slots = Vec::new();
        let mut add = |name: String, shape: Vec<usize>| slots.push(Slot { name, shape });
        for k in 0..self.layers {
            add(format!("weight_ih_l{k}"), vec![rows, self.inputs_of(k)]);
            add(format!("weight_hh_l{k}"), vec![rows, hidden]);
            add(format!("bias_ih_l{k}"), vec![rows]);
            add(format!("bias_hh_l{k}"), vec![rows]);
            for gate in self.cell.peepholes() {
                add(format!("peephole_{gate}_l{k}"), vec![hidden]);
            }
        }
        add("head.weight".into(), vec![self.head_rows(), hidden.saturating_add(self.head_known())]);
        add("head.bias".into(), vec![self.head_rows()]);
        if self.embedding > 0 {
            add(EMBEDDING.into(), vec![self.series, self.embedding]);
        }
        slots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Shape = Shape {
        cell: CellKind::Lstm,
        inputs: 3,
        hidden: 4,
        layers: 2,
        horizon: 5,
        known: 2,
        quantiles: 0,
        embedding: 0,
        series: 0,
        decoder: Decoder::Direct,
    };

    #[test]
    fn every_size_has_its_bounds() {
        assert_eq!(SMALL.check(), Ok(()));
        let message = |shape: Shape| shape.check().unwrap_err().to_string();
        assert!(message(Shape { hidden: 0, ..SMALL }).contains("`hidden` is 0"));
        assert!(message(Shape { layers: 17, ..SMALL }).contains("`layers` is 17, more than 16"));
        assert!(message(Shape { known: usize::MAX, ..SMALL }).contains("`known`"));
        assert!(message(Shape { quantiles: 33, ..SMALL }).contains("`quantiles` is 33, more than 32"));
        let recursive = Shape { quantiles: 2, decoder: Decoder::Recursive, ..SMALL };
        assert!(message(recursive).contains("use the direct decoder"));
        assert!(message(Shape { embedding: 65, ..SMALL }).contains("`embedding` is 65, more than 64"));
        assert!(message(Shape { embedding: 2, ..SMALL }).contains("`embedding` is 2 for 0 `series`"));
        let many = Shape { embedding: 2, series: usize::MAX, ..SMALL };
        assert!(message(many).contains("parameters, more than 268435456"));
        let wide = Shape { horizon: HORIZON_MAX, known: INPUTS_MAX, ..SMALL };
        assert!(message(wide).contains("parameters, more than 268435456"));
    }

    #[test]
    fn parameters_are_counted_tensor_by_tensor() {
        let layer_0 = 16 * 3 + 16 * 4 + 16 + 16;
        let layer_1 = 16 * 4 + 16 * 4 + 16 + 16;
        assert_eq!(SMALL.parameters(), layer_0 + layer_1 + 5 * (4 + 10) + 5);
        let quantiles = Shape { quantiles: 4, ..SMALL };
        assert_eq!((quantiles.outputs(), SMALL.outputs()), (25, 5));
        assert_eq!(quantiles.parameters(), layer_0 + layer_1 + 25 * (4 + 10) + 25);
        let embedding = Shape { embedding: 3, series: 7, ..SMALL };
        assert_eq!(embedding.parameters(), SMALL.parameters() + 16 * 3 + 7 * 3);
        let recursive = Shape { decoder: Decoder::Recursive, ..SMALL };
        assert_eq!(recursive.parameters(), layer_0 + layer_1 + (4 + 2) + 1);
    }
}
