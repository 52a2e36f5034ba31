//! One step of a layer. Forward: its product, whose epilogue applies the gates. Backward: from the gradients of the states to
//! those of the sums; the products with the transposed weights follow separately.

use std::marker::PhantomData;
use std::ops::{Add, Div, Mul, Sub};

use super::packed::{PackedMatrix, Strided, StridedMut};
use super::product::{Epilogue, multiply};
use crate::network::CellKind;
use crate::network::cells::{Cell, CoupledLstm, Grads, Gru, Lstm, Outputs, Rnn, Saved, States};
use crate::simd::{Arithmetic, Isa, Kernel, Simd, Vector};

/// One step of one layer for some columns.
pub struct LayerStep<'a> {
    pub kind: CellKind,
    pub weights: &'a PackedMatrix,
    /// `[peephole][unit]`
    pub peepholes: &'a [f32],
    /// h'
    pub hidden: Strided<'a>,
    pub inputs: Strided<'a>,
    pub cells: CellStates<'a>,
    /// Out: h.
    pub out: StridedMut<'a>,
    /// Out, if they are to be saved: the gates, `[block][unit]` of a column.
    pub gates: Option<StridedMut<'a>>,
}

/// Where c' is read and c is written, `[unit]` of a column; empty for cells without a cell state.
pub struct CellStates<'a> {
    pub data: &'a mut [f32],
    /// Start of the first column's c'.
    pub before: usize,
    /// Start of the first column's c.
    pub after: usize,
    /// The column at each position of the batch; without it position i is column i.
    pub indices: Option<&'a [usize]>,
}

impl LayerStep<'_> {
    /// Steps the first `width` columns.
    pub fn run(self, width: usize) {
        match self.kind {
            CellKind::Rnn => self.run_cell::<Rnn, 1, 1>(width),
            CellKind::Lstm | CellKind::LstmPeephole => self.run_cell::<Lstm, 4, 4>(width),
            CellKind::LstmCoupled | CellKind::LstmPeepholeCoupled => {
                self.run_cell::<CoupledLstm, 3, 3>(width)
            }
            CellKind::Gru => self.run_cell::<Gru, 4, 3>(width),
        }
    }

    fn run_cell<C: Cell<B, N>, const B: usize, const N: usize>(self, width: usize) {
        let (weights, inputs) = (self.weights, [self.hidden, self.inputs]);
        multiply(&mut ApplyGates { step: self, cell: PhantomData::<C> }, weights, inputs, width);
    }
}

/// The epilogue that turns sums into gates, and these into the states after the step.
struct ApplyGates<'a, C> {
    step: LayerStep<'a>,
    cell: PhantomData<C>,
}

impl<C: Cell<B, N>, const B: usize, const N: usize> Epilogue<B, N> for ApplyGates<'_, C> {
    const BLOCKS: [[usize; N]; 2] = C::BLOCKS;

    #[inline(always)]
    fn init<S: Simd>(&self, _: S, bias: S::V, _: usize, _: usize) -> S::V {
        bias
    }

    #[inline(always)]
    fn finish<S: Simd, const W: usize>(
        &mut self,
        simd: S,
        panel: usize,
        position: usize,
        sums: &[[S::V; W]; B],
    ) {
        let LayerStep { weights, peepholes, hidden, cells, out, gates, .. } = &mut self.step;
        let (units, first, zero) = (weights.units(), panel * S::LANES, simd.splat(0.0));
        let count = S::LANES.min(units - first);
        let mut states = States { h: ColumnVec([zero; W]), c: ColumnVec([zero; W]) };
        let mut at = [first; W];
        for j in 0..W {
            if C::READS_HIDDEN {
                states.h.0[j] = simd.load_partial(&hidden.column(position + j, units)[first..first + count]);
            }
            if C::CELL_STATE {
                at[j] += cells.indices.map_or(position + j, |indices| indices[position + j]) * units;
                states.c.0[j] = simd.load_partial(&cells.data[cells.before + at[j]..][..count]);
            }
        }
        let mut wide_sums = [ColumnVec([zero; W]); B];
        for b in 0..B {
            wide_sums[b].0 = sums[b];
        }
        let peepholes = load_peepholes(simd, peepholes, units, first);
        let mut wide_peepholes = None;
        if let Some([i, f, o]) = peepholes {
            wide_peepholes = Some([ColumnVec([i; W]), ColumnVec([f; W]), ColumnVec([o; W])]);
        }
        let outputs = if gates.is_some() { Outputs::StatesAndGates } else { Outputs::States };
        let values = C::forward(ColumnSimd::<S, W>(simd), wide_sums, wide_peepholes, &mut states, outputs);
        for j in 0..W {
            simd.store_partial(states.h.0[j], &mut out.column(position + j, units)[first..first + count]);
            if C::CELL_STATE {
                simd.store_partial(states.c.0[j], &mut cells.data[cells.after + at[j]..][..count]);
            }
            if let Some(gates) = gates {
                let gates = gates.column(position + j, B * units);
                for b in 0..B {
                    simd.store_partial(values[b].0[j], &mut gates[b * units + first..][..count]);
                }
            }
        }
    }
}

/// The peepholes of the units from `first` on; `None` for a cell without.
#[inline(always)]
fn load_peepholes<S: Simd>(simd: S, all: &[f32], units: usize, first: usize) -> Option<[S::V; 3]> {
    if all.is_empty() {
        return None;
    }
    let mut found = [simd.splat(0.0); 3];
    for (p, block) in all.chunks_exact(units).enumerate() {
        found[p] = simd.load_partial(&block[first..]);
    }
    Some(found)
}

