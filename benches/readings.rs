//! The readings of the benches: series on a grid of minutes, made up the same way at every run.

pub const MINUTE: i64 = 60_000_000;

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
path = "readings.parquet"
[sink.parquet]
path = "forecasts.parquet"
"#;

/// Names of so many series, of sixteen bytes.
pub fn ids(count: usize) -> Vec<String> {
    (0..count).map(|id| format!("sensor-{id:09}")).collect()
}

/// A smooth day, a level of its own, and noise from a fixed generator: reading `step` of series `id`.
pub fn reading(id: usize, step: usize) -> f64 {
    let noise = ((id * 31 + step * 17).wrapping_mul(2_654_435_761) >> 7 & 1023) as f64 / 1024.0;
    20.0 + id as f64 * 0.01 + 5.0 * (step as f64 * std::f64::consts::TAU / 1440.0).sin() + noise
}
