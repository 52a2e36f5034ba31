//! Messages for forecasts, scores, rejects and observations.

use tidecast_core::schema::{ForecastBuilder, OutputLabels, ScoreBuilder};
use tidecast_core::series::Refusal;
use tidecast_kafka::settings::KafkaSinkConfig;
use tidecast_kafka::{KafkaSink, ObservationWriter};
use tidecast_stream::{Output, Record, Reject, Sink, SourceRecords};

use super::*;

/// Keys, with the partition of five that Kafka's `DefaultPartitioner` gives them.
const KEY_PARTITIONS: [(&str, i32); 6] = [
    ("21", 0),
    ("foobar", 1),
    ("a-little-bit-long-string", 2),
    ("a-little-bit-longer-string", 4),
    ("abc", 2),
    ("sensor-7", 1),
];

fn sink_config() -> KafkaSinkConfig {
    KafkaSinkConfig {
        brokers: Brokers::Addresses(broker::any()),
        topic: broker::unique("forecasts"),
        scores_topic: None,
        rejects_topic: Some(broker::unique("rejects")),
        reject_reasons: vec![Refusal::Malformed, Refusal::Late],
        client: ClientProperties::default(),
    }
}

/// One forecast per id, triggered by the messages at offsets 10, 11, ... of `input/3`.
fn output(ids: &[&str], horizon: usize) -> Output {
    let stamp = OutputLabels { every: "1h".into(), model: "abc".into() };
    let mut builder = ForecastBuilder::new(&[0.8], stamp.clone());
    let mut scores = ScoreBuilder::new(&[0.8], stamp);
    ids.iter()
        .take(1)
        .for_each(|id| scores.push(10, id, "v", [0, 3_600_000_000], &crate::harness::scores(6)));
    let mut records = Vec::new();
    let values = vec![0.5f32; horizon];
    for (offset, id) in (10..).zip(ids) {
        builder.push(offset, id, "v", 0, [&values[..]; 3]);
        records.push(Record {
            offset,
            timestamp: Some(1_700_000_000_000 + offset),
            key: Some(b"raw key".as_slice().into()),
            payload: Some(format!("raw {offset}").into()),
            replays: 0,
        });
    }
    Output {
        partition: Partition { topic: "input".into(), number: 3 },
        forecasts: builder.finish(),
        scores: scores.finish(),
        rejects: Vec::new(),
        source: SourceRecords { records },
    }
}

