//! The settings every client shares, its log, and the questions that are asked before any work starts: is the cluster
//! there, is the topic there, how many partitions has it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::types::RDKafkaRespErr;

use super::oauth::{self, Native};
use super::{Embedded, hidden, refusal};
use crate::config::{Brokers, KafkaSink, KafkaSource, TOKEN_PROPERTY};

/// A broker that is there answers within milliseconds; one that resolves but drops packets must not hold up the error
/// for longer than a person waits.
const METADATA_TIMEOUT: Duration = Duration::from_secs(6);
/// Of the first question; doubled with each, so that a far broker, too, is waited for long enough.
const FIRST_PATIENCE: Duration = Duration::from_millis(400);

/// How long a topic that was just made may be unknown to some of the brokers.
const SPREADS_WITHIN: Duration = Duration::from_secs(2);
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// What we set ourselves because a promise stands on it: giving it in `client` is an error, not a silent override.
const OURS: [&str; 7] = [
    "bootstrap.servers",
    "group.id",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "auto.offset.reset",
    "enable.partition.eof",
    "partitioner",
];

/// A Kafka cluster and how to talk to it.
#[derive(Clone)]
pub struct Cluster {
    bootstrap: String,
    /// Kept alive, and asked for topics: it knows no administration over the wire.
    embedded: Option<Embedded>,
    properties: BTreeMap<String, String>,
}

impl Cluster {
    /// `properties` are librdkafka's; `embedded` is the broker that `Brokers::Embedded` means.
    pub fn new(
        brokers: &Brokers,
        embedded: Option<&Embedded>,
        properties: &BTreeMap<String, String>,
    ) -> Result<Self> {
        if let Some(name) = properties.keys().find(|name| OURS.contains(&name.as_str())) {
            bail!(
                "client property `{name}` cannot be set: what a pipeline promises stands on it; leave it out"
            );
        }
        hidden::hide(properties);
        let (bootstrap, embedded) = match (brokers, embedded) {
            (Brokers::At(address), _) => (address.clone(), None),
            (Brokers::Embedded, Some(embedded)) => (embedded.bootstrap_servers(), Some(embedded.clone())),
            (Brokers::Embedded, None) => bail!(
                "brokers = \"embedded\" is a broker inside one process, and this command starts none; give an address"
            ),
        };
        Ok(Self { bootstrap, embedded, properties: properties.clone() })
    }

    /// `host:port[,host:port...]`
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap
    }

    /// A client with these settings, over which the user's go.
    pub(super) fn client<C, T>(&self, settings: &[(&str, &str)], context: C) -> Result<T>
    where
        C: ClientContext,
        T: FromClientConfigAndContext<C> + Native,
    {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap).set("client.id", "tidecast");
        if self.is("security.protocol", &["ssl", "sasl_ssl"]) {
            // The OpenSSL that is built in looks where it was built; this looks where systems keep their authorities.
            config.set("ssl.ca.location", "probe");
        }
        for (name, value) in settings {
            config.set(*name, *value);
        }
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        // Else rdkafka asks the `log` crate, which nobody listens to here.
        config.set_log_level(match self.properties.contains_key("debug") {
            true => RDKafkaLogLevel::Debug,
            false => RDKafkaLogLevel::Info,
        });
        let client: T = config.create_with_context(context).map_err(|error| match error {
            // Its own text would print the value, which may be a password.
            KafkaError::ClientConfig(_, reason, name, _) => {
                anyhow!("client property `{name}`: {}", hidden::masked(&reason))
            }
            other => anyhow!(
                "the kafka client refuses its settings (see `client`): {}",
                refusal::explained(&hidden::masked(&other.to_string()))
            ),
        })?;
        if self.is("sasl.mechanism", &["oauthbearer"]) || self.is("sasl.mechanisms", &["oauthbearer"]) {
            oauth::give(&client, self.property(TOKEN_PROPERTY))?;
        }
        Ok(client)
    }

    /// Whether a property is one of these words, which librdkafka compares without case.
    fn is(&self, property: &str, words: &[&str]) -> bool {
        self.property(property).is_some_and(|value| words.iter().any(|word| value.eq_ignore_ascii_case(word)))
    }

    pub(super) fn embedded(&self) -> Option<&Embedded> {
        self.embedded.as_ref()
    }

    pub(super) fn property(&self, name: &str) -> Option<&str> {
        self.properties.get(name).map(String::as_str)
    }

    /// The partition count of a topic, or `None` where there is no such topic. Creates nothing. Blocks.
    ///
    /// # Errors
    /// When no broker answers in time.
    pub fn partitions(&self, topic: &str) -> Result<Option<i32>> {
        Asker::new(self)?.partitions(topic)
    }

    /// The partition count of a topic that must exist. Blocks.
    ///
    /// # Errors
    /// When no broker answers in time, or there is no such topic; then it names the nearest one.
    pub fn require(&self, topic: &str) -> Result<i32> {
        let asker = Asker::new(self)?;
        let deadline = Instant::now() + SPREADS_WITHIN;
        loop {
            match asker.partitions(topic)? {
                Some(count) => return Ok(count),
                None if Instant::now() < deadline => std::thread::sleep(ASK_AGAIN),
                None => return Err(asker.missing(topic)),
            }
        }
    }
}

