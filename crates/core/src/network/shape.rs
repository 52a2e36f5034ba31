//! The sizes of a network, their limits, and the tensors that follow from them.

use serde::{Deserialize, Serialize};

use super::{CellKind, Decoder};

/// The sizes that determine the tensors of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    pub cell: CellKind,
    /// Inputs of one step; with the recursive decoder, input 0 is the forecast value.
    pub inputs: usize,
    /// Hidden units of a layer.
    pub hidden: usize,
    pub layers: usize,
    /// Values of a forecast.
    pub horizon: usize,
    /// Future covariates that the head reads for each step of the horizon.
    pub future_covariates: usize,
    /// Quantiles of each value, in addition to the point forecast; only with the direct decoder.
    pub quantiles: usize,
    /// Size of a learned vector per series, an additional input of every step; 0 for none.
    pub embedding: usize,
    /// Series with an embedding; 0 if `embedding` is 0.
    pub series: usize,
    pub decoder: Decoder,
}

/// With more, the weights of a step leave every cache and no stream keeps up.
pub const HIDDEN_MAX: usize = 4096;
/// Gradients do not survive deeper stacks, and every layer costs a state per series.
pub const LAYERS_MAX: usize = 16;
/// A wider step is more likely a mistake in the column names than a series.
pub const INPUTS_MAX: usize = 4096;
/// More than a month of minutes. Each value is a row of the head and a number in each forecast.
pub const HORIZON_MAX: usize = 65_536;
/// Two for each interval level of a pipeline. Each is a row of the head for every step of the horizon.
pub const QUANTILES_MAX: usize = 32;
/// A few numbers distinguish hundreds of series, and each widens every step.
pub const EMBEDDING_MAX: usize = 64;
/// 256 Mi parameters: 1 GiB of weights, and four times that in training.
pub const PARAMETERS_MAX: u64 = 256 << 20;

/// Sizes that no network may have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    #[error("`{size}` is 0: it must be at least 1")]
    Zero { size: &'static str },
    #[error("`{size}` is {value}, more than {max}: {reason}")]
    TooLarge { size: &'static str, value: usize, max: usize, reason: &'static str },
    #[error(
        "`quantiles` is {value} with the recursive decoder, which forecasts one value a step and feeds it back: \
         use the direct decoder"
    )]
    Quantiles { value: usize },
    #[error("`embedding` is {embedding} for {series} `series`: either both or neither must be 0")]
    Embedding { embedding: usize, series: usize },
    #[error(
        "the network would have {value} parameters, more than {max} (1 GiB): \
         lower `hidden`, `layers`, `horizon` or the number of inputs"
    )]
    TooManyParameters { value: u64, max: u64 },
}

/// Name of the embedding tensor, as in torch.nn.Embedding.
pub(super) const EMBEDDING: &str = "embedding.weight";

/// Name and shape of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TensorSpec {
    pub name: String,
    pub shape: Vec<usize>,
}

impl Shape {
    /// # Errors
    /// If a network of these sizes cannot be built.
    pub fn check(&self) -> Result<(), ShapeError> {
        for (size, value, min, max, reason) in [
            ("inputs", self.inputs, 1, INPUTS_MAX, "omit columns or shorten the segment"),
            ("hidden", self.hidden, 1, HIDDEN_MAX, "use more layers"),
            ("layers", self.layers, 1, LAYERS_MAX, "gradients do not survive deeper stacks"),
            ("horizon", self.horizon, 1, HORIZON_MAX, "use a coarser grid"),
            ("future_covariates", self.future_covariates, 0, INPUTS_MAX, "omit columns"),
            ("quantiles", self.quantiles, 0, QUANTILES_MAX, "use fewer levels"),
            ("embedding", self.embedding, 0, EMBEDDING_MAX, "fewer numbers distinguish the series"),
        ] {
            if value < min {
                return Err(ShapeError::Zero { size });
            }
            if value > max {
                return Err(ShapeError::TooLarge { size, value, max, reason });
            }
        }
        if self.quantiles > 0 && self.decoder == Decoder::Recursive {
            return Err(ShapeError::Quantiles { value: self.quantiles });
        }
        let (embedding, series) = (self.embedding, self.series);
        if (embedding == 0) != (series == 0) {
            return Err(ShapeError::Embedding { embedding, series });
        }
        let value = self.parameters();
        if value > PARAMETERS_MAX {
            return Err(ShapeError::TooManyParameters { value, max: PARAMETERS_MAX });
        }
        Ok(())
    }

    /// Count of trained numbers.
    pub fn parameters(&self) -> u64 {
        let count =
            |spec: TensorSpec| spec.shape.iter().fold(1, |product: u64, &n| product.saturating_mul(n as u64));
        self.tensor_specs().into_iter().map(count).fold(0, u64::saturating_add)
    }

    /// Numbers that a forecast has per column, `[quantity][horizon]`: the point forecast, then each quantile.
    pub fn outputs(&self) -> usize {
        self.horizon.saturating_mul(self.quantiles.saturating_add(1))
    }

