//! A Kafka cluster: its clients, its topics, and the broker inside the process.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::bindings::{rd_kafka_handle_mock_cluster, rd_kafka_mock_group_initial_rebalance_delay_ms};
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, DefaultProducerContext, Producer};
use rdkafka::types::RDKafkaRespErr;

use crate::errors::{ClientLog, NOT_AUTHORIZED, diagnose, redact, register_secrets};
use crate::oauth::{self, NativeClient, TOKEN_PROPERTY};
use crate::settings::{Brokers, ClientProperties, KafkaSinkConfig, KafkaSourceConfig, RESERVED_PROPERTIES};

/// A running broker answers within milliseconds. A host that drops packets must not delay the error for longer than a
/// person waits.
const METADATA_TIMEOUT: Duration = Duration::from_secs(6);
/// Timeout of the first attempt. It doubles with each attempt, so that a distant broker has enough time, too.
const FIRST_ATTEMPT_TIMEOUT: Duration = Duration::from_millis(400);

/// Maximum time until all brokers know a topic that was just created.
const PROPAGATION_TIMEOUT: Duration = Duration::from_secs(2);
const PROPAGATION_INTERVAL: Duration = Duration::from_millis(100);

/// A controller answers within milliseconds; a cluster that is starting takes seconds.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(15);

/// The addresses of a cluster and the properties of its clients.
#[derive(Clone)]
pub struct Cluster {
    bootstrap: String,
    /// Keeps the broker alive. Its topics are created through this handle, since it has no admin protocol.
    embedded: Option<EmbeddedBroker>,
    properties: ClientProperties,
}

impl Cluster {
    /// `embedded` is the broker for [`Brokers::Embedded`].
    ///
    /// # Errors
    /// If a property is reserved, or the embedded broker is missing.
    pub fn new(
        brokers: &Brokers,
        embedded: Option<&EmbeddedBroker>,
        properties: &ClientProperties,
    ) -> Result<Self> {
        if let Some((name, reason)) =
            RESERVED_PROPERTIES.iter().find(|(name, _)| properties.contains_key(*name))
        {
            bail!("client property `{name}` cannot be set: {reason}");
        }
        register_secrets(properties);
        let (bootstrap, embedded) = match (brokers, embedded) {
            (Brokers::Addresses(addresses), _) => (addresses.clone(), None),
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

    pub(crate) fn embedded(&self) -> Option<&EmbeddedBroker> {
        self.embedded.as_ref()
    }

    pub(crate) fn property(&self, name: &str) -> Option<&str> {
        self.properties.get(name).map(String::as_str)
    }

    /// Compares a property with keywords, which librdkafka compares without case.
    fn has_keyword(&self, property: &str, keywords: &[&str]) -> bool {
        self.property(property)
            .is_some_and(|value| keywords.iter().any(|word| value.eq_ignore_ascii_case(word)))
    }

    /// Creates a client with these settings. The user's properties take precedence.
    pub(crate) fn create_client<C, T>(&self, settings: &[(&str, &str)], context: C) -> Result<T>
    where
        C: ClientContext,
        T: FromClientConfigAndContext<C> + NativeClient,
    {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap).set("client.id", "tidecast");
        if self.has_keyword("security.protocol", &["ssl", "sasl_ssl"]) {
            // The bundled OpenSSL looks for certificates where it was built; `probe` looks where operating systems keep
            // them.
            config.set("ssl.ca.location", "probe");
        }
        for (name, value) in settings {
            config.set(*name, *value);
        }
        for (name, value) in self.properties.iter() {
            config.set(name, value);
        }
        // By default rdkafka takes the level from the `log` crate, which is not used here.
        config.set_log_level(match self.properties.contains_key("debug") {
            true => RDKafkaLogLevel::Debug,
            false => RDKafkaLogLevel::Info,
        });
        let client: T = config.create_with_context(context).map_err(|error| match error {
            // The error itself prints the value, which may be a password.
            KafkaError::ClientConfig(_, reason, name, _) => {
                anyhow!("client property `{name}`: {}", redact(&reason))
            }
            other => anyhow!(
                "the kafka client rejects its settings (see `client`): {}",
                diagnose(&redact(&other.to_string()))
            ),
        })?;
        let uses_tokens = ["sasl.mechanism", "sasl.mechanisms"];
        if uses_tokens.iter().any(|property| self.has_keyword(property, &["oauthbearer"])) {
            oauth::set_first_token(&client, self.property(TOKEN_PROPERTY))?;
        }
        Ok(client)
    }

    /// The partition count of a topic, or `None` if it does not exist. Creates nothing. Blocks.
    ///
    /// # Errors
    /// If no broker answers in time.
    pub fn partition_count(&self, topic: &str) -> Result<Option<i32>> {
        MetadataClient::new(self)?.partition_count(topic)
    }

    /// The partition count of a topic that must exist. Blocks.
    ///
    /// # Errors
    /// If no broker answers in time. If the topic does not exist, the error suggests the most similar name.
    pub fn require_topic(&self, topic: &str) -> Result<i32> {
        let client = MetadataClient::new(self)?;
        let deadline = Instant::now() + PROPAGATION_TIMEOUT;
        loop {
            match client.partition_count(topic)? {
                Some(count) => return Ok(count),
                None if Instant::now() < deadline => std::thread::sleep(PROPAGATION_INTERVAL),
                None => return Err(client.missing_topic(topic)),
            }
        }
    }
}

/// Without the properties.
impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cluster({})", self.bootstrap)
    }
}

