//! The pipeline file: `Spec` is the file as written, `Pipeline` is what the program uses.

mod pipeline;

pub use pipeline::*;
