//! What a running pipeline shows of itself: metrics, readiness, streams for the page, events for a collector of logs. What it
//! forecasts is the same whether anybody looks or not.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::stops::STATE;
use super::*;

pub const RUN: &str = "run p.toml --to -";
pub const SERVE: &str = "[serve]\naddress = \"127.0.0.1:0\"\n";

/// Longer than a busy machine takes for what is waited for here.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Answer {
    head: String,
    pub body: String,
}

impl Answer {
    pub fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// The value of a metric without labels, or of one with these.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let line = self.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map(|value| value.parse().unwrap())
    }

    /// The sum over all labels of a metric.
    pub fn sum(&self, name: &str) -> f64 {
        let lines = self.body.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }
}

fn asked(address: &str, path: &str, host: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    BufReader::new(stream)
}

fn get_as(address: &str, path: &str, host: &str) -> Answer {
    let mut text = String::new();
    asked(address, path, host).read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    Answer { head: head.to_owned(), body: body.to_owned() }
}

fn get(address: &str, path: &str) -> Answer {
    get_as(address, path, address)
}

/// The first message of a stream.
fn first(address: &str, path: &str) -> Value {
    first_that(address, path, |_| true)
}

/// The first message of a stream for which something holds.
fn first_that(address: &str, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    let message = asked(address, path, address).lines().find_map(|line| {
        let line = line.expect("the stream goes on");
        let message = serde_json::from_str(line.strip_prefix("data: ")?).unwrap();
        assert!(began.elapsed() < PATIENCE, "{path} still says {message}");
        holds(&message).then_some(message)
    });
    message.expect("a stream has messages")
}

/// Asks until it is so.
#[track_caller]
pub fn until(address: &str, path: &str, is_so: impl Fn(&Answer) -> bool) -> Answer {
    let began = Instant::now();
    loop {
        let answer = get(address, path);
        if is_so(&answer) {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "{path} still says\n{}\n\n{}", answer.head, answer.body);
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The names of our metrics in the queries of the dashboard for Grafana and in the rules for Prometheus.
fn asked_for() -> BTreeSet<String> {
    fn collect(value: &Value, queries: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                queries.extend(fields.get("expr").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|value| collect(value, queries));
            }
            Value::Array(values) => values.iter().for_each(|value| collect(value, queries)),
            _ => {}
        }
    }
    let text = include_str!("../../deploy/grafana/dashboards/tidecast.json");
    let mut queries = Vec::new();
    collect(&serde_json::from_str(text).unwrap(), &mut queries);
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    // And what is to be told of, all of whose lines may name some.
    queries.extend(include_str!("../../deploy/alerts.yml").lines().map(str::to_owned));
    let words = queries.iter().flat_map(|query| query.split(|c| !is_part(c)));
    let names: BTreeSet<String> =
        words.filter(|word| word.starts_with("tidecast_")).map(str::to_owned).collect();
    assert!(names.len() > 20, "{names:?}");
    names
}

/// Names, kinds and labels of metrics.
type Metrics = BTreeSet<(String, String, Vec<String>)>;

/// Those in the tables of the documentation.
fn documented() -> Metrics {
    let rows = include_str!("../../docs/metrics.md").lines().filter(|line| line.starts_with("| `"));
    let metric = |row: &str| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let names = |cell: &str| {
            let mut names: Vec<String> = cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            names.sort();
            names
        };
        (names(cells[1]).remove(0), cells[2].to_owned(), names(cells[3]))
    };
    rows.map(metric).collect()
}

/// Those that are told.
fn told(metrics: &Answer) -> Metrics {
    let kinds = metrics.body.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let metric = |(name, kind): (&str, &str)| {
        let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        let sample = if kind == "histogram" { format!("{name}_count") } else { name.clone() };
        let rest = metrics
            .body
            .lines()
            .find_map(|line| line.strip_prefix(&*sample).filter(|rest| rest.starts_with(['{', ' '])));
        let rest = rest.unwrap_or_else(|| panic!("no {sample} in\n{}", metrics.body));
        let within =
            rest.strip_prefix('{').and_then(|rest| rest.rsplit_once('}')).map_or("", |(labels, _)| labels);
        // Every other part between quotes is a value.
        let labels = within.split('"').step_by(2).map(|part| part.trim_matches([',', '=']).to_owned());
        let mut labels: Vec<String> = labels.filter(|label| !label.is_empty()).collect();
        labels.sort();
        (name, kind.to_owned(), labels)
    };
    kinds.map(metric).collect()
}

