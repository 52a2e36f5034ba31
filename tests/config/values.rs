//! What a right pipeline file means: defaults, paths, variables, secrets, the plan, the keys of the state.

use std::path::Path;

use tidecast::config::{Brokers, OnChange, Pipeline, Place, Scores, Start};
use tidecast_core::network::{CellKind, Decoder, Loss};
use tidecast_core::series::{Calendar, Full, Refusal, Scaling};

use super::{LEAST, load, loaded, refused, refused_addition};

#[test]
fn paths_are_relative_to_the_file_and_of_this_machine() {
    let pipeline = loaded(
        "[state]\nstore = \"file:state/x\"\n[source.parquet]\npath = \"../data/*.parquet\"\n[sink.parquet]\npath = \"/out\"",
    );
    assert_eq!(pipeline.forecast.model, Path::new("/p/m.safetensors"));
    assert_eq!(pipeline.state.unwrap().place, Place::Folder("/p/state/x".into()));
    assert_eq!(pipeline.parquet_source.unwrap().path, Path::new("/p/../data/*.parquet"));
    assert_eq!(pipeline.parquet_sink.unwrap().path, Path::new("/out"));
    for (store, place) in [
        ("file:///var/x", Place::Folder("/var/x".into())),
        ("x/y", Place::Folder("/p/x/y".into())),
        ("s3://bucket/x", Place::Url("s3://bucket/x".into())),
        ("az://bucket", Place::Url("az://bucket".into())),
    ] {
        assert_eq!(loaded(&format!("[state]\nstore = \"{store}\"")).state.unwrap().place, place);
    }
    refused_addition(
        "[state]\nstore = \"hdfs://bucket/x\"\n[source.parquet]\npath = \"a\"\n[sink.parquet]\npath = \"a\"",
        &[
            "9: \"store\" in [state] is `hdfs://bucket/x`: `hdfs:` is not supported; only `file:`, `s3:`, `gs:`, \
             `az:` and plain paths are",
            "13: \"path\" in [sink.parquet] is the path of the source: the readings would be overwritten",
        ],
    );
    let files = "[source.parquet]\npath = \"a\"\n[sink.parquet]\npath = \"b\"\n[sink.scores]\npath =";
    refused_addition(
        &format!("{files} \"file:a\""),
        &["13: \"path\" in [sink.scores] is the path of the source: the readings would be overwritten"],
    );
    refused_addition(
        &format!("{files} \"b\""),
        &[
            "13: \"path\" in [sink.scores] is the path of [sink.parquet]: scores and forecasts would take each other's place",
        ],
    );
    refused_addition(
        "[state]\nstore = \"file://host/x\"",
        &["9: \"store\" in [state] names a host: `file://host/x`; write `file:FOLDER` or `file:///FOLDER`"],
    );
    refused_addition(
        "[state]\nstore = \"gs:folder\"",
        &["9: \"store\" in [state] names no bucket: write `gs://BUCKET/FOLDER`"],
    );
    refused_addition(
        "[state]\nstore = \"s3://key:secret@bucket/x\"\nbytes_per_second = 10",
        &[
            "9: \"store\" in [state] holds more than `s3://BUCKET/FOLDER`: credentials come from the environment",
            "10: \"bytes_per_second\" in [state] must be in 65536..=1099511627776, not 10: slower, and a snapshot is \
             never done; the disk or the network is the limit",
        ],
    );
}

