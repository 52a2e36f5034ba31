//! A broker for tests, and the two things a test does with it beside the program: write messages and read them back.
//!
//! Which broker, in this order: the one at `TIDECAST_TEST_BROKERS` (an address, or `embedded`); a real Apache Kafka,
//! fetched once by Maven and started on free ports of this machine (needs `java` and `mvn`); the one inside the process,
//! which cannot show all.
//! A test that needs a real one asks for [`real`] and returns when there is none, which is said on standard error;
//! `TIDECAST_REQUIRE_BROKER=1` makes that a failure.

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
use tidecast::config::Brokers;
use tidecast_kafka::{Cluster, Embedded};

enum Broker {
    Real(String),
    Embedded(Embedded),
}

/// One broker for all tests of the binary. It ends with the process.
fn broker() -> &'static Broker {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    BROKER.get_or_init(|| {
        let started = match std::env::var("TIDECAST_TEST_BROKERS") {
            Ok(chosen) if chosen == "embedded" => Err("it was chosen".into()),
            Ok(address) => Ok(address),
            Err(_) => server::start(),
        };
        match started {
            Ok(address) => Broker::Real(address),
            Err(reason) if std::env::var("TIDECAST_REQUIRE_BROKER").is_ok_and(|value| value == "1") => {
                panic!("TIDECAST_REQUIRE_BROKER=1, and there is no Kafka: {reason}")
            }
            Err(reason) => {
                eprintln!("NO KAFKA for the tests, they use the broker inside the process: {reason}");
                Broker::Embedded(Embedded::start("first", 1).expect("a broker inside the process starts"))
            }
        }
    })
}

/// The address of a real broker; without one, says that this test is skipped.
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

/// The address of a broker, whichever there is.
pub fn any() -> String {
    match broker() {
        Broker::Real(address) => address.clone(),
        Broker::Embedded(embedded) => embedded.bootstrap_servers(),
    }
}

/// The broker as the program knows it.
pub fn cluster() -> Cluster {
    let nothing = BTreeMap::new();
    match broker() {
        Broker::Real(address) => Cluster::new(&Brokers::At(address.clone()), None, &nothing),
        Broker::Embedded(embedded) => Cluster::new(&Brokers::Embedded, Some(embedded), &nothing),
    }
    .expect("the settings of a cluster")
}

/// A name that nothing else uses, for a topic or a group.
pub fn unique(name: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("{name}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A new topic.
pub async fn topic(name: &str, partitions: i32) -> String {
    topic_with(name, partitions, &[]).await
}

/// A new topic with settings, which the broker inside the process ignores.
pub async fn topic_with(name: &str, partitions: i32, settings: &[(&str, &str)]) -> String {
    let topic = unique(name);
    match broker() {
        Broker::Real(address) => {
            let admin: AdminClient<DefaultClientContext> = client(address).create().expect("a client");
            let wanted = NewTopic::new(&topic, partitions, TopicReplication::Fixed(1));
            let wanted = settings.iter().fold(wanted, |wanted, (key, value)| wanted.set(key, value));
            let results = admin.create_topics([&wanted], &AdminOptions::new()).await.expect("an answer");
            results.into_iter().for_each(|result| drop(result.expect("a new topic")));
        }
        Broker::Embedded(embedded) => embedded.create_topic(&topic, partitions).expect("a new topic"),
    }
    topic
}

/// Takes away what a group without members has committed.
pub fn forget_group(group: &str) {
    let admin: AdminClient<DefaultClientContext> = client(&any()).create().expect("a client");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let deleted = runtime.block_on(admin.delete_groups(&[group], &AdminOptions::new())).expect("an answer");
    deleted.into_iter().for_each(|result| drop(result.expect("the group is there, and empty")));
}

fn client(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address);
    config
}

/// Writes messages of keys and values to one partition, or by their keys, and waits until they have arrived.
pub fn produce<'a>(
    topic: &str,
    partition: Option<i32>,
    messages: impl IntoIterator<Item = (&'a str, &'a str)>,
) {
    produce_at(&any(), topic, partition, messages);
}

/// The same to a topic of another broker.
pub fn produce_at<'a>(
    address: &str,
    topic: &str,
    partition: Option<i32>,
    messages: impl IntoIterator<Item = (&'a str, &'a str)>,
) {
    let mut config = client(address);
    config.set("partitioner", "murmur2_random").set("linger.ms", "1");
    // As much as producers in Java send by themselves.
    config.set("message.max.bytes", "1048576");
    let producer: BaseProducer = config.create().expect("a producer");
    for (key, value) in messages {
        let mut record = BaseRecord::to(topic).key(key).payload(value);
        record.partition = partition;
        producer.send(record).map_err(|(error, _)| error).expect("room in the queue");
    }
    producer.flush(Duration::from_secs(30)).expect("messages arrive");
}

/// Writes messages of one key to a real broker, each in a transaction of its own that is committed or aborted.
pub fn produce_in_transactions(topic: &str, key: &str, messages: impl IntoIterator<Item = (String, bool)>) {
    let mut config = client(&any());
    config.set("transactional.id", unique("writer"));
    let producer: BaseProducer = config.create().expect("a producer");
    let wait = Duration::from_secs(20);
    producer.init_transactions(wait).expect("a coordinator");
    for (message, is_committed) in messages {
        producer.begin_transaction().unwrap();
        producer.send(BaseRecord::to(topic).key(key).payload(&message)).map_err(|(error, _)| error).unwrap();
        producer.flush(wait).unwrap();
        let ended = match is_committed {
            true => producer.commit_transaction(wait),
            false => producer.abort_transaction(wait),
        };
        ended.unwrap();
    }
}

/// A message as it lies in a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub partition: i32,
    pub offset: i64,
    pub timestamp: Option<i64>,
    pub key: Option<String>,
    pub value: Option<String>,
    pub headers: Vec<(String, String)>,
}

/// All that is committed in a topic, by partition and offset.
pub fn read_all(topic: &str) -> Vec<Stored> {
    read_all_at(&any(), topic)
}

/// The same of a topic of another broker.
pub fn read_all_at(address: &str, topic: &str) -> Vec<Stored> {
    let mut config = client(address);
    config.set("group.id", unique("read-all")).set("enable.partition.eof", "true");
    config.set("enable.auto.commit", "false").set("isolation.level", "read_committed");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10)).expect("metadata");
    let mut unread: BTreeSet<i32> = metadata.topics()[0].partitions().iter().map(|p| p.id()).collect();
    let mut all = TopicPartitionList::new();
    for number in &unread {
        all.add_partition_offset(topic, *number, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&all).expect("an assignment");
    let mut stored = Vec::new();
    while !unread.is_empty() {
        match consumer.poll(Duration::from_secs(10)).expect("an event within ten seconds") {
            Ok(message) => stored.push(to_stored(&message)),
            Err(KafkaError::PartitionEOF(number)) => drop(unread.remove(&number)),
            Err(error) => panic!("reading {topic}: {error}"),
        }
    }
    stored.sort_by_key(|message| (message.partition, message.offset));
    stored
}

fn to_stored(message: &impl Message) -> Stored {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = message.headers().map_or(Vec::new(), |headers| {
        headers
            .iter()
            .map(|header| (header.key.to_string(), header.value.map_or(String::new(), text)))
            .collect()
    });
    Stored {
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis(),
        key: message.key().map(text),
        value: message.payload().map(text),
        headers,
    }
}
