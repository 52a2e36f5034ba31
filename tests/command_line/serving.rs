//! The HTTP interface of a running pipeline: metrics, readiness, event streams; and its logs and traces. It changes no forecast.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::shutdown::STATE;
use super::*;

pub const RUN: &str = "run p.toml --to -";
pub const SERVE: &str = "[serve]\naddress = \"127.0.0.1:0\"\n";

/// Longer than any wait here takes on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);

pub struct Response {
    head: String,
    pub body: String,
}

impl Response {
    pub fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// The value of a metric; `name` includes its labels.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let line = self.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map(|value| value.parse().unwrap())
    }

    /// The sum of a metric over all label sets.
    pub fn sum(&self, name: &str) -> f64 {
        let lines = self.body.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }
}

fn request(address: &str, path: &str, host: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    BufReader::new(stream)
}

fn get_with_host(address: &str, path: &str, host: &str) -> Response {
    let mut text = String::new();
    request(address, path, host).read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    Response { head: head.to_owned(), body: body.to_owned() }
}

fn get(address: &str, path: &str) -> Response {
    get_with_host(address, path, address)
}

/// The first message of an event stream.
fn first_message(address: &str, path: &str) -> Value {
    find_message(address, path, |_| true)
}

/// The first message of an event stream that satisfies a predicate.
fn find_message(address: &str, path: &str, is_match: impl Fn(&Value) -> bool) -> Value {
    let started = Instant::now();
    let message = request(address, path, address).lines().find_map(|line| {
        let line = line.expect("the stream continues");
        let message = serde_json::from_str(line.strip_prefix("data: ")?).unwrap();
        assert!(started.elapsed() < TIMEOUT, "{path} still sends {message}");
        is_match(&message).then_some(message)
    });
    message.expect("the stream sends messages")
}

/// Requests a path until the response satisfies a predicate.
#[track_caller]
pub fn get_until(address: &str, path: &str, is_match: impl Fn(&Response) -> bool) -> Response {
    let started = Instant::now();
    loop {
        let response = get(address, path);
        if is_match(&response) {
            return response;
        }
        assert!(started.elapsed() < TIMEOUT, "{path} still returns\n{}\n\n{}", response.head, response.body);
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The TideCast metrics in the queries of the Grafana dashboard and in the Prometheus rules.
fn queried_metrics() -> BTreeSet<String> {
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
    let is_name_char = |c: char| c.is_ascii_alphanumeric() || c == '_';
    // Descriptions of the rules name metrics, too.
    queries.extend(include_str!("../../deploy/alerts.yml").lines().map(str::to_owned));
    let words = queries.iter().flat_map(|query| query.split(|c| !is_name_char(c)));
    let names: BTreeSet<String> =
        words.filter(|word| word.starts_with("tidecast_")).map(str::to_owned).collect();
    assert!(names.len() > 20, "{names:?}");
    names
}

/// A metric as documented or exposed. Labels are sorted.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Metric {
    name: String,
    kind: String,
    labels: Vec<String>,
}

fn documented_metrics() -> BTreeSet<Metric> {
    let rows = include_str!("../../docs/metrics.md").lines().filter(|line| line.starts_with("| `"));
    let metric = |row: &str| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let names = |cell: &str| {
            let mut names: Vec<String> = cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            names.sort();
            names
        };
        Metric { name: names(cells[1]).remove(0), kind: cells[2].to_owned(), labels: names(cells[3]) }
    };
    rows.map(metric).collect()
}

fn exposed_metrics(metrics: &Response) -> BTreeSet<Metric> {
    let kinds = metrics.body.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let metric = |(name, kind): (&str, &str)| {
        let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        let sample = if kind == "histogram" { format!("{name}_count") } else { name.clone() };
        let rest = metrics
            .body
            .lines()
            .find_map(|line| line.strip_prefix(&*sample).filter(|rest| rest.starts_with(['{', ' '])));
        let rest = rest.unwrap_or_else(|| panic!("no {sample} in\n{}", metrics.body));
        let label_text =
            rest.strip_prefix('{').and_then(|rest| rest.rsplit_once('}')).map_or("", |(labels, _)| labels);
        // Every second part between quotes is a value.
        let labels = label_text.split('"').step_by(2).map(|part| part.trim_matches([',', '=']).to_owned());
        let mut labels: Vec<String> = labels.filter(|label| !label.is_empty()).collect();
        labels.sort();
        Metric { name, kind: kind.to_owned(), labels }
    };
    kinds.map(metric).collect()
}

