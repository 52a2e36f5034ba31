//! The recurrent cells. Each file holds one cell's forward and backward side by side, for one column (one
//! series) and one step; the products with the weights are done before (forward) and after (backward), for
//! all columns at once.
//!
//! In the equations x is the input, h the hidden state, c the cell state, a prime marks the step before, σ is
//! the logistic function, ∘ the product element by element, and a dot the derivative of the loss with respect
//! to what is under it, written `d` in the code.

mod gru;
mod lstm;
mod rnn;

use super::CellKind;
use super::activations::Kernel;

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

/// One step of one layer for all columns, forward. Column j of each matrix is chunk j of its slice.
pub(super) struct Forward<'a> {
    pub kind: CellKind,
    pub hidden: usize,
    /// One block of `hidden` for each of [`CellKind::peepholes`].
    pub peepholes: &'a [f32],
    /// In: what the gates are applied to. Out: the gates. `gate_rows` to a column.
    pub gates: &'a mut [f32],
    pub gate_rows: usize,
    /// In: c'. Out: c. `hidden` to a column; empty for cells without.
    pub cells: &'a mut [f32],
    /// The first `hidden` of a column are, in: h'. Out: h. `state_rows` to a column.
    pub states: &'a mut [f32],
    pub state_rows: usize,
}

impl Kernel for Forward<'_> {
    #[inline(always)]
    fn run(self) {
        let (n, p) = (self.hidden, self.peepholes);
        let columns =
            self.gates.chunks_exact_mut(self.gate_rows).zip(self.states.chunks_exact_mut(self.state_rows));
        // A loop rather than `for_each`: a closure would be compiled apart, without the wide vectors.
        for (j, (gates, state)) in columns.enumerate() {
            let h = &mut state[..n];
            let c = &mut self.cells[j * n * self.kind.cell_states()..][..n * self.kind.cell_states()];
            match self.kind {
                CellKind::Rnn => rnn::forward(gates, h),
                CellKind::Lstm => lstm::forward(gates, p, c, h),
                CellKind::LstmPeephole => lstm::forward(gates, p, c, h),
                CellKind::LstmCoupled => lstm::forward_coupled(gates, p, c, h),
                CellKind::LstmPeepholeCoupled => lstm::forward_coupled(gates, p, c, h),
                CellKind::Gru => gru::forward(gates, h),
            }
        }
    }
}

/// One step of one layer for all columns, backward. Column j of each matrix is chunk j of its slice.
pub(super) struct Backward<'a> {
    pub kind: CellKind,
    pub hidden: usize,
    pub peepholes: &'a [f32],
    /// In: the gates. Out: the derivatives with respect to what they were applied to. `gate_rows` to a
    /// column.
    pub gates: &'a mut [f32],
    pub gate_rows: usize,
    /// c' and c, `hidden` to a column; empty for cells without.
    pub cells_before: &'a [f32],
    pub cells: &'a [f32],
    /// The first `hidden` of a column are h'. `state_rows` to a column.
    pub states_before: &'a [f32],
    pub state_rows: usize,
    /// In: ḣ. Out: the part of ḣ' that does not go through the gates. `hidden` to a column.
    pub dh: &'a mut [f32],
    /// In: the part of ċ that comes from the next step. Out: the same for the step before.
    pub dc: &'a mut [f32],
    /// Added to: the derivatives with respect to the peepholes.
    pub dpeepholes: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    #[inline(always)]
    fn run(self) {
        let (n, p, dp) = (self.hidden, self.peepholes, self.dpeepholes);
        let cell_rows = n * self.kind.cell_states();
        let columns = self.gates.chunks_exact_mut(self.gate_rows).zip(self.dh.chunks_exact_mut(n));
        for (j, (gates, dh)) in columns.enumerate() {
            let h_before = &self.states_before[j * self.state_rows..][..n];
            let before = &self.cells_before[j * cell_rows..][..cell_rows];
            let c = &self.cells[j * cell_rows..][..cell_rows];
            let dc = &mut self.dc[j * cell_rows..][..cell_rows];
            match self.kind {
                CellKind::Rnn => rnn::backward(gates, dh),
                CellKind::Lstm => lstm::backward(gates, p, before, c, dh, dc, dp),
                CellKind::LstmPeephole => lstm::backward(gates, p, before, c, dh, dc, dp),
                CellKind::LstmCoupled => lstm::backward_coupled(gates, p, before, c, dh, dc, dp),
                CellKind::LstmPeepholeCoupled => lstm::backward_coupled(gates, p, before, c, dh, dc, dp),
                CellKind::Gru => gru::backward(gates, h_before, dh),
            }
        }
    }
}
