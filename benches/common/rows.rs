//! Synthetic rows and their pipeline, the same in every run.

pub use tidecast_core::time::MINUTE;

pub const PIPELINE: &str = r#"
name = "bench"
[columns]
series = "sensor"
time = "time"
targets = ["value"]
[grid]
every = "1m"
complete_after = 1
[forecast]
model = "model.safetensors"
levels = []
"#;

pub const FILES: &str = r#"
[source.parquet]
path = "rows.parquet"
[sink.parquet]
path = "forecasts.parquet"
"#;

/// Ids of sixteen bytes.
pub fn ids(count: usize) -> Vec<String> {
    (0..count).map(|series| format!("sensor-{series:09}")).collect()
}

/// The value of a series at a step: a smooth day, a level per series, and deterministic noise.
pub fn value(series: usize, step: usize) -> f64 {
    let noise = ((series * 31 + step * 17).wrapping_mul(2_654_435_761) >> 7 & 1023) as f64 / 1024.0;
    20.0 + series as f64 * 0.01 + 5.0 * (step as f64 * std::f64::consts::TAU / 1440.0).sin() + noise
}