/// Asserts that docs/metrics.md lists exactly the exposed metrics, and that Grafana and the rules query only those.
#[track_caller]
fn assert_docs_and_queries_match(metrics: &Response) {
    assert_eq!(exposed_metrics(metrics), documented_metrics(), "docs/metrics.md lists all metrics");
    for name in queried_metrics() {
        let is_sample =
            |line: &str| line.strip_prefix(&*name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        assert!(
            metrics.body.lines().any(is_sample) || metrics.body.contains(&format!("# TYPE {name} ")),
            "Grafana or a rule queries {name}, which is not in\n{}",
            metrics.body
        );
    }
}

/// The address of the dashboard, from the output of the run.
pub fn dashboard_address(run: &mut Running) -> String {
    run.wait_for("dashboard: http://");
    let output = run.stderr_so_far();
    let start = output.find("dashboard: http://").expect("the text was printed") + "dashboard: http://".len();
    output[start..].split_whitespace().next().expect("an address").to_owned()
}

#[test]
fn metrics_and_streams_match_the_input_and_leave_forecasts_unchanged() {
    let (topics, rows) = (Topics::new(2), readings(&["a", "<b>"], 0..40));
    let workspace = Workspace::new(&format!("{}{STATE}{SERVE}", between(&topics)));
    let mut run = workspace.start(RUN);
    let address = dashboard_address(&mut run);
    assert_eq!(get(&address, "/healthz").body, "ok\n");
    get_until(&address, "/readyz", |response| response.status() == "200");

    topics.send(&rows);
    broker::produce(&topics.readings, None, [("a", "three")]);
    let expected = expected(&Case::default(), &rows, OnEndOfInput::LeaveOpen);
    let forecasts: usize = expected.values().map(Vec::len).sum();
    let done =
        |response: &Response| response.metric("tidecast_end_to_end_latency_seconds_count") == Some(81.0);
    let metrics = get_until(&address, "/metrics", done);
    assert!(metrics.body.ends_with("# EOF\n") && metrics.head.contains("openmetrics"), "{}", metrics.head);
    for (name, value) in [
        ("tidecast_rows_total", 81.0),
        ("tidecast_forecasts_total", forecasts as f64),
        ("tidecast_rows_refused_total{reason=\"malformed\"}", 1.0),
        ("tidecast_rows_refused_total{reason=\"late\"}", 0.0),
        ("tidecast_series", 2.0),
        ("tidecast_partitions_assigned", 2.0),
        ("tidecast_partition_assignments_total", 2.0),
        ("tidecast_dashboard_dropped_updates_total", 0.0),
    ] {
        assert_eq!(metrics.metric(name), Some(value), "{name} in\n{}", metrics.body);
    }
    assert_eq!(metrics.sum("tidecast_partition_position"), 81.0);
    assert!(metrics.metric("tidecast_commit_duration_seconds_count") >= Some(1.0));
    get_until(&address, "/metrics", |response| response.sum("tidecast_partition_committed_position") == 81.0);
    let metrics = get_until(&address, "/metrics", |response| response.sum("tidecast_dashboard_mase") > 0.0);
    assert!(!metrics.body.contains("<b>"), "no label is a series");

    let page = first_message(&address, "/api/streams/overview?search=B&limit=10");
    assert_eq!((&page["matched"], &page["rows"][0]["id"]), (&1.into(), &"<b>".into()));
    let last = rows.last().unwrap().targets[0];
    assert_eq!(page["rows"][0]["value"], last);
    let series = first_message(&address, "/api/streams/series?id=%3Cb%3E&target=value");
    assert_eq!(series["steps"]["values"].as_array().unwrap()[39].as_f64().unwrap() as f32, last as f32);
    let message = first_message(&address, "/api/streams/pipeline");
    assert_eq!(message["status"]["refused"][0]["samples"][0]["value"], "three");
    let page: Value = serde_json::from_str(&get(&address, "/api/pipeline").body).unwrap();
    assert_eq!(
        (&page["forecast_output"], &page["rejects_output"]),
        (&"standard output".into(), &Value::Null)
    );

    run.signal("TERM");
    assert_eq!(by_series(run.finish().succeeds().stdout.lines()), expected);
}

/// Totals of the rows of one horizon in a scores topic.
#[derive(Debug, Default)]
struct ScoreTotals {
    forecasts: f64,
    covered: f64,
    periods: f64,
    periods_with_mase: f64,
    drifting_periods: f64,
}

fn score_totals(topic: &str, horizon: i64) -> ScoreTotals {
    let mut totals = ScoreTotals::default();
    for message in broker::read_all(topic) {
        let value: Value = serde_json::from_str(message.value.as_deref().expect("a value")).expect("JSON");
        if value["horizon"] == horizon {
            let one_if = |holds: bool| f64::from(u8::from(holds));
            let forecasts = value["forecasts"].as_f64().unwrap();
            totals.forecasts += forecasts;
            totals.covered += (forecasts * value["coverage_80"].as_f64().unwrap()).round();
            totals.periods += 1.0;
            totals.periods_with_mase += one_if(!value["mase"].is_null());
            totals.drifting_periods += one_if(value["drift"] == true);
        }
    }
    totals
}

#[test]
fn stream_scores_are_counted_and_streamed() {
    let (topics, scores) = (Topics::new(1), Topics::new(1).forecasts);
    let tables = format!("[scores]\nhorizons = [1, 2]\nevery = 10\n[sink.scores]\ntopic = \"{scores}\"\n");
    let workspace = Workspace::new(&format!("{}{tables}{SERVE}", between(&topics)));
    let mut run = workspace.start("run p.toml");
    let address = dashboard_address(&mut run);
    topics.send(&readings(&["a", "b"], 0..60));
    // End offsets are known after the first statistics of the client.
    let done = |response: &Response| {
        response.metric("tidecast_end_to_end_latency_seconds_count") == Some(120.0)
            && response.sum("tidecast_dashboard_mase") > 0.0
            && response.body.contains("\ntidecast_partition_lag_rows{")
            && response.body.contains("\ntidecast_partition_committed_position{")
    };
    let metrics = get_until(&address, "/metrics", done);
    for horizon in [1, 2] {
        let totals = score_totals(&scores, horizon);
        assert!(
            totals.forecasts > 80.0 && totals.covered > 40.0 && totals.periods_with_mase >= 8.0,
            "{totals:?}"
        );
        if horizon == 1 {
            // Counted per series and period, not per horizon.
            let names = ["tidecast_scored_periods_total", "tidecast_scored_drifting_periods_total"];
            let expected = [Some(totals.periods), Some(totals.drifting_periods)];
            assert_eq!(names.map(|name| metrics.metric(name)), expected, "{}", metrics.body);
        }
        for (name, labels, value) in [
            ("tidecast_scored_forecasts_total", "", totals.forecasts),
            ("tidecast_scored_covered_forecasts_total", ",level=\"80\"", totals.covered),
            ("tidecast_scored_mase_count", "", totals.periods_with_mase),
        ] {
            let name = format!("{name}{{horizon=\"{horizon}\"{labels}}}");
            assert_eq!(metrics.metric(&name), Some(value), "{name} in\n{}", metrics.body);
        }
        let sum = metrics.metric(&format!("tidecast_scored_mase_sum{{horizon=\"{horizon}\"}}"));
        assert!(sum > Some(0.0));
    }
    let bucket = "\ntidecast_scored_mase_bucket{le=\"1.0\",horizon=\"1\"} ";
    assert!(metrics.body.contains(bucket), "{}", metrics.body);
    assert_docs_and_queries_match(&metrics);

    let is_last = |message: &Value| message["series"]["periods"][1]["until_ms"] == 500_000.0;
    let series = find_message(&address, "/api/streams/series?id=a&target=value", is_last);
    let [one, two] = [0, 1].map(|index| &series["series"]["periods"][index]);
    assert_eq!((&one["horizon"], &two["horizon"]), (&1.into(), &2.into()));
    assert_eq!((&one["from_ms"], &one["forecasts"]), (&400_000.0.into(), &10.into()));
    let message = first_message(&address, "/api/streams/pipeline");
    assert_eq!(
        message["status"]["scores"]["horizons"][1]["forecasts"].as_f64(),
        metrics.metric("tidecast_scored_forecasts_total{horizon=\"2\"}")
    );
    let page: Value = serde_json::from_str(&get(&address, "/api/pipeline").body).unwrap();
    assert_eq!((&page["scoring"]["period_steps"], &page["scoring"]["horizons"][1]), (&10.into(), &2.into()));
    assert_eq!(
        (&page["forecast_output"], &page["scoring"]["output"]),
        (&topics.forecasts.as_str().into(), &scores.as_str().into())
    );
    run.signal("TERM");
    run.finish().succeeds();
}

#[test]
fn a_loopback_server_rejects_foreign_hosts() {
    let workspace = Workspace::new(&format!("{}{SERVE}", between(&Topics::new(1))));
    let mut run = workspace.start(RUN);
    let address = dashboard_address(&mut run);
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
        assert_eq!(get_with_host(&address, path, "rebound.example:8080").status(), "403", "{path}");
    }

    // A second server cannot bind the address.
    workspace.change("127.0.0.1:0", &address);
    workspace.run(RUN).fails(&[address.as_str(), "[serve]"]);
    run.signal("TERM");
    run.finish().succeeds();
}

