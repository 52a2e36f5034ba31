//! The checks of what the pipeline reads from and writes to: brokers, topics, client properties, files.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::Value;

use super::checks::{Checks, DAY, MILLISECOND, SECOND};
use super::client::RESERVED;
use super::problems::join;
use super::spec;
use super::token::{TOKEN_PROPERTY, TokenSource};
use super::{
    Brokers, Commit, KafkaSink, KafkaSource, Limits, OnChange, ParquetSink, ParquetSource, StateStore,
};
use tidecast_core::series::Refusal;

/// What goes to the rejects topic unless the file says otherwise: what a producer should hear of. The other refusals
/// are ordinary in a stream that delivers some rows twice or late, and are only counted.
pub(super) const REJECTED: [Refusal; 3] = [Refusal::Malformed, Refusal::NotFinite, Refusal::TooFar];

/// Half of what the plainest disks of clouds write (125 MiB/s), so that the other half is left to whoever shares it. A million
/// series of 2 KB are done in half a minute.
const BYTES_PER_SECOND: usize = 64 << 20;

impl Checks<'_> {
    pub(super) fn kafka_source(&mut self, name: &str, spec: spec::KafkaSource) -> KafkaSource {
        let brokers = self.required(
            "source.kafka.brokers",
            spec.brokers,
            "where the cluster is, such as \"localhost:9092\", or \"embedded\" for a broker inside this process",
        );
        let topic = self.required("source.kafka.topic", spec.topic, "the topic with the readings");
        let group = spec.group.unwrap_or_else(|| format!("tidecast-{name}"));
        let default = Commit::default();
        KafkaSource {
            brokers: self.brokers("source.kafka.brokers", brokers),
            topic: self.topic("source.kafka.topic", topic),
            group: self.filled("source.kafka.group", group),
            format: spec.format.unwrap_or_default(),
            start: spec.start.unwrap_or_default(),
            deleted: spec.deleted.unwrap_or_default(),
            compacted: spec.compacted.unwrap_or(false),
            instance: self.filled("source.kafka.instance", spec.instance.unwrap_or_else(host)),
            static_member: spec.static_member.unwrap_or(false),
            rewind: None,
            queue_rows: Limits::default().queue_rows,
            ends: false,
            client: self.client("source.kafka.client", spec.client),
            commit: Commit {
                every: self.duration(
                    "source.kafka.commit.every",
                    spec.commit.every.as_deref(),
                    default.every,
                    MILLISECOND..=5 * SECOND,
                    "what is not committed is read again after a crash",
                ),
                rows: self.whole(
                    "source.kafka.commit.rows",
                    spec.commit.rows,
                    default.rows,
                    1..=1_000_000,
                    "the output of these rows is kept until it is committed",
                ),
            },
        }
    }

    pub(super) fn kafka_sink(&mut self, source: Option<&KafkaSource>, spec: spec::KafkaSink) -> KafkaSink {
        let mut client = self.client("sink.kafka.client", spec.client);
        let brokers = match (spec.brokers, source) {
            (None, Some(source)) => {
                // What opens the cluster to the source opens it to the sink.
                for (property, value) in source.client.iter().filter(|(property, _)| is_key(property)) {
                    client.entry(property.clone()).or_insert_with(|| value.clone());
                }
                source.brokers.clone()
            }
            (given, _) => {
                let why = "there is no [source.kafka] to take them from";
                let text = self.required("sink.kafka.brokers", given, why);
                self.brokers("sink.kafka.brokers", text)
            }
        };
        let topic = self.required("sink.kafka.topic", spec.topic, "the topic for the forecasts");
        let topic = self.topic("sink.kafka.topic", topic);
        let rejects = spec.rejects.map(|rejects| self.filled("sink.kafka.rejects", rejects));
        let rejects = rejects.map(|rejects| self.topic("sink.kafka.rejects", rejects));
        if rejects.as_ref() == Some(&topic) {
            self.problems
                .value("sink.kafka.rejects", format!("is `{topic}`, as the topic of the forecasts is"));
        }
        if let Some(source) = source.filter(|source| source.brokers.are(&brokers) && !source.topic.is_empty())
        {
            for (path, name) in [("sink.kafka.topic", Some(&topic)), ("sink.kafka.rejects", rejects.as_ref())]
            {
                if name == Some(&source.topic) {
                    let text = format!(
                        "is `{}`, the topic of the source: the pipeline would read its own output",
                        source.topic
                    );
                    self.problems.value(path, text);
                }
            }
        }
        let mut rejected = spec.rejected.unwrap_or_else(|| REJECTED.to_vec());
        rejected.sort();
        rejected.dedup();
        KafkaSink { brokers, topic, scores: None, rejects, rejected, client }
    }

    /// `host:port[,host:port...]` or `embedded`.
    fn brokers(&mut self, path: &str, text: String) -> Brokers {
        if text.trim() == "embedded" {
            return Brokers::Embedded;
        }
        let pieces: Vec<&str> = text.split(',').map(str::trim).collect();
        if let Some(wrong) = pieces.iter().find(|piece| !text.trim().is_empty() && !is_broker(piece)) {
            self.problems.value(path, format!("holds `{wrong}`, which is not `host:port`"));
        }
        Brokers::At(pieces.join(","))
    }

    /// Properties as librdkafka takes them, by their whole names.
    fn client(&mut self, path: &str, spec: spec::Client) -> BTreeMap<String, String> {
        let mut client = BTreeMap::new();
        self.flatten(path, "", spec, &mut client);
        for (property, value) in &client {
            let place = format!("{path}.{property}");
            if value.contains('\0') {
                self.problems.value(&place, "holds a character of code 0, which librdkafka does not take");
            }
            if let Some((_, instead)) = RESERVED.iter().find(|(reserved, _)| reserved == property) {
                self.problems.value(&place, format!("is not for a pipeline to set: {instead}"));
            }
        }
        self.token(path, &mut client);
        client
    }

    /// Where the token of OAUTHBEARER comes from, the path of a file taken from the pipeline's folder.
    fn token(&mut self, path: &str, client: &mut BTreeMap<String, String>) {
        let is = |property: &str, value: &str| {
            client.get(property).is_some_and(|given| given.eq_ignore_ascii_case(value))
        };
        if is("sasl.oauthbearer.method", "oidc") {
            let text = "cannot be `oidc`, which is not built in: let a helper fetch the token into a file";
            self.problems.value(&format!("{path}.sasl.oauthbearer.method"), text);
        }
        let wants = is("sasl.mechanism", "OAUTHBEARER") || is("sasl.mechanisms", "OAUTHBEARER");
        match client.get_mut(TOKEN_PROPERTY) {
            Some(given) => match TokenSource::parse(given) {
                Ok(source) => *given = source.under(self.folder).to_string(),
                Err(why) => self.problems.value(&format!("{path}.{TOKEN_PROPERTY}"), why),
            },
            None if wants => self.problems.missing(
                &format!("{path}.{TOKEN_PROPERTY}"),
                "where the token comes from, such as \"token_file=PATH\"",
            ),
            None => {}
        }
    }

    /// `{sasl: {mechanism: x}}` as `sasl.mechanism: x`.
    fn flatten(&mut self, path: &str, above: &str, spec: spec::Client, out: &mut BTreeMap<String, String>) {
        for (key, value) in spec {
            let name = join(above, &key);
            let text = match value {
                Value::String(text) => text,
                Value::Boolean(flag) => flag.to_string(),
                Value::Integer(number) => number.to_string(),
                Value::Float(number) => number.to_string(),
                Value::Table(below) => {
                    self.flatten(path, &name, below, out);
                    continue;
                }
                Value::Array(_) | Value::Datetime(_) => {
                    self.problems.value(&join(path, &name), "must be a text, a number, true or false");
                    continue;
                }
            };
            if out.insert(name.clone(), text).is_some() {
                self.problems.value(&join(path, &name), "is there twice, with and without quotes");
            }
        }
    }

    pub(super) fn parquet_source(&mut self, spec: spec::ParquetSource) -> ParquetSource {
        let path = self.required(
            "source.parquet.path",
            spec.path,
            "a file, a folder or a pattern such as \"data/*.parquet\"",
        );
        ParquetSource {
            path: self.local("source.parquet.path", &path),
            order: spec.order.unwrap_or_default(),
        }
    }

    pub(super) fn parquet_sink(
        &mut self,
        source: Option<&ParquetSource>,
        spec: spec::ParquetSink,
    ) -> ParquetSink {
        let path = self.required("sink.parquet.path", spec.path, "the file or folder for the forecasts");
        let path = self.local("sink.parquet.path", &path);
        if source.is_some_and(|source| source.path == path) {
            self.problems
                .value("sink.parquet.path", "is the path of the source: the readings would be overwritten");
        }
        let positions = self.whole(
            "sink.parquet.positions",
            spec.positions,
            10_000,
            1..=100_000_000,
            "a run's file is there once so many messages of a partition have come, and read again up to there after a stop",
        );
        ParquetSink { path, layout: spec.layout.unwrap_or_default(), positions }
    }

    pub(super) fn state(&mut self, spec: spec::State) -> StateStore {
        let store = self.required(
            "state.store",
            spec.store,
            "the folder of the snapshots, such as \"file:state/NAME\" or \"s3://BUCKET/NAME\"",
        );
        StateStore {
            place: self.place("state.store", &store),
            every: self.duration(
                "state.every",
                spec.every.as_deref(),
                Duration::from_secs(30),
                SECOND..=DAY,
                "each snapshot holds all series, and a restart reads back what came since the last one",
            ),
            bytes_per_second: self.whole(
                "state.bytes_per_second",
                spec.bytes_per_second,
                BYTES_PER_SECOND,
                1 << 16..=1 << 40,
                "slower, and a snapshot is never done; the disk or the network is the limit",
            ) as u64,
            on_change: self.on_change(spec.on_change, spec.replay, spec.warm),
        }
    }

    fn on_change(
        &mut self,
        said: Option<spec::OnChange>,
        replay: Option<String>,
        warm: Option<String>,
    ) -> OnChange {
        for (given, key, wanted) in [
            (replay.is_some(), "replay", matches!(said, Some(spec::OnChange::Replay))),
            (warm.is_some(), "warm", matches!(said, Some(spec::OnChange::Warm))),
        ] {
            if given && !wanted {
                self.problems
                    .value(&format!("state.{key}"), format!("is of no use without on_change = \"{key}\""));
            }
        }
        match said {
            None | Some(spec::OnChange::Fail) => OnChange::Fail,
            Some(spec::OnChange::Cold) => OnChange::Cold,
            Some(spec::OnChange::Replay) => {
                if replay.is_none() {
                    self.problems
                        .missing("state.replay", "how much of the topic is read again, such as \"14d\"");
                }
                let why = "all of it is read before the first forecast";
                let default = Duration::from_secs(14 * 86_400);
                OnChange::Replay(self.duration(
                    "state.replay",
                    replay.as_deref(),
                    default,
                    SECOND..=3660 * DAY,
                    why,
                ))
            }
            Some(spec::OnChange::Warm) => {
                let path = self.required("state.warm", warm, "the Parquet files with the past");
                OnChange::Warm(self.local("state.warm", &path))
            }
        }
    }
}

/// The name of this machine, or of this container.
fn host() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}

/// Whether a property is part of how a cluster is opened.
fn is_key(property: &str) -> bool {
    ["security.", "sasl.", "ssl.", "enable.ssl."].iter().any(|start| property.starts_with(start))
}

fn is_broker(piece: &str) -> bool {
    let host = piece.split_once("://").map_or(piece, |(_, host)| host);
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    !name.is_empty() && !piece.contains(char::is_whitespace) && port.is_none_or(is_port)
}
