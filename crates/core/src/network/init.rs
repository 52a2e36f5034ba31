//! The initial weights of a network, and the random numbers they are drawn from.

use serde::{Deserialize, Serialize};

use super::shape::{EMBEDDING, TensorSpec};
use super::{CellKind, Shape, Tensor, Tensors};

/// SplitMix64: the same seed gives the same numbers on every machine and in every version.
pub struct Random {
    state: u64,
}

impl Random {
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The numbers of a key, unrelated to those of any other key. They depend on nothing but the key.
    pub fn keyed(key: &[u64]) -> Self {
        // SplitMix64 is a bijection of its state: after equal words, each next word gives another state.
        Self { state: key.iter().fold(0, |state, word| Self::new(state ^ word).next_u64()) }
    }

    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f32 {
        // The upper 24 bits: an f32 holds no more.
        (self.next_u64() >> 40) as f32 / (1_u32 << 24) as f32
    }

    /// Uniform in [-bound, bound).
    pub fn uniform(&mut self, bound: f32) -> f32 {
        (2.0 * self.unit() - 1.0) * bound
    }

    /// Approximately standard normal.
    #[cfg(test)]
    pub fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.unit()).sum::<f32>() - 6.0
    }
}

/// The initial bias of the forget gates: the sum of PyTorch's two bias vectors.
///
/// A gate of bias b passes on σ(b) of a cell, and of its gradient, at every step: after k steps σ(b)^k is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ForgetBias {
    /// Half of the cell is forgotten at every step. PyTorch's initial biases are distributed around this.
    Zero,
    /// A quarter is forgotten. The GRU has PyTorch's biases instead: its update gate z should behave as its users expect,
    /// although z retains the state as a forget gate does.
    #[default]
    One,
    /// The memory of each unit has a random length, uniform up to `max_steps` (Tallec and Ollivier, "Can recurrent neural networks
    /// warp time?", 2018).
    Chrono { max_steps: usize },
}

impl ForgetBias {
    /// Sets the biases of the gates that retain and admit; all other weights stay as drawn.
    fn apply(self, shape: &Shape, seed: u64, tensors: &mut Tensors) {
        let Some(RetainGate { retain, admit }) = retain_gate(shape.cell) else { return };
        if self == Self::One && shape.cell == CellKind::Gru {
            return;
        }
        // A separate stream: a seed draws the same other weights for every bias.
        let mut random = Random::new(!seed);
        for layer in 0..shape.layers {
            for j in 0..shape.hidden {
                let mut put = |gate: usize, bias: f32| {
                    for (half, value) in [("ih", bias), ("hh", 0.0)] {
                        let name = format!("bias_{half}_l{layer}");
                        let tensor = tensors.get_mut(&name).expect("every layer has its biases");
                        tensor.data[gate * shape.hidden + j] = value;
                    }
                };
                match self {
                    Self::Zero => put(retain, 0.0),
                    Self::One => put(retain, 1.0),
                    Self::Chrono { max_steps } => {
                        // b_f = log u, u ~ U(1, T - 1): a memory of about u steps, since σ(log u) = 1 - 1/(1 + u)
                        let unit = random.uniform(0.5) + 0.5;
                        let bias = (1.0 + unit * max_steps.saturating_sub(2) as f32).ln();
                        put(retain, bias);
                        // b_i = -b_f: the longer a unit remembers, the less it admits in each step
                        admit.into_iter().for_each(|gate| put(gate, -bias));
                    }
                }
            }
        }
    }
}

/// The gate that retains the state, and the separate gate that admits the candidate, if there is one.
struct RetainGate {
    retain: usize,
    admit: Option<usize>,
}

fn retain_gate(cell: CellKind) -> Option<RetainGate> {
    match cell {
        CellKind::Rnn => None,
        CellKind::Lstm | CellKind::LstmPeephole => Some(RetainGate { retain: 1, admit: Some(0) }),
        CellKind::LstmCoupled | CellKind::LstmPeepholeCoupled => Some(RetainGate { retain: 0, admit: None }),
        // h = (1 - z) ∘ n + z ∘ h': the update gate z retains, and 1 - z admits
        CellKind::Gru => Some(RetainGate { retain: 1, admit: None }),
    }
}