/// A consumer without a group: unlike a producer, it does not create the topics it asks about.
struct MetadataClient<'a> {
    cluster: &'a Cluster,
    consumer: BaseConsumer<ClientLog>,
}

impl<'a> MetadataClient<'a> {
    fn new(cluster: &'a Cluster) -> Result<Self> {
        let settings = [("allow.auto.create.topics", "false")];
        Ok(Self { cluster, consumer: cluster.create_client(&settings, ClientLog::probe())? })
    }

    fn partition_count(&self, topic: &str) -> Result<Option<i32>> {
        let metadata = self.metadata(topic)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let address = &self.cluster.bootstrap;
        let found = found.with_context(|| format!("{address} sent the metadata of another topic"))?;
        match found.error() {
            None => Ok(Some(found.partitions().len() as i32)),
            // A new topic whose leaders are being elected.
            Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE) => {
                Ok(Some(found.partitions().len() as i32).filter(|count| *count > 0))
            }
            Some(
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
                | RDKafkaRespErr::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC,
            ) => Ok(None),
            Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED) => {
                bail!("topic `{topic}` at {address}: {NOT_AUTHORIZED}")
            }
            Some(other) => bail!("topic `{topic}` at {address}: {}", RDKafkaErrorCode::from(other)),
        }
    }

    /// Repeats the request with increasing timeouts. The client retries forever, even what cannot succeed, and its
    /// callbacks with the reasons run only between the requests.
    fn metadata(&self, topic: &str) -> Result<Metadata> {
        let deadline = Instant::now() + METADATA_TIMEOUT;
        let mut timeout = FIRST_ATTEMPT_TIMEOUT;
        loop {
            let remaining = deadline.saturating_duration_since(Instant::now());
            let error = match self.consumer.fetch_metadata(Some(topic), timeout.min(remaining)) {
                Ok(metadata) => return Ok(metadata),
                Err(error) => error,
            };
            for _ in 0..20 {
                self.consumer.poll(Duration::from_millis(5));
            }
            let log = self.consumer.context();
            let address = &self.cluster.bootstrap;
            if let Some(reason) = log.rejection() {
                bail!("kafka at {address} rejects this client: {}", diagnose(&reason));
            }
            timeout *= 2;
            if deadline <= Instant::now() {
                let reason = log.last_failure().unwrap_or_else(|| error.to_string());
                bail!(
                    "no kafka broker answers at {address} within {} s ({}); check that it runs, that `brokers` is its \
                     address as seen from here, and that `client` has the required security settings",
                    METADATA_TIMEOUT.as_secs(),
                    diagnose(&reason),
                );
            }
        }
    }

    fn missing_topic(&self, topic: &str) -> anyhow::Error {
        let metadata = self.consumer.fetch_metadata(None, METADATA_TIMEOUT);
        let names: Vec<String> = metadata.map_or(Vec::new(), |metadata| {
            let names = metadata.topics().iter().map(|topic| topic.name().to_string());
            names.filter(|name| !name.starts_with("__")).collect()
        });
        let similar = names.iter().max_by(|a, b| {
            strsim::jaro_winkler(a, topic).total_cmp(&strsim::jaro_winkler(b, topic)).then(b.cmp(a))
        });
        let hint = match similar {
            Some(name) => format!("of its {} topics the most similar is `{name}`", names.len()),
            None => "it has no topics".to_string(),
        };
        anyhow!(
            "topic `{topic}` does not exist at {} ({hint}); create it, or correct `topic` in the pipeline",
            self.cluster.bootstrap
        )
    }
}