/// Without the properties, some of which are secrets.
impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cluster({})", self.bootstrap)
    }
}

/// A consumer in no group: unlike a producer, its questions about a topic do not create it.
struct Asker<'a> {
    cluster: &'a Cluster,
    consumer: BaseConsumer<Logged>,
}

impl<'a> Asker<'a> {
    fn new(cluster: &'a Cluster) -> Result<Self> {
        let settings = [("allow.auto.create.topics", "false")];
        Ok(Self { cluster, consumer: cluster.client(&settings, Logged::quiet())? })
    }

    fn partitions(&self, topic: &str) -> Result<Option<i32>> {
        let metadata = self.metadata(topic)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let found =
            found.with_context(|| format!("{} answered about another topic", self.cluster.bootstrap))?;
        match found.error() {
            None => Ok(Some(found.partitions().len() as i32)),
            // A topic just made, whose leaders are still being chosen.
            Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE) => {
                Ok(Some(found.partitions().len() as i32).filter(|count| *count > 0))
            }
            Some(
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
                | RDKafkaRespErr::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC,
            ) => Ok(None),
            Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED) => {
                bail!("topic `{topic}` at {}: {}", self.cluster.bootstrap, refusal::NO_RIGHT)
            }
            Some(other) => {
                bail!("topic `{topic}` at {}: {}", self.cluster.bootstrap, RDKafkaErrorCode::from(other))
            }
        }
    }

    /// Asks with ever more patience: a client goes on trying what cannot succeed, and its reasons are only served
    /// between the questions.
    fn metadata(&self, topic: &str) -> Result<Metadata> {
        let deadline = Instant::now() + METADATA_TIMEOUT;
        let mut patience = FIRST_PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let error = match self.consumer.fetch_metadata(Some(topic), patience.min(left)) {
                Ok(metadata) => return Ok(metadata),
                Err(error) => error,
            };
            for _ in 0..20 {
                self.consumer.poll(Duration::from_millis(5));
            }
            let log = self.consumer.context();
            let address = &self.cluster.bootstrap;
            if let Some(reason) = log.refusal() {
                bail!("kafka at {address} turns us away: {}", refusal::explained(&reason));
            }
            patience *= 2;
            if deadline <= Instant::now() {
                let reason = log.last_failure().unwrap_or_else(|| error.to_string());
                bail!(
                    "no kafka broker answers at {address} within {} s ({}); check that it runs, that `brokers` is its \
                     address as seen from here, and that `client` has the security settings it wants",
                    METADATA_TIMEOUT.as_secs(),
                    refusal::explained(&reason),
                );
            }
        }
    }

    fn missing(&self, topic: &str) -> anyhow::Error {
        let known = self.consumer.fetch_metadata(None, METADATA_TIMEOUT);
        let names: Vec<String> = known.map_or(Vec::new(), |metadata| {
            let names = metadata.topics().iter().map(|topic| topic.name().to_string());
            names.filter(|name| !name.starts_with("__")).collect()
        });
        let nearest = names.iter().max_by(|a, b| {
            strsim::jaro_winkler(a, topic).total_cmp(&strsim::jaro_winkler(b, topic)).then(b.cmp(a))
        });
        let nearest = match nearest {
            Some(name) => format!("the nearest of the {} there is `{name}`", names.len()),
            None => "there are none".to_string(),
        };
        anyhow!(
            "topic `{topic}` does not exist at {} ({nearest}); create it, or correct `topic` in the pipeline",
            self.cluster.bootstrap
        )
    }
}

