//! The same rows give the same forecasts from every source: a Kafka topic, the embedded broker, a Parquet file, and a topic
//! dumped to Parquet.

use std::collections::BTreeMap;
use std::time::Duration;

use tidecast_core::series::{Refusal, RowCounters};
use tidecast_core::time::TimeUnit;
use tidecast_kafka::settings::{Brokers, ClientProperties, KafkaSinkConfig, KafkaSourceConfig};
use tidecast_kafka::{
    AtLeastOnce, Cluster, EmbeddedBroker, KafkaSink, KafkaSource, ObservationWriter, ReadUntil,
};
use tidecast_stream::codec::Codec;
use tidecast_stream::driver::{OnEndOfInput, drive};
use tidecast_stream::settings::{Commit, Limits, MessageFormat, OnDataLoss, StartOffset};
use tokio_util::sync::CancellationToken;

use crate::broker::{self, StoredMessage};
use crate::harness::{
    Case, Row, drive_to_memory, driver_options, json_lines_by_series, parquet, row, write_parquet,
};

/// A few thousand rows of seven sensors, some of them late, duplicates or far ahead, and one sensor with a gap.
fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for i in 0..400i64 {
        for id in 0..7i64 {
            let time = 4 * i + id % 3;
            let value = ((i * (id + 3)) % 50) as f64 / 7.0 + id as f64;
            let hash = (i * 7919 + id * 104_729) % 97;
            if id == 5 && (100..120).contains(&i) {
                continue;
            }
            rows.push(row(&format!("sensor-{id}"), time, value));
            match hash {
                0..4 => rows.push(row(&format!("sensor-{id}"), time, value + 1.0)),
                4..9 => rows.push(row(&format!("sensor-{id}"), time - 23, value)),
                9..11 => rows.push(row(&format!("sensor-{id}"), time + 1_000_000, value)),
                _ => {}
            }
        }
    }
    rows
}

fn case() -> Case {
    let mut case = Case::default();
    case.step_config.lateness = 5_000_000;
    case
}

fn source_config(brokers: &str, topic: &str) -> KafkaSourceConfig {
    KafkaSourceConfig {
        brokers: Brokers::Addresses(brokers.to_owned()),
        topic: topic.to_owned(),
        group: broker::unique("parity"),
        format: MessageFormat::Json,
        start: StartOffset::Earliest,
        on_data_loss: OnDataLoss::Fail,
        allow_compacted: false,
        instance: "one".into(),
        static_membership: false,
        replay_window: None,
        queue_rows: 50_000,
        track_lag: false,
        client: ClientProperties::default(),
        commit: Commit { every: Duration::from_millis(50), rows: 500 },
    }
}

/// A run of the pipeline from one topic to another.
struct KafkaRun {
    counters: RowCounters,
    observations: String,
    forecasts: String,
}

/// Writes rows to a new topic, and runs the pipeline from it to another.
async fn run_over_kafka(cluster: &Cluster, rows: &[Row]) -> KafkaRun {
    let case = case();
    let (observations, forecasts) = (broker::unique("observations"), broker::unique("forecasts"));
    let mut writer =
        ObservationWriter::open(cluster, &observations, case.columns.clone(), 3).await.expect("a topic");
    writer.send(&case.batch(0, rows)).await.expect("the rows are sent");
    writer.flush().await.expect("the rows are acknowledged");
    let config = source_config(cluster.bootstrap_servers(), &observations);
    let codec = Codec::new(MessageFormat::Json, &case.columns, TimeUnit::default(), &Limits::default());
    let mut source = KafkaSource::open(cluster, &config, codec, ReadUntil::End).await.expect("a group");
    let sink = KafkaSinkConfig {
        brokers: config.brokers.clone(),
        topic: forecasts.clone(),
        scores_topic: None,
        rejects_topic: None,
        reject_reasons: vec![],
        client: ClientProperties::default(),
    };
    let sink = KafkaSink::open(cluster, &sink, 3).await.expect("a producer");
    let sink = AtLeastOnce::new(sink, Some(source.group()));
    let options = driver_options(case.setup(), config.commit, OnEndOfInput::LeaveOpen);
    let outcome = drive(&mut source, sink, options, &CancellationToken::new(), |_| ()).await;
    let Ok((progress, _)) = outcome else { panic!("the run reaches the end of the topic") };
    KafkaRun { counters: progress.counters, observations, forecasts }
}

/// Values by key, in the order of their partition.
fn by_key(stored: &[StoredMessage]) -> BTreeMap<String, Vec<String>> {
    let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for message in stored {
        let (key, value) = (message.key.clone(), message.value.clone());
        lines.entry(key.expect("a key")).or_default().push(value.expect("a value"));
    }
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_the_embedded_broker_and_parquet_give_the_same_bits() {
    let (case, rows) = (case(), rows());
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("observations.parquet");
    write_parquet(&file, &case.batch(0, &rows));
    let mut source = parquet(&file, &case.columns);
    let (backfill, outputs) = drive_to_memory(&mut source, case.setup(), OnEndOfInput::LeaveOpen).await;
    let expected = json_lines_by_series(&outputs);
    assert_eq!(expected.len(), 7);
    for reason in [Refusal::Late, Refusal::Duplicate, Refusal::TooFar] {
        assert!(backfill.counters.refused(reason) > 10, "{}", backfill.counters);
    }

    let broker = EmbeddedBroker::start("unused", 1).expect("a broker in this process");
    let embedded = Cluster::new(&Brokers::Embedded, Some(&broker), &ClientProperties::default());
    let embedded = embedded.expect("valid settings");
    let run = run_over_kafka(&embedded, &rows).await;
    assert_eq!(run.counters, backfill.counters);
    assert_eq!(by_key(&broker::read_all_at(embedded.bootstrap_servers(), &run.forecasts)), expected);

    if broker::real().is_none() {
        return;
    }
    let run = run_over_kafka(&broker::cluster(), &rows).await;
    assert_eq!(run.counters, backfill.counters);
    assert_eq!(by_key(&broker::read_all(&run.forecasts)), expected);

    // The whole topic, partition by partition in the order of offsets, with the rows that are refused.
    let dumped = parse_rows(&broker::read_all(&run.observations));
    assert_eq!(dumped.len(), rows.len());
    let file = folder.path().join("dump.parquet");
    write_parquet(&file, &case.batch(0, &dumped));
    let mut source = parquet(&file, &case.columns);
    let (dump, outputs) = drive_to_memory(&mut source, case.setup(), OnEndOfInput::LeaveOpen).await;
    assert_eq!((dump.counters, json_lines_by_series(&outputs)), (backfill.counters, expected));
}

/// Messages as rows, in the order in which they are stored.
fn parse_rows(stored: &[StoredMessage]) -> Vec<Row> {
    let parse = |message: &StoredMessage| {
        let value = message.value.as_deref().expect("a value");
        let value: serde_json::Value = serde_json::from_str(value).expect("JSON");
        let time = value["time"].as_str().expect("a time");
        let time = chrono::DateTime::parse_from_rfc3339(time).expect("RFC 3339").timestamp();
        row(value["sensor"].as_str().expect("a sensor"), time, value["value"].as_f64().expect("a number"))
    };
    stored.iter().map(parse).collect()
}
