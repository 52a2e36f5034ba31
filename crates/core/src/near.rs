//! Asking for memory before it is needed. What is kept of a million series lies all over the memory: one after the other,
//! each would be waited for; asked for some rows ahead, they come while others are worked on.

/// Bytes of a line of the cache.
const LINE: usize = 64;

/// Asks for all lines of some values.
#[inline]
pub fn bring<T>(values: &[T]) {
    let bytes = std::mem::size_of_val(values);
    let first = values.as_ptr().cast::<u8>();
    // Values need not begin with a line: the one that the last byte is in may be one more.
    let mut line = 0;
    while line + 1 < bytes {
        ask(first.wrapping_add(line));
        line += LINE;
    }
    if bytes > 0 {
        ask(first.wrapping_add(bytes - 1));
    }
}

/// Asks for all lines of one value.
#[inline]
pub fn bring_one<T>(value: &T) {
    bring(std::slice::from_ref(value));
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn ask(byte: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: every processor of this kind has it, and it reads nothing that the program sees, wherever it points.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(byte.cast()) }
}

#[cfg(not(target_arch = "x86_64"))]
fn ask(_: *const u8) {}