#[test]
fn what_is_left_out_has_a_default() {
    let least = loaded(
        "[source.kafka]\nbrokers = \"b\"\ntopic = \"in\"\n[sink.kafka]\ntopic = \"out\"\n[state]\nstore = \"s\"",
    );
    assert_eq!(
        (least.name.as_str(), least.columns.only_series.as_str(), least.every_text().as_str()),
        ("x", "x", "1h")
    );
    let hour = 3_600_000_000;
    let rules = least.rules;
    assert_eq!((rules.grid.every, rules.grid.offset, rules.lateness, rules.max_gap), (hour, 0, 0, 6 * hour));
    assert_eq!(rules.complete_after, None);
    assert_eq!((least.forecast.every, least.forecast.levels), (1, vec![0.8, 0.95]));
    let (source, sink) = (least.kafka_source.unwrap(), least.kafka_sink.unwrap());
    assert_eq!((source.group.as_str(), source.start), ("tidecast-x", Start::Earliest));
    assert_eq!((source.commit.every.as_millis(), source.commit.rows), (100, 50_000));
    assert_eq!((sink.brokers, sink.rejects), (source.brokers, None));
    assert_eq!(sink.rejected, [Refusal::Malformed, Refusal::TooFar, Refusal::NotFinite]);
    let state = least.state.unwrap();
    assert_eq!((state.every.as_secs(), state.on_change), (30, OnChange::Fail));
    let limits = least.limits;
    assert_eq!((limits.series, limits.message_bytes, limits.id_bytes), (1_000_000, 1 << 20, 256));
    assert_eq!((limits.full, limits.open_steps, limits.queue_rows), (Full::Refuse, 10_000, 50_000));
    assert_eq!((limits.snapshot_age.as_secs(), limits.rejects, limits.rejects_over), (3600, None, 10_000));
    let train = least.train;
    assert_eq!((train.cell, train.decoder, train.loss), (Some(CellKind::Gru), Decoder::Direct, Loss::Mae));
    assert_eq!((train.hidden, train.layers, train.lookback, train.horizon), (32, 1, 24, 24));
    assert_eq!((train.scaling, train.calendar.len()), (Scaling::Fixed, 2));
    assert_eq!((train.epochs, train.batch, train.patience, train.seed), (20, 256, 4, 1));
    assert_eq!((train.learning_rate, train.weight_decay, train.clip), (0.002, 0.0, 1.0));
    assert_eq!(train.segment, 1);
    assert_eq!((train.warmup, train.average, train.dropout), (0.05, 0.98, 0.1));
    assert_eq!((train.quantiles, train.embedding), (false, 0));
    assert_eq!((train.train_part, train.validation_part), (0.7, 0.1));
}

#[test]
fn the_lookback_is_a_day_of_steps_and_the_calendar_follows_the_step() {
    let of = |every: &str| {
        let train = load(&LEAST.replace("1h", every)).unwrap().train;
        (train.lookback, train.calendar)
    };
    let both = vec![Calendar::HourOfDay, Calendar::DayOfWeek];
    assert_eq!(of("15m"), (96, both.clone()));
    assert_eq!(of("5s"), (168, both));
    assert_eq!(of("1d"), (24, vec![Calendar::DayOfWeek]));
}

#[test]
fn a_carried_state_is_warmed_by_days_and_scaled_without_a_window() {
    let of = |train: &str| {
        let train = loaded(&format!("[train]\nstate = \"carried\"\n{train}")).train;
        (train.lookback, train.segment, train.scaling)
    };
    assert_eq!(of(""), (96, 1, Scaling::Fixed));
    assert_eq!(of("memory = false\nlookback = 720"), (720, 1, Scaling::Fixed));
}

