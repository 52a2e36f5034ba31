//! AdamW: a step against the gradient, scaled by its running size, and weights that decay on their own.

use super::fused;
use super::{Gradients, Network, Tensors};

/// How much of the running mean of the gradient is kept each step, and of that of its square.
const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
/// Keeps a weight whose gradient was always 0 from being divided by 0.
const EPSILON: f64 = 1e-8;

/// The state of AdamW for one network.
#[derive(Clone, Debug)]
pub struct AdamW {
    /// May be changed between steps.
    pub learning_rate: f64,
    /// The share of every weight, times the learning rate, that is taken away each step.
    pub weight_decay: f64,
    steps: u64,
    means: Tensors,
    squares: Tensors,
}

impl AdamW {
    pub fn new(network: &Network, learning_rate: f64, weight_decay: f64) -> Self {
        let zeros = fused::zeros(network.shape());
        Self { learning_rate, weight_decay, steps: 0, means: zeros.clone(), squares: zeros }
    }

    /// How many steps were taken, and the running means of the gradients and of their squares.
    pub fn parts(&self) -> (u64, &Tensors, &Tensors) {
        (self.steps, &self.means, &self.squares)
    }

    /// As `like`, with what [`AdamW::parts`] gave put back, the means as networks.
    pub fn from_parts(like: &Self, steps: u64, means: &Network, squares: &Network) -> Self {
        let (means, squares) = (means.tensors().clone(), squares.tensors().clone());
        Self { steps, means, squares, ..*like }
    }

    /// Changes the weights of the network this was made for.
    pub fn step(&mut self, network: &mut Network, gradients: &Gradients) {
        self.steps += 1;
        // The means start at 0; this is the share of them that is there by now.
        let share = |beta: f64| 1.0 - beta.powf(self.steps as f64);
        let (share_1, share_2) = (share(BETA_1), share(BETA_2));
        let rate = (self.learning_rate / share_1) as f32;
        let decay = (1.0 - self.learning_rate * self.weight_decay) as f32;
        let root = share_2.sqrt() as f32;
        network.update(|weights| {
            assert!(weights.keys().eq(gradients.tensors.keys()), "gradients belong to the network");
            let moments = self.means.values_mut().zip(self.squares.values_mut());
            let pairs = weights.values_mut().zip(gradients.tensors.values());
            for ((weight, gradient), (mean, square)) in pairs.zip(moments) {
                assert_eq!(weight.shape, gradient.shape, "gradients belong to the network");
                let numbers = weight.data.iter_mut().zip(&gradient.data);
                for ((w, &g), (m, v)) in numbers.zip(mean.data.iter_mut().zip(&mut square.data)) {
                    // m = β1 m + (1 - β1) g
                    *m = BETA_1 as f32 * *m + (1.0 - BETA_1) as f32 * g;
                    // v = β2 v + (1 - β2) g²
                    *v = BETA_2 as f32 * *v + (1.0 - BETA_2) as f32 * g * g;
                    // w = w (1 - η λ) - η m̂ / (sqrt(v̂) + ε), where m̂ = m / (1 - β1^t), v̂ = v / (1 - β2^t)
                    *w = *w * decay - rate * *m / (v.sqrt() / root + EPSILON as f32);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{CellKind, Decoder, Shape};

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

    /// The first step of Adam goes by the learning rate against each gradient, whatever its size.
    #[test]
    fn the_first_step_is_the_learning_rate() {
        let mut network = Network::new(SHAPE, 1).unwrap();
        let before = network.tensors()["head.bias"].data.clone();
        let mut gradients = Gradients::zeros(network.shape());
        gradients.tensors.get_mut("head.bias").unwrap().data.copy_from_slice(&[1e3, -1e-3, 0.0]);
        AdamW::new(&network, 0.01, 0.5).step(&mut network, &gradients);
        for ((before, after), step) in
            before.iter().zip(&network.tensors()["head.bias"].data).zip([-0.01, 0.01, 0.0])
        {
            assert!((after - (before * (1.0 - 0.01 * 0.5) + step)).abs() < 1e-6, "{before} {after}");
        }
    }
}
