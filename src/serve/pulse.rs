//! A sample each second of the last minutes: how fast, how far behind, how late, how large.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::histogram::Histogram;
use super::line::now_ms;
use super::observer::Counts;
use tidecast_core::series::Tally;

/// Samples that are kept: five minutes.
const SAMPLES: usize = 300;

#[derive(Clone, Debug, Default, Serialize)]
pub struct Sample {
    pub at_ms: u64,
    /// A second.
    pub readings: f64,
    pub forecasts: f64,
    pub lag: Option<u64>,
    /// Seconds, of what was committed since the sample before.
    pub latency_p50: Option<f64>,
    pub latency_p99: Option<f64>,
    pub memory: Option<u64>,
}

pub struct Pulse {
    pub samples: VecDeque<Sample>,
    /// Seconds since rows last came.
    pub quiet: Option<f64>,
    /// Of commits and snapshots since the start.
    pub commit: Quantiles,
    pub snapshot: Quantiles,
    taken: Instant,
    tally: Tally,
    latency: Vec<u64>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Quantiles {
    pub count: u64,
    pub p50: Option<f64>,
    pub p99: Option<f64>,
}

impl Quantiles {
    fn of(histogram: &Histogram) -> Self {
        let counts = histogram.counts();
        let none = vec![0; counts.len()];
        let at = |p| histogram.quantile(&none, &counts, p);
        Self { count: counts.iter().sum(), p50: at(0.5), p99: at(0.99) }
    }
}

impl Pulse {
    pub fn new(counts: &Counts) -> Self {
        Self {
            samples: VecDeque::new(),
            quiet: None,
            commit: Quantiles::default(),
            snapshot: Quantiles::default(),
            taken: Instant::now(),
            tally: Tally::default(),
            latency: counts.latency.counts(),
        }
    }

    pub fn sample(&mut self, counts: &Counts, tally: &Tally, lag: Option<u64>, quiet: Option<Duration>) {
        let seconds = self.taken.elapsed().as_secs_f64();
        self.taken = Instant::now();
        self.quiet = quiet.map(|quiet| quiet.as_secs_f64());
        (self.commit, self.snapshot) = (Quantiles::of(&counts.commits), Quantiles::of(&counts.snapshots));
        let latency = counts.latency.counts();
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds.max(1e-3);
        let sample = Sample {
            at_ms: now_ms(),
            readings: rate(tally.rows, self.tally.rows),
            forecasts: rate(tally.forecasts, self.tally.forecasts),
            lag,
            latency_p50: counts.latency.quantile(&self.latency, &latency, 0.5),
            latency_p99: counts.latency.quantile(&self.latency, &latency, 0.99),
            memory: memory(),
        };
        (self.tally, self.latency) = (tally.clone(), latency);
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }
}

/// Bytes of this process in memory, where the system tells.
pub fn memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}
