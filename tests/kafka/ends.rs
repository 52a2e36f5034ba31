//! Where reading starts and where it stops.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::{Offset, TopicPartitionList};
use tidecast::config::{Brokers, KafkaSink, Start};
use tidecast_kafka::{Cluster, Embedded, Report, Until, check, ensure_topic};
use tidecast_stream::{Event, Source};

use super::*;

/// All tests of this file that need nothing but messages and groups run on either broker.
async fn three_partitions() -> String {
    let topic = broker::topic("input", 3).await;
    produce_values(&topic, 0, 0..1500);
    produce_values(&topic, 1, 0..3);
    topic
}

#[tokio::test]
async fn until_end_reads_all_there_was_and_no_more() {
    let topic = three_partitions().await;
    let mut reader = Reader::open(&reading(&topic), Until::End).await.unwrap();
    assert_eq!(reader.source.partitions(), 3);
    within_a_minute(async {
        while reader.owned.len() < 3 {
            reader.step().await.unwrap();
        }
        // The ends were taken with the assignment: this comes too late.
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
async fn a_restart_goes_on_at_the_commit() {
    let topic = three_partitions().await;
    let config = reading(&topic);
    let mut first = Reader::open(&config, Until::End).await.unwrap();
    within_a_minute(first.read_to_end()).await.unwrap();
    // Less than was read: what came of the rest was not durable yet.
    first.source.group().commit(&at(&topic, 0, 1200)).await.unwrap();
    first.source.group().commit(&at(&topic, 1, 3)).await.unwrap();
    // Of a partition that is not ours: dropped, and no error.
    first.source.group().commit(&at("another", 0, 7)).await.unwrap();
    first.source.close().await.unwrap();
    assert!(first.source.next().await.is_err(), "a closed source has nothing more to say");

    produce_values(&topic, 2, 7..9);
    let mut second = Reader::open(&config, Until::End).await.unwrap();
    within_a_minute(second.read_to_end()).await.unwrap();
    assert_eq!(second.values(0), (1200..1500).collect::<Vec<_>>());
    assert_eq!(second.values(1), [0; 0]);
    assert_eq!(second.values(2), [7, 8]);
}

#[tokio::test]
async fn nothing_is_read_before_the_driver_says_where() {
    let topic = broker::topic("input", 1).await;
    produce_values(&topic, 0, 0..10);
    let mut reader = Reader::open(&reading(&topic), Until::End).await.unwrap();
    let Event::Assigned(assigned) = within_a_minute(reader.source.next()).await.unwrap() else {
        panic!("the first event is the assignment")
    };
    assert_eq!((assigned.committed, assigned.fallback, assigned.low), (None, Position(0), Position(0)));
    let early = tokio::time::timeout(Duration::from_millis(300), reader.source.next()).await;
    assert!(early.is_err(), "{early:?}");
    let from = From { position: Position(4), resume: Position(4), note: String::new() };
    assigned.start.send(from).unwrap();
    within_a_minute(reader.read_to_end()).await.unwrap();
    assert_eq!(reader.values(0), (4..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn bad_messages_keep_their_place() {
    let topic = broker::topic("input", 1).await;
    let good = r#"{"id":"a","t":1,"v":5}"#;
    broker::produce(&topic, None, [("k", good), ("k", "{\"id\":"), ("k", good)]);
    let mut reader = Reader::open(&reading(&topic), Until::End).await.unwrap();
    let batch = within_a_minute(async {
        loop {
            match reader.source.next().await.unwrap() {
                Event::Rows(batch) => return batch,
                other => reader.handle(other).await.unwrap(),
            }
        }
    });
    let batch = batch.await;
    assert_eq!((batch.rows.num_rows(), batch.next), (2, Position(3)));
    assert_eq!(batch.malformed[0].offset, 1);
    let origin = batch.origins.at(1).unwrap();
    assert_eq!(origin.payload.as_deref(), Some(b"{\"id\":".as_slice()));
    assert_eq!(origin.key.as_deref(), Some(b"k".as_slice()));
    assert!(origin.timestamp.is_some());
}

#[tokio::test]
async fn latest_starts_at_the_end_and_fail_does_not_start() {
    let topic = broker::topic("input", 1).await;
    produce_values(&topic, 0, 0..4);
    let mut config = reading(&topic);
    config.start = Start::Latest;
    let mut reader = Reader::open(&config, Until::Stopped).await.unwrap();
    within_a_minute(async {
        while reader.owned.is_empty() {
            reader.step().await.unwrap();
        }
        produce_values(&topic, 0, 4..6);
        reader.read_rows(2).await.unwrap();
    })
    .await;
    assert_eq!(reader.values(0), [4, 5]);

    let mut config = reading(&topic);
    config.start = Start::Fail;
    let mut reader = Reader::open(&config, Until::End).await.unwrap();
    let error = within_a_minute(reader.read_to_end()).await.unwrap_err().to_string();
    assert!(error.contains(&format!("{topic}/0")) && error.contains("no committed position"), "{error}");
    // With a commit it starts: the policy is for the first run.
    config.start = Start::Earliest;
    let mut reader = Reader::open(&config, Until::End).await.unwrap();
    within_a_minute(reader.read_to_end()).await.unwrap();
    reader.commit().await.unwrap();
    reader.source.close().await.unwrap();
    config.start = Start::Fail;
    let mut reader = Reader::open(&config, Until::End).await.unwrap();
    within_a_minute(reader.read_to_end()).await.unwrap();
    assert_eq!(reader.rows, []);
}

#[tokio::test]
async fn what_retention_deleted_is_not_skipped_in_silence() {
    let Some(address) = broker::real() else { return };
    let topic = broker::topic("input", 1).await;
    produce_values(&topic, 0, 0..10);
    let config = reading(&topic);
    let mut reader = Reader::open(&config, Until::End).await.unwrap();
    within_a_minute(reader.read_to_end()).await.unwrap();
    reader.source.group().commit(&at(&topic, 0, 3)).await.unwrap();
    reader.source.close().await.unwrap();

    let mut client = ClientConfig::new();
    let admin: AdminClient<DefaultClientContext> = client.set("bootstrap.servers", address).create().unwrap();
    let mut below = TopicPartitionList::new();
    below.add_partition_offset(&topic, 0, Offset::Offset(5)).unwrap();
    admin.delete_records(&below, &AdminOptions::new()).await.unwrap();

    let mut reader = Reader::open(&config, Until::End).await.unwrap();
    let error = within_a_minute(reader.read_to_end()).await.unwrap_err().to_string();
    assert!(error.contains(&format!("{topic}/0")) && error.contains("go on at 3"), "{error}");
    assert!(error.contains("below 5: 2 messages"), "{error}");
}

#[tokio::test]
async fn a_compacted_topic_is_refused_unless_it_is_declared() {
    let Some(_) = broker::real() else { return };
    let topic = broker::topic_with("input", 1, &[("cleanup.policy", "compact")]).await;
    let mut config = reading(&topic);
    let error = Reader::open(&config, Until::End).await.err().unwrap().to_string();
    assert!(error.contains("is compacted") && error.contains("compacted = true"), "{error}");
    config.compacted = true;
    Reader::open(&config, Until::End).await.unwrap();
}

#[tokio::test]
async fn only_what_was_committed_is_read_and_marks_do_not_hold_up_the_end() {
    let Some(_) = broker::real() else { return };
    let topic = broker::topic("input", 1).await;
    let messages = [(1, true), (2, false), (3, true), (4, false)];
    let message = |value: i32| format!(r#"{{"id":"a","t":1,"v":{value}}}"#);
    broker::produce_in_transactions(&topic, "a", messages.map(|(value, commit)| (message(value), commit)));
    let mut reader = Reader::open(&reading(&topic), Until::End).await.unwrap();
    within_a_minute(reader.read_to_end()).await.unwrap();
    assert_eq!(reader.rows, [(0, 0, 1), (0, 4, 3)]);
}

#[tokio::test]
async fn a_missing_topic_is_named_with_the_nearest() {
    let topic = broker::topic("sensor-readings", 1).await;
    let error = Reader::open(&reading(&format!("{topic}s")), Until::Stopped).await.err().unwrap().to_string();
    assert!(error.contains("does not exist") && error.contains(&format!("`{topic}`")), "{error}");
}

#[tokio::test]
async fn no_broker_is_an_error_within_ten_seconds() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut config = reading("any");
    config.brokers = Brokers::At(closed.to_string());
    let start = Instant::now();
    let error = Reader::open(&config, Until::Stopped).await.err().unwrap().to_string();
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(error.contains(&closed.to_string()) && error.contains("refused"), "{error}");
}

#[tokio::test]
async fn check_reports_both_ends() {
    let topic = broker::topic("input", 3).await;
    let sink = KafkaSink {
        brokers: Brokers::At(broker::any()),
        topic: broker::unique("output"),
        scores: None,
        rejects: Some(topic.clone()),
        rejected: Vec::new(),
        client: BTreeMap::new(),
    };
    let report = check(Some(&reading(&topic)), Some(&sink)).unwrap();
    let expected = Report {
        source: Some((topic.clone(), 3)),
        sink: vec![(sink.topic.clone(), None), (topic.clone(), Some(3))],
    };
    assert_eq!(report, expected);
    assert!(report.to_string().contains("will be created"), "{report}");
    let mut missing = reading(&sink.topic);
    assert!(check(Some(&missing), None).is_err());
    missing.client = client([("enable.auto.commit", "true")]);
    let error = format!("{:#}", check(Some(&missing), None).unwrap_err().1);
    assert!(
        error.contains(
            "`enable.auto.commit` cannot be set: what a pipeline promises stands on it; leave it out"
        ),
        "{error}"
    );
    missing.client = client([("sasl.passwrd", "hunter2")]);
    let error = format!("{:#}", check(Some(&missing), None).unwrap_err().1);
    assert!(error.contains("`sasl.passwrd`") && !error.contains("hunter2"), "{error}");
}

#[tokio::test]
async fn the_embedded_broker_serves_a_pipeline() {
    let embedded = Embedded::start("readings", 2).unwrap();
    let mut config = reading("readings");
    config.brokers = Brokers::Embedded;
    let cluster = Cluster::new(&config.brokers, Some(&embedded), &config.client).unwrap();
    assert_eq!(cluster.require("readings").unwrap(), 2);
    assert_eq!(cluster.partitions("forecasts").unwrap(), None);
    assert_eq!(ensure_topic(&cluster, "forecasts", 2).await.unwrap(), 2);
    assert_eq!(ensure_topic(&cluster, "forecasts", 9).await.unwrap(), 2, "what exists is left as it is");
    let mut source = KafkaSource::open(&cluster, &config, codec(), Until::End).await.unwrap();
    let started = Instant::now();
    assert!(matches!(within_a_minute(source.next()).await.unwrap(), Event::Assigned(_)));
    assert!(started.elapsed() < Duration::from_secs(3), "the group does not wait for members");
    assert!(Cluster::new(&Brokers::Embedded, None, &BTreeMap::new()).is_err());
}
