//! Valid pipeline files: defaults, paths, variables, secrets, the plan, the keys that determine the state.

use std::path::Path;

use tidecast::config::{Pipeline, Scores};
use tidecast_core::network::{CellKind, Decoder, Loss};
use tidecast_core::series::{Calendar, OnFull, Refusal, Scaling};
use tidecast_kafka::settings::{Brokers, ClientProperties};
use tidecast_stream::settings::{OnChange, StartOffset, StateLocation};

use super::{MINIMAL, assert_addition_errors, assert_errors, load, load_with};

#[test]
fn paths_are_local_and_relative_to_the_file() {
    let pipeline = load_with(
        "[state]\nstore = \"file:state/x\"\n[source.parquet]\npath = \"../data/*.parquet\"\n[sink.parquet]\npath = \"/out\"",
    );
    assert_eq!(pipeline.forecast.model, Path::new("/p/m.safetensors"));
    assert_eq!(pipeline.state.unwrap().location, StateLocation::Folder("/p/state/x".into()));
    assert_eq!(pipeline.parquet_source.unwrap().path, Path::new("/p/../data/*.parquet"));
    assert_eq!(pipeline.parquet_sink.unwrap().path, Path::new("/out"));
    for (store, place) in [
        ("file:///var/x", StateLocation::Folder("/var/x".into())),
        ("x/y", StateLocation::Folder("/p/x/y".into())),
        ("s3://bucket/x", StateLocation::Url("s3://bucket/x".into())),
        ("az://bucket", StateLocation::Url("az://bucket".into())),
    ] {
        assert_eq!(load_with(&format!("[state]\nstore = \"{store}\"")).state.unwrap().location, place);
    }
    assert_addition_errors(
        "[state]\nstore = \"hdfs://bucket/x\"\n[source.parquet]\npath = \"a\"\n[sink.parquet]\npath = \"a\"",
        &[
            "9: \"store\" in [state] is `hdfs://bucket/x`: `hdfs:` is not supported; supported are `file:`, \
             `s3:`, `gs:`, `az:` and plain paths",
            "13: \"path\" in [sink.parquet] is the path of the source: the input would be overwritten",
        ],
    );
    let files = "[source.parquet]\npath = \"a\"\n[sink.parquet]\npath = \"b\"\n[sink.scores]\npath =";
    assert_addition_errors(
        &format!("{files} \"file:a\""),
        &["13: \"path\" in [sink.scores] is the path of the source: the input would be overwritten"],
    );
    assert_addition_errors(
        &format!("{files} \"b\""),
        &[
            "13: \"path\" in [sink.scores] is the path of [sink.parquet]: scores and forecasts would overwrite each other",
        ],
    );
    assert_addition_errors(
        "[state]\nstore = \"file://host/x\"",
        &["9: \"store\" in [state] names a host: `file://host/x`; write `file:FOLDER` or `file:///FOLDER`"],
    );
    assert_addition_errors(
        "[state]\nstore = \"gs:folder\"",
        &["9: \"store\" in [state] names no bucket: write `gs://BUCKET/FOLDER`"],
    );
    assert_addition_errors(
        "[state]\nstore = \"s3://key:secret@bucket/x\"\nbytes_per_second = 10",
        &[
            "9: \"store\" in [state] has more parts than `s3://BUCKET/FOLDER`: set credentials in the environment",
            "10: \"bytes_per_second\" in [state] must be in 65536..=1099511627776, not 10: a slower snapshot would \
             never finish, a faster one is limited by the disk or the network",
        ],
    );
}

