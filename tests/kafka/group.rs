//! Several members of one group, and a slow driver.

use std::collections::BTreeSet;

use rdkafka::config::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;

/// The number of rows of both members, each of which must be unique.
fn unique_rows(readers: [&Reader; 2]) -> usize {
    let rows: Vec<_> = readers.into_iter().flat_map(|reader| &reader.rows).collect();
    let unique: BTreeSet<_> = rows.iter().map(|row| (row.partition, row.offset)).collect();
    assert_eq!(unique.len(), rows.len(), "a row was read twice");
    unique.len()
}

/// One member reads, a second joins and gets its share, the first leaves: nothing is lost or read twice.
async fn share_partitions(config: KafkaSourceConfig) {
    for partition in 0..4 {
        produce_values(&config.topic, partition, 0..100);
    }
    let mut first = Reader::open(&config, ReadUntil::Closed).await.unwrap();
    first.read_rows(400).await.unwrap();
    assert_eq!(first.owned.len(), 4);

    let mut second = Reader::open(&config, ReadUntil::Closed).await.unwrap();
    while first.owned.len() != 2 || second.owned.len() != 2 {
        // Each event cancels the other member's `next`, which must be cancel-safe.
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
    assert_eq!(unique_rows([&first, &second]), 800);

    first.commit().await.unwrap();
    first.source.close().await.unwrap();
    assert!(first.commit().await.is_err(), "a former member cannot commit");
    for partition in 0..4 {
        produce_values(&config.topic, partition, 200..201);
    }
    while first.rows.len() + second.rows.len() < 804 {
        second.step().await.unwrap();
    }
    assert_eq!(unique_rows([&first, &second]), 804);
    second.source.close().await.unwrap();
}

#[tokio::test]
async fn members_share_partitions_and_take_over() {
    let topic = broker::topic("input", 4).await;
    within_a_minute(share_partitions(source_config(&topic))).await;
}

#[tokio::test]
async fn members_share_partitions_with_the_consumer_protocol() {
    let Some(_) = broker::real() else { return };
    let topic = broker::topic("input", 4).await;
    let mut config = source_config(&topic);
    config.client = properties([("group.protocol", "consumer")]);
    within_a_minute(share_partitions(config)).await;
}

#[tokio::test]
async fn lost_partitions_are_revoked_and_restart_at_the_committed_position() {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("input", 1, 1).unwrap();
    let mut config = source_config("input");
    config.brokers = Brokers::Addresses(mock.bootstrap_servers());
    let payload = r#"{"id":"a","t":1,"v":1}"#;
    let mut client = ClientConfig::new();
    let producer: BaseProducer = client.set("bootstrap.servers", mock.bootstrap_servers()).create().unwrap();
    for _ in 0..3 {
        producer.send(BaseRecord::to("input").key("k").payload(payload)).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(Duration::from_secs(10)).unwrap();

    within_a_minute(async {
        let mut reader = Reader::open(&config, ReadUntil::Closed).await.unwrap();
        reader.read_rows(3).await.unwrap();
        reader.source.group().commit(&positions("input", 0, 1)).await.unwrap();
        // The coordinator forgets the member.
        mock.request_errors(RDKafkaApiKey::Heartbeat, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID]);
        while !reader.owned.is_empty() {
            // Its commit of a partition that is no longer owned is skipped without an error.
            reader.step().await.unwrap();
        }
        reader.read_rows(5).await.unwrap();
        let offsets: Vec<i64> = reader.rows.iter().map(|row| row.offset).collect();
        assert_eq!(offsets, [0, 1, 2, 1, 2]);
    })
    .await;
}

#[tokio::test]
async fn dropped_source_leaves_its_group() {
    let topic = broker::topic("input", 1).await;
    produce_values(&topic, 0, 0..3);
    let config = source_config(&topic);
    let mut first = Reader::open(&config, ReadUntil::Closed).await.unwrap();
    within_a_minute(first.read_rows(3)).await.unwrap();
    drop(first);
    // A dead member would own its partition for the session timeout of 45 s.
    let mut second = Reader::open(&config, ReadUntil::Closed).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), second.read_rows(3)).await.unwrap().unwrap();
}

#[tokio::test]
async fn source_that_fails_before_its_start_leaves_its_group() {
    let topic = broker::topic("input", 1).await;
    let config = source_config(&topic);
    let mut first = Reader::open(&config, ReadUntil::Closed).await.unwrap();
    let SourceEvent::Assigned { reply, .. } = within_a_minute(first.source.next()).await.unwrap() else {
        panic!("the first event is the assignment")
    };
    drop(reply);
    let error = within_a_minute(first.source.next()).await.unwrap_err().to_string();
    assert!(error.contains("the driver did not choose a start position"), "{error}");
    within_a_minute(first.source.close()).await.unwrap();
    let mut second = Reader::open(&config, ReadUntil::End).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), second.read_to_end()).await.unwrap().unwrap();
}

#[tokio::test]
async fn slow_driver_pauses_the_input_and_loses_nothing() {
    const COUNT: i32 = 120_000;
    let topic = broker::topic("input", 2).await;
    for start in (0..COUNT / 2).step_by(20_000) {
        produce_values(&topic, 0, start..start + 20_000);
        produce_values(&topic, 1, start..start + 20_000);
    }
    let mut reader = Reader::open(&source_config(&topic), ReadUntil::End).await.unwrap();
    within_a_minute(async {
        reader.read_rows(1).await.unwrap();
        // Longer than the delay before the source pauses its partitions.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        reader.read_to_end().await.unwrap();
    })
    .await;
    for partition in 0..2 {
        assert!(reader.values(partition).into_iter().eq(0..COUNT / 2), "partition {partition}");
    }
}
