//! How open the gates start that decide what a cell keeps: the first weights that matter most for a long memory.

use serde::{Deserialize, Serialize};

use super::{CellKind, Random, Shape, Tensors};

/// The bias that a forget gate starts with: the two vectors of PyTorch together.
///
/// A gate of bias b passes on σ(b) of a cell at every step, so that after k steps σ(b)^k is left of it, and of its
/// gradient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ForgetBias {
    /// Half of the cell is forgotten at every step. PyTorch's own biases lie around this.
    Zero,
    /// A quarter is forgotten. The GRU keeps PyTorch's biases: it has no forget gate, and its update gate is left as its
    /// users know it.
    #[default]
    One,
    /// Every hidden value remembers for a time of its own, uniform up to `longest` steps (Tallec and Ollivier, 2018,
    /// "Can recurrent neural networks warp time?").
    Chrono { longest: usize },
}

impl ForgetBias {
    /// Sets the biases of the gates that keep and let in; all other weights stay as they were drawn.
    pub(super) fn set(self, shape: &Shape, seed: u64, tensors: &mut Tensors) {
        // Numbers of their own: the same seed draws the same other weights whatever the bias.
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
                match (self, keeps(shape.cell)) {
                    (_, None) => {}
                    (Self::One, Some(_)) if shape.cell == CellKind::Gru => {}
                    (Self::Zero, Some((keep, _))) => put(keep, 0.0),
                    (Self::One, Some((keep, _))) => put(keep, 1.0),
                    (Self::Chrono { longest }, Some((keep, lets_in))) => {
                        // b_f = log u, u ~ U(1, T - 1): a memory of about u steps, since σ(log u) = 1 - 1/(1 + u)
                        let unit = random.within(0.5) + 0.5;
                        let bias = (1.0 + unit * longest.saturating_sub(2) as f32).ln();
                        put(keep, bias);
                        // b_i = -b_f: what is kept for u steps takes in as little in each
                        lets_in.into_iter().for_each(|gate| put(gate, -bias));
                    }
                }
            }
        }
    }
}

/// The gate that keeps the state, and the one that lets the candidate in where that is a gate of its own.
fn keeps(cell: CellKind) -> Option<(usize, Option<usize>)> {
    match cell {
        CellKind::Rnn => None,
        CellKind::Lstm | CellKind::LstmPeephole => Some((1, Some(0))),
        CellKind::LstmCoupled | CellKind::LstmPeepholeCoupled => Some((0, None)),
        // h = (1 - z) ∘ n + z ∘ h': the update gate is the forget gate, and 1 - z the input gate
        CellKind::Gru => Some((1, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Decoder, Network};

    const LONGEST: usize = 100;

    fn network(cell: CellKind, bias: ForgetBias) -> Network {
        let decoder = Decoder::Direct;
        let shape = Shape {
            cell,
            inputs: 2,
            hidden: 64,
            layers: 2,
            horizon: 1,
            known: 0,
            quantiles: 0,
            embedding: 0,
            series: 0,
            decoder,
        };
        Network::with_forget_bias(shape, 3, bias).unwrap()
    }

    /// Both halves of the bias of one gate together.
    fn bias(network: &Network, layer: usize, gate: usize) -> Vec<f32> {
        let hidden = network.shape().hidden;
        let half =
            |name: &str| &network.tensors()[&format!("bias_{name}_l{layer}")].data[gate * hidden..][..hidden];
        half("ih").iter().zip(half("hh")).map(|(a, b)| a + b).collect()
    }

    #[test]
    fn gates_start_as_open_as_asked() {
        for cell in
            [CellKind::Lstm, CellKind::LstmPeephole, CellKind::LstmCoupled, CellKind::LstmPeepholeCoupled]
        {
            let (keep, _) = keeps(cell).unwrap();
            assert_eq!(Some(keep), cell.forget_gate());
            for layer in 0..2 {
                assert!(bias(&network(cell, ForgetBias::Zero), layer, keep).iter().all(|b| *b == 0.0));
                assert!(bias(&network(cell, ForgetBias::One), layer, keep).iter().all(|b| *b == 1.0));
            }
        }
        assert!(bias(&network(CellKind::Gru, ForgetBias::Zero), 1, 1).iter().all(|b| *b == 0.0));
    }

    #[test]
    fn chrono_spreads_the_memories_up_to_the_longest() {
        for &cell in CellKind::ALL {
            let Some((keep, lets_in)) = keeps(cell) else { continue };
            let network = network(cell, ForgetBias::Chrono { longest: LONGEST });
            for layer in 0..2 {
                let steps: Vec<f32> = bias(&network, layer, keep).iter().map(|b| b.exp()).collect();
                assert!(steps.iter().all(|u| (0.999..=99.01).contains(u)), "{cell} {steps:?}");
                let mean = steps.iter().sum::<f32>() / steps.len() as f32;
                assert!((mean - 50.0).abs() < 12.0, "{cell}: uniform from 1 to 99, not {mean}");
                if let Some(gate) = lets_in {
                    let opposite: Vec<f32> = bias(&network, layer, gate).iter().map(|b| -b).collect();
                    assert_eq!(opposite, bias(&network, layer, keep), "{cell}");
                }
            }
            assert_ne!(bias(&network, 0, keep), bias(&network, 1, keep));
        }
    }

    #[test]
    fn nothing_else_changes_with_the_bias() {
        for &cell in CellKind::ALL {
            let one = network(cell, ForgetBias::One);
            assert_eq!(
                one.tensors(),
                Network::new(*one.shape(), 3).unwrap().tensors(),
                "{cell}: the default"
            );
            for bias in [ForgetBias::Zero, ForgetBias::Chrono { longest: LONGEST }] {
                let other = network(cell, bias);
                for (name, tensor) in one.tensors().iter().filter(|(name, _)| !name.starts_with("bias_")) {
                    assert_eq!(tensor, &other.tensors()[name], "{cell} {name}");
                }
                assert_eq!(one.tensors() == other.tensors(), cell == CellKind::Rnn, "{cell}");
            }
        }
    }

    #[test]
    fn a_short_memory_has_a_bias_too() {
        for longest in [0, 1, 2] {
            let network = network(CellKind::Lstm, ForgetBias::Chrono { longest });
            assert!(bias(&network, 0, 1).iter().all(|b| *b == 0.0), "the logarithm of 1");
        }
    }

    #[test]
    fn names_in_files() {
        let text = |bias| serde_json::to_string(&bias).unwrap();
        assert_eq!(text(ForgetBias::Zero), r#""zero""#);
        assert_eq!(text(ForgetBias::Chrono { longest: 7 }), r#"{"chrono":{"longest":7}}"#);
        assert_eq!(serde_json::from_str::<ForgetBias>(r#""one""#).unwrap(), ForgetBias::default());
    }
}
