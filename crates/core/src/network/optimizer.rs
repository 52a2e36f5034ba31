//! The gradients of a network, the AdamW optimizer, and the moving average of the weights.

use super::weights;
use super::{Network, Shape, Tensors};

/// Decay of the first moment per step.
const BETA_1: f64 = 0.9;
/// Decay of the second moment per step.
const BETA_2: f64 = 0.999;
/// Prevents the division by 0 for a weight whose gradient was always 0.
const EPSILON: f64 = 1e-8;

/// The derivatives of a loss with respect to every weight, with the names and shapes of the weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients {
    pub(super) tensors: Tensors,
}

impl Gradients {
    pub fn zeros(shape: &Shape) -> Self {
        Self { tensors: weights::zeros(shape) }
    }

    pub fn tensors(&self) -> &Tensors {
        &self.tensors
    }

    /// Adds the gradients of another part of the batch.
    ///
    /// # Panics
    /// If they belong to another shape.
    pub fn add(&mut self, other: &Gradients) {
        assert!(self.tensors.keys().eq(other.tensors.keys()), "both gradients belong to one shape");
        for (to, from) in self.tensors.values_mut().zip(other.tensors.values()) {
            assert_eq!(to.shape, from.shape, "both gradients belong to one shape");
            to.data.iter_mut().zip(&from.data).for_each(|(to, from)| *to += from);
        }
    }

    /// Multiplies all gradients by `factor`.
    pub fn scale(&mut self, factor: f32) {
        self.tensors.values_mut().flat_map(|tensor| &mut tensor.data).for_each(|number| *number *= factor);
    }

    /// The Euclidean norm over all tensors.
    pub fn norm(&self) -> f64 {
        let numbers = self.tensors.values().flat_map(|tensor| &tensor.data);
        numbers.map(|&number| f64::from(number).powi(2)).sum::<f64>().sqrt()
    }

    /// Scales all gradients down to a norm of at most `max`. Returns the norm before.
    pub fn clip(&mut self, max: f64) -> f64 {
        let norm = self.norm();
        if norm > max {
            self.scale((max / norm) as f32);
        }
        norm
    }
}

/// AdamW with its state for one network (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019).
#[derive(Clone, Debug)]
pub struct AdamW {
    /// η; may change between steps.
    pub learning_rate: f64,
    /// λ: each step shrinks every weight by ηλ of its value.
    pub weight_decay: f64,
    /// The state: part of a checkpoint.
    pub moments: Moments,
}

/// The running moments of the gradients.
#[derive(Clone, Debug)]
pub struct Moments {
    pub steps: u64,
    /// m
    pub first: Tensors,
    /// v
    pub second: Tensors,
}

impl AdamW {
    pub fn new(network: &Network, learning_rate: f64, weight_decay: f64) -> Self {
        let zeros = weights::zeros(network.shape());
        Self {
            learning_rate,
            weight_decay,
            moments: Moments { steps: 0, first: zeros.clone(), second: zeros },
        }
    }