#[tokio::test]
async fn forecast_has_the_key_partition_timestamp_and_source_of_its_series() {
    let config = sink_config();
    let mut sink = KafkaSink::open(&broker::cluster(), &config, 5).await.unwrap();
    sink.write(output(&KEY_PARTITIONS.map(|(key, _)| key), 2)).await.unwrap();
    within_a_minute(sink.commit(&Positions::new())).await.unwrap();
    let stored = broker::read_all(&config.topic);
    assert_eq!(stored.len(), KEY_PARTITIONS.len());
    for (offset, (id, partition)) in (10..).zip(KEY_PARTITIONS) {
        let message = stored.iter().find(|message| message.key.as_deref() == Some(id)).unwrap();
        assert_eq!(message.partition, partition, "{id}");
        assert_eq!(message.timestamp, Some(1_700_000_000_000 + offset));
        assert_eq!(message.headers, [("source".to_string(), format!("input/3/{offset}"))]);
        let value = message.value.as_deref().unwrap();
        assert!(value.contains(r#""forecast":[0.5,0.5],"lower_80":[0.5,0.5]"#), "{value}");
    }
    within_a_minute(sink.finish()).await.unwrap();
}

#[tokio::test]
async fn scores_go_to_their_own_topic_if_it_is_configured() {
    let config = KafkaSinkConfig { scores_topic: Some(broker::unique("scores")), ..sink_config() };
    let mut sink = KafkaSink::open(&broker::cluster(), &config, 5).await.unwrap();
    sink.write(output(&["21", "foobar"], 2)).await.unwrap();
    within_a_minute(sink.commit(&Positions::new())).await.unwrap();
    assert_eq!(broker::read_all(&config.topic).len(), 2);
    let stored = broker::read_all(config.scores_topic.as_deref().unwrap());
    let [message] = &stored[..] else { panic!("{stored:?}") };
    assert_eq!((message.key.as_deref(), message.partition), (Some("21"), 0));
    assert_eq!(message.headers, [("source".to_string(), "input/3/10".to_string())]);
    let expected = concat!(
        r#"{"series":"21","target":"v","from":"1970-01-01T00:00:00Z","until":"1970-01-01T01:00:00Z","every":"1h","horizon":6,"#,
        r#""forecasts":24,"mae":0.5,"naive_mae":2.0,"mase":0.25,"bias":-0.25,"coverage_80":0.75,"ties":0.0,"drift":true,"#,
        r#""model":"abc"}"#,
    );
    assert_eq!(message.value.as_deref(), Some(expected));
}

#[tokio::test]
async fn selected_refusals_are_copied_to_the_rejects_topic() {
    let config = sink_config();
    let reject = |offset, reason| Reject { offset, reason, detail: "why".into() };
    let mut sink = KafkaSink::open(&broker::cluster(), &config, 5).await.unwrap();
    let mut output = output(&["a", "b", "c"], 1);
    output.source.records[1].key = None;
    output.rejects = vec![
        reject(7, Refusal::Late),
        reject(10, Refusal::Malformed),
        reject(11, Refusal::Malformed),
        reject(12, Refusal::Duplicate),
    ];
    sink.write(output).await.unwrap();
    within_a_minute(sink.commit(&Positions::new())).await.unwrap();

    let mut stored = broker::read_all(config.rejects_topic.as_deref().unwrap());
    stored.sort_by_key(|message| message.header("offset").unwrap().parse::<i64>().unwrap());
    let [restored, keyed, keyless] = &stored[..] else { panic!("{stored:?}") };
    assert_eq!((restored.value.as_deref(), restored.header("reason")), (None, Some("late")));
    assert_eq!((keyed.key.as_deref(), keyed.value.as_deref()), (Some("raw key"), Some("raw 10")));
    assert_eq!(keyed.timestamp, Some(1_700_000_000_010));
    assert_eq!((keyed.header("reason"), keyed.header("detail")), (Some("malformed"), Some("why")));
    assert_eq!((keyed.header("topic"), keyed.header("partition")), (Some("input"), Some("3")));
    assert_eq!((keyless.key.as_deref(), keyless.partition), (None, 3));
}

#[tokio::test]
async fn rejects_above_the_message_size_limit_omit_their_bytes() {
    let Some(_) = broker::real() else { return };
    // The timestamps of the messages are older than the default retention.
    let settings = [("max.message.bytes", "50000"), ("retention.ms", "-1")];
    let rejects = broker::topic_with("rejects", 1, &settings).await;
    for (bytes_max, rejects) in [(100_000, broker::unique("rejects")), (50_000, rejects)] {
        let client = properties([("message.max.bytes", "100000"), ("compression.type", "none")]);
        let config = KafkaSinkConfig { rejects_topic: Some(rejects.clone()), client, ..sink_config() };
        let mut output = output(&["a", "b", "c"], 1);
        let (bytes, records) = (|count: usize| Some(vec![b'#'; count].into()), &mut output.source.records);
        (records[0].payload, records[1].payload) = (bytes(bytes_max - 2_000), bytes(bytes_max));
        (records[2].key, records[2].payload) = (bytes(bytes_max), bytes(7));
        let reject = |offset| Reject { offset, reason: Refusal::Malformed, detail: "why".into() };
        output.rejects = (10..13).map(reject).collect();
        let cluster = Cluster::new(&config.brokers, None, &config.client).unwrap();
        let mut sink = KafkaSink::open(&cluster, &config, 1).await.unwrap();
        sink.write(output).await.unwrap();
        within_a_minute(sink.commit(&Positions::new())).await.unwrap();
        let stored = broker::read_all(&rejects);
        let [whole, keyed, bare] = &stored[..] else { panic!("{} rejects", stored.len()) };
        assert_eq!(
            (whole.value.as_ref().map(String::len), whole.header("omitted")),
            (Some(bytes_max - 2_000), None)
        );
        assert_eq!((keyed.key.as_deref(), keyed.value.as_deref()), (Some("raw key"), None));
        assert_eq!(keyed.header("omitted"), Some(&*format!("payload of {bytes_max} bytes")));
        assert_eq!((bare.key.as_deref(), bare.value.as_deref()), (None, None));
        assert_eq!(bare.header("omitted"), Some(&*format!("key and payload of {} bytes", bytes_max + 7)));
    }
}

#[tokio::test]
async fn failed_delivery_is_an_error_that_names_topic_and_series() {
    let Some(_) = broker::real() else { return };
    // Refused by the client before it is sent.
    let config = sink_config();
    let mut sink = KafkaSink::open(&broker::cluster(), &config, 1).await.unwrap();
    let error = sink.write(output(&["huge"], 100_000)).await.unwrap_err().to_string();
    assert!(error.contains("`huge`") && error.contains(&config.topic) && error.contains("max"), "{error}");
    // Refused by the broker, reported by the commit.
    let mut config = sink_config();
    config.topic = broker::topic_with("small", 1, &[("max.message.bytes", "100")]).await;
    let mut sink = KafkaSink::open(&broker::cluster(), &config, 1).await.unwrap();
    sink.write(output(&["broad"], 50)).await.unwrap();
    let error = within_a_minute(sink.commit(&Positions::new())).await.unwrap_err().to_string();
    assert!(error.contains("`broad`") && error.contains(&config.topic), "{error}");
    assert!(sink.write(output(&["next"], 1)).await.is_err(), "a sink that lost a message is unusable");
}

#[tokio::test]
async fn written_observations_are_decoded_to_the_same_bits() {
    let mut records = Vec::new();
    for (offset, (id, _)) in (0..).zip(KEY_PARTITIONS) {
        let value = (offset as f64).sqrt();
        let payload = format!(r#"{{"id":"{id}","t":"2024-03-31T00:00:0{offset}.000001Z","v":{value:?}}}"#);
        records.push(Record { offset, payload: Some(payload.into()), ..Record::default() });
    }
    let rows = codec().decode(&records).rows;
    let topic = broker::topic("observations", 5).await;
    let mut writer = ObservationWriter::open(&broker::cluster(), &topic, columns(), 5).await.unwrap();
    writer.send(&rows).await.unwrap();
    within_a_minute(writer.flush()).await.unwrap();

    let stored = broker::read_all(&topic);
    let columns = columns();
    let original = Observations::new(&rows, &columns);
    for (row, (id, partition)) in KEY_PARTITIONS.into_iter().enumerate() {
        let message = stored.iter().find(|message| message.key.as_deref() == Some(id)).unwrap();
        assert_eq!(message.partition, partition, "{id}");
        let payload = message.value.clone().map(Into::into);
        let decoded = codec().decode(&[Record { payload, ..Record::default() }]).rows;
        let decoded = Observations::new(&decoded, &columns);
        assert_eq!(decoded.times.value(0), original.times.value(row));
        assert_eq!(decoded.targets[0].value(0).to_bits(), original.targets[0].value(row).to_bits());
    }
}