#[test]
fn variables_change_values_and_nothing_else() {
    let kafka = |brokers: &str, topic: &str| {
        format!("{LEAST}[source.kafka]\nbrokers = \"{brokers}\"\ntopic = \"{topic}\"\n")
    };
    let source = |brokers: &str| load(&kafka(brokers, "in")).unwrap().kafka_source.unwrap();
    assert_eq!(source("${HOST}").brokers, Brokers::At("kafka.example:9092".to_string()));
    assert_eq!(source("${UNSET:-localhost:9092}").brokers, Brokers::At("localhost:9092".to_string()));
    let columns = load(&LEAST.replace("\"v\"", "\"$${HOST}\", \"${UNSET:-x}\"")).unwrap().columns;
    assert_eq!(columns.targets, ["${HOST}", "x"]);
    refused(
        &kafka("${UNSET}", "in"),
        &[
            "9: \"brokers\" in [source.kafka]: the environment variable `UNSET` is not set; set it or write `${UNSET:-default}`",
        ],
    );
    // A value that looks like TOML stays one text, and a variable in it stays as it is.
    let model = load(&LEAST.replace("m.safetensors", "${INJECTED}")).unwrap().forecast.model;
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
fn client_properties_are_whole_names_and_texts() {
    let client = loaded(SECRETIVE).kafka_source.unwrap().client;
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
    refused_addition(
        "[sink.kafka]\nbrokers = \"b\"\ntopic = \"t\"\n[sink.kafka.client]\n\"transactional.id\" = \"x\"",
        &[
            "12: \"transactional.id\" in [sink.kafka.client] is not for a pipeline to set: use the key \"instance\"",
        ],
    );
}

#[test]
fn a_sink_without_brokers_opens_the_source_s_cluster_as_the_source_does() {
    let source = "[source.kafka]\nbrokers = \"b\"\ntopic = \"in\"\n\
                  client = { \"security.protocol\" = \"SSL\", \"ssl.key.pem\" = \"a\", \"fetch.max.bytes\" = 1 }\n";
    let sink = |more: &str| {
        // A transaction spans one cluster.
        let text =
            format!("delivery = \"at_least_once\"\n{LEAST}{source}[sink.kafka]\ntopic = \"out\"\n{more}");
        load(&text).unwrap().kafka_sink.unwrap().client
    };
    let texts = |client: std::collections::BTreeMap<String, String>| format!("{client:?}");
    assert_eq!(texts(sink("")), r#"{"security.protocol": "SSL", "ssl.key.pem": "a"}"#);
    let own = "client = { \"ssl.key.pem\" = \"b\" }";
    assert_eq!(texts(sink(own)), r#"{"security.protocol": "SSL", "ssl.key.pem": "b"}"#);
    assert_eq!(texts(sink("brokers = \"other\"")), "{}");
}

#[test]
fn the_source_of_a_token_is_checked_and_its_file_found_from_the_pipeline() {
    let with =
        |client: &str| format!("[sink.kafka]\nbrokers = \"b\"\ntopic = \"t\"\nclient = {{ {client} }}");
    let mechanism = r#""sasl.mechanism" = "oauthbearer""#;
    let token = r#""sasl.oauthbearer.config" = "token_file=run/token""#;
    let client = loaded(&with(&format!("{mechanism}, {token}"))).kafka_sink.unwrap().client;
    assert_eq!(client["sasl.oauthbearer.config"], "token_file=/p/run/token");
    refused_addition(
        &with(mechanism),
        &[
            "11: missing key \"sasl.oauthbearer.config\" in [sink.kafka.client]: where the token comes from, such as \"token_file=PATH\"",
        ],
    );
    let oidc = r#""sasl.oauthbearer.method" = "oidc", "sasl.oauthbearer.config" = "scope=x""#;
    refused_addition(
        &with(oidc),
        &[
            "11: \"sasl.oauthbearer.config\" in [sink.kafka.client] must be \"token_file=PATH\" or \"token_env=NAME\", and, for a \
             token without an end of its own, \", lifetime=5m\" behind it",
            "11: \"sasl.oauthbearer.method\" in [sink.kafka.client] cannot be `oidc`, which is not built in: let a helper fetch the \
             token into a file",
        ],
    );
}

#[test]
fn secrets_are_never_printed() {
    let pipeline = loaded(SECRETIVE);
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
        let error = load(&format!("{LEAST}{wrong}")).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}

#[test]
fn the_plan_is_a_pipeline_file_that_means_the_same() {
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
rejects = "no"
rejected = ["late", "malformed"]
[sink.parquet]
path = "b"
[state]
store = "s"
every = "90s"
[limits]
rejects = "0.25 %"
full = "evict"
[train]
calendar = []
clip = 2
"#;
    let plan = loaded(given).plan();
    let again = load(&plan).unwrap_or_else(|error| panic!("{error}\n{plan}"));
    assert_eq!(again.plan(), plan);
    assert!(plan.contains("rejected = [\"malformed\", \"late\"]\nclient = {"), "{plan}");
    assert!(plan.contains("client = { \"client.id\" = \"$${X}\", \"linger.ms\" = \"5\" }"), "{plan}");
    assert!(
        plan.contains("every = \"1m 30s\"\nbytes_per_second = 67108864\non_change = \"fail\"\n"),
        "{plan}"
    );
    assert!(plan.contains("clip = 2.0\n"), "{plan}");
    assert!(plan.contains("rejects = \"0.25%\" # more than 25 of 10000 rows stop the pipeline\n"), "{plan}");
    assert!(
        plan.contains("series = 1000000 # every series of a partition has its state in memory\n"),
        "{plan}"
    );
    let plain = loaded("[source.kafka]\nbrokers = \"b\"\ntopic = \"in\"").plan();
    assert!(plain.contains("\nclient = {}\n"), "{plain}");
}

#[test]
fn the_state_depends_on_rows_and_steps_and_not_on_places() {
    let (least, other) =
        (loaded(""), loaded("[sink.parquet]\npath = \"b\"\n[train]\nhidden = 8\n[state]\nstore = \"s\""));
    assert_eq!(least.state_keys(), other.state_keys());
    let late = load(&LEAST.replace("\"1h\"", "\"3600s\"\nlateness = \"1s\"")).unwrap();
    let pairs = late.state_keys().into_iter().zip(least.state_keys());
    let differ: Vec<_> = pairs.filter(|(a, b)| a != b).map(|(a, _)| a).collect();
    assert_eq!(differ, [("grid.lateness", "1s".to_string())]);
    let queue =
        loaded("[limits]\nqueue_rows = 1000\nsnapshot_age = \"5m\"\nrejects = \"1%\"\nrejects_over = 500");
    assert_eq!(least.state_keys(), queue.state_keys());
    let limits =
        loaded("[limits]\nseries = 5\nfull = \"evict\"\nopen_steps = 3\nmessage_bytes = 9\nid_bytes = 9");
    let pairs = limits.state_keys().into_iter().zip(least.state_keys());
    assert_eq!(pairs.filter(|(a, b)| a != b).count(), 5);
}

#[test]
fn scores_are_asked_for_by_their_table_or_by_their_sink() {
    assert_eq!(loaded("").scores, None);
    let asked = loaded("[scores]\nhorizons = [24, 1]\nevery = 12");
    assert_eq!(asked.scores, Some(Scores { horizons: Some(vec![1, 24]), every: Some(12) }));
    let kafka = "[source.kafka]\nbrokers = \"b\"\ntopic = \"in\"\n[sink.kafka]\ntopic = \"out\"\n";
    let again =
        "[source.kafka]\nbrokers = \"a:1, b:1\"\ntopic = \"in\"\n[sink.kafka]\nbrokers = \"b:1,a:1\"\n";
    assert!(
        loaded(&format!("{again}topic = \"out\"")).kafka_sink.is_some(),
        "one cluster, in whichever order"
    );
    let sunk = loaded(&format!("{kafka}[sink.scores]\ntopic = \"scores\"\npath = \"s\""));
    assert_eq!(sunk.scores, Some(Scores::default()));
    assert_eq!(sunk.kafka_sink.as_ref().and_then(|sink| sink.scores.as_deref()), Some("scores"));
    assert_eq!(sunk.score_sink.as_ref().and_then(|sink| sink.path.as_deref()), Some(Path::new("/p/s")));
    let plan = asked.plan();
    assert!(plan.contains("[scores]\nhorizons = [1, 24]\nevery = 12\n"), "{plan}");
    // What is learned of forecasts is part of the state.
    let keys =
        |pipeline: &Pipeline| pipeline.state_keys().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    let learns = ["forecast.every", "forecast.levels", "scores.horizons", "scores.every"];
    assert!(learns.iter().all(|key| keys(&asked).contains(key)));
    let plain = load(&LEAST.replace("safetensors\"", "safetensors\"\nlevels = []")).unwrap();
    assert!(!learns.iter().any(|key| keys(&plain).contains(key)));
}

#[test]
fn the_segment_leaves_a_moderate_number_of_recurrent_steps() {
    let of = |train: &str| loaded(&format!("[train]\n{train}")).train.segment;
    assert_eq!(
        [48, 96, 120, 168, 720, 10_000].map(|steps| of(&format!("lookback = {steps}"))),
        [1, 2, 3, 4, 15, 250]
    );
    // A prime cannot be cut, and halves of 26 would leave less than a dozen.
    assert_eq!([61, 26].map(|steps| of(&format!("lookback = {steps}"))), [1, 1]);
    assert_eq!(of("lookback = 720\ndecoder = \"recursive\""), 1);
    assert_eq!(of("lookback = 720\nsegment = 24"), 24);
    assert!(loaded("[train]\nlookback = 720").plan().contains("\nsegment = 15\n"));
}

#[test]
fn limits_have_bounds_and_reasons() {
    refused_addition(
        "[state]\nstore = \"s\"\nevery = \"10m\"\n[limits]\nopen_steps = 0\nqueue_rows = 10\nsnapshot_age = \"15m\"\nrejects = \"1\"\nrejects_over = 5",
        &[
            "12: \"open_steps\" in [limits] must be in 1..=10000, not 0: each open step of a series keeps its rows' times in \
             memory; one more closes the oldest",
            "13: \"queue_rows\" in [limits] must be in 1000..=10000000, not 10: rows read and not yet forecast, and output not \
             yet committed, are in memory",
            "14: \"snapshot_age\" in [limits] must be at least 20m, not `15m`: between two snapshots lies `state.every`, and \
             one of them may fail",
            "15: \"rejects\" in [limits] is `1`: it is a part of the rows, such as \"1%\", with at most four decimals",
            "16: \"rejects_over\" in [limits] must be in 100..=10000000, not 5: it counts rows; over fewer than a hundred a \
             percentage says little",
        ],
    );
    for text in ["-1%", "101%", "1 per cent", "nan%", "0.00001%", "%"] {
        assert!(load(&format!("{LEAST}[limits]\nrejects = \"{text}\"")).is_err(), "{text}");
    }
    let age =
        |every: &str| loaded(&format!("[state]\nstore = \"s\"\nevery = \"{every}\"")).limits.snapshot_age;
    assert_eq!((age("30s").as_secs(), age("1h").as_secs()), (3600, 36_000));
}

#[test]
fn what_is_served_is_of_this_machine_unless_the_file_says_otherwise() {
    const SOURCE: &str = "[source.kafka]\nbrokers = \"b:1\"\ntopic = \"in\"\n";
    let served = |tables: &str| {
        let pipeline = loaded(&format!("{SOURCE}{tables}"));
        let ends = pipeline.kafka_source.unwrap().ends;
        pipeline.serve.map(|serve| (serve.address.to_string(), serve.ready_lag, ends))
    };
    assert_eq!(served(""), None);
    assert_eq!(served("[serve]"), Some(("127.0.0.1:8080".to_owned(), 10_000, true)));
    let said = "[serve]\naddress = \"0.0.0.0:80\"\nready_lag = 0\nunits = { \"*\" = \"°C\" }";
    assert_eq!(served(said), Some(("0.0.0.0:80".to_owned(), 0, true)));
    refused_addition(
        "[serve]\naddress = \"localhost\"\nready_lag = -1\n[serve.units]\n\"a[\" = \"x\"",
        &[
            "9: \"address\" in [serve] is `localhost`: it is an IP address and a port, such as 127.0.0.1:8080, or \
             0.0.0.0:8080 for all who reach this machine",
            "10: \"ready_lag\" in [serve] must be in 0..=1000000000, not -1: it counts the rows that are there and not yet \
             read",
            "11: \"units\" in [serve] has `a[`, no pattern: Pattern syntax error near position 1: invalid range pattern",
        ],
    );
}
