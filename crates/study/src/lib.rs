//! Studies of what recurrent networks can and cannot do: textbook claims, measured with the cells that forecasts are made
//! with.
//!
//! # Memory
//!
//! A plain network is said to lose what lies many steps back, an LSTM not to suffer from the distance. Three tasks
//! ([`Task`]) ask at the end of a sequence for what was seen a given number of steps before. The protocol: one layer; as
//! many parameters for every cell, as nearly as whole sizes allow; the squared error, Adam, gradients clipped to norm 1,
//! minibatches of 32 sequences, each sequence new; the learning rate chosen for every task, cell and first bias on a seed
//! that is not reported, at the shortest and the middle gap; the error on 512 held-out sequences, looked at 50 times; a
//! training ends when it is at most 0.01, and the task counts as solved; or when two fifths of its sequences have brought
//! it nowhere below nine tenths of chance.
//!
//! # Convergence
//!
//! A GRU is said to learn in less time and from less data than an LSTM. Both are trained as `tidecast train` trains, on real
//! series and at matched parameters; what is kept is the validation error after every epoch, with the windows seen and the
//! seconds spent until then.
//!
//! A result is a function of its description alone: no clock, no order of threads. (Seconds are measured by the caller and
//! passed through.)

pub mod convergence;
mod findings;
pub mod pages;
mod plan;
mod spread;
mod tasks;
mod trial;

pub use findings::{Findings, Row, Spread, Thread};
pub use plan::{Plan, Start, Variant};
pub use spread::each;
pub use tasks::{Sequences, Task};
pub use trial::{Outcome, Trial, closest, matched};
