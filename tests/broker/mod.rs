//! A Kafka broker for tests, with functions to write messages and read them back independently of the program.
//!
//! The broker is, in this order: the one at `TIDECAST_TEST_BROKERS` (an address, or `embedded`); a real Apache Kafka,
//! downloaded once by Maven and started on free local ports (needs `java` and `mvn`); the embedded broker, which is
//! limited. A test that needs a real broker calls [`real`] and returns if there is none; a line on standard error
//! reports the skip. `TIDECAST_REQUIRE_BROKER=1` turns it into a failure.

pub mod secure;
pub mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use tidecast_kafka::settings::{Brokers, ClientProperties};
use tidecast_kafka::{Cluster, EmbeddedBroker};

enum Broker {
    Real(String),
    Embedded(EmbeddedBroker),
}

/// True if a missing broker fails the tests.
fn is_required() -> bool {
    std::env::var("TIDECAST_REQUIRE_BROKER").is_ok_and(|value| value == "1")
}

/// The one broker of all tests. It ends with the process.
fn broker() -> &'static Broker {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    BROKER.get_or_init(|| {
        let started = match std::env::var("TIDECAST_TEST_BROKERS") {
            Ok(value) if value == "embedded" => Err("TIDECAST_TEST_BROKERS=embedded".into()),
            Ok(address) => Ok(address),
            Err(_) => server::start(),
        };
        match started {
            Ok(address) => Broker::Real(address),
            Err(reason) if is_required() => {
                panic!("TIDECAST_REQUIRE_BROKER=1, and there is no Kafka: {reason}")
            }
            Err(reason) => {
                eprintln!("NO KAFKA for the tests, using the embedded broker: {reason}");
                Broker::Embedded(EmbeddedBroker::start("first", 1).expect("the embedded broker starts"))
            }
        }
    })
}

/// The address of the real broker. Without one, reports that the test is skipped.
pub fn real() -> Option<&'static str> {
    match broker() {
        Broker::Real(address) => Some(address),
        Broker::Embedded(_) => {
            let name = std::thread::current().name().unwrap_or("a test").to_string();
            eprintln!("SKIPPED {name}: it needs a real broker (java and mvn, or TIDECAST_TEST_BROKERS)");
            None
        }
    }
}

/// The address of the broker, real or embedded.
pub fn any() -> String {
    match broker() {
        Broker::Real(address) => address.clone(),
        Broker::Embedded(embedded) => embedded.bootstrap_servers(),
    }
}

/// The broker as the program's own type.
pub fn cluster() -> Cluster {
    let properties = ClientProperties::default();
    match broker() {
        Broker::Real(address) => Cluster::new(&Brokers::Addresses(address.clone()), None, &properties),
        Broker::Embedded(embedded) => Cluster::new(&Brokers::Embedded, Some(embedded), &properties),
    }
    .expect("valid settings")
}

/// A unique name for a topic or a group.
pub fn unique(name: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("{name}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Creates a topic.
pub async fn topic(name: &str, partitions: i32) -> String {
    topic_with(name, partitions, &[]).await
}

/// Creates a topic with settings, which the embedded broker ignores.
pub async fn topic_with(name: &str, partitions: i32, settings: &[(&str, &str)]) -> String {
    let topic = unique(name);
    match broker() {
        Broker::Real(address) => {
            let admin: AdminClient<DefaultClientContext> = client(address).create().expect("a client");
            let new_topic = NewTopic::new(&topic, partitions, TopicReplication::Fixed(1));
            let new_topic = settings.iter().fold(new_topic, |topic, (key, value)| topic.set(key, value));
            let results = admin.create_topics([&new_topic], &AdminOptions::new()).await.expect("an answer");
            results.into_iter().for_each(|result| drop(result.expect("a new topic")));
        }
        Broker::Embedded(embedded) => embedded.create_topic(&topic, partitions).expect("a new topic"),
    }
    topic
}

/// Deletes a group without members, with its committed positions.
pub fn delete_group(group: &str) {
    let admin: AdminClient<DefaultClientContext> = client(&any()).create().expect("a client");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let deleted = runtime.block_on(admin.delete_groups(&[group], &AdminOptions::new())).expect("an answer");
    deleted.into_iter().for_each(|result| drop(result.expect("the group exists and is empty")));
}

/// A client configuration without settings other than the address.
pub fn client(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address);
    config
}

/// Writes messages of keys and values to one partition, or by their keys, and waits for their delivery.
pub fn produce<'a>(
    topic: &str,
    partition: Option<i32>,
    messages: impl IntoIterator<Item = (&'a str, &'a str)>,
) {
    produce_at(&any(), topic, partition, messages);
}