/// Random weights: uniform in ±1/sqrt(n), where n is the number of inputs of a row that PyTorch counts: `hidden` for the
/// cells, all inputs for the head. Embeddings start at zero, which is what an unknown series reads.
pub(super) fn initial_tensors(shape: &Shape, seed: u64, bias: ForgetBias) -> Tensors {
    let mut random = Random::new(seed);
    let tensor = |TensorSpec { name, shape: size }: TensorSpec| {
        let fan_in =
            if name.starts_with("head.") { shape.hidden + shape.head_covariates() } else { shape.hidden };
        let bound = 1.0 / (fan_in as f32).sqrt();
        let mut tensor = Tensor::zeros(&size);
        if name != EMBEDDING {
            tensor.data.iter_mut().for_each(|weight| *weight = random.uniform(bound));
        }
        (name, tensor)
    };
    let mut tensors: Tensors = shape.tensor_specs().into_iter().map(tensor).collect();
    bias.apply(shape, seed, &mut tensors);
    tensors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Network;

    const MAX_STEPS: usize = 100;

    fn network(cell: CellKind, bias: ForgetBias) -> Network {
        let shape = Shape { hidden: 64, layers: 2, ..Shape::small(cell) };
        Network::with_forget_bias(shape, 3, bias).unwrap()
    }

    /// The sum of both halves of one gate's bias.
    fn bias(network: &Network, layer: usize, gate: usize) -> Vec<f32> {
        let hidden = network.shape().hidden;
        let half =
            |name: &str| &network.tensors()[&format!("bias_{name}_l{layer}")].data[gate * hidden..][..hidden];
        half("ih").iter().zip(half("hh")).map(|(a, b)| a + b).collect()
    }

    #[test]
    fn random_numbers_are_uniform() {
        let mut random = Random::new(7);
        let numbers: Vec<f32> = (0..10_000).map(|_| random.uniform(0.5)).collect();
        assert!(numbers.iter().all(|x| (-0.5..0.5).contains(x)));
        let mean = numbers.iter().sum::<f32>() / 10_000.0;
        let square = numbers.iter().map(|x| x * x).sum::<f32>() / 10_000.0;
        assert!(mean.abs() < 0.01 && (square - 1.0 / 12.0).abs() < 0.003, "{mean} {square}");
    }

    #[test]
    fn different_keys_give_different_numbers() {
        let first = |key: &[u64]| Random::keyed(key).next_u64();
        let mut found: Vec<u64> = (0..1000).flat_map(|i| [first(&[1, i]), first(&[i + 2, 1])]).collect();
        found.extend([first(&[]), first(&[1]), first(&[1, 2, 3])]);
        found.sort_unstable();
        assert!(found.windows(2).all(|pair| pair[0] != pair[1]));
        assert_eq!(first(&[1, 2]), first(&[1, 2]));
    }

    #[test]
    fn the_random_sequence_is_fixed() {
        let mut random = Random::new(1234567);
        assert_eq!(random.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(random.next_u64(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn forget_gates_have_the_requested_bias() {
        for cell in
            [CellKind::Lstm, CellKind::LstmPeephole, CellKind::LstmCoupled, CellKind::LstmPeepholeCoupled]
        {
            let RetainGate { retain, .. } = retain_gate(cell).unwrap();
            for layer in 0..2 {
                assert!(bias(&network(cell, ForgetBias::Zero), layer, retain).iter().all(|b| *b == 0.0));
                let one = network(cell, ForgetBias::One);
                assert!(bias(&one, layer, retain).iter().all(|b| *b == 1.0));
                assert!(bias(&one, layer, retain + 1).iter().all(|b| b.abs() <= 0.25), "as drawn");
            }
        }
        assert!(bias(&network(CellKind::Gru, ForgetBias::Zero), 1, 1).iter().all(|b| *b == 0.0));
    }

    #[test]
    fn chrono_biases_are_uniform_up_to_the_maximum() {
        for cell in CellKind::ALL {
            let Some(RetainGate { retain, admit }) = retain_gate(cell) else { continue };
            let network = network(cell, ForgetBias::Chrono { max_steps: MAX_STEPS });
            for layer in 0..2 {
                let steps: Vec<f32> = bias(&network, layer, retain).iter().map(|b| b.exp()).collect();
                assert!(steps.iter().all(|u| (0.999..=99.01).contains(u)), "{cell} {steps:?}");
                let mean = steps.iter().sum::<f32>() / steps.len() as f32;
                assert!((mean - 50.0).abs() < 12.0, "{cell}: uniform from 1 to 99, not {mean}");
                if let Some(gate) = admit {
                    let opposite: Vec<f32> = bias(&network, layer, gate).iter().map(|b| -b).collect();
                    assert_eq!(opposite, bias(&network, layer, retain), "{cell}");
                }
            }
            assert_ne!(bias(&network, 0, retain), bias(&network, 1, retain));
        }
    }

    #[test]
    fn the_bias_setting_changes_only_biases() {
        for cell in CellKind::ALL {
            let one = network(cell, ForgetBias::One);
            let default = Network::new(*one.shape(), 3).unwrap();
            assert_eq!(one.tensors(), default.tensors(), "{cell}: the default");
            for bias in [ForgetBias::Zero, ForgetBias::Chrono { max_steps: MAX_STEPS }] {
                let other = network(cell, bias);
                for (name, tensor) in one.tensors().iter().filter(|(name, _)| !name.starts_with("bias_")) {
                    assert_eq!(tensor, &other.tensors()[name], "{cell} {name}");
                }
                assert_eq!(one.tensors() == other.tensors(), cell == CellKind::Rnn, "{cell}");
            }
        }
    }

    #[test]
    fn chrono_biases_of_very_short_memories_are_zero() {
        for max_steps in [0, 1, 2] {
            let network = network(CellKind::Lstm, ForgetBias::Chrono { max_steps });
            assert!(bias(&network, 0, 1).iter().all(|b| *b == 0.0), "the logarithm of 1");
        }
    }

    #[test]
    fn forget_biases_have_stable_names_in_files() {
        let text = |bias| serde_json::to_string(&bias).unwrap();
        assert_eq!(text(ForgetBias::Zero), r#""zero""#);
        assert_eq!(text(ForgetBias::Chrono { max_steps: 7 }), r#"{"chrono":{"max_steps":7}}"#);
        assert_eq!(serde_json::from_str::<ForgetBias>(r#""one""#).unwrap(), ForgetBias::default());
    }
}
