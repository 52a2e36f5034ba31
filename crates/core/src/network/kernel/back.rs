//! A step of a layer on the way back, but for its product: from what comes back to the states to the derivatives of the sums.

use std::marker::PhantomData;

use super::layer::peepholes_of;
use super::rows::RowsMut;
use crate::network::CellKind;
use crate::network::cells::{Cell, Coupled, Gru, Kept, Lstm, Rnn, Slopes};
use crate::simd::{Isa, Kernel, Simd};

/// One step back through one layer for some columns.
pub struct StepBack<'a> {
    pub kind: CellKind,
    pub units: usize,
    /// One block of units for each of [`CellKind::peepholes`].
    pub peepholes: &'a [f32],
    /// In: the gates. Out: the derivatives of the sums.
    pub gates: RowsMut<'a>,
    /// c' and c, `units` of a column; empty for cells without.
    pub cells_before: &'a [f32],
    pub cells: &'a [f32],
    /// The first `units` of a column are h'; its numbers are `stride` apart from the next one's.
    pub states_before: &'a [f32],
    pub stride: usize,
    /// In: ḣ. Out: the part of ḣ' that does not go through the sums. `units` of a column.
    pub dh: &'a mut [f32],
    /// In: the part of ċ that comes from the next step. Out: the same for the step before.
    pub dc: &'a mut [f32],
    /// Added to: the derivatives with respect to the peepholes.
    pub dpeepholes: &'a mut [f32],
}

impl StepBack<'_> {
    /// The first `width` columns take the step.
    pub fn take(self, isa: Isa, width: usize) {
        match self.kind {
            CellKind::Rnn => isa.run(Columns { step: self, width, cell: PhantomData::<Rnn> }),
            CellKind::Lstm | CellKind::LstmPeephole => {
                isa.run(Columns { step: self, width, cell: PhantomData::<Lstm> });
            }
            CellKind::LstmCoupled | CellKind::LstmPeepholeCoupled => {
                isa.run(Columns { step: self, width, cell: PhantomData::<Coupled> });
            }
            CellKind::Gru => isa.run(Columns { step: self, width, cell: PhantomData::<Gru> }),
        }
    }
}

struct Columns<'a, C, const B: usize, const N: usize> {
    step: StepBack<'a>,
    width: usize,
    cell: PhantomData<C>,
}

impl<C: Cell<B, N>, const B: usize, const N: usize> Kernel for Columns<'_, C, B, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let StepBack { units, peepholes, mut gates, cells_before, cells, .. } = self.step;
        let StepBack { states_before, stride, dh, dc, dpeepholes, .. } = self.step;
        let zero = simd.splat(0.0);
        for place in 0..self.width {
            let gates = gates.row(place, B * units);
            let h_before = &states_before[place * stride..][..units];
            for first in (0..units).step_by(S::LANES) {
                let end = units.min(first + S::LANES);
                let part = place * units + first..place * units + end;
                let of = |numbers: &[f32]| {
                    if C::CELL_STATE { simd.load_part(&numbers[part.clone()]) } else { zero }
                };
                let kept = Kept {
                    h_before: simd.load_part(&h_before[first..end]),
                    c_before: of(cells_before),
                    c: of(cells),
                };
                let mut slopes =
                    Slopes { dh: simd.load_part(&dh[part.clone()]), dc: of(dc), dpeepholes: [zero; 3] };
                let mut values = [zero; B];
                for b in 0..B {
                    values[b] = simd.load_part(&gates[b * units + first..b * units + end]);
                }
                let weights = peepholes_of(simd, peepholes, units, first);
                let values = C::backward(simd, values, weights, kept, &mut slopes);
                for b in 0..B {
                    simd.store_part(values[b], &mut gates[b * units + first..b * units + end]);
                }
                simd.store_part(slopes.dh, &mut dh[part.clone()]);
                if C::CELL_STATE {
                    simd.store_part(slopes.dc, &mut dc[part.clone()]);
                }
                for (p, block) in dpeepholes.chunks_exact_mut(units).enumerate() {
                    let to = &mut block[first..end];
                    simd.store_part(simd.load_part(to) + slopes.dpeepholes[p], to);
                }
            }
        }
    }
}
