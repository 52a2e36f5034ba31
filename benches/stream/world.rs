//! Topics on a broker, a pipeline between them, and the program at work on it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Message, Offset, TopicPartitionList};
use tempfile::TempDir;

use crate::model::{self, Sizes};
use crate::readings::{FILES, PIPELINE, ids, reading};

pub const PARTITIONS: i32 = 4;
const SERIES: usize = 1000;
const PATIENCE: Duration = Duration::from_secs(60);

/// What the timestamps of the forecasts' topic say.
#[derive(Clone, Copy, PartialEq)]
pub enum Topic {
    /// When they were appended.
    AppendTime,
    /// When the reading was, which was appended to a topic with that time.
    CreateTime,
}

pub struct World {
    pub address: String,
    pub readings: String,
    folder: TempDir,
    stamps: Topic,
    delivery: String,
    runs: AtomicUsize,
}

impl World {
    pub fn new(address: &str, sizes: Sizes, delivery: &str, stamps: Topic) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let readings = format!("readings-{delivery}-{}", stamps as u8);
        let world = Self {
            address: address.to_owned(),
            readings,
            folder,
            stamps,
            delivery: delivery.to_owned(),
            runs: AtomicUsize::new(0),
        };
        let model = sizes.model(&model::pipeline(world.folder.path(), FILES)).to_bytes();
        std::fs::write(world.folder.path().join("model.safetensors"), model).expect("the folder takes files");
        world.create(&world.readings, true);
        world
    }

    /// A fresh topic for what comes out, and its number.
    pub fn fresh(&self) -> (String, usize) {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        let topic = format!("{}-forecasts-{run}", self.readings);
        self.create(&topic, self.stamps == Topic::AppendTime);
        (topic, run)
    }

    fn create(&self, topic: &str, append: bool) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("a client");
        let stamps = if append { "LogAppendTime" } else { "CreateTime" };
        let wanted = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
        let wanted = wanted.set("message.timestamp.type", stamps);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let made = runtime.block_on(admin.create_topics([&wanted], &AdminOptions::new())).expect("an answer");
        made.into_iter().for_each(|result| drop(result.expect("a new topic")));
    }

    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.address);
        config
    }

    /// A producer that waits where its queue is full.
    pub fn producer(&self) -> BaseProducer {
        let mut config = self.client();
        config.set("partitioner", "murmur2_random").set("linger.ms", "5").set("acks", "1");
        config.create().expect("a producer")
    }

    /// Appends so many readings, the series in turns.
    pub fn fill(&self, rows: usize) {
        let (producer, ids) = (self.producer(), ids(SERIES));
        for row in 0..rows {
            self.send(&producer, &ids, row);
        }
        producer.flush(PATIENCE).expect("messages arrive");
    }

    pub fn send(&self, producer: &BaseProducer, ids: &[String], row: usize) {
        let (id, step) = (row % ids.len(), row / ids.len());
        let time = 60 * step as i64;
        let payload = format!(r#"{{"sensor":"{}","time":{time},"value":{}}}"#, ids[id], reading(id, step));
        let mut record = BaseRecord::to(&self.readings).key(ids[id].as_str()).payload(payload.as_str());
        while let Err((_, back)) = producer.send(record) {
            record = back;
            producer.poll(Duration::from_millis(1));
        }
        if row.is_multiple_of(256) {
            producer.poll(Duration::ZERO);
        }
    }

    /// The program between the readings and a topic, with words after `run`.
    pub fn start(&self, topic: &str, run: usize, words: &str) -> Child {
        let pipeline = format!(
            r#"{}
            [source.kafka]
            brokers = "{}"
            topic = "{}"
            group = "bench-{}-{run}"
            [sink.kafka]
            topic = "{topic}"
            "#,
            PIPELINE.replace("time = \"time\"", "time = \"time\"\ntime_unit = \"s\"").replacen(
                "name = \"bench\"",
                &format!("name = \"bench\"\ndelivery = \"{}\"", self.delivery),
                1
            ),
            self.address,
            self.readings,
            self.readings
        );
        let name = format!("run{run}.toml");
        std::fs::write(self.folder.path().join(&name), pipeline).expect("the folder takes files");
        Command::new(env!("CARGO_BIN_EXE_tidecast"))
            .args(["--quiet", "run", &name])
            .args(words.split_whitespace())
            .current_dir::<&Path>(self.folder.path())
            .stdin(Stdio::null())
            .spawn()
            .expect("the program starts")
    }

    /// The program works off all readings: forecasts a second, from the first append to the last.
    pub fn ours(&self, rows: usize) -> f64 {
        let (topic, run) = self.fresh();
        let status = self.start(&topic, run, "--until-end").wait().expect("the child is ours");
        assert!(status.success(), "the program works off what is there");
        let (count, seconds) = self.appended(&topic);
        // Each series says nothing at its first steps.
        assert_eq!(count, rows - 2 * SERIES.min(rows / 2), "a forecast at every reading");
        count as f64 / seconds
    }

    /// Messages of a topic, and the seconds from the first append to the last.
    pub fn appended(&self, topic: &str) -> (usize, f64) {
        let (consumer, mut unread) = (self.reader(topic), PARTITIONS);
        let (mut count, mut first, mut last) = (0, i64::MAX, i64::MIN);
        while unread > 0 {
            match consumer.poll(PATIENCE).expect("an event within a minute") {
                Ok(message) => {
                    let time = message.timestamp().to_millis().expect("appended at a time");
                    (count, first, last) = (count + 1, first.min(time), last.max(time));
                }
                Err(rdkafka::error::KafkaError::PartitionEOF(_)) => unread -= 1,
                Err(error) => panic!("reading {topic}: {error}"),
            }
        }
        (count, (last - first) as f64 / 1000.0)
    }

    /// Reads a topic from its beginning, as far as it is committed.
    pub fn reader(&self, topic: &str) -> BaseConsumer {
        let mut config = self.client();
        config.set("group.id", "reader").set("enable.auto.commit", "false");
        config.set("enable.partition.eof", "true").set("isolation.level", "read_committed");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        for number in 0..PARTITIONS {
            list.add_partition_offset(topic, number, Offset::Beginning).expect("an offset");
        }
        consumer.assign(&list).expect("an assignment");
        consumer
    }
}
