//! Kafka: the consumer, the producer, and a broker inside the process. The only place that knows rdkafka.
//!
//! - `client`    settings, logs, and what can be asked of a cluster before any work starts
//! - `hidden`    secrets, kept out of the log
//! - `oauth`     tokens for clusters that want them
//! - `refusal`   what a cluster that turns us away means, and where to look
//! - `source`    the source as the driver sees it: events out, commits in
//! - `poll`      the thread behind it, which owns the consumer
//! - `rebalance` how partitions come and go on that thread
//! - `ends`      how far the partitions reach
//! - `founding`  a group before its first member
//! - `group`     what is ours and under which generation, for those who commit
//! - `commits`   positions on their way to the group's coordinator
//! - `producer`  a producer whose every delivery is accounted for
//! - `partitioner` where the topic's producer places a key
//! - `outbox`    outputs as messages
//! - `sink`      forecasts and rejects to topics, at least once
//! - `transactions` the same with their positions, exactly once
//! - `replay`    observations to a topic
//! - `rejects`   the rejects read and sent through again, as far as `marks` say
//! - `admin`     topics made where they are missing
//! - `embedded`  the broker inside the process
//!
//! Keys go to partitions by Kafka's standard murmur2 everywhere, so that a series is in the same partition whoever
//! wrote it.

mod admin;
mod client;
mod commits;
mod embedded;
mod ends;
mod founding;
mod group;
mod hidden;
mod marks;
mod oauth;
mod outbox;
mod partitioner;
mod passing;
mod poll;
mod producer;
mod rebalance;
mod refusal;
mod rejects;
mod replay;
mod sink;
mod source;
mod transactions;

pub use admin::ensure_topic;
pub use client::{Cluster, Report, check};
pub use embedded::Embedded;
pub use ends::{Ends, Reach};
pub use founding::Founding;
pub use group::Group;
pub use partitioner::partition_of;
pub use rejects::{REPLAYS_MOST, Rejected, Rejects, Replayer};
pub use replay::Replay;
pub use sink::KafkaSink;
pub use source::{KafkaSource, Until};
pub use transactions::KafkaTransactions;
