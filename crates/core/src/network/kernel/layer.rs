//! A step of a layer: its product, and its gates where the sums are at hand.

use std::marker::PhantomData;

use super::columns::{Columns, OfEach};
use super::panels::Panels;
use super::product::{Work, product};
use super::rows::{Rows, RowsMut};
use crate::network::CellKind;
use crate::network::cells::{Cell, Coupled, Gru, Lstm, Rnn, States};
use crate::simd::Simd;

/// One step of one layer for some columns.
pub struct Step<'a> {
    pub kind: CellKind,
    pub panels: &'a Panels,
    /// One block of units for each of [`CellKind::peepholes`].
    pub peepholes: &'a [f32],
    /// h'
    pub hidden: Rows<'a>,
    pub inputs: Rows<'a>,
    pub cells: CellRows<'a>,
    /// Out: h.
    pub out: RowsMut<'a>,
    /// Out: the gates, a block after the other, if they are kept.
    pub gates: Option<RowsMut<'a>>,
}

/// Where c' is and c will be: as many numbers for each column as there are units; none for cells without.
pub struct CellRows<'a> {
    pub numbers: &'a mut [f32],
    /// Where the first column's c' is, and where its c will be.
    pub before: usize,
    pub after: usize,
    /// Which columns they are, if these are not the first ones in their order.
    pub at: Option<&'a [usize]>,
}

impl Step<'_> {
    /// The first `width` columns take the step.
    pub fn take(self, width: usize) {
        match self.kind {
            CellKind::Rnn => self.take_as::<Rnn, 1, 1>(width),
            CellKind::Lstm | CellKind::LstmPeephole => self.take_as::<Lstm, 4, 4>(width),
            CellKind::LstmCoupled | CellKind::LstmPeepholeCoupled => self.take_as::<Coupled, 3, 3>(width),
            CellKind::Gru => self.take_as::<Gru, 4, 3>(width),
        }
    }

    fn take_as<C: Cell<B, N>, const B: usize, const N: usize>(self, width: usize) {
        let (panels, rows) = (self.panels, [self.hidden, self.inputs]);
        product(&mut Gated { step: self, cell: PhantomData::<C> }, panels, rows, width);
    }
}

/// The sums become gates, and these the states after the step.
struct Gated<'a, C> {
    step: Step<'a>,
    cell: PhantomData<C>,
}

impl<C: Cell<B, N>, const B: usize, const N: usize> Work<B, N> for Gated<'_, C> {
    const BLOCKS: [[usize; N]; 2] = C::BLOCKS;

    #[inline(always)]
    fn start<S: Simd>(&self, _: S, start: S::V, _: usize, _: usize) -> S::V {
        start
    }

    #[inline(always)]
    fn finish<S: Simd, const W: usize>(
        &mut self,
        simd: S,
        panel: usize,
        place: usize,
        sums: &[[S::V; W]; B],
    ) {
        let Step { panels, peepholes, hidden, cells, out, gates, .. } = &mut self.step;
        let (units, first, zero) = (panels.units(), panel * S::LANES, simd.splat(0.0));
        let count = S::LANES.min(units - first);
        let mut states = States { h: OfEach([zero; W]), c: OfEach([zero; W]) };
        let mut at = [first; W];
        for j in 0..W {
            if C::READS_HIDDEN {
                states.h.0[j] = simd.load_part(&hidden.row(place + j, units)[first..first + count]);
            }
            if C::CELL_STATE {
                at[j] += cells.at.map_or(place + j, |at| at[place + j]) * units;
                states.c.0[j] = simd.load_part(&cells.numbers[cells.before + at[j]..][..count]);
            }
        }
        let mut together = [OfEach([zero; W]); B];
        for b in 0..B {
            together[b].0 = sums[b];
        }
        let peepholes = peepholes_of(simd, peepholes, units, first);
        let mut of_all = None;
        if let Some([i, f, o]) = peepholes {
            of_all = Some([OfEach([i; W]), OfEach([f; W]), OfEach([o; W])]);
        }
        let found = C::forward(Columns::<S, W>(simd), together, of_all, &mut states, gates.is_some());
        for j in 0..W {
            simd.store_part(states.h.0[j], &mut out.row(place + j, units)[first..first + count]);
            if C::CELL_STATE {
                simd.store_part(states.c.0[j], &mut cells.numbers[cells.after + at[j]..][..count]);
            }
            if let Some(gates) = gates {
                let gates = gates.row(place + j, B * units);
                for b in 0..B {
                    simd.store_part(found[b].0[j], &mut gates[b * units + first..][..count]);
                }
            }
        }
    }
}

/// The peepholes of the units from `first` on, block by block; none of a cell without.
#[inline(always)]
pub fn peepholes_of<S: Simd>(simd: S, all: &[f32], units: usize, first: usize) -> Option<[S::V; 3]> {
    if all.is_empty() {
        return None;
    }
    let mut found = [simd.splat(0.0); 3];
    for (p, block) in all.chunks_exact(units).enumerate() {
        found[p] = simd.load_part(&block[first..]);
    }
    Some(found)
}
