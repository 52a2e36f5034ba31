//! Start and end of reading, errors before and while reading, and the embedded broker.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::{Offset, TopicPartitionList};
use tidecast_kafka::settings::KafkaSinkConfig;
use tidecast_kafka::{ConnectionReport, EmbeddedBroker, TopicStatus, check, ensure_topic};

use super::*;
use crate::broker::TransactionEnd;

async fn topic_with_three_partitions() -> String {
    let topic = broker::topic("input", 3).await;
    produce_values(&topic, 0, 0..1500);
    produce_values(&topic, 1, 0..3);
    topic
}

#[tokio::test]
async fn until_end_reads_to_the_end_offsets_at_the_assignment() {
    let topic = topic_with_three_partitions().await;
    let mut reader = Reader::open(&source_config(&topic), ReadUntil::End).await.unwrap();
    assert_eq!(reader.source.partitions(), 3);
    within_a_minute(async {
        while reader.owned.len() < 3 {
            reader.step().await.unwrap();
        }
        // After the assignment, so beyond the end.
        produce_values(&topic, 1, 100..105);
        reader.read_to_end().await.unwrap();
    })
    .await;
    assert_eq!(reader.values(0), (0..1500).collect::<Vec<_>>());
    assert_eq!(reader.values(1), [0, 1, 2]);
    assert_eq!(reader.values(2), [0; 0]);
    reader.source.close().await.unwrap();
}

#[tokio::test]
async fn restart_continues_at_the_committed_positions() {
    let topic = topic_with_three_partitions().await;
    let config = source_config(&topic);
    let mut first = Reader::open(&config, ReadUntil::End).await.unwrap();
    within_a_minute(first.read_to_end()).await.unwrap();
    // Less than was read: the output of the rest is not durable yet.
    first.source.group().commit(&positions(&topic, 0, 1200)).await.unwrap();
    first.source.group().commit(&positions(&topic, 1, 3)).await.unwrap();
    // A partition that is not owned is skipped without an error.
    first.source.group().commit(&positions("another", 0, 7)).await.unwrap();
    first.source.close().await.unwrap();
    assert!(first.source.next().await.is_err(), "a closed source has no events");

    produce_values(&topic, 2, 7..9);
    let mut second = Reader::open(&config, ReadUntil::End).await.unwrap();
    within_a_minute(second.read_to_end()).await.unwrap();
    assert_eq!(second.values(0), (1200..1500).collect::<Vec<_>>());
    assert_eq!(second.values(1), [0; 0]);
    assert_eq!(second.values(2), [7, 8]);
}