    /// Updates the weights of the network that this optimizer was made for.
    ///
    /// # Panics
    /// If the gradients belong to another shape.
    pub fn step(&mut self, network: &mut Network, gradients: &Gradients) {
        let Moments { steps, first, second } = &mut self.moments;
        *steps += 1;
        // The moments start at 0; this corrects their bias.
        let correction = |beta: f64| 1.0 - beta.powf(*steps as f64);
        let (correction_1, correction_2) = (correction(BETA_1), correction(BETA_2));
        let rate = (self.learning_rate / correction_1) as f32;
        let decay = (1.0 - self.learning_rate * self.weight_decay) as f32;
        let root = correction_2.sqrt() as f32;
        network.update(|weights| {
            assert!(weights.keys().eq(gradients.tensors.keys()), "the gradients belong to the network");
            let moments = first.values_mut().zip(second.values_mut());
            let pairs = weights.values_mut().zip(gradients.tensors.values());
            for ((weight, gradient), (mean, square)) in pairs.zip(moments) {
                assert_eq!(weight.shape, gradient.shape, "the gradients belong to the network");
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

/// An exponential moving average of a network's weights.
///
/// Optimizer steps oscillate around a minimum, and their mean is closer to it than each of them (Polyak and Juditsky,
/// "Acceleration of stochastic approximation by averaging", 1992). An exponential average also forgets the way there.
#[derive(Clone, Debug)]
pub struct WeightEma {
    decay: f64,
    steps: u64,
    shape: Shape,
    tensors: Tensors,
}

impl WeightEma {
    /// An average over no steps yet. With a `decay` of 0 it equals the latest weights.
    pub fn new(network: &Network, decay: f64) -> Self {
        Self { decay, steps: 0, shape: *network.shape(), tensors: network.tensors().clone() }
    }

    /// Adds the weights after another step.
    ///
    /// # Panics
    /// If the network has another shape.
    pub fn add(&mut self, network: &Network) {
        assert_eq!(self.shape, *network.shape(), "all averaged weights have one shape");
        self.steps += 1;
        // m_t = d m_{t-1} + (1 - d) w_t starts at 0, so its bias is corrected: a_t = m_t / (1 - d^t)
        // = (1 - s) a_{t-1} + s w_t with s = (1 - d) / (1 - d^t)
        let share = ((1.0 - self.decay) / (1.0 - self.decay.powf(self.steps as f64))) as f32;
        for (mean, weights) in self.tensors.values_mut().zip(network.tensors().values()) {
            for (a, w) in mean.data.iter_mut().zip(&weights.data) {
                *a = (1.0 - share) * *a + share * w;
            }
        }
    }

    /// Averaged steps.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The averaged weights.
    pub fn tensors(&self) -> &Tensors {
        &self.tensors
    }

    /// Restores an average over `steps` steps from a checkpoint.
    pub fn restore(&mut self, steps: u64, mean: &Network) {
        assert_eq!(self.shape, *mean.shape(), "all averaged weights have one shape");
        (self.steps, self.tensors) = (steps, mean.tensors().clone());
    }

    /// The network with the averaged weights.
    pub fn network(&self) -> Network {
        Network::from_tensors(self.shape, &self.tensors).expect("a mean has the shapes of its terms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::CellKind;

    #[test]
    fn gradients_are_clipped_to_a_norm() {
        let mut gradients = Gradients::zeros(&Shape::small(CellKind::Rnn));
        gradients.tensors.get_mut("head.bias").unwrap().data[..2].copy_from_slice(&[3.0, 4.0]);
        assert_eq!(gradients.clip(10.0), 5.0);
        assert_eq!(gradients.clip(1.0), 5.0);
        assert!((gradients.norm() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn the_first_adam_step_equals_the_learning_rate() {
        let mut network = Network::new(Shape::small(CellKind::Rnn), 1).unwrap();
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

    #[test]
    fn the_weight_average_is_exponential_and_unbiased() {
        let network = |seed| Network::new(Shape::small(CellKind::Gru), seed).unwrap();
        let weight = |seed| network(seed).tensors()["head.bias"].data[1];
        let average = |decay: f64, seeds: &[u64]| {
            let mut average = WeightEma::new(&network(seeds[0]), decay);
            seeds.iter().for_each(|seed| average.add(&network(*seed)));
            average.network().tensors()["head.bias"].data[1]
        };
        assert_eq!(average(0.9, &[4]), weight(4), "one step is its own mean");
        assert_eq!(average(0.0, &[4, 5, 6]), weight(6), "without decay it is the latest");
        // (d² w1 + d w2 + w3) / (d² + d + 1)
        let expected = (0.81 * weight(4) + 0.9 * weight(5) + weight(6)) / 2.71;
        assert!((average(0.9, &[4, 5, 6]) - expected).abs() < 1e-6);
    }
}
