//! The running mean of the weights: where the steps of the optimiser go around a minimum, their mean is nearer to it than
//! any of them (Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992), and one that forgets
//! leaves the way there behind.

use super::{Network, Shape, Tensors};

/// An exponential moving average of a network's weights.
#[derive(Clone, Debug)]
pub struct WeightEma {
    decay: f64,
    steps: u64,
    shape: Shape,
    tensors: Tensors,
}

impl WeightEma {
    /// Of nothing yet. `decay` is how much of the mean is kept each step; with 0 it is the latest weights.
    pub fn new(network: &Network, decay: f64) -> Self {
        Self { decay, steps: 0, shape: *network.shape(), tensors: network.tensors().clone() }
    }

    /// Takes in the weights after another step. Panics when they are another shape's.
    pub fn add(&mut self, network: &Network) {
        assert_eq!(self.shape, *network.shape(), "weights of one network are averaged");
        self.steps += 1;
        // The mean starts at nothing: m_t = d m_{t-1} + (1 - d) w_t has the weights of 1 - d^t steps in it, so
        // a_t = m_t / (1 - d^t) = (1 - s) a_{t-1} + s w_t, where s = (1 - d) / (1 - d^t); the first step is taken whole.
        let share = ((1.0 - self.decay) / (1.0 - self.decay.powf(self.steps as f64))) as f32;
        for (mean, weights) in self.tensors.values_mut().zip(network.tensors().values()) {
            for (a, w) in mean.data.iter_mut().zip(&weights.data) {
                *a = (1.0 - share) * *a + share * w;
            }
        }
    }

    pub fn decay(&self) -> f64 {
        self.decay
    }

    /// How many steps were taken in, and their mean.
    pub fn parts(&self) -> (u64, &Tensors) {
        (self.steps, &self.tensors)
    }

    /// Puts back what [`WeightEma::parts`] gave, the mean as a network.
    pub fn from_parts(decay: f64, steps: u64, mean: &Network) -> Self {
        Self { steps, ..Self::new(mean, decay) }
    }

    /// The network of the mean weights.
    pub fn network(&self) -> Network {
        Network::from_tensors(self.shape, &self.tensors).expect("a mean has the shapes of what it is of")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{CellKind, Decoder};

    const SHAPE: Shape = Shape {
        cell: CellKind::Gru,
        inputs: 2,
        hidden: 3,
        layers: 1,
        horizon: 2,
        known: 0,
        quantiles: 0,
        embedding: 0,
        series: 0,
        decoder: Decoder::Direct,
    };

    fn averaged(decay: f64, seeds: &[u64]) -> f32 {
        let networks: Vec<Network> = seeds.iter().map(|seed| Network::new(SHAPE, *seed).unwrap()).collect();
        let mut average = WeightEma::new(&networks[0], decay);
        networks.iter().for_each(|network| average.add(network));
        average.network().tensors()["head.bias"].data[1]
    }

    #[test]
    fn the_mean_forgets_and_does_not_start_at_nothing() {
        let weight = |seed| Network::new(SHAPE, seed).unwrap().tensors()["head.bias"].data[1];
        assert_eq!(averaged(0.9, &[4]), weight(4), "one step is its own mean");
        assert_eq!(averaged(0.0, &[4, 5, 6]), weight(6), "without memory it is the latest");
        // (d² w1 + d w2 + w3) / (d² + d + 1)
        let expected = (0.81 * weight(4) + 0.9 * weight(5) + weight(6)) / 2.71;
        assert!((averaged(0.9, &[4, 5, 6]) - expected).abs() < 1e-6);
    }
}
