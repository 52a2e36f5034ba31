//! A plain client: reads messages, writes as many of the size of a forecast, and commits as often, with the settings that
//! the program has. What is left when there is no model.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::DefaultProducerContext;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use rdkafka::{Message, Offset, TopicPartitionList};
use tidecast_core::network::Random;

use crate::world::{PARTITIONS, World};

/// When the program commits.
const EVERY: Duration = Duration::from_millis(100);
const ROWS: usize = 50_000;
const CALL: Duration = Duration::from_secs(30);

type Client = ThreadedProducer<DefaultProducerContext>;

/// Texts of the size of a forecast, of numbers as a forecast is: they take as long to compress.
fn payloads() -> Vec<String> {
    let mut random = Random::new(3);
    let mut text = || {
        let mut text = String::new();
        while text.len() < 420 {
            text += &format!("{},", 20.0 + random.within(5.0));
        }
        text[..420].to_owned()
    };
    (0..1000).map(|_| text()).collect()
}

/// Messages a second, from the first append to the last.
pub fn rate(world: &World, rows: usize, transactions: bool) -> f64 {
    let payloads = payloads();
    let (topic, run) = world.fresh();
    let mut config = world.client();
    config.set("group.id", format!("plain-{}-{run}", world.readings)).set("enable.auto.commit", "false");
    config.set("auto.offset.reset", "earliest").set("isolation.level", "read_committed");
    let consumer: BaseConsumer = config.create().expect("a consumer");
    consumer.subscribe(&[&world.readings]).expect("a subscription");
    let mut config = world.client();
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
    if transactions {
        config.set("transactional.id", format!("plain-{}-{run}", world.readings));
    }
    let producer: Client = config.create().expect("a producer");
    if transactions {
        producer.init_transactions(CALL).expect("transactions");
        producer.begin_transaction().expect("a transaction");
    }
    let (mut read, mut uncommitted, mut due) = (0, 0, None);
    let mut next = [0; PARTITIONS as usize];
    while read < rows {
        if let Some(message) = consumer.poll(Duration::from_millis(10)) {
            let message = message.expect("a message");
            let mut record = BaseRecord::to(&topic)
                .key(message.key().expect("a key"))
                .payload(&payloads[read % payloads.len()]);
            while let Err((_, back)) = producer.send(record) {
                record = back;
                std::thread::sleep(Duration::from_millis(1));
            }
            next[message.partition() as usize] = message.offset() + 1;
            (read, uncommitted) = (read + 1, uncommitted + 1);
            due.get_or_insert_with(|| Instant::now() + EVERY);
        }
        if uncommitted >= ROWS || due.is_some_and(|due| due <= Instant::now()) || read == rows {
            commit(&producer, &consumer, &world.readings, &next, transactions);
            (uncommitted, due) = (0, None);
            if transactions {
                producer.begin_transaction().expect("a transaction");
            }
        }
    }
    if transactions {
        producer.abort_transaction(CALL).expect("an empty one ends");
    }
    let (count, seconds) = world.appended(&topic);
    assert_eq!(count, rows, "as many as were read");
    count as f64 / seconds
}

fn commit(producer: &Client, consumer: &BaseConsumer, topic: &str, next: &[i64], transactions: bool) {
    let mut list = TopicPartitionList::new();
    for (number, offset) in next.iter().enumerate() {
        list.add_partition_offset(topic, number as i32, Offset::Offset(*offset)).expect("an offset");
    }
    if transactions {
        let membership = consumer.group_metadata().expect("a member");
        producer.send_offsets_to_transaction(&list, &membership, CALL).expect("positions");
        producer.commit_transaction(CALL).expect("a commit");
    } else {
        producer.flush(CALL).expect("messages arrive");
        consumer.commit(&list, rdkafka::consumer::CommitMode::Sync).expect("positions");
    }
}
