//! Several members of one group, and a driver that is slow.

use std::collections::BTreeSet;

use rdkafka::config::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use tidecast_stream::Source;

use super::*;

/// Both members' rows, each of which must have come once, whoever read it.
fn union(readers: [&Reader; 2]) -> BTreeSet<(i32, i64)> {
    let rows = readers.into_iter().flat_map(|reader| &reader.rows).map(|row| (row.0, row.1));
    let all: Vec<_> = rows.collect();
    let unique: BTreeSet<_> = all.iter().copied().collect();
    assert_eq!(unique.len(), all.len(), "a row came twice");
    unique
}

/// One member reads, a second joins and takes its share, the first leaves: nothing lost, nothing twice.
async fn share(config: config::KafkaSource) {
    for partition in 0..4 {
        produce_values(&config.topic, partition, 0..100);
    }
    let mut first = Reader::open(&config, Until::Stopped).await.unwrap();
    first.read_rows(400).await.unwrap();
    assert_eq!(first.owned.len(), 4);

    let mut second = Reader::open(&config, Until::Stopped).await.unwrap();
    while first.owned.len() != 2 || second.owned.len() != 2 {
        // Dropping the other's future loses nothing: that is what makes this a test of `next`.
        tokio::select! {
            event = first.source.next() => first.handle(event.unwrap()).await.unwrap(),
            event = second.source.next() => second.handle(event.unwrap()).await.unwrap(),
        }
    }
    for partition in 0..4 {
        produce_values(&config.topic, partition, 100..200);
    }
    while first.rows.len() + second.rows.len() < 800 {
        tokio::select! {
            event = first.source.next() => first.handle(event.unwrap()).await.unwrap(),
            event = second.source.next() => second.handle(event.unwrap()).await.unwrap(),
        }
    }
    assert_eq!(union([&first, &second]).len(), 800);

    first.commit().await.unwrap();
    first.source.close().await.unwrap();
    // A member that has left commits no more.
    assert!(first.commit().await.is_err());
    for partition in 0..4 {
        produce_values(&config.topic, partition, 200..201);
    }
    while first.rows.len() + second.rows.len() < 804 {
        second.step().await.unwrap();
    }
    assert_eq!(union([&first, &second]).len(), 804);
    second.source.close().await.unwrap();
}

#[tokio::test]
async fn members_share_and_take_over() {
    let topic = broker::topic("input", 4).await;
    within_a_minute(share(reading(&topic))).await;
}

#[tokio::test]
async fn so_they_do_when_the_broker_assigns() {
    let Some(_) = broker::real() else { return };
    let topic = broker::topic("input", 4).await;
    let mut config = reading(&topic);
    config.client = client([("group.protocol", "consumer")]);
    within_a_minute(share(config)).await;
}

/// The coordinator has forgotten the member: its partitions are lost, and come back as at a restart.
#[tokio::test]
async fn lost_partitions_are_revoked_and_come_back_at_the_commit() {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("input", 1, 1).unwrap();
    let mut config = reading("input");
    config.brokers = Brokers::At(mock.bootstrap_servers());
    let payload = r#"{"id":"a","t":1,"v":1}"#;
    let mut writing = ClientConfig::new();
    let producer: BaseProducer = writing.set("bootstrap.servers", mock.bootstrap_servers()).create().unwrap();
    for _ in 0..3 {
        producer.send(BaseRecord::to("input").key("k").payload(payload)).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(Duration::from_secs(10)).unwrap();

    within_a_minute(async {
        let mut reader = Reader::open(&config, Until::Stopped).await.unwrap();
        reader.read_rows(3).await.unwrap();
        reader.source.group().commit(&at("input", 0, 1)).await.unwrap();
        mock.request_errors(RDKafkaApiKey::Heartbeat, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID]);
        while !reader.owned.is_empty() {
            // The commit within is for what is not ours any more: dropped, and no error.
            reader.step().await.unwrap();
        }
        reader.read_rows(5).await.unwrap();
        let offsets: Vec<i64> = reader.rows.iter().map(|row| row.1).collect();
        assert_eq!(offsets, [0, 1, 2, 1, 2]);
    })
    .await;
}

#[tokio::test]
async fn a_source_that_is_dropped_leaves_its_group() {
    let topic = broker::topic("input", 1).await;
    produce_values(&topic, 0, 0..3);
    let config = reading(&topic);
    let mut first = Reader::open(&config, Until::Stopped).await.unwrap();
    within_a_minute(first.read_rows(3)).await.unwrap();
    drop(first);
    // A member that was only missing would keep its partition for the session timeout, 45 s.
    let mut second = Reader::open(&config, Until::Stopped).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), second.read_rows(3)).await.unwrap().unwrap();
}

#[tokio::test]
async fn one_that_fails_before_it_started_leaves_too() {
    let topic = broker::topic("input", 1).await;
    let config = reading(&topic);
    let mut first = Reader::open(&config, Until::Stopped).await.unwrap();
    let Event::Assigned(assigned) = within_a_minute(first.source.next()).await.unwrap() else { panic!() };
    drop(assigned);
    let error = within_a_minute(first.source.next()).await.unwrap_err().to_string();
    assert!(error.contains("nobody said where to start"), "{error}");
    within_a_minute(first.source.close()).await.unwrap();
    let mut second = Reader::open(&config, Until::End).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), second.read_to_end()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_slow_driver_holds_the_input_up_and_loses_nothing() {
    const COUNT: i32 = 120_000;
    let topic = broker::topic("input", 2).await;
    for start in (0..COUNT / 2).step_by(20_000) {
        produce_values(&topic, 0, start..start + 20_000);
        produce_values(&topic, 1, start..start + 20_000);
    }
    let mut reader = Reader::open(&reading(&topic), Until::End).await.unwrap();
    within_a_minute(async {
        reader.read_rows(1).await.unwrap();
        // Longer than the source rests before it pauses the partitions: this lapse is the event.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        reader.read_to_end().await.unwrap();
    })
    .await;
    for partition in 0..2 {
        assert!(reader.values(partition).into_iter().eq(0..COUNT / 2), "partition {partition}");
    }
}
