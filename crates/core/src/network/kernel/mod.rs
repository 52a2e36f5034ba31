//! The products and gates of a step, computed together.
//!
//! The weights never change while a network is used, so they are packed once, in the order in which they are read: panels of
//! as many units as a vector has lanes, with all blocks of rows of these units ([`panels`]). A tile of columns takes its sums
//! with a panel in registers, and what becomes of a sum is computed there and then ([`product`]): the gates ([`layer`]), or
//! nothing more ([`linear`]). States are read where they lie, wherever that is.
//!
//! A sum starts from the bias and takes its terms in the order of the columns of the matrix, each by one fused
//! multiplication and addition. So its bits depend neither on the tile that it is computed in nor on the instruction set.

#![allow(
    clippy::needless_range_loop,
    reason = "loops over places in arrays of arrays: they are unrolled, and an iterator's closure would be compiled apart"
)]

pub mod activations;
pub mod back;
mod columns;
pub mod layer;
pub mod linear;
pub mod panels;
pub mod product;
pub mod rows;