/// One step back through the gates of one layer for some columns.
pub struct LayerStepBackward<'a> {
    pub kind: CellKind,
    pub units: usize,
    /// `[peephole][unit]`
    pub peepholes: &'a [f32],
    /// In: the gates. Out: the gradients of the sums.
    pub gates: StridedMut<'a>,
    /// c', `[column][unit]`; empty for cells without a cell state, as are `cells_after` and `dc`.
    pub cells_before: &'a [f32],
    /// c
    pub cells_after: &'a [f32],
    /// h', the first `units` numbers of a column.
    pub hidden: Strided<'a>,
    /// `[column][unit]`. In: ḣ. Out: the part of ḣ' that bypasses the sums.
    pub dh: &'a mut [f32],
    /// `[column][unit]`. In: the part of ċ from the next step. Out: the same for the step before.
    pub dc: &'a mut [f32],
    /// `[peephole][unit]`. Accumulated: the gradients of the peepholes.
    pub dpeepholes: &'a mut [f32],
}

impl LayerStepBackward<'_> {
    /// Steps the first `width` columns.
    pub fn run(self, isa: Isa, width: usize) {
        match self.kind {
            CellKind::Rnn => isa.run(GatesBackward { step: self, width, cell: PhantomData::<Rnn> }),
            CellKind::Lstm | CellKind::LstmPeephole => {
                isa.run(GatesBackward { step: self, width, cell: PhantomData::<Lstm> });
            }
            CellKind::LstmCoupled | CellKind::LstmPeepholeCoupled => {
                isa.run(GatesBackward { step: self, width, cell: PhantomData::<CoupledLstm> });
            }
            CellKind::Gru => isa.run(GatesBackward { step: self, width, cell: PhantomData::<Gru> }),
        }
    }
}

struct GatesBackward<'a, C, const B: usize, const N: usize> {
    step: LayerStepBackward<'a>,
    width: usize,
    cell: PhantomData<C>,
}

impl<C: Cell<B, N>, const B: usize, const N: usize> Kernel for GatesBackward<'_, C, B, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let LayerStepBackward { units, peepholes, mut gates, cells_before, cells_after, .. } = self.step;
        let LayerStepBackward { hidden, dh, dc, dpeepholes, .. } = self.step;
        let zero = simd.splat(0.0);
        for column in 0..self.width {
            let gates = gates.column(column, B * units);
            let h_before = hidden.column(column, units);
            for first in (0..units).step_by(S::LANES) {
                let end = units.min(first + S::LANES);
                let part = column * units + first..column * units + end;
                let load = |numbers: &[f32]| {
                    if C::CELL_STATE { simd.load_partial(&numbers[part.clone()]) } else { zero }
                };
                let saved = Saved {
                    h_before: simd.load_partial(&h_before[first..end]),
                    c_before: load(cells_before),
                    c: load(cells_after),
                };
                let mut grads =
                    Grads { dh: simd.load_partial(&dh[part.clone()]), dc: load(dc), dpeepholes: [zero; 3] };
                let mut values = [zero; B];
                for b in 0..B {
                    values[b] = simd.load_partial(&gates[b * units + first..b * units + end]);
                }
                let weights = load_peepholes(simd, peepholes, units, first);
                let values = C::backward(simd, values, weights, saved, &mut grads);
                for b in 0..B {
                    simd.store_partial(values[b], &mut gates[b * units + first..b * units + end]);
                }
                simd.store_partial(grads.dh, &mut dh[part.clone()]);
                if C::CELL_STATE {
                    simd.store_partial(grads.dc, &mut dc[part.clone()]);
                }
                for (p, block) in dpeepholes.chunks_exact_mut(units).enumerate() {
                    let to = &mut block[first..end];
                    simd.store_partial(simd.load_partial(to) + grads.dpeepholes[p], to);
                }
            }
        }
    }
}

/// An instruction set that computes one vector for each of `C` columns at a time: more independent operations, and constants
/// are loaded once.
#[derive(Clone, Copy)]
struct ColumnSimd<S, const C: usize>(S);

/// One vector for each of `C` columns.
#[derive(Clone, Copy)]
struct ColumnVec<V, const C: usize>([V; C]);

impl<S: Arithmetic, const C: usize> Arithmetic for ColumnSimd<S, C> {
    type V = ColumnVec<S::V, C>;

    #[inline(always)]
    fn splat(self, number: f32) -> Self::V {
        ColumnVec([self.0.splat(number); C])
    }
}

/// A binary operator, applied column by column.
macro_rules! column_operator {
    ($trait:ident, $method:ident) => {
        impl<V: Vector, const C: usize> $trait for ColumnVec<V, C> {
            type Output = Self;

            #[inline(always)]
            fn $method(mut self, other: Self) -> Self {
                for c in 0..C {
                    self.0[c] = self.0[c].$method(other.0[c]);
                }
                self
            }
        }
    };
}

column_operator!(Add, add);
column_operator!(Sub, sub);
column_operator!(Mul, mul);
column_operator!(Div, div);

impl<V: Vector, const C: usize> Vector for ColumnVec<V, C> {
    #[inline(always)]
    fn mul_add(mut self, factor: Self, addend: Self) -> Self {
        for c in 0..C {
            self.0[c] = self.0[c].mul_add(factor.0[c], addend.0[c]);
        }
        self
    }

    #[inline(always)]
    fn clamp(mut self, low: Self, high: Self) -> Self {
        for c in 0..C {
            self.0[c] = self.0[c].clamp(low.0[c], high.0[c]);
        }
        self
    }
}
