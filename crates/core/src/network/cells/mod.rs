//! The recurrent cells. Each file holds one cell's forward and backward side by side, for one step of a vector of units of one
//! column (one series); the products with the weights are done before (forward) and after (backward).
//!
//! In the equations x is the input, h the hidden state, c the cell state, a prime marks the step before, σ is
//! the logistic function, ∘ the product element by element, and a dot the derivative of the loss with respect
//! to what is under it, written `d` in the code.

mod coupled;
mod gru;
mod lstm;
mod rnn;

pub(super) use coupled::Coupled;
pub(super) use gru::Gru;
pub(super) use lstm::Lstm;
pub(super) use rnn::Rnn;

use super::CellKind;
use crate::simd::Arithmetic;

/// A cell with `B` blocks of sums, `N` of which are fed by the hidden state, and as many by the inputs.
pub(super) trait Cell<const B: usize, const N: usize> {
    /// The blocks that the hidden state feeds, and those that the inputs feed.
    const BLOCKS: [[usize; N]; 2];
    /// Whether it reads h' beside the sums.
    const READS_HIDDEN: bool = false;
    /// Whether it has a cell state.
    const CELL_STATE: bool = false;

    /// One step: from the sums, c' and h' to c and h. Gives the gates if they are kept.
    fn forward<S: Arithmetic>(
        simd: S,
        sums: [S::V; B],
        peepholes: Option<[S::V; 3]>,
        states: &mut States<S::V>,
        kept: bool,
    ) -> [S::V; B];

    /// One step back: from the gates, and what comes back to h and c, to the derivatives of the sums, and what goes on to h'
    /// and c' around them.
    fn backward<S: Arithmetic>(
        simd: S,
        gates: [S::V; B],
        peepholes: Option<[S::V; 3]>,
        kept: Kept<S::V>,
        slopes: &mut Slopes<S::V>,
    ) -> [S::V; B];
}

/// What a cell carries: before a step h' and c', after it h and c. Cells without cell state leave c alone.
#[derive(Clone, Copy)]
pub(super) struct States<V> {
    pub h: V,
    pub c: V,
}

/// What of the states was kept for the way back.
#[derive(Clone, Copy)]
pub(super) struct Kept<V> {
    pub h_before: V,
    pub c_before: V,
    pub c: V,
}

/// What is on its way back.
#[derive(Clone, Copy)]
pub(super) struct Slopes<V> {
    /// In: ḣ. Out: the part of ḣ' that does not go through the sums.
    pub dh: V,
    /// In: the part of ċ that comes from the next step. Out: the same for the step before.
    pub dc: V,
    /// Out, of cells with peepholes: their derivatives from this column and step.
    pub dpeepholes: [V; 3],
}

/// What feeds a block of rows of the fused product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fed {
    Both,
    Input,
    Hidden,
}

/// One block of `hidden` rows of the fused product.
pub(super) struct Block {
    /// Which block of rows of PyTorch's tensors it comes from.
    pub gate: usize,
    pub fed: Fed,
}

const fn block(gate: usize, fed: Fed) -> Block {
    Block { gate, fed }
}

const FUSED: [Block; 4] =
    [block(0, Fed::Both), block(1, Fed::Both), block(2, Fed::Both), block(3, Fed::Both)];

/// The candidate's two halves stay apart, since the reset gate acts on the hidden one alone.
const GRU: [Block; 4] =
    [block(0, Fed::Both), block(1, Fed::Both), block(2, Fed::Input), block(2, Fed::Hidden)];

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
            _ => &FUSED[..self.gates()],
        }
    }

    /// The gates that see the cell state, by the letters in their tensors' names.
    pub(super) fn peepholes(self) -> &'static [&'static str] {
        match self {
            CellKind::LstmPeephole => &["i", "f", "o"],
            CellKind::LstmPeepholeCoupled => &["f", "o"],
            CellKind::Rnn | CellKind::Lstm | CellKind::LstmCoupled | CellKind::Gru => &[],
        }
    }

    /// The block of rows of the forget gate, where the cell has one.
    pub(super) fn forget_gate(self) -> Option<usize> {
        match self {
            CellKind::Lstm | CellKind::LstmPeephole => Some(1),
            CellKind::LstmCoupled | CellKind::LstmPeepholeCoupled => Some(0),
            CellKind::Rnn | CellKind::Gru => None,
        }
    }

    /// Numbers of cell state per hidden value.
    pub(super) fn cell_states(self) -> usize {
        usize::from(self.forget_gate().is_some())
    }
}
