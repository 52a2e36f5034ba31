//! Series, recurrent networks, intervals and the forecaster: pure, synchronous, without a clock.
pub mod forecaster;
pub mod intervals;
pub mod model;
mod near;
pub mod network;
pub mod series;
mod simd;
pub mod table;
pub mod time;
