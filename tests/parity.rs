//! The same rows give the same forecasts, whichever end they come in by: a Kafka topic, the broker inside the process, a
//! Parquet file, or a topic dumped to Parquet.

use std::collections::BTreeMap;
use std::time::Duration;

use tidecast::config::{self, Brokers, Commit, OnDataLoss, Format, Limits, StartOffset, TimeUnit};
use tidecast_stream::driver::{EndOfInput, drive};
use tidecast_stream::AtLeastOnce;
use tidecast_stream::codec::Codec;
use tidecast_kafka::{Cluster, EmbeddedBroker, KafkaSink, KafkaSource, ObservationWriter, ReadUntil};
use tidecast_core::series::{Refusal, RowCounters};

use crate::broker::{self, StoredMessage};
use crate::harness::{
    Case, Row, drive_to_memory, driver_options, json_lines_by_series, parquet, row, write_parquet,
};

/// A few thousand rows of some sensors; some late, some twice, some far ahead, one sensor with gaps.
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

fn source(brokers: &str, topic: &str) -> config::KafkaSourceConfig {
    config::KafkaSourceConfig {
        brokers: Brokers::Addresses(brokers.to_owned()),
        topic: topic.to_owned(),
        group: broker::unique("parity"),
        format: Format::Json,
        start: StartOffset::Earliest,
        on_data_loss: OnDataLoss::Fail,
        allow_compacted: false,
        instance: "one".into(),
        static_membership: false,
        replay_window: None,
        queue_rows: 50_000,
        track_lag: false,
        client: BTreeMap::new(),
        commit: Commit { every: Duration::from_millis(50), rows: 500 },
    }
}

/// Sends rows to a new topic, runs the pipeline over it into another topic, and returns what is in the latter and in the
/// former.
async fn through(cluster: &Cluster, rows: &[Row]) -> (RowCounters, String, String) {
    let case = case();
    let (readings, forecasts) = (broker::unique("readings"), broker::unique("forecasts"));
    let mut replay = ObservationWriter::open(cluster, &readings, case.columns.clone(), 3).await.expect("a topic");
    replay.send(&case.batch(0, rows)).await.expect("the broker takes rows");
    replay.flush().await.expect("the broker has the rows");
    let config = source(cluster.bootstrap_servers(), &readings);
    let codec = Codec::new(Format::Json, &case.columns, TimeUnit::default(), &Limits::default());
    let mut source = KafkaSource::open(cluster, &config, codec, ReadUntil::End).await.expect("a group");
    let sink = config::KafkaSinkConfig {
        brokers: config.brokers.clone(),
        topic: forecasts.clone(),
        scores_topic: None,
        rejects_topic: None,
        reject_reasons: vec![],
        client: BTreeMap::new(),
    };
    let sink = KafkaSink::open(cluster, &sink, 3).await.expect("a producer");
    let sink = AtLeastOnce::new(sink, Some(source.group()));
    let options = driver_options(case.setup(), config.commit, EndOfInput::LeaveOpen);
    let driven = drive(&mut source, sink, options, std::future::pending(), |_| ()).await;
    let Ok((progress, _)) = driven else { panic!("the run ends") };
    (progress.counters, readings, forecasts)
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
    let file = folder.path().join("readings.parquet");
    write_parquet(&file, &case.batch(0, &rows));
    let (backfilled, outputs) = drive_to_memory(&mut parquet(&file, &case.columns), case.setup(), EndOfInput::LeaveOpen).await;
    let expected = json_lines_by_series(&outputs);
    assert_eq!(expected.len(), 7);
    for reason in [Refusal::Late, Refusal::Duplicate, Refusal::TooFar] {
        assert!(backfilled.counters.refused(reason) > 10, "{}", backfilled.counters);
    }

    let embedded = EmbeddedBroker::start("unused", 1).expect("a broker in this process");
    let inside = Cluster::new(&Brokers::Embedded, Some(&embedded), &BTreeMap::new()).expect("its settings");
    let (tally, _, topic) = through(&inside, &rows).await;
    assert_eq!(tally, backfilled.counters);
    assert_eq!(by_key(&broker::read_all_at(inside.bootstrap_servers(), &topic)), expected);

    if broker::real().is_none() {
        return;
    }
    let (tally, readings, topic) = through(&broker::cluster(), &rows).await;
    assert_eq!(tally, backfilled.counters);
    assert_eq!(by_key(&broker::read_all(&topic)), expected);

    // The topic as it lies, partition after partition in the order of offsets, with all that is wrong in it.
    let dumped = dump(&broker::read_all(&readings));
    assert_eq!(dumped.len(), rows.len());
    let file = folder.path().join("dump.parquet");
    write_parquet(&file, &case.batch(0, &dumped));
    let (dumped, outputs) = drive_to_memory(&mut parquet(&file, &case.columns), case.setup(), EndOfInput::LeaveOpen).await;
    assert_eq!((dumped.counters, json_lines_by_series(&outputs)), (backfilled.counters, expected));
}

/// Messages as rows, in the order in which they were stored.
fn dump(stored: &[StoredMessage]) -> Vec<Row> {
    let parse = |message: &StoredMessage| {
        let value = message.value.as_deref().expect("a value");
        let value: serde_json::Value = serde_json::from_str(value).expect("JSON");
        let time = value["time"].as_str().expect("a time");
        let time = chrono::DateTime::parse_from_rfc3339(time).expect("RFC 3339").timestamp();
        row(value["sensor"].as_str().expect("a sensor"), time, value["value"].as_f64().expect("a number"))
    };
    stored.iter().map(parse).collect()
}