#[test]
fn missing_keys_have_defaults() {
    let minimal = load_with(
        "[source.kafka]\nbrokers = \"b\"\ntopic = \"in\"\n[sink.kafka]\ntopic = \"out\"\n[state]\nstore = \"s\"",
    );
    assert_eq!(
        (minimal.name.as_str(), minimal.columns.only_series.as_str(), minimal.step_text().as_str()),
        ("x", "x", "1h")
    );
    let hour = 3_600_000_000;
    let step_config = minimal.step_config;
    assert_eq!(
        (step_config.grid.every, step_config.grid.offset, step_config.lateness, step_config.max_gap),
        (hour, 0, 0, 6 * hour)
    );
    assert_eq!(step_config.complete_after, None);
    assert_eq!((minimal.forecast.every, minimal.forecast.levels), (1, vec![0.8, 0.95]));
    let (source, sink) = (minimal.kafka_source.unwrap(), minimal.kafka_sink.unwrap());
    assert_eq!((source.group.as_str(), source.start), ("tidecast-x", StartOffset::Earliest));
    assert_eq!((source.commit.every.as_millis(), source.commit.rows), (100, 50_000));
    assert_eq!((sink.brokers, sink.rejects_topic), (source.brokers, None));
    assert_eq!(sink.reject_reasons, [Refusal::Malformed, Refusal::TooFar, Refusal::NotFinite]);
    let state = minimal.state.unwrap();
    assert_eq!((state.every.as_secs(), state.on_change), (30, OnChange::Fail));
    let limits = minimal.limits;
    assert_eq!((limits.series, limits.message_bytes, limits.id_bytes), (1_000_000, 1 << 20, 256));
    assert_eq!((limits.on_full, limits.open_steps, limits.queue_rows), (OnFull::Refuse, 10_000, 50_000));
    assert_eq!(
        (limits.snapshot_age.as_secs(), limits.reject_rate, limits.reject_window),
        (3600, None, 10_000)
    );
    let train = minimal.train;
    assert_eq!((train.cell, train.decoder, train.loss), (Some(CellKind::Gru), Decoder::Direct, Loss::Mae));
    assert_eq!((train.hidden, train.layers, train.lookback, train.horizon), (32, 1, 24, 24));
    assert_eq!((train.scaling, train.calendar.len()), (Scaling::Fixed, 2));
    assert_eq!((train.epochs, train.batch_size, train.patience, train.seed), (20, 256, 4, 1));
    assert_eq!((train.learning_rate, train.weight_decay, train.gradient_clip), (0.002, 0.0, 1.0));
    assert_eq!(train.segment, 1);
    assert_eq!((train.warmup, train.weight_ema, train.dropout), (0.05, 0.98, 0.1));
    assert_eq!((train.quantiles, train.embedding), (false, 0));
    assert_eq!((train.train_fraction, train.validation_fraction), (0.7, 0.1));
}

#[test]
fn lookback_and_calendar_follow_from_the_step() {
    let of = |every: &str| {
        let train = load(&MINIMAL.replace("1h", every)).unwrap().train;
        (train.lookback, train.calendar)
    };
    let both = vec![Calendar::HourOfDay, Calendar::DayOfWeek];
    assert_eq!(of("15m"), (96, both.clone()));
    assert_eq!(of("5s"), (168, both));
    assert_eq!(of("1d"), (24, vec![Calendar::DayOfWeek]));
}

#[test]
fn a_carried_state_has_a_longer_lookback_and_no_window_scaling() {
    let of = |train: &str| {
        let train = load_with(&format!("[train]\nstate = \"carried\"\n{train}")).train;
        (train.lookback, train.segment, train.scaling)
    };
    assert_eq!(of(""), (96, 1, Scaling::Fixed));
    assert_eq!(of("recurrence = false\nlookback = 720"), (720, 1, Scaling::Fixed));
}

#[test]
fn variables_change_values_but_not_the_structure() {
    let kafka = |brokers: &str, topic: &str| {
        format!("{MINIMAL}[source.kafka]\nbrokers = \"{brokers}\"\ntopic = \"{topic}\"\n")
    };
    let source = |brokers: &str| load(&kafka(brokers, "in")).unwrap().kafka_source.unwrap();
    assert_eq!(source("${HOST}").brokers, Brokers::Addresses("kafka.example:9092".to_string()));
    assert_eq!(source("${UNSET:-localhost:9092}").brokers, Brokers::Addresses("localhost:9092".to_string()));
    let columns = load(&MINIMAL.replace("\"v\"", "\"$${HOST}\", \"${UNSET:-x}\"")).unwrap().columns;
    assert_eq!(columns.targets, ["${HOST}", "x"]);
    assert_errors(
        &kafka("${UNSET}", "in"),
        &[
            "9: \"brokers\" in [source.kafka]: environment variable `UNSET` is not set; set it, or write `${UNSET:-default}`",
        ],
    );
    // A value that contains TOML or a reference remains a plain string.
    let model = load(&MINIMAL.replace("m.safetensors", "${INJECTED}")).unwrap().forecast.model;
    assert_eq!(model, Path::new("/p/a\"\n[grid]\nevery = \"1s\"\n${HOST}"));
}

const SECRETIVE: &str = r#"[source.kafka]
brokers = "b"
topic = "in"
[source.kafka.client]
"sasl.username" = "me"
sasl.password = "${PASSWORD}"
enable.ssl.certificate.verification = false
fetch.max.bytes = 1000
[sink.kafka]
topic = "out"
client = { "ssl.key.pem" = "hunter2" }
"#;