/// Creates `topic` if it does not exist, and returns its partition count. A new topic has `partitions` partitions, the
/// brokers' default replication and no retention limit. An existing topic is not changed.
///
/// # Errors
/// If no broker answers, or the brokers do not create the topic.
pub async fn ensure_topic(cluster: &Cluster, topic: &str, partitions: i32) -> Result<i32> {
    if let Some(count) = partition_count(cluster, topic).await? {
        return Ok(count);
    }
    if let Some(embedded) = cluster.embedded() {
        embedded.create_topic(topic, partitions)?;
        return Ok(partitions);
    }
    let admin: AdminClient<ClientLog> = cluster.create_client(&[], ClientLog::default())?;
    let new_topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1)).set("retention.ms", "-1");
    let options =
        AdminOptions::new().request_timeout(Some(ADMIN_TIMEOUT)).operation_timeout(Some(ADMIN_TIMEOUT));
    let created = match admin.create_topics([&new_topic], &options).await {
        Ok(results) => results.into_iter().find_map(Result::err).map_or(Ok(()), |(_, code)| Err(code)),
        Err(KafkaError::AdminOp(code)) => Err(code),
        Err(error) => return Err(error).with_context(|| format!("creating topic `{topic}`")),
    };
    match created {
        Ok(()) => tracing::info!(topic, partitions, "created topic, retention.ms=-1"),
        // Another instance that started at the same time was faster.
        Err(RDKafkaErrorCode::TopicAlreadyExists) => {}
        Err(code) => bail!(
            "topic `{topic}` does not exist and cannot be created ({code}); create it with {partitions} partitions"
        ),
    }
    wait_for_topic(topic, ADMIN_TIMEOUT, async || partition_count(cluster, topic).await).await
}

async fn wait_for_topic(
    topic: &str,
    timeout: Duration,
    mut partition_count: impl AsyncFnMut() -> Result<Option<i32>>,
) -> Result<i32> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(count) = partition_count().await? {
            return Ok(count);
        }
        if Instant::now() >= deadline {
            bail!(
                "topic `{topic}` was created but is not visible after {} s; start again once the brokers list it, or \
                 check their logs",
                timeout.as_secs()
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// True if the topic is compacted; `None` if the setting is not readable.
pub(crate) async fn is_compacted(cluster: &Cluster, topic: &str) -> Option<bool> {
    let policy = topic_setting(cluster, topic, "cleanup.policy").await?;
    Some(policy.split(',').any(|policy| policy.trim() == "compact"))
}

/// Maximum size of a message of the topic in bytes; `None` if the setting is not readable.
pub(crate) async fn message_bytes_max(cluster: &Cluster, topic: &str) -> Option<usize> {
    topic_setting(cluster, topic, "max.message.bytes").await?.parse().ok()
}

/// Reading a setting takes a permission that the user may not have.
async fn topic_setting(cluster: &Cluster, topic: &str, name: &str) -> Option<String> {
    if cluster.embedded().is_some() {
        return None;
    }
    let admin: AdminClient<ClientLog> = cluster.create_client(&[], ClientLog::default()).ok()?;
    let options = AdminOptions::new().request_timeout(Some(ADMIN_TIMEOUT));
    let described = admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options).await;
    let config = match described.map(|mut all| all.pop()) {
        Ok(Some(Ok(config))) => config,
        other => {
            tracing::debug!(topic, "the topic's settings are not readable: {other:?}");
            return None;
        }
    };
    config.entry_map().get(name).and_then(|entry| entry.value.clone())
}

async fn partition_count(cluster: &Cluster, topic: &str) -> Result<Option<i32>> {
    let (cluster, topic) = (cluster.clone(), topic.to_string());
    tokio::task::spawn_blocking(move || cluster.partition_count(&topic))
        .await
        .context("reading the topic's metadata")?
}

/// Result of [`check`].
#[derive(Debug, PartialEq, Eq)]
pub struct ConnectionReport {
    pub source: Option<TopicStatus>,
    pub sink: Vec<TopicStatus>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicStatus {
    pub topic: String,
    /// `None` for an output topic that a run will create.
    pub partitions: Option<i32>,
}

impl fmt::Display for ConnectionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topics = self.source.iter().map(|topic| ("reads", topic));
        for (verb, TopicStatus { topic, partitions }) in
            topics.chain(self.sink.iter().map(|topic| ("writes", topic)))
        {
            match partitions {
                Some(partitions) => writeln!(f, "{verb} topic {topic}: {partitions} partitions")?,
                None => writeln!(f, "{verb} topic {topic}: does not exist yet, will be created")?,
            }
        }
        Ok(())
    }
}

