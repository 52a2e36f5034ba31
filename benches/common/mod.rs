//! Shared code of the benches.
#![allow(dead_code, reason = "each bench uses a part of it")]

pub mod files;
pub mod model;
pub mod options;
pub mod program;
pub mod rows;
