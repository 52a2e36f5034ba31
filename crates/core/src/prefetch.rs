//! Software prefetch: the state of a million series misses the cache on every access, so it is requested a few rows ahead.

/// Bytes of a cache line.
const LINE: usize = 64;

/// Requests all cache lines of a slice.
#[inline]
pub fn slice<T>(values: &[T]) {
    let bytes = std::mem::size_of_val(values);
    let first = values.as_ptr().cast::<u8>();
    // The slice need not start at a line boundary: its last byte may lie in one line more.
    let mut offset = 0;
    while offset + 1 < bytes {
        prefetch_line(first.wrapping_add(offset));
        offset += LINE;
    }
    if bytes > 0 {
        prefetch_line(first.wrapping_add(bytes - 1));
    }
}

/// Requests all cache lines of a value.
#[inline]
pub fn value<T>(value: &T) {
    slice(std::slice::from_ref(value));
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn prefetch_line(byte: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: SSE is part of x86_64, and a prefetch has no architectural effect whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(byte.cast()) }
}

#[cfg(not(target_arch = "x86_64"))]
fn prefetch_line(_: *const u8) {}
