//! A client without a model: writes a message of the size of a forecast for every message that it reads, with the settings and
//! the commit interval of the program.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{Message, Offset, TopicPartitionList};
use tidecast_core::network::Random;
use tidecast_stream::settings::Delivery;

use crate::environment::{Environment, PARTITIONS};

/// Commit interval and row limit of the program.
const COMMIT_EVERY: Duration = Duration::from_millis(100);
const COMMIT_ROWS: usize = 50_000;
const TIMEOUT: Duration = Duration::from_secs(30);

type Client = ThreadedProducer<DefaultProducerContext>;

/// Texts of the size of a forecast, made of numbers so that they compress like one.
fn payloads() -> Vec<String> {
    let mut random = Random::new(3);
    let mut payload = || {
        let mut text = String::new();
        while text.len() < 420 {
            text += &format!("{},", 20.0 + random.uniform(5.0));
        }
        text[..420].to_owned()
    };
    (0..1000).map(|_| payload()).collect()
}

/// Messages per second, from the first append to the last.
pub fn throughput(environment: &Environment, rows: usize) -> f64 {
    let is_transactional = environment.delivery == Delivery::ExactlyOnce;
    let payloads = payloads();
    let (topic, run) = environment.new_output_topic();
    let consumer = consumer(environment, run);
    let producer = producer(environment, run, is_transactional);
    let (mut read, mut uncommitted, mut due) = (0, 0, None);
    let mut next = [0; PARTITIONS as usize];
    while read < rows {
        if let Some(message) = consumer.poll(Duration::from_millis(10)) {
            let message = message.expect("a message");
            let mut record = BaseRecord::to(&topic)
                .key(message.key().expect("a key"))
                .payload(&payloads[read % payloads.len()]);
            while let Err((_, rejected)) = producer.send(record) {
                record = rejected;
                std::thread::sleep(Duration::from_millis(1));
            }
            next[message.partition() as usize] = message.offset() + 1;
            (read, uncommitted) = (read + 1, uncommitted + 1);
            due.get_or_insert_with(|| Instant::now() + COMMIT_EVERY);
        }
        if uncommitted >= COMMIT_ROWS || due.is_some_and(|due| due <= Instant::now()) || read == rows {
            commit(&producer, &consumer, &environment.input_topic, &next, is_transactional);
            (uncommitted, due) = (0, None);
        }
    }
    if is_transactional {
        producer.abort_transaction(TIMEOUT).expect("the last transaction is empty");
    }
    let (count, seconds) = environment.appended(&topic);
    assert_eq!(count, rows, "every message that was read is answered");
    count as f64 / seconds
}

fn consumer(environment: &Environment, run: usize) -> BaseConsumer {
    let mut config = environment.client();
    config.set("group.id", format!("reference-{}-{run}", environment.input_topic));
    config.set("enable.auto.commit", "false");
    config.set("auto.offset.reset", "earliest").set("isolation.level", "read_committed");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    consumer.subscribe(&[&environment.input_topic]).expect("a subscription");
    consumer
}

/// A producer, in a transaction if it is transactional.
fn producer(environment: &Environment, run: usize, is_transactional: bool) -> Client {
    let mut config = environment.client();
    for (key, value) in [
        ("acks", "all"),
        ("enable.idempotence", "true"),
        ("partitioner", "murmur2_random"),
        ("compression.type", "zstd"),
        ("retry.backoff.ms", "10"),
        ("compression.level", "1"),
        ("linger.ms", "5"),
        ("queue.buffering.max.messages", "100000"),
        ("queue.buffering.max.kbytes", "65536"),
    ] {
        config.set(key, value);
    }
    if is_transactional {
        config.set("transactional.id", format!("reference-{}-{run}", environment.input_topic));
    }
    let producer: Client = config.create().expect("a producer");
    if is_transactional {
        producer.init_transactions(TIMEOUT).expect("transactions are initialized");
        producer.begin_transaction().expect("a transaction begins");
    }
    producer
}

/// Commits the offsets; begins the next transaction.
fn commit(producer: &Client, consumer: &BaseConsumer, topic: &str, next: &[i64], is_transactional: bool) {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in next.iter().enumerate() {
        list.add_partition_offset(topic, partition as i32, Offset::Offset(*offset)).expect("a valid offset");
    }
    if is_transactional {
        let group = consumer.group_metadata().expect("the consumer is in a group");
        producer.send_offsets_to_transaction(&list, &group, TIMEOUT).expect("the offsets are sent");
        producer.commit_transaction(TIMEOUT).expect("the transaction commits");
        producer.begin_transaction().expect("a transaction begins");
    } else {
        producer.flush(TIMEOUT).expect("messages are delivered");
        consumer.commit(&list, CommitMode::Sync).expect("the offsets are committed");
    }
}
