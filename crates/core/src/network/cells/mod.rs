//! The recurrent cells: the forward and backward step of each, for a vector of units of one column. The products with the
//! weights come before (forward) and after (backward).
//!
//! In the equations x is the input, h the hidden state and c the cell state; a prime marks the step before, σ is the logistic
//! function, ∘ the product element by element, and a dot the gradient of the loss, written `d` in the code.

mod activations;
mod gru;
mod lstm;
mod rnn;

pub(super) use gru::Gru;
pub(super) use lstm::{CoupledLstm, Lstm};
pub(super) use rnn::Rnn;

use super::CellKind;
use crate::simd::Arithmetic;

/// A cell with `B` blocks of sums; the hidden state feeds `N` of them, and so do the inputs.
pub(super) trait Cell<const B: usize, const N: usize> {
    /// The blocks that the hidden state feeds, and those that the inputs feed.
    const BLOCKS: [[usize; N]; 2];
    /// True if the step reads h' besides the sums.
    const READS_HIDDEN: bool = false;
    /// True if the cell has a cell state: [`CellKind::has_cell_state`].
    const CELL_STATE: bool;

    /// One step: from the sums, c' and h' to c and h. Returns the gates if `outputs` includes them.
    fn forward<S: Arithmetic>(
        simd: S,
        sums: [S::V; B],
        peepholes: Option<[S::V; 3]>,
        states: &mut States<S::V>,
        outputs: Outputs,
    ) -> [S::V; B];

    /// One step back: from the gates, ḣ and ċ to the gradients of the sums, which are returned, and those of h' and c'.
    fn backward<S: Arithmetic>(
        simd: S,
        gates: [S::V; B],
        peepholes: Option<[S::V; 3]>,
        saved: Saved<S::V>,
        grads: &mut Grads<S::V>,
    ) -> [S::V; B];
}

/// The outputs of a forward step. Training needs the gates, forecasting does not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Outputs {
    States,
    StatesAndGates,
}

/// The state of a cell: h' and c' before a step, h and c after it. A cell without cell state ignores c.
#[derive(Clone, Copy)]
pub(super) struct States<V> {
    pub h: V,
    pub c: V,
}

/// The states that the backward step reads.
#[derive(Clone, Copy)]
pub(super) struct Saved<V> {
    pub h_before: V,
    pub c_before: V,
    pub c: V,
}

/// The gradients that a backward step propagates.
#[derive(Clone, Copy)]
pub(super) struct Grads<V> {
    /// In: ḣ. Out: the part of ḣ' that bypasses the sums.
    pub dh: V,
    /// In: the part of ċ from the next step. Out: the same for the step before.
    pub dc: V,
    /// Out, for cells with peepholes: the peepholes' gradients from this column and step.
    pub dpeepholes: [V; 3],
}

/// The operand that feeds a block of rows of the fused product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FedBy {
    Both,
    Input,
    Hidden,
}

/// One block of `hidden` rows of the fused product.
pub(super) struct Block {
    /// The block of rows of PyTorch's tensors that it comes from.
    pub gate: usize,
    pub fed_by: FedBy,
}

const fn block(gate: usize, fed_by: FedBy) -> Block {
    Block { gate, fed_by }
}

const FUSED: [Block; 4] =
    [block(0, FedBy::Both), block(1, FedBy::Both), block(2, FedBy::Both), block(3, FedBy::Both)];

/// The two halves of the candidate stay separate, since the reset gate acts on the hidden one only.
const GRU: [Block; 4] =
    [block(0, FedBy::Both), block(1, FedBy::Both), block(2, FedBy::Input), block(2, FedBy::Hidden)];

impl CellKind {
    /// Blocks of rows of PyTorch's tensors.
    pub fn gates(self) -> usize {
        match self {
            CellKind::Rnn => 1,
            CellKind::Lstm | CellKind::LstmPeephole => 4,
            CellKind::LstmCoupled | CellKind::LstmPeepholeCoupled | CellKind::Gru => 3,
        }
    }

    /// Blocks of rows of the fused product.
    pub(super) fn blocks(self) -> &'static [Block] {
        match self {
            CellKind::Gru => &GRU,
            CellKind::Rnn
            | CellKind::Lstm
            | CellKind::LstmPeephole
            | CellKind::LstmCoupled
            | CellKind::LstmPeepholeCoupled => &FUSED[..self.gates()],
        }
    }

    /// The gates with peepholes, by the letters in their tensors' names.
    pub(super) fn peepholes(self) -> &'static [&'static str] {
        match self {
            CellKind::LstmPeephole => &["i", "f", "o"],
            CellKind::LstmPeepholeCoupled => &["f", "o"],
            CellKind::Rnn | CellKind::Lstm | CellKind::LstmCoupled | CellKind::Gru => &[],
        }
    }

    pub(super) const fn has_cell_state(self) -> bool {
        match self {
            CellKind::Lstm
            | CellKind::LstmPeephole
            | CellKind::LstmCoupled
            | CellKind::LstmPeepholeCoupled => true,
            CellKind::Rnn | CellKind::Gru => false,
        }
    }

    /// Numbers of cell state per hidden unit: 1 or 0.
    pub(super) fn cell_states(self) -> usize {
        usize::from(self.has_cell_state())
    }
}