/// Where it serves.
pub fn served(run: &mut Running) -> String {
    run.wait_for("dashboard: http://");
    let said = run.said();
    let at = said.find("dashboard: http://").expect("it has just been said") + "dashboard: http://".len();
    said[at..].split_whitespace().next().expect("an address").to_owned()
}

#[test]
fn a_running_pipeline_tells_what_it_did_and_forecasts_as_if_nobody_looked() {
    let (topics, rows) = (Topics::new(2), readings(&["a", "<b>"], 0..40));
    let place = Place::new(&format!("{}{STATE}{SERVE}", between(&topics)));
    let mut run = place.start(RUN);
    let address = served(&mut run);
    assert_eq!(get(&address, "/healthz").body, "ok\n");
    until(&address, "/readyz", |answer| answer.status() == "200");

    topics.send(&rows);
    broker::produce(&topics.readings, None, [("a", "three")]);
    let expected = expected(&Case::default(), &rows, false);
    let forecasts: usize = expected.values().map(Vec::len).sum();
    let done = |answer: &Answer| answer.metric("tidecast_latency_seconds_count") == Some(81.0);
    let metrics = until(&address, "/metrics", done);
    assert!(metrics.body.ends_with("# EOF\n") && metrics.head.contains("openmetrics"), "{}", metrics.head);
    for (name, value) in [
        ("tidecast_readings_total", 81.0),
        ("tidecast_forecasts_total", forecasts as f64),
        ("tidecast_refused_total{reason=\"malformed\"}", 1.0),
        ("tidecast_refused_total{reason=\"late\"}", 0.0),
        ("tidecast_series", 2.0),
        ("tidecast_partitions", 2.0),
        ("tidecast_assignments_total", 2.0),
        ("tidecast_dashboard_missed_batches_total", 0.0),
    ] {
        assert_eq!(metrics.metric(name), Some(value), "{name} in\n{}", metrics.body);
    }
    assert_eq!(metrics.sum("tidecast_position"), 81.0);
    assert!(metrics.metric("tidecast_commit_duration_seconds_count") >= Some(1.0));
    until(&address, "/metrics", |answer| answer.sum("tidecast_committed_position") == 81.0);
    let metrics = until(&address, "/metrics", |answer| answer.sum("tidecast_error_ratio") > 0.0);
    assert!(!metrics.body.contains("<b>"), "a series is no label");

    let page = first(&address, "/api/streams/overview?search=B&rows=10");
    assert_eq!((&page["found"], &page["rows"][0]["id"]), (&1.into(), &"<b>".into()));
    let last = rows.last().unwrap().targets[0];
    assert_eq!(page["rows"][0]["value"], last);
    let series = first(&address, "/api/streams/series?id=%3Cb%3E&target=value");
    assert_eq!(series["steps"]["values"].as_array().unwrap()[39].as_f64().unwrap() as f32, last as f32);
    let line = first(&address, "/api/streams/pipeline");
    assert_eq!(line["line"]["refused"][0]["samples"][0]["value"], "three");
    let page: Value = serde_json::from_str(&get(&address, "/api/pipeline").body).unwrap();
    assert_eq!(
        (&page["forecasts"], &page["rejects"]),
        (&"standard output".into(), &Value::Null),
        "and no topic"
    );

    run.signal("TERM");
    assert_eq!(by_series(run.finish().succeeds().stdout.lines()), expected);
}