/// A failed [`check`].
#[derive(Debug)]
pub struct ConnectionError {
    /// The table of the pipeline file that is wrong.
    pub table: &'static str,
    pub error: anyhow::Error,
}

/// Checks that the brokers answer and the topics exist, without reading or writing messages. Skips an embedded broker,
/// which exists only during a run. Blocks for seconds if a broker does not answer.
pub fn check(
    source: Option<&KafkaSourceConfig>,
    sink: Option<&KafkaSinkConfig>,
) -> Result<ConnectionReport, ConnectionError> {
    let mut report = ConnectionReport { source: None, sink: Vec::new() };
    if let Some(source) = source.filter(|source| source.brokers != Brokers::Embedded) {
        report.source = Some(check_source(source).map_err(|error| in_table("source.kafka", error))?);
    }
    if let Some(sink) = sink.filter(|sink| sink.brokers != Brokers::Embedded) {
        report.sink = check_sink(sink).map_err(|error| in_table("sink.kafka", error))?;
    }
    Ok(report)
}

fn in_table(table: &'static str, error: anyhow::Error) -> ConnectionError {
    ConnectionError { table, error: error.context(table) }
}

fn check_source(source: &KafkaSourceConfig) -> Result<TopicStatus> {
    let partitions = Cluster::new(&source.brokers, None, &source.client)?.require_topic(&source.topic)?;
    Ok(TopicStatus { topic: source.topic.clone(), partitions: Some(partitions) })
}

fn check_sink(sink: &KafkaSinkConfig) -> Result<Vec<TopicStatus>> {
    let cluster = Cluster::new(&sink.brokers, None, &sink.client)?;
    let topics = std::iter::once(&sink.topic).chain(&sink.scores_topic).chain(&sink.rejects_topic);
    topics
        .map(|topic| Ok(TopicStatus { topic: topic.clone(), partitions: cluster.partition_count(topic)? }))
        .collect()
}

/// A broker inside the process: librdkafka's mock cluster, which speaks the real protocol on a local port. For a first
/// look and for tests, with nothing else installed. It runs until the last clone is dropped.
///
/// Limits: the log is in memory, 5 MiB or 100,000 batches a partition, and drops the oldest beyond that, so that a slow
/// reader loses its position. Transactions are accepted but have no effect, so nothing is exactly once. There are no
/// topic settings, no admin protocol and no security.
#[derive(Clone)]
pub struct EmbeddedBroker {
    /// The client that owns the mock cluster.
    owner: Arc<BaseProducer>,
}

impl fmt::Debug for EmbeddedBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EmbeddedBroker({})", self.bootstrap_servers())
    }
}

impl EmbeddedBroker {
    /// Starts a broker with one topic.
    pub fn start(topic: &str, partitions: i32) -> Result<Self> {
        let owner: BaseProducer = ClientConfig::new()
            .set("test.mock.num.brokers", "1")
            .create()
            .context("starting the embedded broker")?;
        // By default a new group waits 3 s for more members; here all members are in this process.
        // SAFETY: the handle is valid while `owner` lives, which is longer than these two calls; the first returns null
        // or the client's own cluster, the second sets a number in it under its lock.
        unsafe {
            let cluster = rd_kafka_handle_mock_cluster(owner.client().native_ptr());
            if !cluster.is_null() {
                rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0);
            }
        }
        let broker = Self { owner: Arc::new(owner) };
        broker.create_topic(topic, partitions)?;
        Ok(broker)
    }

    pub fn create_topic(&self, topic: &str, partitions: i32) -> Result<()> {
        let created = self.cluster().create_topic(topic, partitions, 1);
        created.with_context(|| format!("creating topic `{topic}` on the embedded broker"))
    }

    /// `host:port` on this machine.
    pub fn bootstrap_servers(&self) -> String {
        self.cluster().bootstrap_servers()
    }

    fn cluster(&self) -> MockCluster<'_, DefaultProducerContext> {
        self.owner.client().mock_cluster().expect("a client with test.mock.num.brokers has a cluster")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn topic_that_does_not_appear_is_an_error_with_advice() {
        let mut answers = [Some(3)].into_iter();
        let count = wait_for_topic("t", Duration::ZERO, async || Ok(answers.next().flatten())).await;
        assert_eq!(count.unwrap(), 3);
        let error = wait_for_topic("t", Duration::ZERO, async || Ok(None)).await.unwrap_err().to_string();
        assert!(
            error.contains("topic `t`") && error.contains("start again once the brokers list it"),
            "{error}"
        );
    }
}
