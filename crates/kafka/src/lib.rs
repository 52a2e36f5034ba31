//! The Kafka edge: a consumer-group source, an at-least-once and an exactly-once sink, rejects, and a broker inside the
//! process. The only crate that knows rdkafka.
//!
//! From top to bottom; a module uses only those below it:
//!
//! - `source`        [`KafkaSource`], the driver's handle to the consumer thread
//! - `poll`          the consumer thread: polls, decodes by partition, pauses when the queue is full
//! - `assignment`    assigned partitions from their offsets to their revocation
//! - `at_least_once` [`AtLeastOnce`], a sink whose positions are committed after its output
//! - `transactions`  [`TransactionalKafkaSink`], output and positions in one transaction
//! - `rejects`       [`RejectsReader`] and [`RejectsReplayer`]
//! - `group`         [`Group`]: membership, owned partitions, committed positions; [`GroupInitializer`]
//! - `lag`           [`LagTracker`]
//! - `sink`          outputs as messages; [`KafkaSink`], [`ObservationWriter`]
//! - `producer`      a producer that accounts for every delivery
//! - `cluster`       [`Cluster`], its clients and topics; [`EmbeddedBroker`]
//! - `errors`        the meaning of librdkafka's errors and log lines; secrets kept out of the log
//! - `settings`      settings of the source and the sink
//! - `oauth`         tokens for SASL OAUTHBEARER
//!
//! Keys are partitioned by Kafka's murmur2 everywhere, so that a series is in the same partition whoever wrote it.

mod assignment;
mod at_least_once;
mod cluster;
mod errors;
mod group;
mod lag;
mod oauth;
mod poll;
mod producer;
mod rejects;
pub mod settings;
mod sink;
mod source;
mod transactions;

pub use at_least_once::AtLeastOnce;
pub use cluster::{
    Cluster, ConnectionError, ConnectionReport, EmbeddedBroker, TopicStatus, check, ensure_topic,
};
pub use group::{Group, GroupInitializer, MispartitionedKey};
pub use lag::{LagTracker, PartitionLag};
pub use poll::ReadUntil;
pub use rejects::{
    REPLAYS_MAX, RejectedMessage, RejectsQuery, RejectsReader, RejectsReplayer, RejectsScope, Replay,
};
pub use sink::{KafkaSink, ObservationWriter};
pub use source::KafkaSource;
pub use tidecast_stream::partitioner::partition_for_key;
pub use transactions::TransactionalKafkaSink;