/// What a topic of scores says of forecasts so many steps ahead: how many, those within the interval, periods, those with a ratio,
/// those that drift.
fn scored(topic: &str, horizon: i64) -> [f64; 5] {
    let mut sums = [0.0; 5];
    for message in broker::read_all(topic) {
        let value: Value = serde_json::from_str(message.value.as_deref().expect("a value")).expect("JSON");
        if value["horizon"] == horizon {
            let (forecasts, share) =
                (value["forecasts"].as_f64().unwrap(), value["coverage_80"].as_f64().unwrap());
            let one_if = |holds: bool| f64::from(u8::from(holds));
            let one = [
                forecasts,
                (forecasts * share).round(),
                1.0,
                one_if(!value["mase"].is_null()),
                one_if(value["drift"] == true),
            ];
            sums.iter_mut().zip(one).for_each(|(sum, one)| *sum += one);
        }
    }
    sums
}

#[test]
fn what_the_stream_scores_itself_is_counted_and_shown() {
    let (topics, scores) = (Topics::new(1), Topics::new(1).forecasts);
    let tables = format!("[scores]\nhorizons = [1, 2]\nevery = 10\n[sink.scores]\ntopic = \"{scores}\"\n");
    let place = Place::new(&format!("{}{tables}{SERVE}", between(&topics)));
    let mut run = place.start("run p.toml");
    let address = served(&mut run);
    topics.send(&readings(&["a", "b"], 0..60));
    // The ends of the partitions are known a moment later.
    let done = |answer: &Answer| {
        answer.metric("tidecast_latency_seconds_count") == Some(120.0)
            && answer.sum("tidecast_error_ratio") > 0.0
            && answer.body.contains("\ntidecast_lag_rows{")
            && answer.body.contains("\ntidecast_committed_position{")
    };
    let metrics = until(&address, "/metrics", done);
    for ahead in [1, 2] {
        let [forecasts, inside, periods, ratios, drifts] = scored(&scores, ahead);
        assert!(forecasts > 80.0 && inside > 40.0 && ratios >= 8.0, "{forecasts} {inside} {ratios}");
        if ahead == 1 {
            // Of the series, not of each step ahead.
            let counted =
                ["periods", "drifts"].map(|name| metrics.metric(&format!("tidecast_scored_{name}_total")));
            assert_eq!(counted, [Some(periods), Some(drifts)], "{}", metrics.body);
        }
        for (name, labels, value) in [
            ("tidecast_scored_forecasts_total", "", forecasts),
            ("tidecast_scored_inside_total", ",level=\"80\"", inside),
            ("tidecast_scored_error_ratio_count", "", ratios),
        ] {
            let name = format!("{name}{{steps_ahead=\"{ahead}\"{labels}}}");
            assert_eq!(metrics.metric(&name), Some(value), "{name} in\n{}", metrics.body);
        }
        assert!(
            metrics.metric(&format!("tidecast_scored_error_ratio_sum{{steps_ahead=\"{ahead}\"}}"))
                > Some(0.0)
        );
    }
    assert!(
        metrics.body.contains("\ntidecast_scored_error_ratio_bucket{le=\"1.0\",steps_ahead=\"1\"} "),
        "{}",
        metrics.body
    );
    assert_eq!(told(&metrics), documented(), "what is told, and what docs/metrics.md says of it");
    for name in asked_for() {
        let is_there =
            |line: &str| line.strip_prefix(&*name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        assert!(
            metrics.body.lines().any(is_there) || metrics.body.contains(&format!("# TYPE {name} ")),
            "Grafana or a rule asks for {name}, which is not in\n{}",
            metrics.body
        );
    }

    let is_last = |message: &Value| message["series"]["periods"][1]["until_ms"] == 500_000.0;
    let series = first_that(&address, "/api/streams/series?id=a&target=value", is_last);
    let [one, two] = [0, 1].map(|place| &series["series"]["periods"][place]);
    assert_eq!((&one["ahead"], &two["ahead"]), (&1.into(), &2.into()));
    assert_eq!((&one["from_ms"], &one["forecasts"]), (&400_000.0.into(), &10.into()));
    let line = first(&address, "/api/streams/pipeline");
    assert_eq!(
        line["line"]["scored"]["ahead"][1]["forecasts"].as_f64(),
        metrics.metric("tidecast_scored_forecasts_total{steps_ahead=\"2\"}")
    );
    let page: Value = serde_json::from_str(&get(&address, "/api/pipeline").body).unwrap();
    assert_eq!((&page["scored"]["every"], &page["scored"]["ahead"][1]), (&10.into(), &2.into()));
    assert_eq!(
        (&page["forecasts"], &page["scored"]["to"]),
        (&topics.forecasts.as_str().into(), &scores.as_str().into())
    );
    run.signal("TERM");
    run.finish().succeeds();
}

#[test]
fn what_is_served_to_this_machine_is_for_nobody_else() {
    let place = Place::new(&format!("{}{SERVE}", between(&Topics::new(1))));
    let mut run = place.start(RUN);
    let address = served(&mut run);
    let page = get(&address, "/");
    assert!(
        page.head.contains("content-security-policy: default-src 'none'; script-src 'self'"),
        "{}",
        page.head
    );
    assert!(!page.head.contains("access-control") && page.body.contains("<title>TideCast</title>"));
    assert_eq!(get(&address, "/assets/app.js").status(), "200");
    assert_eq!(get(&address, "/assets/app.rs").status(), "404");
    for path in ["/", "/metrics", "/api/streams/overview"] {
        assert_eq!(get_as(&address, path, "rebound.example:8080").status(), "403", "{path}");
    }

    // The address is taken now.
    place.change("127.0.0.1:0", &address);
    place.run(RUN).fails(&[address.as_str(), "[serve]"]);
    run.signal("TERM");
    run.finish().succeeds();
}

#[test]
fn events_for_a_collector_are_an_object_each() {
    let (topics, rows) = (Topics::new(1), readings(&["a"], 0..20));
    topics.send(&rows);
    broker::produce(&topics.readings, None, [("a", "three")]);
    let place = Place::new(&format!("{}{STATE}", between(&topics)));
    let outcome = place.run(&format!("{RUN} --until-end --log-format json -vv")).succeeds();
    let events: Vec<Value> = outcome
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect();
    let told = |message: &str| {
        let is_it = |event: &&Value| event["message"].as_str().is_some_and(|text| text.contains(message));
        events.iter().find(is_it).unwrap_or_else(|| panic!("`{message}` is not in {}", outcome.stderr))
    };
    let assigned = told("partition assigned");
    assert_eq!((&assigned["topic"], &assigned["partition"]), (&topics.readings.as_str().into(), &0.into()));
    let refused = told("malformed");
    assert_eq!((&refused["partition"], &refused["offset"]), (&0.into(), &20.into()));
    assert_eq!(told("of them warm")["rows"], 21);

    let missing = place.run("run q.toml --log-format json").exits(1);
    let event: Value = serde_json::from_str(missing.stderr.lines().next().unwrap()).unwrap();
    assert_eq!(event["level"], "ERROR");
}

/// What is posted next to a collector of traces.
#[cfg(feature = "traces")]
fn posted(listener: &std::net::TcpListener) -> Vec<u8> {
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut line, mut length, mut first) = (String::new(), 0, String::new());
    while reader.read_line(&mut line).unwrap() > 2 {
        let lower = line.to_lowercase();
        if let Some(value) = lower.strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
        if first.is_empty() {
            first.clone_from(&line);
        }
        line.clear();
    }
    assert!(first.starts_with("POST /v1/traces "), "{first}");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    body
}

#[cfg(feature = "traces")]
#[test]
fn batches_and_commits_are_traced_where_a_collector_is_named() {
    let topics = Topics::new(1);
    topics.send(&readings(&["a"], 0..20));
    let place = Place::new(&between(&topics));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let run = Running::start_with(
        &place.path(""),
        &format!("{RUN} --until-end"),
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", &address)],
    );
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || while tell.send(posted(&listener)).is_ok() {});
    let (names, mut bodies) = (["batch", "commit", "tidecast", topics.readings.as_str()], String::new());
    // The names stand in the messages as they are.
    while !names.iter().all(|name| bodies.contains(name)) {
        let body =
            told.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{names:?} are not all in {bodies}"));
        bodies += &String::from_utf8_lossy(&body);
    }
    run.finish().succeeds();
}
