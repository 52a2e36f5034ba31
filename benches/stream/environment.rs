//! Topics on a broker, a pipeline between them, and runs of the program.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Message, Offset, TopicPartitionList};
use tempfile::TempDir;
use tidecast_stream::settings::Delivery;

use crate::common::model::{ModelSize, pipeline};
use crate::common::rows::{FILES, PIPELINE, ids, value};

pub const PARTITIONS: i32 = 4;
const SERIES: usize = 1000;
const TIMEOUT: Duration = Duration::from_secs(60);

/// Timestamps of an output topic.
#[derive(Clone, Copy, PartialEq)]
pub enum Timestamps {
    /// Time of the append.
    AppendTime,
    /// Time of the input row's append.
    CreateTime,
}

impl Timestamps {
    fn name(self) -> &'static str {
        match self {
            Self::AppendTime => "LogAppendTime",
            Self::CreateTime => "CreateTime",
        }
    }
}

pub fn delivery_name(delivery: Delivery) -> &'static str {
    match delivery {
        Delivery::ExactlyOnce => "exactly_once",
        Delivery::AtLeastOnce => "at_least_once",
    }
}

pub struct Environment {
    pub input_topic: String,
    pub delivery: Delivery,
    address: String,
    /// Contains the model and the pipelines.
    folder: TempDir,
    timestamps: Timestamps,
    runs: AtomicUsize,
}

impl Environment {
    pub fn new(address: &str, size: ModelSize, delivery: Delivery, timestamps: Timestamps) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let environment = Self {
            input_topic: format!("rows-{}-{}", delivery_name(delivery), timestamps.name()),
            delivery,
            address: address.to_owned(),
            folder,
            timestamps,
            runs: AtomicUsize::new(0),
        };
        let folder = environment.folder.path();
        let model = size.model(&pipeline(folder, FILES)).to_bytes();
        std::fs::write(folder.join("model.safetensors"), model).expect("the folder is writable");
        environment.create_topic(&environment.input_topic, Timestamps::AppendTime);
        environment
    }

    /// Creates an output topic; returns its name and the number of the run.
    pub fn new_output_topic(&self) -> (String, usize) {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        let topic = format!("{}-forecasts-{run}", self.input_topic);
        self.create_topic(&topic, self.timestamps);
        (topic, run)
    }

    fn create_topic(&self, topic: &str, timestamps: Timestamps) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("a client");
        let topic = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
        let topic = topic.set("message.timestamp.type", timestamps.name());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let results = runtime.block_on(admin.create_topics([&topic], &AdminOptions::new()));
        results
            .expect("the broker answers")
            .into_iter()
            .for_each(|result| drop(result.expect("a new topic")));
    }

    pub fn client(&self) -> ClientConfig {
        crate::client(&self.address)
    }

    pub fn producer(&self) -> BaseProducer {
        let mut config = self.client();
        config.set("partitioner", "murmur2_random").set("linger.ms", "5").set("acks", "1");
        config.create().expect("a producer")
    }

    /// Appends rows to the input topic; series alternate.
    pub fn fill(&self, rows: usize) {
        let (producer, ids) = (self.producer(), ids(SERIES));
        for row in 0..rows {
            self.send(&producer, &ids, row);
        }
        producer.flush(TIMEOUT).expect("messages are delivered");
    }

    /// Sends a row; waits while the producer's queue is full.
    pub fn send(&self, producer: &BaseProducer, ids: &[String], row: usize) {
        let (id, step) = (row % ids.len(), row / ids.len());
        let (time, value) = (60 * step as i64, value(id, step));
        let payload = format!(r#"{{"sensor":"{}","time":{time},"value":{value}}}"#, ids[id]);
        let mut record = BaseRecord::to(&self.input_topic).key(ids[id].as_str()).payload(payload.as_str());
        while let Err((_, rejected)) = producer.send(record) {
            record = rejected;
            producer.poll(Duration::from_millis(1));
        }
        if row.is_multiple_of(256) {
            producer.poll(Duration::ZERO);
        }
    }

    /// Starts the program from the input topic to an output topic.
    pub fn start_program(&self, topic: &str, run: usize, arguments: &str) -> Child {
        let delivery = delivery_name(self.delivery);
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
                &format!("name = \"bench\"\ndelivery = \"{delivery}\""),
                1
            ),
            self.address,
            self.input_topic,
            self.input_topic
        );
        let name = format!("run{run}.toml");
        std::fs::write(self.folder.path().join(&name), pipeline).expect("the folder is writable");
        Command::new(env!("CARGO_BIN_EXE_tidecast"))
            .args(["--quiet", "run", &name])
            .args(arguments.split_whitespace())
            .current_dir::<&Path>(self.folder.path())
            .stdin(Stdio::null())
            .spawn()
            .expect("the program starts")
    }

    /// Runs the program over all rows: forecasts per second, from the first append to the last.
    pub fn program_throughput(&self, rows: usize) -> f64 {
        let (topic, run) = self.new_output_topic();
        let mut program = self.start_program(&topic, run, "--until-end");
        let status = program.wait().expect("the process is a child of this one");
        assert!(status.success(), "the program failed: {status}");
        let (count, seconds) = self.appended(&topic);
        // A series has no forecast at its first two steps.
        assert_eq!(count, rows - 2 * SERIES.min(rows / 2), "every later row triggers a forecast");
        count as f64 / seconds
    }

    /// Messages of a topic, and the seconds from the first append to the last.
    pub fn appended(&self, topic: &str) -> (usize, f64) {
        let (consumer, mut open_partitions) = (self.reader(topic), PARTITIONS);
        let (mut count, mut first, mut last) = (0, i64::MAX, i64::MIN);
        while open_partitions > 0 {
            match consumer.poll(TIMEOUT).expect("an event within a minute") {
                Ok(message) => {
                    let time = message.timestamp().to_millis().expect("the time of the append");
                    (count, first, last) = (count + 1, first.min(time), last.max(time));
                }
                Err(KafkaError::PartitionEOF(_)) => open_partitions -= 1,
                Err(error) => panic!("cannot read {topic}: {error}"),
            }
        }
        (count, (last - first) as f64 / 1000.0)
    }

    /// A reader of the committed messages of a topic, from its start.
    pub fn reader(&self, topic: &str) -> BaseConsumer {
        let mut config = self.client();
        config.set("group.id", "reader").set("enable.auto.commit", "false");
        config.set("enable.partition.eof", "true").set("isolation.level", "read_committed");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            list.add_partition_offset(topic, partition, Offset::Beginning).expect("a valid offset");
        }
        consumer.assign(&list).expect("an assignment");
        consumer
    }
}