#[tokio::test]
async fn nothing_is_read_before_the_driver_chooses_the_start() {
    let topic = broker::topic("input", 1).await;
    produce_values(&topic, 0, 0..10);
    let mut reader = Reader::open(&source_config(&topic), ReadUntil::End).await.unwrap();
    let SourceEvent::Assigned { assignment, reply } = within_a_minute(reader.source.next()).await.unwrap()
    else {
        panic!("the first event is the assignment")
    };
    assert_eq!(assignment.committed, None);
    assert_eq!((assignment.default_start, assignment.log_start), (Position(0), Position(0)));
    let early = tokio::time::timeout(Duration::from_millis(300), reader.source.next()).await;
    assert!(early.is_err(), "{early:?}");
    let start = StartPosition { position: Position(4), replay_until: Position(4), metadata: String::new() };
    reply.send(start).unwrap();
    within_a_minute(reader.read_to_end()).await.unwrap();
    assert_eq!(reader.values(0), (4..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn malformed_messages_are_reported_with_offset_and_bytes() {
    let topic = broker::topic("input", 1).await;
    let valid = r#"{"id":"a","t":1,"v":5}"#;
    broker::produce(&topic, None, [("k", valid), ("k", "{\"id\":"), ("k", valid)]);
    let mut reader = Reader::open(&source_config(&topic), ReadUntil::End).await.unwrap();
    let batch = within_a_minute(async {
        loop {
            match reader.source.next().await.unwrap() {
                SourceEvent::Batch(batch) => return batch,
                other => reader.handle(other).await.unwrap(),
            }
        }
    });
    let batch = batch.await;
    assert_eq!((batch.rows.num_rows(), batch.next), (2, Position(3)));
    assert_eq!(batch.malformed[0].offset, 1);
    let record = batch.source.get(1).unwrap();
    assert_eq!(record.payload.as_deref(), Some(b"{\"id\":".as_slice()));
    assert_eq!(record.key.as_deref(), Some(b"k".as_slice()));
    assert!(record.timestamp.is_some());
}

#[tokio::test]
async fn start_policy_applies_only_without_a_committed_position() {
    let topic = broker::topic("input", 1).await;
    produce_values(&topic, 0, 0..4);
    let mut config = source_config(&topic);
    config.start = StartOffset::Latest;
    let mut reader = Reader::open(&config, ReadUntil::Closed).await.unwrap();
    within_a_minute(async {
        while reader.owned.is_empty() {
            reader.step().await.unwrap();
        }
        produce_values(&topic, 0, 4..6);
        reader.read_rows(2).await.unwrap();
    })
    .await;
    assert_eq!(reader.values(0), [4, 5]);

    let mut config = source_config(&topic);
    config.start = StartOffset::Fail;
    let mut reader = Reader::open(&config, ReadUntil::End).await.unwrap();
    let error = within_a_minute(reader.read_to_end()).await.unwrap_err().to_string();
    assert!(error.contains(&format!("{topic}/0")) && error.contains("no committed position"), "{error}");
    config.start = StartOffset::Earliest;
    let mut reader = Reader::open(&config, ReadUntil::End).await.unwrap();
    within_a_minute(reader.read_to_end()).await.unwrap();
    reader.commit().await.unwrap();
    reader.source.close().await.unwrap();
    config.start = StartOffset::Fail;
    let mut reader = Reader::open(&config, ReadUntil::End).await.unwrap();
    within_a_minute(reader.read_to_end()).await.unwrap();
    assert_eq!(reader.rows, []);
}

#[tokio::test]
async fn rows_deleted_by_retention_are_an_error() {
    let Some(address) = broker::real() else { return };
    let topic = broker::topic("input", 1).await;
    produce_values(&topic, 0, 0..10);
    let config = source_config(&topic);
    let mut reader = Reader::open(&config, ReadUntil::End).await.unwrap();
    within_a_minute(reader.read_to_end()).await.unwrap();
    reader.source.group().commit(&positions(&topic, 0, 3)).await.unwrap();
    reader.source.close().await.unwrap();

    let mut client = ClientConfig::new();
    let admin: AdminClient<DefaultClientContext> = client.set("bootstrap.servers", address).create().unwrap();
    let mut below = TopicPartitionList::new();
    below.add_partition_offset(&topic, 0, Offset::Offset(5)).unwrap();
    admin.delete_records(&below, &AdminOptions::new()).await.unwrap();

    let mut reader = Reader::open(&config, ReadUntil::End).await.unwrap();
    let error = within_a_minute(reader.read_to_end()).await.unwrap_err().to_string();
    assert!(error.contains(&format!("{topic}/0")) && error.contains("continues at 3"), "{error}");
    assert!(error.contains("below 5: 2 messages"), "{error}");
}

#[tokio::test]
async fn compacted_topic_is_refused_unless_allowed() {
    let Some(_) = broker::real() else { return };
    let topic = broker::topic_with("input", 1, &[("cleanup.policy", "compact")]).await;
    let mut config = source_config(&topic);
    let error = Reader::open(&config, ReadUntil::End).await.err().unwrap().to_string();
    assert!(error.contains("is compacted") && error.contains("allow_compacted = true"), "{error}");
    config.allow_compacted = true;
    Reader::open(&config, ReadUntil::End).await.unwrap();
}

#[tokio::test]
async fn aborted_records_are_skipped_and_transaction_markers_do_not_delay_the_end() {
    let Some(_) = broker::real() else { return };
    let topic = broker::topic("input", 1).await;
    let message = |value: i32| format!(r#"{{"id":"a","t":1,"v":{value}}}"#);
    let messages = [
        (message(1), TransactionEnd::Commit),
        (message(2), TransactionEnd::Abort),
        (message(3), TransactionEnd::Commit),
        (message(4), TransactionEnd::Abort),
    ];
    broker::produce_in_transactions(&topic, "a", messages);
    let mut reader = Reader::open(&source_config(&topic), ReadUntil::End).await.unwrap();
    within_a_minute(reader.read_to_end()).await.unwrap();
    let rows: Vec<_> = reader.rows.iter().map(|row| (row.offset, row.value)).collect();
    assert_eq!(rows, [(0, 1), (4, 3)]);
}

#[tokio::test]
async fn missing_topic_is_an_error_that_suggests_a_similar_name() {
    let topic = broker::topic("sensor-readings", 1).await;
    let config = source_config(&format!("{topic}s"));
    let error = Reader::open(&config, ReadUntil::Closed).await.err().unwrap().to_string();
    assert!(error.contains("does not exist") && error.contains(&format!("`{topic}`")), "{error}");
}

#[tokio::test]
async fn unreachable_broker_is_an_error_within_ten_seconds() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut config = source_config("any");
    config.brokers = Brokers::Addresses(closed.to_string());
    let start = Instant::now();
    let error = Reader::open(&config, ReadUntil::Closed).await.err().unwrap().to_string();
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(error.contains(&closed.to_string()) && error.contains("refused"), "{error}");
}

#[tokio::test]
async fn check_reports_topics_and_redacts_secrets() {
    let topic = broker::topic("input", 3).await;
    let sink = KafkaSinkConfig {
        brokers: Brokers::Addresses(broker::any()),
        topic: broker::unique("output"),
        scores_topic: None,
        rejects_topic: Some(topic.clone()),
        reject_reasons: Vec::new(),
        client: ClientProperties::default(),
    };
    let report = check(Some(&source_config(&topic)), Some(&sink)).unwrap();
    let status = |topic: &str, partitions| TopicStatus { topic: topic.into(), partitions };
    let expected = ConnectionReport {
        source: Some(status(&topic, Some(3))),
        sink: vec![status(&sink.topic, None), status(&topic, Some(3))],
    };
    assert_eq!(report, expected);
    assert!(report.to_string().contains("will be created"), "{report}");
    let mut missing = source_config(&sink.topic);
    let error = |config: &KafkaSourceConfig| format!("{:#}", check(Some(config), None).unwrap_err().error);
    assert!(error(&missing).contains("does not exist"));
    missing.client = properties([("enable.auto.commit", "true")]);
    let reserved = "`enable.auto.commit` cannot be set: positions are committed together with the output";
    assert!(error(&missing).contains(reserved), "{}", error(&missing));
    missing.client = properties([("sasl.passwrd", "hunter2")]);
    let misspelled = error(&missing);
    assert!(misspelled.contains("`sasl.passwrd`") && !misspelled.contains("hunter2"), "{misspelled}");
}

#[tokio::test]
async fn embedded_broker_serves_a_pipeline() {
    let embedded = EmbeddedBroker::start("readings", 2).unwrap();
    let mut config = source_config("readings");
    config.brokers = Brokers::Embedded;
    let cluster = Cluster::new(&config.brokers, Some(&embedded), &config.client).unwrap();
    assert_eq!(cluster.require_topic("readings").unwrap(), 2);
    assert_eq!(cluster.partition_count("forecasts").unwrap(), None);
    assert_eq!(ensure_topic(&cluster, "forecasts", 2).await.unwrap(), 2);
    assert_eq!(ensure_topic(&cluster, "forecasts", 9).await.unwrap(), 2, "an existing topic is not changed");
    let mut source = KafkaSource::open(&cluster, &config, codec(), ReadUntil::End).await.unwrap();
    let started = Instant::now();
    assert!(matches!(within_a_minute(source.next()).await.unwrap(), SourceEvent::Assigned { .. }));
    assert!(started.elapsed() < Duration::from_secs(3), "the group does not wait for members");
    assert!(Cluster::new(&Brokers::Embedded, None, &ClientProperties::default()).is_err());
}
