//! A broker inside the process: librdkafka's mock cluster, which speaks the real protocol on a port of this machine. For
//! a first look and for tests, with nothing else installed.
//!
//! What it is not: it keeps its log in memory, 5 MiB or 100,000 batches a partition, and drops the oldest beyond that,
//! so that a slow reader finds its position gone; transactions are accepted and do nothing, so that nothing on it is
//! exactly once; it knows no topic settings, no administration and no security; and it ends with the process.

use std::fmt;
use std::sync::Arc;

use anyhow::{Context, Result};
use rdkafka::bindings::{rd_kafka_handle_mock_cluster, rd_kafka_mock_group_initial_rebalance_delay_ms};
use rdkafka::config::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, DefaultProducerContext, Producer};

/// Runs until the last clone is dropped.
#[derive(Clone)]
pub struct Embedded {
    /// The client whose setting `test.mock.num.brokers` makes the cluster, and which owns it.
    owner: Arc<BaseProducer>,
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Embedded({})", self.bootstrap_servers())
    }
}

impl Embedded {
    /// Starts a broker with one topic.
    pub fn start(topic: &str, partitions: i32) -> Result<Self> {
        let owner: BaseProducer = ClientConfig::new()
            .set("test.mock.num.brokers", "1")
            .create()
            .context("starting the broker inside the process")?;
        // A group waits 3 s for more members before it first assigns; here everyone who will come is there.
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
        let made = self.cluster().create_topic(topic, partitions, 1);
        made.with_context(|| format!("creating topic `{topic}` on the broker inside the process"))
    }

    /// `host:port`, on this machine.
    pub fn bootstrap_servers(&self) -> String {
        self.cluster().bootstrap_servers()
    }

    fn cluster(&self) -> MockCluster<'_, DefaultProducerContext> {
        self.owner.client().mock_cluster().expect("a client with test.mock.num.brokers has a cluster")
    }
}
