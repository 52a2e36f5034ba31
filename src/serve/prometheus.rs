//! The metrics in the OpenMetrics text format. Labels are closed sets and the assigned partitions, never a series.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::counters::HorizonCounters;
use super::dashboard::{Dashboard, resident_memory_bytes};
use super::status::{PartitionPhase, PartitionStatus};
use tidecast_core::schema::format_percent;
use tidecast_core::series::Refusal;
use tidecast_stream::Partition;

pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub fn encode(dashboard: Arc<Dashboard>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(DashboardCollector(dashboard)));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

type Labels = Vec<(&'static str, String)>;

struct DashboardCollector(Arc<Dashboard>);

impl fmt::Debug for DashboardCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DashboardCollector")
    }
}

impl Collector for DashboardCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Encoder(encoder);
        self.encode_rows(&mut out)?;
        self.encode_partitions(&mut out)?;
        self.encode_durations(&mut out)?;
        self.encode_view(&mut out)?;
        self.encode_scores(&mut out)?;
        self.encode_process(&mut out)
    }
}

/// Adds metrics under their name and help text. The text format appends `_total` to the name of a counter.
struct Encoder<'a>(DescriptorEncoder<'a>);

impl Encoder<'_> {
    fn metric(&mut self, name: &str, help: &str, metric: &impl EncodeMetric) -> fmt::Result {
        metric.encode(self.0.encode_descriptor(name, help, None, metric.metric_type())?)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.metric(name, help, &ConstCounter::new(value))
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.metric(name, help, &ConstGauge::new(value))
    }

    fn int_gauge(&mut self, name: &str, help: &str, value: usize) -> fmt::Result {
        self.metric(name, help, &int(value))
    }

    /// A metric with one value per label set; omitted without values.
    fn family<M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, M)>,
    ) -> fmt::Result {
        let mut values = values.into_iter().peekable();
        let Some((_, first)) = values.peek() else { return Ok(()) };
        let mut family = self.0.encode_descriptor(name, help, None, first.metric_type())?;
        for (labels, metric) in values {
            metric.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn int(value: impl TryInto<i64>) -> ConstGauge<i64> {
    ConstGauge::new(value.try_into().unwrap_or(i64::MAX))
}

fn reason_labels(reason: Refusal) -> Labels {
    vec![("reason", reason.name().to_owned())]
}

fn horizon_label(horizon: usize) -> (&'static str, String) {
    ("horizon", horizon.to_string())
}

impl DashboardCollector {
    fn encode_rows(&self, out: &mut Encoder<'_>) -> fmt::Result {
        let (rows, rejects) = {
            let status = self.0.status.lock();
            (status.rows.clone(), status.rejects.clone())
        };
        out.counter("tidecast_rows", "Rows read, including refused rows", rows.rows)?;
        let refused =
            Refusal::ALL.map(|reason| (reason_labels(reason), ConstCounter::new(rows.refused(reason))));
        out.family("tidecast_rows_refused", "Rows refused", refused)?;
        let rejects = Refusal::ALL.map(|reason| {
            (reason_labels(reason), ConstCounter::new(rejects.get(&reason).copied().unwrap_or(0)))
        });
        out.family("tidecast_rejects", "Refused messages written to the rejects topic", rejects)?;
        out.counter("tidecast_forecasts", "Forecasts issued", rows.forecasts)?;
        let help = "Series that were reset by a gap longer than max_gap";
        out.counter("tidecast_series_gap_resets", help, rows.restarts)?;
        out.counter("tidecast_series_evictions", "Series evicted by the series limit", rows.evictions)?;
        let help = "Steps closed early because the limit of open steps was reached";
        out.counter("tidecast_steps_forced_closed", help, rows.forced_closes)
    }

    fn encode_partitions(&self, out: &mut Encoder<'_>) -> fmt::Result {
        let lags = self.0.partition_lags();
        let status = self.0.status.lock();
        let family = |value: &dyn Fn(&Partition, &PartitionStatus) -> Option<ConstGauge<i64>>| {
            let values = status.partitions.iter().filter_map(|(partition, status)| {
                let labels =
                    vec![("topic", partition.topic.to_string()), ("partition", partition.number.to_string())];
                Some((labels, value(partition, status)?))
            });
            values.collect::<Vec<_>>()
        };
        let lag = family(&|partition, status| status.lag(lags.get(&partition.number)).map(int));
        out.family("tidecast_partition_lag_rows", "Rows available and not read", lag)?;
        let positions = family(&|_, status| status.position.map(int));
        out.family("tidecast_partition_position", "Next row to read", positions)?;
        let committed = family(&|_, status| status.committed.map(int));
        let help = "Position below which all output is durable";
        out.family("tidecast_partition_committed_position", help, committed)?;
        out.int_gauge("tidecast_partitions_assigned", "Assigned partitions", status.partitions.len())?;
        let recovering =
            status.partitions.values().filter(|status| status.phase == PartitionPhase::Recovering).count();
        let help = "Assigned partitions that are not read yet: their snapshot is being restored";
        out.int_gauge("tidecast_partitions_recovering", help, recovering)?;
        out.counter("tidecast_partition_assignments", "Partition assignments", status.assignments)?;
        out.counter("tidecast_partition_revocations", "Partition revocations", status.revocations)?;
        out.int_gauge("tidecast_series", "Series with state", status.series)
    }

    fn encode_durations(&self, out: &mut Encoder<'_>) -> fmt::Result {
        let counters = &self.0.counters;
        out.metric("tidecast_batch_rows", "Rows per batch", &counters.batch_rows)?;
        let help = "Time from a record's timestamp to the commit of its output";
        out.metric("tidecast_end_to_end_latency_seconds", help, &counters.end_to_end_latency)?;
        out.metric("tidecast_commit_duration_seconds", "Duration of a commit", &counters.commit_duration)?;
        out.metric("tidecast_commit_rows", "Rows per commit", &counters.commit_rows)?;
        let help = "Time from the capture of a snapshot to its storage or failure";
        out.metric("tidecast_snapshot_duration_seconds", help, &counters.snapshot_duration)?;
        let failures = counters.snapshot_failures.load(Relaxed);
        out.counter("tidecast_snapshot_failures", "Snapshots that could not be stored", failures)?;
        let dropped = counters.dropped_updates.load(Relaxed);
        out.counter("tidecast_dashboard_dropped_updates", "Updates that the dashboard missed", dropped)
    }

    fn encode_view(&self, out: &mut Encoder<'_>) -> fmt::Result {
        let info = &self.0.info;
        let (counts, summaries, event_time) = {
            let view = self.0.view.lock();
            (view.status_counts, view.summaries.clone(), view.event_time)
        };
        let counts = [
            ("ok", counts.ok),
            ("late", counts.late),
            ("silent", counts.silent),
            ("warming", counts.warming),
            ("drifting", counts.drifting),
        ];
        let counts = counts.map(|(status, count)| (vec![("status", status.to_owned())], int(count)));
        out.family("tidecast_dashboard_series", "Series on the dashboard by status", counts)?;
        let by_horizon = || info.view_horizons.iter().map(|horizon| horizon_label(*horizon)).zip(&summaries);
        let mase = by_horizon()
            .filter_map(|(horizon, summary)| Some((vec![horizon], ConstGauge::new(summary.mase?))));
        let help = "Mean MASE of the series on the dashboard over their last steps";
        out.family("tidecast_dashboard_mase", help, mase)?;
        let coverage = by_horizon().flat_map(|(horizon, summary)| {
            summary.coverage.iter().zip(&info.view_levels).map(move |(coverage, level)| {
                let labels = vec![horizon.clone(), ("level", format_percent(info.levels[*level]))];
                (labels, ConstGauge::new(*coverage))
            })
        });
        let help = "Mean interval coverage of the series on the dashboard over their last steps";
        out.family("tidecast_dashboard_coverage_ratio", help, coverage)?;
        let Some(event_time) = event_time else { return Ok(()) };
        let help = "Event time that a tenth of the series have reached";
        out.gauge("tidecast_event_time_seconds", help, event_time as f64 / 1e6)
    }

    /// The scores of all series; omitted where the pipeline scores nothing.
    fn encode_scores(&self, out: &mut Encoder<'_>) -> fmt::Result {
        let scores = &self.0.counters.scores;
        let levels = &self.0.info.levels;
        if scores.horizons.is_empty() {
            return Ok(());
        }
        let labels = |of: &HorizonCounters| vec![horizon_label(of.horizon)];
        let forecasts = scores.horizons.iter().map(|of| (labels(of), ConstCounter::new(of.forecasts())));
        out.family("tidecast_scored_forecasts", "Forecasts scored against their actual value", forecasts)?;
        let covered = scores.horizons.iter().flat_map(|of| {
            levels.iter().enumerate().map(move |(index, level)| {
                let labels = vec![horizon_label(of.horizon), ("level", format_percent(*level))];
                (labels, ConstCounter::new(of.covered(index)))
            })
        });
        let help = "Scored forecasts whose interval contained the actual value";
        out.family("tidecast_scored_covered_forecasts", help, covered)?;
        let help = "MASE of one series in one period, capped at 100";
        let mut mase = out.0.encode_descriptor("tidecast_scored_mase", help, None, MetricType::Histogram)?;
        for of in &scores.horizons {
            of.mase.encode(mase.encode_family(&labels(of))?)?;
        }
        let periods = scores.periods.load(Relaxed);
        out.counter("tidecast_scored_periods", "Scored periods, per series", periods)?;
        let help =
            "Scored periods that ended in drift: errors at the first scored horizon above their own history";
        out.counter("tidecast_scored_drifting_periods", help, scores.drifting_periods.load(Relaxed))
    }

    fn encode_process(&self, out: &mut Encoder<'_>) -> fmt::Result {
        let page = &self.0.info.page;
        let labels = vec![
            ("version", page.version.to_owned()),
            ("pipeline", page.name.clone()),
            ("model", page.model.first().map_or(String::new(), |(_, hash)| hash.clone())),
        ];
        out.family("tidecast_build_info", "The running version, pipeline and model", [(labels, int(1))])?;
        let started = page.started_ms as f64 / 1e3;
        out.gauge("process_start_time_seconds", "Start time of the process", started)?;
        let Some(bytes) = resident_memory_bytes() else { return Ok(()) };
        out.metric("process_resident_memory_bytes", "Resident memory of the process", &int(bytes))
    }
}