#[test]
fn client_properties_are_flattened_to_strings() {
    let client = load_with(SECRETIVE).kafka_source.unwrap().client;
    let pairs: Vec<(&str, &str)> =
        client.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(
        pairs,
        [
            ("enable.ssl.certificate.verification", "false"),
            ("fetch.max.bytes", "1000"),
            ("sasl.password", "hunter2"),
            ("sasl.username", "me"),
        ]
    );
    assert_addition_errors(
        "[sink.kafka]\nbrokers = \"b\"\ntopic = \"t\"\n[sink.kafka.client]\n\"transactional.id\" = \"x\"",
        &["12: \"transactional.id\" in [sink.kafka.client] is set by tidecast: use the key \"instance\""],
    );
}

#[test]
fn a_sink_without_brokers_inherits_cluster_and_security_of_the_source() {
    let source = "[source.kafka]\nbrokers = \"b\"\ntopic = \"in\"\n\
                  client = { \"security.protocol\" = \"SSL\", \"ssl.key.pem\" = \"a\", \"fetch.max.bytes\" = 1 }\n";
    let sink = |more: &str| {
        // A transaction spans one cluster.
        let text =
            format!("delivery = \"at_least_once\"\n{MINIMAL}{source}[sink.kafka]\ntopic = \"out\"\n{more}");
        load(&text).unwrap().kafka_sink.unwrap().client
    };
    let texts = |client: ClientProperties| format!("{:?}", *client);
    assert_eq!(texts(sink("")), r#"{"security.protocol": "SSL", "ssl.key.pem": "a"}"#);
    let own = "client = { \"ssl.key.pem\" = \"b\" }";
    assert_eq!(texts(sink(own)), r#"{"security.protocol": "SSL", "ssl.key.pem": "b"}"#);
    assert_eq!(texts(sink("brokers = \"other\"")), "{}");
}

#[test]
fn a_token_file_is_relative_to_the_pipeline_file() {
    let with =
        |client: &str| format!("[sink.kafka]\nbrokers = \"b\"\ntopic = \"t\"\nclient = {{ {client} }}");
    let mechanism = r#""sasl.mechanism" = "oauthbearer""#;
    let token = r#""sasl.oauthbearer.config" = "token_file=run/token""#;
    let client = load_with(&with(&format!("{mechanism}, {token}"))).kafka_sink.unwrap().client;
    assert_eq!(client["sasl.oauthbearer.config"], "token_file=/p/run/token");
    assert_addition_errors(
        &with(mechanism),
        &[
            "11: missing key \"sasl.oauthbearer.config\" in [sink.kafka.client]: the source of the token, such as \"token_file=PATH\"",
        ],
    );
    let oidc = r#""sasl.oauthbearer.method" = "oidc", "sasl.oauthbearer.config" = "scope=x""#;
    assert_addition_errors(
        &with(oidc),
        &[
            "11: \"sasl.oauthbearer.config\" in [sink.kafka.client] must be \"token_file=PATH\" or \"token_env=NAME\", followed \
             by \", lifetime=5m\" if the token has no `exp` claim",
            "11: \"sasl.oauthbearer.method\" in [sink.kafka.client] is `oidc`, which is not built in: let a sidecar fetch the token \
             into a file",
        ],
    );
}

#[test]
fn secrets_are_redacted() {
    let pipeline = load_with(SECRETIVE);
    for printed in [format!("{pipeline:?}"), format!("{pipeline:#?}"), pipeline.plan()] {
        assert!(!printed.contains("hunter2"), "{printed}");
        assert!(
            printed.contains("***") && printed.contains("sasl.password") && printed.contains("\"me\""),
            "{printed}"
        );
    }
    let wrong = [
        "[source.kafka]\nclient = \"hunter2\"",
        "[source.kafka]\nclient = { \"sasl.password\" = [\"hunter2\"] }",
        "[source.kafka]\nclient = { \"sasl.password\" = \"${PASSWORD}${UNSET}\" }",
        "[source.kafka]\nclient = { \"group.id\" = \"hunter2\" }",
        "[source.kafka.client]\n\"sasl.password\" = \"hunter2\"\nsasl.password = \"hunter2\"",
        "[source]\nkafka = \"hunter2\"",
        "[source.kafka]\n\"sasl.password\" = \"hunter2\"",
        "[source.kafka]\ngroup = { password = \"hunter2\" }",
        "[source.kafka]\nformat = \"${PASSWORD}\"",
        "[source.kafka]\nbrokers = \"b ${PASSWORD}\"\ntopic = \"${PASSWORD} ${PASSWORD}\"",
        "[source.kafka]\nbrokers = \"b\"\ntopic = \"in\"\ncommit = { every = \"${PASSWORD}\" }",
    ];
    for wrong in wrong {
        let error = load(&format!("{MINIMAL}{wrong}")).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}

#[test]
fn the_plan_is_an_equivalent_pipeline_file() {
    let given = r#"
levels = [0.5]
[source.kafka]
brokers = "embedded"
topic = "in"
client = { "client.id" = "$${X}", "linger.ms" = 5 }
[source.parquet]
path = "a"
[sink.kafka]
topic = "out"
rejects_topic = "no"
reject_reasons = ["late", "malformed"]
[sink.parquet]
path = "b"
[state]
store = "s"
every = "90s"
[limits]
reject_rate = "0.25 %"
on_full = "evict"
[train]
calendar = []
gradient_clip = 2
"#;
    let plan = load_with(given).plan();
    let again = load(&plan).unwrap_or_else(|error| panic!("{error}\n{plan}"));
    assert_eq!(again.plan(), plan);
    assert!(plan.contains("reject_reasons = [\"malformed\", \"late\"]\nclient = {"), "{plan}");
    assert!(plan.contains("client = { \"client.id\" = \"$${X}\", \"linger.ms\" = \"5\" }"), "{plan}");
    assert!(
        plan.contains("every = \"1m 30s\"\nbytes_per_second = 67108864\non_change = \"fail\"\n"),
        "{plan}"
    );
    assert!(plan.contains("gradient_clip = 2.0\n"), "{plan}");
    assert!(
        plan.contains("reject_rate = \"0.25%\" # more than 25 rejects among 10000 rows stop the pipeline\n"),
        "{plan}"
    );
    assert!(
        plan.contains("series = 1000000 # the state of every series of a partition is in memory\n"),
        "{plan}"
    );
    let plain = load_with("[source.kafka]\nbrokers = \"b\"\ntopic = \"in\"").plan();
    assert!(plain.contains("\nclient = {}\n"), "{plain}");
}

#[test]
fn the_state_keys_include_rows_and_steps_but_not_paths() {
    let (minimal, other) = (
        load_with(""),
        load_with("[sink.parquet]\npath = \"b\"\n[train]\nhidden = 8\n[state]\nstore = \"s\""),
    );
    assert_eq!(minimal.state_keys(), other.state_keys());
    let late = load(&MINIMAL.replace("\"1h\"", "\"3600s\"\nlateness = \"1s\"")).unwrap();
    let pairs = late.state_keys().into_iter().zip(minimal.state_keys());
    let differ: Vec<_> = pairs.filter(|(a, b)| a != b).map(|(a, _)| a).collect();
    assert_eq!(differ, [("grid.lateness", "1s".to_string())]);
    let queue = load_with(
        "[limits]\nqueue_rows = 1000\nsnapshot_age = \"5m\"\nreject_rate = \"1%\"\nreject_window = 500",
    );
    assert_eq!(minimal.state_keys(), queue.state_keys());
    let limits = load_with(
        "[limits]\nseries = 5\non_full = \"evict\"\nopen_steps = 3\nmessage_bytes = 9\nid_bytes = 9",
    );
    let pairs = limits.state_keys().into_iter().zip(minimal.state_keys());
    assert_eq!(pairs.filter(|(a, b)| a != b).count(), 5);
}

#[test]
fn scores_are_enabled_by_their_table_or_their_sink() {
    assert_eq!(load_with("").scores, None);
    let configured = load_with("[scores]\nhorizons = [24, 1]\nevery = 12");
    assert_eq!(configured.scores, Some(Scores { horizons: Some(vec![1, 24]), every: Some(12) }));
    let kafka = "[source.kafka]\nbrokers = \"b\"\ntopic = \"in\"\n[sink.kafka]\ntopic = \"out\"\n";
    let again =
        "[source.kafka]\nbrokers = \"a:1, b:1\"\ntopic = \"in\"\n[sink.kafka]\nbrokers = \"b:1,a:1\"\n";
    assert!(load_with(&format!("{again}topic = \"out\"")).kafka_sink.is_some(), "one cluster, in any order");
    let with_topic = load_with(&format!("{kafka}[sink.scores]\ntopic = \"scores\"\npath = \"s\""));
    assert_eq!(with_topic.scores, Some(Scores::default()));
    assert_eq!(with_topic.kafka_sink.as_ref().and_then(|sink| sink.scores_topic.as_deref()), Some("scores"));
    assert_eq!(with_topic.score_sink.as_ref().and_then(|sink| sink.path.as_deref()), Some(Path::new("/p/s")));
    let plan = configured.plan();
    assert!(plan.contains("[scores]\nhorizons = [1, 24]\nevery = 12\n"), "{plan}");
    // Calibration is part of the state.
    let keys =
        |pipeline: &Pipeline| pipeline.state_keys().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    let state_keys = ["forecast.every", "forecast.levels", "scores.horizons", "scores.every"];
    assert!(state_keys.iter().all(|key| keys(&configured).contains(key)));
    let plain = load(&MINIMAL.replace("safetensors\"", "safetensors\"\nlevels = []")).unwrap();
    assert!(!state_keys.iter().any(|key| keys(&plain).contains(key)));
}

#[test]
fn the_default_segment_leaves_12_to_48_cell_steps() {
    let of = |train: &str| load_with(&format!("[train]\n{train}")).train.segment;
    assert_eq!(
        [48, 96, 120, 168, 720, 10_000].map(|steps| of(&format!("lookback = {steps}"))),
        [1, 2, 3, 4, 15, 250]
    );
    // A prime has no divisor, and 13 of 26 would leave two cell steps.
    assert_eq!([61, 26].map(|steps| of(&format!("lookback = {steps}"))), [1, 1]);
    assert_eq!(of("lookback = 720\ndecoder = \"recursive\""), 1);
    assert_eq!(of("lookback = 720\nsegment = 24"), 24);
    assert!(load_with("[train]\nlookback = 720").plan().contains("\nsegment = 15\n"));
}

#[test]
fn limits_out_of_bounds_are_rejected_with_a_reason() {
    assert_addition_errors(
        "[state]\nstore = \"s\"\nevery = \"10m\"\n[limits]\nopen_steps = 0\nqueue_rows = 10\nsnapshot_age = \"15m\"\nreject_rate = \"1\"\nreject_window = 5",
        &[
            "12: \"open_steps\" in [limits] must be in 1..=10000, not 0: every open step keeps the times of its rows in \
             memory; a further step closes the oldest one",
            "13: \"queue_rows\" in [limits] must be in 1000..=10000000, not 10: rows waiting for their forecast, and output \
             waiting for its commit, are in memory",
            "14: \"snapshot_age\" in [limits] must be at least 20m, not `15m`: a snapshot is due every `state.every`, and \
             one of them may fail",
            "15: \"reject_rate\" in [limits] is `1`: write a percentage such as \"1%\", with at most four decimals",
            "16: \"reject_window\" in [limits] must be in 100..=10000000, not 5: it counts rows; a percentage of fewer than \
             a hundred is too coarse",
        ],
    );
    for text in ["-1%", "101%", "1 per cent", "nan%", "0.00001%", "%"] {
        assert!(load(&format!("{MINIMAL}[limits]\nreject_rate = \"{text}\"")).is_err(), "{text}");
    }
    let age =
        |every: &str| load_with(&format!("[state]\nstore = \"s\"\nevery = \"{every}\"")).limits.snapshot_age;
    assert_eq!((age("30s").as_secs(), age("1h").as_secs()), (3600, 36_000));
}

#[test]
fn the_dashboard_is_local_by_default() {
    const SOURCE: &str = "[source.kafka]\nbrokers = \"b:1\"\ntopic = \"in\"\n";
    let served = |tables: &str| {
        let pipeline = load_with(&format!("{SOURCE}{tables}"));
        let track_lag = pipeline.kafka_source.unwrap().track_lag;
        pipeline.serve.map(|serve| (serve.address.to_string(), serve.ready_lag, track_lag))
    };
    assert_eq!(served(""), None);
    assert_eq!(served("[serve]"), Some(("127.0.0.1:8080".to_owned(), 10_000, true)));
    let custom = "[serve]\naddress = \"0.0.0.0:80\"\nready_lag = 0\nunits = { \"*\" = \"°C\" }";
    assert_eq!(served(custom), Some(("0.0.0.0:80".to_owned(), 0, true)));
    assert_addition_errors(
        "[serve]\naddress = \"localhost\"\nready_lag = -1\n[serve.units]\n\"a[\" = \"x\"",
        &[
            "9: \"address\" in [serve] is `localhost`: write an IP address and a port, such as 127.0.0.1:8080, or \
             0.0.0.0:8080 for all interfaces",
            "10: \"ready_lag\" in [serve] must be in 0..=1000000000, not -1: it counts unread rows of the topic",
            "11: \"units\" in [serve] has the invalid pattern `a[`: Pattern syntax error near position 1: invalid range pattern",
        ],
    );
}