/// What `check --connect` found out about the two ends.
#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    /// The input topic and its partitions.
    pub source: Option<(String, i32)>,
    /// The output topics; `None` for one that a run will create.
    pub sink: Vec<(String, Option<i32>)>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((topic, partitions)) = &self.source {
            writeln!(f, "reads topic {topic}: {partitions} partitions")?;
        }
        for (topic, partitions) in &self.sink {
            match partitions {
                Some(partitions) => writeln!(f, "writes topic {topic}: {partitions} partitions")?,
                None => writeln!(f, "writes topic {topic}: does not exist yet, will be created")?,
            }
        }
        Ok(())
    }
}

/// Whether the brokers answer and the topics are there. Reads and writes nothing; an embedded broker, which is not
/// there before a run, is left out. Blocks for seconds where a broker does not answer.
///
/// # Errors
/// Which table of the pipeline file is wrong, and why.
pub fn check(
    source: Option<&KafkaSource>,
    sink: Option<&KafkaSink>,
) -> Result<Report, (&'static str, anyhow::Error)> {
    let of = |table: &'static str| move |error: anyhow::Error| (table, error.context(table));
    let mut report = Report { source: None, sink: Vec::new() };
    if let Some(source) = source.filter(|source| source.brokers != Brokers::Embedded) {
        let cluster = Cluster::new(&source.brokers, None, &source.client).map_err(of("source.kafka"))?;
        let partitions = cluster.require(&source.topic).map_err(of("source.kafka"))?;
        report.source = Some((source.topic.clone(), partitions));
    }
    if let Some(sink) = sink.filter(|sink| sink.brokers != Brokers::Embedded) {
        let cluster = Cluster::new(&sink.brokers, None, &sink.client).map_err(of("sink.kafka"))?;
        for topic in std::iter::once(&sink.topic).chain(&sink.scores).chain(&sink.rejects) {
            let partitions = cluster.partitions(topic).map_err(of("sink.kafka"))?;
            report.sink.push((topic.clone(), partitions));
        }
    }
    Ok(report)
}

/// A client's log lines, sent to ours, with the last failure kept to explain an error by.
#[derive(Default)]
pub(super) struct Logged {
    last_failure: Mutex<Option<String>>,
    refusal: Mutex<Option<String>>,
    /// What fails is told in an error, so that its lines are for the curious.
    is_quiet: bool,
}

impl Logged {
    fn quiet() -> Self {
        Self { is_quiet: true, ..Self::default() }
    }

    pub(super) fn last_failure(&self) -> Option<String> {
        self.last_failure.lock().expect("no holder panics").clone()
    }

    /// Why the cluster turned us away, which trying again does not change. To be asked at the start: later it may be a
    /// handshake that a restarting broker broke off.
    pub(super) fn refusal(&self) -> Option<String> {
        self.refusal.lock().expect("no holder panics").clone()
    }

    fn keep(&self, reason: &str) {
        let mut last = self.last_failure.lock().expect("no holder panics");
        // To one that asks, what names a setting says more than what follows from it.
        let says_more = |last: &String| refusal::is_known(last) && !refusal::is_known(reason);
        if !(self.is_quiet && last.as_ref().is_some_and(says_more)) {
            *last = Some(reason.to_string());
        }
    }
}

impl ClientContext for Logged {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        oauth::token(config)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        use RDKafkaLogLevel::*;
        let line = hidden::masked(line);
        // "[thrd:name]: name: what happened": the thread is of no use to anyone else.
        let reason = line.rsplit_once("]: ").map_or(&*line, |(_, rest)| rest);
        match level {
            Emerg | Alert | Critical | Error => self.keep(reason),
            // A broker that hangs up is no error to the client, which tries again; to one that asks it may be the reason.
            Warning | Notice | Info if self.is_quiet && facility == "FAIL" => self.keep(reason),
            _ => {}
        }
        match level {
            Emerg | Alert | Critical | Error | Warning if !self.is_quiet => {
                tracing::warn!(target: "tidecast::kafka", "{facility} {line}");
            }
            Debug => tracing::debug!(target: "tidecast::kafka", "{facility} {line}"),
            _ => tracing::info!(target: "tidecast::kafka", "{facility} {line}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let reason = &hidden::masked(reason);
        match error.rdkafka_error_code() {
            // The end of a partition is news, not a failure.
            Some(RDKafkaErrorCode::PartitionEOF) => return,
            // That all are down follows from what was said of each.
            Some(RDKafkaErrorCode::AllBrokersDown) if self.last_failure().is_some() => {}
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL) => {
                *self.refusal.lock().expect("no holder panics") = Some(reason.to_string());
                self.keep(reason);
            }
            _ => self.keep(reason),
        }
        tracing::debug!(target: "tidecast::kafka", "{error}: {reason}");
    }
}

impl ConsumerContext for Logged {}