#[test]
fn json_logs_are_one_object_per_line() {
    let (topics, rows) = (Topics::new(1), readings(&["a"], 0..20));
    topics.send(&rows);
    broker::produce(&topics.readings, None, [("a", "three")]);
    let workspace = Workspace::new(&format!("{}{STATE}", between(&topics)));
    let outcome = workspace.run(&format!("{RUN} --until-end --log-format json -vv")).succeeds();
    let events: Vec<Value> = outcome
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect();
    let find = |message: &str| {
        let is_match = |event: &&Value| event["message"].as_str().is_some_and(|text| text.contains(message));
        events.iter().find(is_match).unwrap_or_else(|| panic!("`{message}` is not in {}", outcome.stderr))
    };
    let assigned = find("partition assigned");
    assert_eq!((&assigned["topic"], &assigned["partition"]), (&topics.readings.as_str().into(), &0.into()));
    let refused = find("malformed");
    assert_eq!((&refused["partition"], &refused["offset"]), (&0.into(), &20.into()));
    assert_eq!(find("of them warm")["rows"], 21);

    let missing = workspace.run("run q.toml --log-format json").exits(1);
    let event: Value = serde_json::from_str(missing.stderr.lines().next().unwrap()).unwrap();
    assert_eq!(event["level"], "ERROR");
}

/// The body of the next request to a trace collector.
#[cfg(feature = "traces")]
fn receive_post(listener: &std::net::TcpListener) -> Vec<u8> {
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
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
fn batches_and_commits_are_traced_to_a_collector() {
    let topics = Topics::new(1);
    topics.send(&readings(&["a"], 0..20));
    let workspace = Workspace::new(&between(&topics));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let run = Running::start_with(
        &workspace.path(""),
        &format!("{RUN} --until-end"),
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", &address)],
    );
    let (sender, posts) = std::sync::mpsc::channel();
    std::thread::spawn(move || while sender.send(receive_post(&listener)).is_ok() {});
    let (names, mut bodies) = (["batch", "commit", "tidecast", topics.readings.as_str()], String::new());
    // The binary messages contain names verbatim.
    while !names.iter().all(|name| bodies.contains(name)) {
        let body =
            posts.recv_timeout(TIMEOUT).unwrap_or_else(|_| panic!("{names:?} are not all in {bodies}"));
        bodies += &String::from_utf8_lossy(&body);
    }
    run.finish().succeeds();
}
