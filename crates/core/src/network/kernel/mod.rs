//! The products and gates of a step, computed together.
//!
//! Weights are immutable while a network is used, so they are packed once in the order in which they are read: panels of as
//! many units as a vector has lanes, with all blocks of rows of these units ([`packed`]). A product accumulates a tile of
//! columns against a panel in registers and hands the sums to its epilogue ([`product`]): the gates of a layer
//! ([`layer_step`]) or a plain store. States are read in place.
//!
//! A sum starts from the bias and adds its terms in the order of the matrix's columns, each by one fused multiply-add. Its
//! bits therefore depend neither on the tile nor on the instruction set.

#![allow(
    clippy::needless_range_loop,
    reason = "indexed loops over arrays are unrolled; an iterator's closure would be compiled without the wide vectors"
)]

pub mod layer_step;
pub mod packed;
pub mod product;
