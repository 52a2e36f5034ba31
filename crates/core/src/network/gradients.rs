//! The derivatives of a loss with respect to every weight.

use super::fused;
use super::{Shape, Tensors};

/// Gradients, under the names and in the shapes of the weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients {
    pub(super) tensors: Tensors,
}

impl Gradients {
    pub fn zeros(shape: &Shape) -> Self {
        Self { tensors: fused::zeros(shape) }
    }

    pub fn tensors(&self) -> &Tensors {
        &self.tensors
    }

    /// Adds the gradients of another part of the batch. Panics when they are another shape's.
    pub fn add(&mut self, other: &Gradients) {
        assert!(self.tensors.keys().eq(other.tensors.keys()), "gradients of one shape are added");
        for (to, from) in self.tensors.values_mut().zip(other.tensors.values()) {
            assert_eq!(to.shape, from.shape, "gradients of one shape are added");
            to.data.iter_mut().zip(&from.data).for_each(|(to, from)| *to += from);
        }
    }

    /// Multiplies everything by `factor`, such as one over the number of values the loss was summed over.
    pub fn scale(&mut self, factor: f32) {
        self.tensors.values_mut().flat_map(|tensor| &mut tensor.data).for_each(|number| *number *= factor);
    }

    /// The Euclidean norm of all gradients together.
    pub fn norm(&self) -> f64 {
        let numbers = self.tensors.values().flat_map(|tensor| &tensor.data);
        numbers.map(|&number| f64::from(number).powi(2)).sum::<f64>().sqrt()
    }

    /// Scales everything down so that the norm is at most `max`; returns the norm before.
    pub fn clip(&mut self, max: f64) -> f64 {
        let norm = self.norm();
        if norm > max {
            self.scale((max / norm) as f32);
        }
        norm
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{CellKind, Decoder};

    const SHAPE: Shape = Shape {
        cell: CellKind::Rnn,
        inputs: 3,
        hidden: 4,
        layers: 1,
        horizon: 3,
        known: 0,
        quantiles: 0,
        embedding: 0,
        series: 0,
        decoder: Decoder::Direct,
    };

    #[test]
    fn gradients_are_clipped_to_a_norm() {
        let mut gradients = Gradients::zeros(&SHAPE);
        gradients.tensors.get_mut("head.bias").unwrap().data[..2].copy_from_slice(&[3.0, 4.0]);
        assert_eq!(gradients.clip(10.0), 5.0);
        assert_eq!(gradients.clip(1.0), 5.0);
        assert!((gradients.norm() - 1.0).abs() < 1e-6);
    }
}
