//! The shared state behind all routes: status, counters, the series view, and a sample of the process each second.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{FairMutex, Mutex};
use serde::Serialize;
use tokio::sync::Semaphore;

use super::counters::{Counters, Histogram};
use super::info::PipelineInfo;
use super::status::{EventKind, NotReady, PipelineStatus, now_ms};
use super::view::{SeriesView, ViewUpdate};
use tidecast_core::series::RowCounters;
use tidecast_kafka::{LagTracker, PartitionLag};
use tidecast_stream::state::SnapshotStore;

/// Event streams open at once: each costs a message of some kilobytes four times a second.
const STREAMS_MAX: usize = 64;

/// Retained samples: five minutes.
const SAMPLES_MAX: usize = 300;

pub struct Dashboard {
    pub info: Arc<PipelineInfo>,
    pub counters: Counters,
    pub status: Mutex<PipelineStatus>,
    /// Fair, so that a busy stream of updates does not starve the pages.
    pub view: FairMutex<SeriesView>,
    pub sampler: Mutex<ProcessSampler>,
    pub(super) lag_tracker: OnceLock<LagTracker>,
    pub(super) store: OnceLock<Arc<SnapshotStore>>,
    pub stream_permits: Arc<Semaphore>,
}

impl Dashboard {
    pub fn new(info: PipelineInfo) -> Self {
        let info = Arc::new(info);
        let counters = Counters::new(&info);
        Self {
            view: FairMutex::new(SeriesView::new(info.clone())),
            sampler: Mutex::new(ProcessSampler::new(&counters)),
            info,
            counters,
            status: Mutex::default(),
            lag_tracker: OnceLock::new(),
            store: OnceLock::new(),
            stream_permits: Arc::new(Semaphore::new(STREAMS_MAX)),
        }
    }

    /// Lag by partition number.
    pub fn partition_lags(&self) -> BTreeMap<i32, PartitionLag> {
        self.lag_tracker.get().map(LagTracker::snapshot).unwrap_or_default()
    }

    pub fn not_ready(&self) -> Option<NotReady> {
        let lags = self.partition_lags();
        self.status.lock().not_ready(&lags, self.info.ready_lag)
    }

    /// Applies a queued update to the view.
    pub(super) fn apply(&self, update: &ViewUpdate) {
        self.view.lock().apply(update);
        self.counters.queued_bytes.fetch_sub(update.bytes(&self.info), Relaxed);
    }

    /// Updates scores, series statuses and the process sample. Runs once a second.
    pub fn refresh(&self) {
        let ids = self.status.lock().series;
        self.view.lock().refresh(ids);
        for event in self.store.get().map(|store| store.events().take()).unwrap_or_default() {
            self.counters.snapshot_duration.observe(event.duration.as_secs_f64());
            if !event.saved {
                self.counters.snapshot_failures.fetch_add(1, Relaxed);
                let detail = format!("snapshot at {} was not stored", event.position);
                self.status.lock().push_event(EventKind::SnapshotFailed, &event.partition, detail);
            }
        }
        let lags = self.partition_lags();
        let (rows, lag, idle) = {
            let status = self.status.lock();
            (status.rows.clone(), status.lag(&lags), status.last_batch.map(|at| at.elapsed()))
        };
        self.sampler.lock().sample(&self.counters, rows, lag, idle);
    }
}

/// Rates, lag, latency and memory in one second.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Sample {
    pub at_ms: u64,
    pub rows_per_second: f64,
    pub forecasts_per_second: f64,
    pub lag_rows: Option<u64>,
    /// Latency of the rows committed since the previous sample.
    pub latency_p50_seconds: Option<f64>,
    pub latency_p99_seconds: Option<f64>,
    pub memory_bytes: Option<u64>,
}

/// Durations since the start.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DurationSummary {
    pub count: u64,
    pub p50_seconds: Option<f64>,
    pub p99_seconds: Option<f64>,
}

impl DurationSummary {
    fn new(histogram: &Histogram) -> Self {
        Self {
            count: histogram.counts().iter().sum(),
            p50_seconds: histogram.total_quantile(0.5),
            p99_seconds: histogram.total_quantile(0.99),
        }
    }
}

/// Samples of the process, one per second.
pub struct ProcessSampler {
    pub samples: VecDeque<Sample>,
    /// Seconds since the latest batch.
    pub idle_seconds: Option<f64>,
    pub commits: DurationSummary,
    pub snapshots: DurationSummary,
    sampled_at: Instant,
    rows: RowCounters,
    latency_counts: Vec<u64>,
}

impl ProcessSampler {
    fn new(counters: &Counters) -> Self {
        Self {
            samples: VecDeque::new(),
            idle_seconds: None,
            commits: DurationSummary::default(),
            snapshots: DurationSummary::default(),
            sampled_at: Instant::now(),
            rows: RowCounters::default(),
            latency_counts: counters.end_to_end_latency.counts(),
        }
    }

    fn sample(
        &mut self,
        counters: &Counters,
        rows: RowCounters,
        lag_rows: Option<u64>,
        idle: Option<Duration>,
    ) {
        let seconds = self.sampled_at.elapsed().as_secs_f64();
        self.sampled_at = Instant::now();
        self.idle_seconds = idle.map(|idle| idle.as_secs_f64());
        self.commits = DurationSummary::new(&counters.commit_duration);
        self.snapshots = DurationSummary::new(&counters.snapshot_duration);
        let latency = &counters.end_to_end_latency;
        let latency_counts = latency.counts();
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds.max(1e-3);
        let sample = Sample {
            at_ms: now_ms(),
            rows_per_second: rate(rows.rows, self.rows.rows),
            forecasts_per_second: rate(rows.forecasts, self.rows.forecasts),
            lag_rows,
            latency_p50_seconds: latency.quantile(&self.latency_counts, &latency_counts, 0.5),
            latency_p99_seconds: latency.quantile(&self.latency_counts, &latency_counts, 0.99),
            memory_bytes: resident_memory_bytes(),
        };
        (self.rows, self.latency_counts) = (rows, latency_counts);
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }
}

/// Resident memory of this process; `None` outside Linux.
pub fn resident_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}