    /// Inputs of a layer; those of layer 0 are `[x; e]` with the embedding e.
    pub(super) fn inputs_of(&self, layer: usize) -> usize {
        if layer == 0 { self.inputs.saturating_add(self.embedding) } else { self.hidden }
    }

    /// Steps of the horizon that the head forecasts in one call.
    pub(super) fn head_steps(&self) -> usize {
        match self.decoder {
            Decoder::Direct => self.horizon,
            Decoder::Recursive => 1,
        }
    }

    /// Rows of the head, `[quantity][step]`: the point forecasts of the steps of one call, then each quantile's.
    pub(super) fn head_rows(&self) -> usize {
        self.head_steps().saturating_mul(self.quantiles.saturating_add(1))
    }

    /// Future covariates that one call of the head reads.
    pub(super) fn head_covariates(&self) -> usize {
        self.head_steps().saturating_mul(self.future_covariates)
    }

    /// Steps after the last input: the recursive decoder feeds back every value but the last.
    pub fn feedback_steps(&self) -> usize {
        match self.decoder {
            Decoder::Direct => 0,
            Decoder::Recursive => self.horizon - 1,
        }
    }

    /// Every tensor of the network, in the order in which they are initialised.
    pub(super) fn tensor_specs(&self) -> Vec<TensorSpec> {
        let hidden = self.hidden;
        let rows = self.cell.gates().saturating_mul(hidden);
        let mut specs = Vec::new();
        let mut add = |name: String, shape: Vec<usize>| specs.push(TensorSpec { name, shape });
        for k in 0..self.layers {
            add(format!("weight_ih_l{k}"), vec![rows, self.inputs_of(k)]);
            add(format!("weight_hh_l{k}"), vec![rows, hidden]);
            add(format!("bias_ih_l{k}"), vec![rows]);
            add(format!("bias_hh_l{k}"), vec![rows]);
            for gate in self.cell.peepholes() {
                add(format!("peephole_{gate}_l{k}"), vec![hidden]);
            }
        }
        add("head.weight".into(), vec![self.head_rows(), hidden.saturating_add(self.head_covariates())]);
        add("head.bias".into(), vec![self.head_rows()]);
        if self.embedding > 0 {
            add(EMBEDDING.into(), vec![self.series, self.embedding]);
        }
        specs
    }

    /// A small direct network for tests.
    #[cfg(test)]
    pub(super) fn small(cell: CellKind) -> Self {
        Self {
            cell,
            inputs: 3,
            hidden: 4,
            layers: 1,
            horizon: 3,
            future_covariates: 0,
            quantiles: 0,
            embedding: 0,
            series: 0,
            decoder: Decoder::Direct,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_layers() -> Shape {
        Shape { layers: 2, horizon: 5, future_covariates: 2, ..Shape::small(CellKind::Lstm) }
    }

    #[test]
    fn every_size_has_limits() {
        let valid = two_layers();
        assert_eq!(valid.check(), Ok(()));
        let message = |shape: Shape| shape.check().unwrap_err().to_string();
        assert!(message(Shape { hidden: 0, ..valid }).contains("`hidden` is 0"));
        assert!(message(Shape { layers: 17, ..valid }).contains("`layers` is 17, more than 16"));
        assert!(message(Shape { future_covariates: usize::MAX, ..valid }).contains("`future_covariates`"));
        assert!(message(Shape { quantiles: 33, ..valid }).contains("`quantiles` is 33, more than 32"));
        let recursive = Shape { quantiles: 2, decoder: Decoder::Recursive, ..valid };
        assert!(message(recursive).contains("use the direct decoder"));
        assert!(message(Shape { embedding: 65, ..valid }).contains("`embedding` is 65, more than 64"));
        assert!(message(Shape { embedding: 2, ..valid }).contains("`embedding` is 2 for 0 `series`"));
        let many = Shape { embedding: 2, series: usize::MAX, ..valid };
        assert!(message(many).contains("parameters, more than 268435456"));
        let wide = Shape { horizon: HORIZON_MAX, future_covariates: INPUTS_MAX, ..valid };
        assert!(message(wide).contains("parameters, more than 268435456"));
    }

    #[test]
    fn parameters_are_the_sum_over_all_tensors() {
        let shape = two_layers();
        let layer_0 = 16 * 3 + 16 * 4 + 16 + 16;
        let layer_1 = 16 * 4 + 16 * 4 + 16 + 16;
        assert_eq!(shape.parameters(), layer_0 + layer_1 + 5 * (4 + 10) + 5);
        let quantiles = Shape { quantiles: 4, ..shape };
        assert_eq!((quantiles.outputs(), shape.outputs()), (25, 5));
        assert_eq!(quantiles.parameters(), layer_0 + layer_1 + 25 * (4 + 10) + 25);
        let embedding = Shape { embedding: 3, series: 7, ..shape };
        assert_eq!(embedding.parameters(), shape.parameters() + 16 * 3 + 7 * 3);
        let recursive = Shape { decoder: Decoder::Recursive, ..shape };
        assert_eq!(recursive.parameters(), layer_0 + layer_1 + (4 + 2) + 1);
    }
}