/// [`produce`] to another broker.
pub fn produce_at<'a>(
    address: &str,
    topic: &str,
    partition: Option<i32>,
    messages: impl IntoIterator<Item = (&'a str, &'a str)>,
) {
    let mut config = client(address);
    config.set("partitioner", "murmur2_random").set("linger.ms", "1");
    // The default of Java's producers.
    config.set("message.max.bytes", "1048576");
    let producer: BaseProducer = config.create().expect("a producer");
    for (key, value) in messages {
        let mut record = BaseRecord::to(topic).key(key).payload(value);
        record.partition = partition;
        producer.send(record).map_err(|(error, _)| error).expect("room in the queue");
    }
    producer.flush(Duration::from_secs(30)).expect("messages arrive");
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionEnd {
    Commit,
    Abort,
}

/// Writes messages with one key to a real broker, each in its own transaction.
pub fn produce_in_transactions(
    topic: &str,
    key: &str,
    messages: impl IntoIterator<Item = (String, TransactionEnd)>,
) {
    let mut config = client(&any());
    config.set("transactional.id", unique("writer"));
    let producer: BaseProducer = config.create().expect("a producer");
    let timeout = Duration::from_secs(20);
    producer.init_transactions(timeout).expect("a coordinator");
    for (message, end) in messages {
        producer.begin_transaction().unwrap();
        producer.send(BaseRecord::to(topic).key(key).payload(&message)).map_err(|(error, _)| error).unwrap();
        producer.flush(timeout).unwrap();
        let ended = match end {
            TransactionEnd::Commit => producer.commit_transaction(timeout),
            TransactionEnd::Abort => producer.abort_transaction(timeout),
        };
        ended.unwrap();
    }
}

/// A message in a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    pub partition: i32,
    pub offset: i64,
    pub timestamp: Option<i64>,
    pub key: Option<String>,
    pub value: Option<String>,
    pub headers: Vec<(String, String)>,
}

impl StoredMessage {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// All committed messages of a topic, by partition and offset.
pub fn read_all(topic: &str) -> Vec<StoredMessage> {
    read_all_at(&any(), topic)
}

/// [`read_all`] from another broker.
pub fn read_all_at(address: &str, topic: &str) -> Vec<StoredMessage> {
    let consumer: BaseConsumer = client(address).create().expect("a consumer");
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10)).expect("metadata");
    let mut positions: BTreeMap<i32, i64> =
        metadata.topics()[0].partitions().iter().map(|partition| (partition.id(), 0)).collect();
    let mut stored = read_on(address, topic, &mut positions);
    stored.sort_by_key(|message| (message.partition, message.offset));
    stored
}

/// The committed messages from `positions` to the end of these partitions, in order of arrival. Advances the positions.
pub fn read_on(address: &str, topic: &str, positions: &mut BTreeMap<i32, i64>) -> Vec<StoredMessage> {
    let mut config = client(address);
    config.set("group.id", unique("read")).set("enable.partition.eof", "true");
    config.set("enable.auto.commit", "false").set("isolation.level", "read_committed");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    for (number, position) in positions.iter() {
        let offset = if *position == 0 { Offset::Beginning } else { Offset::Offset(*position) };
        list.add_partition_offset(topic, *number, offset).expect("an offset");
    }
    consumer.assign(&list).expect("an assignment");
    let mut unread: BTreeSet<i32> = positions.keys().copied().collect();
    let mut stored = Vec::new();
    while !unread.is_empty() {
        match consumer.poll(Duration::from_secs(20)).expect("an event within twenty seconds") {
            Ok(message) => {
                positions.insert(message.partition(), message.offset() + 1);
                stored.push(to_stored(&message));
            }
            Err(KafkaError::PartitionEOF(number)) => drop(unread.remove(&number)),
            Err(error) => panic!("reading {topic}: {error}"),
        }
    }
    stored
}

fn to_stored(message: &impl Message) -> StoredMessage {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = message.headers().map_or(Vec::new(), |headers| {
        headers
            .iter()
            .map(|header| (header.key.to_string(), header.value.map_or(String::new(), text)))
            .collect()
    });
    StoredMessage {
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis(),
        key: message.key().map(text),
        value: message.payload().map(text),
        headers,
    }
}
