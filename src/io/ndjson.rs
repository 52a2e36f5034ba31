//! Forecasts as lines on standard output.
