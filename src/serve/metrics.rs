//! Everything that is counted, as Prometheus reads it. The only labels are closed sets, and the partitions that are ours: no
//! series has one.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::observer::Shared;
use super::pulse;
use super::scored::Ahead;
use tidecast_core::series::Refusal;
use tidecast_core::table::percent;

pub const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub fn text(shared: Arc<Shared>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(All(shared)));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

struct All(Arc<Shared>);

impl fmt::Debug for All {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("All")
    }
}

/// A metric without labels.
fn one(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, metric: &dyn EncodeMetric) -> fmt::Result {
    metric.encode(to.encode_descriptor(name, help, None, metric.metric_type())?)
}

/// One metric for each of some labels.
fn many<M: EncodeMetric>(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    all: impl IntoIterator<Item = (Vec<(&'static str, String)>, M)>,
) -> fmt::Result {
    let mut all = all.into_iter().peekable();
    let Some((_, first)) = all.peek() else { return Ok(()) };
    let mut family = to.encode_descriptor(name, help, None, first.metric_type())?;
    for (labels, metric) in all {
        metric.encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

impl Collector for All {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> fmt::Result {
        self.rows(&mut to)?;
        self.partitions(&mut to)?;
        self.durations(&mut to)?;
        self.series(&mut to)?;
        self.scores(&mut to)?;
        self.process(&mut to)
    }
}

impl All {
    fn rows(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (tally, rejects) = {
            let line = self.0.line();
            (line.tally.clone(), line.rejects.clone())
        };
        let count = ConstCounter::new;
        one(
            to,
            "tidecast_readings",
            "Readings that were taken, refused ones among them",
            &count(tally.rows),
        )?;
        let refused = Refusal::ALL
            .map(|reason| (vec![("reason", reason.name().to_owned())], count(tally.refused(reason))));
        many(to, "tidecast_refused", "Readings that were not used", refused)?;
        let rejects = Refusal::ALL.map(|reason| {
            let rejected = rejects.get(&reason).copied().unwrap_or(0);
            (vec![("reason", reason.name().to_owned())], count(rejected))
        });
        many(to, "tidecast_rejects", "Refused readings handed to the sink with their messages", rejects)?;
        one(to, "tidecast_forecasts", "Forecasts that were made", &count(tally.forecasts))?;
        one(to, "tidecast_gap_restarts", "Series that began anew after a long gap", &count(tally.restarts))?;
        one(to, "tidecast_evictions", "Series that gave way to others", &count(tally.evictions))?;
        one(to, "tidecast_early_closings", "Steps closed early for want of room", &count(tally.early))
    }

    fn partitions(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let ends = self.0.ends();
        let line = self.0.line();
        let labelled = |of: &dyn Fn(&tidecast_stream::Partition, &super::line::Stand) -> Option<i64>| {
            let all = line.partitions.iter().filter_map(|(partition, stand)| {
                let labels =
                    vec![("topic", partition.topic.to_string()), ("partition", partition.number.to_string())];
                of(partition, stand).map(|value| (labels, ConstGauge::new(value)))
            });
            all.collect::<Vec<_>>()
        };
        let lag = labelled(&|partition, stand| {
            stand.lag(ends.get(&partition.number)).map(|lag| i64::try_from(lag).unwrap_or(i64::MAX))
        });
        many(to, "tidecast_lag_rows", "Rows of a partition that are there and not yet read", lag)?;
        let position = labelled(&|_, stand| stand.position);
        many(to, "tidecast_position", "The next offset to read of a partition", position)?;
        let committed = labelled(&|_, stand| stand.committed);
        many(to, "tidecast_committed_position", "Up to where all of a partition is durable", committed)?;
        one(
            to,
            "tidecast_partitions",
            "Partitions that are assigned",
            &ConstGauge::new(line.partitions.len() as i64),
        )?;
        let starting = line.partitions.values().filter(|stand| !stand.is_reading).count();
        one(
            to,
            "tidecast_partitions_starting",
            "Assigned partitions whose state is being made up",
            &ConstGauge::new(starting as i64),
        )?;
        let count = ConstCounter::new;
        one(to, "tidecast_assignments", "Partitions that came to this process", &count(line.assignments))?;
        one(to, "tidecast_revocations", "Partitions that left this process", &count(line.revocations))?;
        one(to, "tidecast_series", "Series that have a state", &ConstGauge::new(line.series as i64))
    }

    fn durations(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let counts = &self.0.counts;
        one(to, "tidecast_batch_rows", "Messages of a batch of one partition", &counts.batch_rows)?;
        one(
            to,
            "tidecast_latency_seconds",
            "From a record's timestamp to the commit of what came of it",
            &counts.latency,
        )?;
        one(to, "tidecast_commit_duration_seconds", "Time of a commit", &counts.commits)?;
        one(to, "tidecast_commit_rows", "Messages of a commit", &counts.commit_rows)?;
        one(
            to,
            "tidecast_snapshot_duration_seconds",
            "From a state's moment to its safety in the store, or to its failure",
            &counts.snapshots,
        )?;
        let load = |count: &std::sync::atomic::AtomicU64| {
            ConstCounter::new(count.load(std::sync::atomic::Ordering::Relaxed))
        };
        let failed = load(&counts.snapshots_failed);
        one(to, "tidecast_snapshot_failures", "Snapshots that the store did not take", &failed)?;
        let unseen = load(&counts.unseen);
        one(to, "tidecast_dashboard_missed_batches", "Batches that the dashboard did not see", &unseen)
    }

    fn series(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let facts = &self.0.facts;
        let (states, overall, now) = {
            let board = self.0.board();
            (board.states, board.overall.clone(), board.now)
        };
        let named = [
            ("ok", states.ok),
            ("late", states.late),
            ("silent", states.silent),
            ("cold", states.cold),
            ("drifting", states.drifting),
        ];
        let states =
            named.map(|(name, count)| (vec![("state", name.to_owned())], ConstGauge::new(count as i64)));
        many(to, "tidecast_series_state", "Series on the dashboard by their state", states)?;
        let ahead = |at: usize| ("steps_ahead", facts.ahead[at].to_string());
        let ratios = overall
            .iter()
            .enumerate()
            .filter_map(|(at, overall)| overall.ratio.map(|ratio| (vec![ahead(at)], ConstGauge::new(ratio))));
        many(
            to,
            "tidecast_error_ratio",
            "Mean over the series on the dashboard of the mean absolute error over that of the baseline, of their last steps",
            ratios,
        )?;
        let coverage = overall.iter().enumerate().flat_map(|(at, overall)| {
            overall.coverage.iter().zip(&facts.shown).map(move |(share, level)| {
                let level = ("level", percent(facts.levels[*level]));
                (vec![ahead(at), level], ConstGauge::new(*share))
            })
        });
        many(
            to,
            "tidecast_coverage_ratio",
            "Share of values within their interval, mean over the series on the dashboard, of their last steps",
            coverage,
        )?;
        match now {
            Some(now) => one(
                to,
                "tidecast_event_time_seconds",
                "The event time that one in ten series has reached",
                &ConstGauge::new(now as f64 / 1e6),
            ),
            None => Ok(()),
        }
    }

    /// What the stream scored itself, of all series.
    fn scores(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let scored = &self.0.counts.scored;
        let (all, levels) = (scored.all(), &self.0.facts.levels);
        if all.is_empty() {
            return Ok(());
        }
        let ahead = |ahead: &Ahead| ("steps_ahead", ahead.steps.to_string());
        let count = ConstCounter::new;
        let forecasts = all.iter().map(|of| (vec![ahead(of)], count(of.forecasts())));
        many(to, "tidecast_scored_forecasts", "Forecasts that were held against their actuals", forecasts)?;
        let inside = all.iter().flat_map(|of| {
            let at_level = move |(at, level): (usize, &f64)| {
                (vec![ahead(of), ("level", percent(*level))], count(of.inside(at)))
            };
            levels.iter().enumerate().map(at_level)
        });
        many(
            to,
            "tidecast_scored_inside",
            "Scored forecasts whose actual was within their interval",
            inside,
        )?;
        let help = "Mean absolute error of a series in a period over that of the naive forecast in the same period, above 100 as 100";
        let mut ratio =
            to.encode_descriptor("tidecast_scored_error_ratio", help, None, MetricType::Histogram)?;
        for of in all {
            of.ratio.encode(ratio.encode_family(&[ahead(of)])?)?;
        }
        let help = "Periods of series whose forecasts were scored";
        one(to, "tidecast_scored_periods", help, &count(scored.periods()))?;
        let help = "Scored periods of series at whose end the errors of the first step ahead that is scored had left their own history";
        one(to, "tidecast_scored_drifts", help, &count(scored.drifts()))
    }

    fn process(&self, to: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let page = &self.0.facts.page;
        let labels = vec![
            ("version", page.version.to_owned()),
            ("pipeline", page.name.clone()),
            ("model", page.model.first().map_or(String::new(), |(_, hash)| hash.clone())),
        ];
        many(to, "tidecast_build_info", "What runs", [(labels, ConstGauge::new(1_i64))])?;
        let started = ConstGauge::new(page.started_ms as f64 / 1e3);
        one(to, "process_start_time_seconds", "When the process started", &started)?;
        match pulse::memory() {
            Some(bytes) => one(
                to,
                "process_resident_memory_bytes",
                "Memory of the process",
                &ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX)),
            ),
            None => Ok(()),
        }
    }
}
