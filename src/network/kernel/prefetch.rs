//! Asking for memory before it is needed.

use super::rows::Rows;

/// Numbers of a line of the cache.
const LINE: usize = 16;

/// Asks for the first `count` numbers of the first `width` columns: columns in no order come from far away, and those of a
/// whole tile can come at a time.
pub fn prefetch(rows: Rows<'_>, width: usize, count: usize) {
    for place in 0..width {
        rows.row(place, count).iter().step_by(LINE).for_each(ask);
    }
}

#[cfg(target_arch = "x86_64")]
fn ask(number: &f32) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: every processor of this kind has it, and it reads nothing that the program sees.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(number).cast()) }
}

#[cfg(not(target_arch = "x86_64"))]
fn ask(_: &f32) {}
