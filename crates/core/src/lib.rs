//! Series, recurrent networks, intervals and the forecaster: pure, synchronous, without a clock.
pub mod forecaster;
pub mod intervals;
pub mod metrics;
pub mod model;
pub mod network;
mod prefetch;
pub mod series;
mod simd;
pub mod schema;
pub mod time;
