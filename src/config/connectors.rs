//! Checks of the connectors and the state store: `[source.*]`, `[sink.*]` and `[state]`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use toml::Value;

use tidecast_core::time::{DAY, MILLISECOND, SECOND};
use tidecast_kafka::settings::{
    Brokers, ClientProperties, KafkaSinkConfig, KafkaSourceConfig, RESERVED_PROPERTIES, TOKEN_PROPERTY,
    TokenSource,
};
use tidecast_stream::settings::{Commit, Limits, OnChange, StateConfig};
use tidecast_tables::settings::{ParquetSinkConfig, ParquetSourceConfig};

use super::checks::Checks;
use super::file;
use super::problems::join;

/// The destination of scores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScoreSinkConfig {
    /// Topic in the cluster of the forecasts, written in the same transactions.
    pub topic: Option<String>,
    /// Parquet file or folder, used when the forecasts go to Parquet.
    pub path: Option<PathBuf>,
}

impl Checks<'_> {
    pub fn kafka_source(&mut self, pipeline_name: &str, table: file::KafkaSource) -> KafkaSourceConfig {
        let brokers = self.required(
            "source.kafka.brokers",
            table.brokers,
            "the brokers, such as \"localhost:9092\", or \"embedded\" for a broker inside this process",
        );
        let topic = self.required("source.kafka.topic", table.topic, "the topic of the observations");
        let group = table.group.unwrap_or_else(|| format!("tidecast-{pipeline_name}"));
        let default = Commit::default();
        KafkaSourceConfig {
            brokers: self.brokers("source.kafka.brokers", brokers),
            topic: self.topic("source.kafka.topic", topic),
            group: self.non_empty("source.kafka.group", group),
            format: table.format.unwrap_or_default(),
            start: table.start.unwrap_or_default(),
            on_data_loss: table.on_data_loss.unwrap_or_default(),
            allow_compacted: table.allow_compacted.unwrap_or(false),
            instance: self.non_empty("source.kafka.instance", table.instance.unwrap_or_else(hostname)),
            static_membership: table.static_membership.unwrap_or(false),
            replay_window: None,
            queue_rows: Limits::default().queue_rows,
            track_lag: false,
            client: self.client("source.kafka.client", table.client),
            commit: Commit {
                every: self.duration(
                    "source.kafka.commit.every",
                    table.commit.every.as_deref(),
                    default.every,
                    MILLISECOND..=5 * SECOND,
                    "uncommitted input is read again after a crash",
                ),
                rows: self.integer(
                    "source.kafka.commit.rows",
                    table.commit.rows,
                    default.rows,
                    1..=1_000_000,
                    "the output of these rows is buffered until the commit",
                ),
            },
        }
    }

    pub fn kafka_sink(
        &mut self,
        source: Option<&KafkaSourceConfig>,
        table: file::KafkaSink,
    ) -> KafkaSinkConfig {
        let mut client = self.client("sink.kafka.client", table.client);
        let brokers = match (table.brokers, source) {
            (None, Some(source)) => {
                client.inherit_security(&source.client);
                source.brokers.clone()
            }
            (given, _) => {
                let key = "sink.kafka.brokers";
                let text = self.required(key, given, "there is no [source.kafka] to take them from");
                self.brokers(key, text)
            }
        };
        let topic = self.required("sink.kafka.topic", table.topic, "the topic of the forecasts");
        let topic = self.topic("sink.kafka.topic", topic);
        let path = "sink.kafka.rejects_topic";
        let rejects_topic = table.rejects_topic.map(|topic| self.non_empty(path, topic));
        let rejects_topic = rejects_topic.map(|topic| self.topic(path, topic));
        if rejects_topic.as_ref() == Some(&topic) {
            self.problems.value(path, format!("is `{topic}`, the topic of the forecasts"));
        }
        if let Some(source) = source.filter(|source| source.brokers.is_same_as(&brokers)) {
            self.not_source_topic(source, "sink.kafka.topic", Some(&topic));
            self.not_source_topic(source, path, rejects_topic.as_ref());
        }
        let mut reject_reasons =
            table.reject_reasons.unwrap_or_else(|| KafkaSinkConfig::DEFAULT_REJECT_REASONS.to_vec());
        reject_reasons.sort();
        reject_reasons.dedup();
        KafkaSinkConfig { brokers, topic, scores_topic: None, rejects_topic, reject_reasons, client }
    }

    fn not_source_topic(&mut self, source: &KafkaSourceConfig, path: &str, topic: Option<&String>) {
        if topic == Some(&source.topic) && !source.topic.is_empty() {
            let text = "the topic of the source: the pipeline would read its own output";
            self.problems.value(path, format!("is `{}`, {text}", source.topic));
        }
    }

    /// `host:port[,host:port...]` or `embedded`.
    fn brokers(&mut self, path: &str, text: String) -> Brokers {
        if text.trim() == "embedded" {
            return Brokers::Embedded;
        }
        let addresses: Vec<&str> = text.split(',').map(str::trim).collect();
        if let Some(wrong) = addresses.iter().find(|address| !text.trim().is_empty() && !is_broker(address)) {
            self.problems.value(path, format!("contains `{wrong}`, which is not `host:port`"));
        }
        Brokers::Addresses(addresses.join(","))
    }

    /// librdkafka's properties by their full names.
    fn client(&mut self, path: &str, table: file::Client) -> ClientProperties {
        let mut client = BTreeMap::new();
        self.flatten(path, "", table, &mut client);
        for (property, value) in &client {
            let path = format!("{path}.{property}");
            if value.contains('\0') {
                self.problems.value(&path, "contains a zero byte, which librdkafka does not accept");
            }
            if let Some((_, instead)) = RESERVED_PROPERTIES.iter().find(|(reserved, _)| reserved == property)
            {
                self.problems.value(&path, format!("is set by tidecast: {instead}"));
            }
        }
        self.token(path, &mut client);
        client.into()
    }

    /// The token source of OAUTHBEARER; a relative path is resolved against the pipeline's folder.
    fn token(&mut self, path: &str, client: &mut BTreeMap<String, String>) {
        let is = |property: &str, value: &str| {
            client.get(property).is_some_and(|given| given.eq_ignore_ascii_case(value))
        };
        if is("sasl.oauthbearer.method", "oidc") {
            let text = "is `oidc`, which is not built in: let a sidecar fetch the token into a file";
            self.problems.value(&format!("{path}.sasl.oauthbearer.method"), text);
        }
        let required = is("sasl.mechanism", "OAUTHBEARER") || is("sasl.mechanisms", "OAUTHBEARER");
        match client.get_mut(TOKEN_PROPERTY) {
            Some(given) => match TokenSource::parse(given) {
                Ok(source) => *given = source.relative_to(self.folder).to_string(),
                Err(why) => self.problems.value(&format!("{path}.{TOKEN_PROPERTY}"), why),
            },
            None if required => self.problems.missing(
                &format!("{path}.{TOKEN_PROPERTY}"),
                "the source of the token, such as \"token_file=PATH\"",
            ),
            None => {}
        }
    }

    /// `{sasl: {mechanism: x}}` as `sasl.mechanism: x`.
    fn flatten(&mut self, path: &str, prefix: &str, table: file::Client, out: &mut BTreeMap<String, String>) {
        for (key, value) in table {
            let name = join(prefix, &key);
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
                    self.problems.value(&join(path, &name), "must be a string, a number, true or false");
                    continue;
                }
            };
            if out.insert(name.clone(), text).is_some() {
                self.problems.value(&join(path, &name), "is set twice, with and without quotes");
            }
        }
    }

    pub fn parquet_source(&mut self, table: file::ParquetSource) -> ParquetSourceConfig {
        let (key, description) =
            ("source.parquet.path", "a file, a folder or a pattern such as \"data/*.parquet\"");
        let path = self.required(key, table.path, description);
        ParquetSourceConfig { path: self.local_path(key, &path), order: table.order.unwrap_or_default() }
    }

    pub fn parquet_sink(
        &mut self,
        source: Option<&ParquetSourceConfig>,
        table: file::ParquetSink,
    ) -> ParquetSinkConfig {
        let key = "sink.parquet.path";
        let path = self.required(key, table.path, "the file or folder for the forecasts");
        let path = self.local_path(key, &path);
        if source.is_some_and(|source| source.path == path) {
            self.problems.value(key, "is the path of the source: the input would be overwritten");
        }
        let positions_per_file = self.integer(
            "sink.parquet.positions_per_file",
            table.positions_per_file,
            ParquetSinkConfig::DEFAULT_POSITIONS_PER_FILE,
            1..=100_000_000,
            "`run` publishes a file when it is full, and reads the input of an unfinished file again after a stop",
        );
        ParquetSinkConfig { path, layout: table.layout.unwrap_or_default(), positions_per_file }
    }

    /// The scores must not share a topic or a path with the other connectors.
    pub fn score_sink(
        &mut self,
        table: file::ScoreSink,
        kafka_source: Option<&KafkaSourceConfig>,
        kafka_sink: Option<&KafkaSinkConfig>,
        parquet_source: Option<&ParquetSourceConfig>,
        parquet_sink: Option<&ParquetSinkConfig>,
    ) -> ScoreSinkConfig {
        if table.topic.is_none() && table.path.is_none() {
            let description = "the topic for the scores; or `path`, the file or folder for them";
            self.problems.missing("sink.scores.topic", description);
        }
        let path = "sink.scores.topic";
        let topic = table.topic.map(|topic| self.non_empty(path, topic)).map(|topic| self.topic(path, topic));
        if let (Some(topic), Some(sink)) = (&topic, kafka_sink) {
            if *topic == sink.topic || Some(topic) == sink.rejects_topic.as_ref() {
                self.problems.value(path, format!("is `{topic}`, which [sink.kafka] uses already"));
            }
            if let Some(source) = kafka_source.filter(|source| source.brokers.is_same_as(&sink.brokers)) {
                self.not_source_topic(source, path, Some(topic));
            }
        }
        if topic.is_some() && kafka_sink.is_none() {
            self.problems.value(path, "needs [sink.kafka], whose cluster and transactions the scores share");
        }
        let key = "sink.scores.path";
        let path = table.path.map(|path| self.local_path(key, &path));
        if path.is_some() && path.as_ref() == parquet_source.map(|source| &source.path) {
            self.problems.value(key, "is the path of the source: the input would be overwritten");
        }
        if path.is_some() && path.as_ref() == parquet_sink.map(|sink| &sink.path) {
            let text = "is the path of [sink.parquet]: scores and forecasts would overwrite each other";
            self.problems.value(key, text);
        }
        ScoreSinkConfig { topic, path }
    }

    pub fn state(&mut self, table: file::State) -> StateConfig {
        let store = self.required(
            "state.store",
            table.store,
            "the folder of the snapshots, such as \"file:state/NAME\" or \"s3://BUCKET/NAME\"",
        );
        StateConfig {
            location: self.location("state.store", &store),
            every: self.duration(
                "state.every",
                table.every.as_deref(),
                StateConfig::DEFAULT_EVERY,
                SECOND..=DAY,
                "each snapshot contains all series, and a restart replays the input since the last one",
            ),
            bytes_per_second: self.integer(
                "state.bytes_per_second",
                table.bytes_per_second,
                StateConfig::DEFAULT_BYTES_PER_SECOND,
                1 << 16..=1 << 40,
                "a slower snapshot would never finish, a faster one is limited by the disk or the network",
            ) as u64,
            on_change: self.on_change(table.on_change, table.replay, table.bootstrap),
        }
    }

    fn on_change(
        &mut self,
        policy: Option<file::OnChange>,
        replay: Option<String>,
        bootstrap: Option<String>,
    ) -> OnChange {
        for (is_set, key, is_used) in [
            (replay.is_some(), "replay", matches!(policy, Some(file::OnChange::Replay))),
            (bootstrap.is_some(), "bootstrap", matches!(policy, Some(file::OnChange::Bootstrap))),
        ] {
            if is_set && !is_used {
                self.problems
                    .value(&format!("state.{key}"), format!("has no effect without on_change = \"{key}\""));
            }
        }
        match policy {
            None | Some(file::OnChange::Fail) => OnChange::Fail,
            Some(file::OnChange::Cold) => OnChange::Cold,
            Some(file::OnChange::Replay) => {
                if replay.is_none() {
                    self.problems
                        .missing("state.replay", "how far back the topic is replayed, such as \"14d\"");
                }
                let (bounds, why) = (SECOND..=3660 * DAY, "the first forecast waits for the replay");
                let window = self.duration("state.replay", replay.as_deref(), Duration::ZERO, bounds, why);
                OnChange::Replay(window)
            }
            Some(file::OnChange::Bootstrap) => {
                let path = self.required("state.bootstrap", bootstrap, "the Parquet files of the history");
                OnChange::Bootstrap(self.local_path("state.bootstrap", &path))
            }
        }
    }
}

/// The name of this machine, or of this container.
fn hostname() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}

/// True if `address` is `host:port`, `host`, or either with a protocol.
fn is_broker(address: &str) -> bool {
    let host = address.split_once("://").map_or(address, |(_, host)| host);
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    !name.is_empty() && !address.contains(char::is_whitespace) && port.is_none_or(is_port)
}
