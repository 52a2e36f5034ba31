//! Throughput from Kafka to Kafka on a real broker on this machine, and the latency from the append of a row to its committed
//! forecast at a fixed load. A line of JSON each. Throughput is compared with a reference client without a model, which reads and
//! writes the same number of messages of the same size with the same settings and transactions.
//!
//! `cargo bench --bench stream -- --rows 400000 --load 10000 --seconds 20 --hidden 64`, and the model options of `--bench push`.
//! Requires Java and Maven, like the tests.

#[path = "../common/mod.rs"]
mod common;
mod environment;
mod latency;
mod reference_client;
#[path = "../../tests/broker/server.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod server;

use common::model::ModelSize;
use common::options::Options;
use environment::{Environment, Timestamps};
use rdkafka::config::ClientConfig;
use serde_json::json;
use tidecast_stream::settings::Delivery;

/// Runs of each side, which take turns; the median counts.
const TURNS: usize = 3;

fn main() {
    let options = Options::from_args();
    let size = ModelSize::from_options(&options, ModelSize { hidden: 64, ..ModelSize::default() });
    let (rows, load) = (options.number("--rows", 400_000), options.number("--load", 10_000));
    let seconds = options.number("--seconds", 20);
    let address = match server::start() {
        Ok(address) => address,
        Err(error) => return eprintln!("skipped: no broker can be started here: {error}"),
    };
    for delivery in [Delivery::ExactlyOnce, Delivery::AtLeastOnce] {
        let environment = Environment::new(&address, size, delivery, Timestamps::AppendTime);
        environment.fill(rows);
        let [mut program, mut reference] = [Vec::new(), Vec::new()];
        for _ in 0..TURNS {
            program.push(environment.program_throughput(rows));
            reference.push(reference_client::throughput(&environment, rows));
        }
        let [program, reference] = [median(program), median(reference)];
        println!(
            "{}",
            json!({
                "bench": "stream",
                "delivery": environment::delivery_name(delivery),
                "cell": size.cell,
                "hidden": size.hidden,
                "rows": rows,
                "rows_per_second": program.round(),
                "reference_rows_per_second": reference.round(),
                "ratio": (program / reference * 1000.0).round() / 1000.0,
            })
        );
    }
    let environment = Environment::new(&address, size, Delivery::ExactlyOnce, Timestamps::CreateTime);
    let mut millis = latency::measure(&environment, load, seconds);
    millis.sort_unstable();
    let quantile = |p: f64| millis[((millis.len() - 1) as f64 * p) as usize];
    println!(
        "{}",
        json!({
            "bench": "latency",
            "delivery": "exactly_once",
            "commit_every_ms": 100,
            "rows_per_second": load,
            "seconds": seconds,
            "forecasts": millis.len(),
            "p50_ms": quantile(0.5),
            "p99_ms": quantile(0.99),
            "max_ms": quantile(1.0),
        })
    );
}

/// Client settings for a broker.
fn client(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address);
    config
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
