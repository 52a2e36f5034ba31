//! From Kafka to Kafka, against a real broker on this machine: readings per second beside a plain client that reads as many
//! messages and writes as many of the same size in the same transactions, with the same settings and no model; and the
//! time from a reading's append to its committed forecast, at a fixed load. A line of JSON each.
//!
//! `cargo bench --bench stream -- --rows 400000 --load 10000 --seconds 20 --hidden 64` (and the sizes of `--bench push`).
//! It wants Java and Maven, as the tests do.

mod latency;
#[path = "../model.rs"]
mod model;
mod plain;
#[path = "../readings.rs"]
mod readings;
#[path = "../../tests/broker/server.rs"]
#[allow(dead_code, reason = "the tests do more to brokers")]
mod server;
#[path = "../words.rs"]
mod words;
mod world;

use serde_json::json;
use words::Words;
use world::{Topic, World};

const TURNS: usize = 3;

fn main() {
    let words = Words::new();
    let sizes = model::Sizes::of(&words, model::Sizes { hidden: 64, ..model::Sizes::default() });
    let (rows, load) = (words.number("--rows", 400_000), words.number("--load", 10_000));
    let seconds = words.number("--seconds", 20);
    let address = match server::start() {
        Ok(address) => address,
        Err(why) => return eprintln!("skipped: no broker can be started here: {why}"),
    };
    for delivery in ["exactly_once", "at_least_once"] {
        let world = World::new(&address, sizes, delivery, Topic::AppendTime);
        world.fill(rows);
        let mut rates: [Vec<f64>; 2] = Default::default();
        for _ in 0..TURNS {
            rates[0].push(world.ours(rows));
            rates[1].push(plain::rate(&world, rows, delivery == "exactly_once"));
        }
        rates.iter_mut().for_each(|rates| rates.sort_by(f64::total_cmp));
        let [ours, plain] = [rates[0][TURNS / 2], rates[1][TURNS / 2]];
        println!(
            "{}",
            json!({
                "bench": "stream",
                "delivery": delivery,
                "cell": sizes.cell,
                "hidden": sizes.hidden,
                "rows": rows,
                "readings_s": ours.round(),
                "plain_s": plain.round(),
                "ratio": (ours / plain * 1000.0).round() / 1000.0,
            })
        );
    }
    let world = World::new(&address, sizes, "exactly_once", Topic::CreateTime);
    let mut millis = latency::at(&world, load, seconds);
    millis.sort_unstable();
    let part = |part: f64| millis[((millis.len() - 1) as f64 * part) as usize];
    println!(
        "{}",
        json!({
            "bench": "latency",
            "delivery": "exactly_once",
            "commit_every_ms": 100,
            "readings_s": load,
            "seconds": seconds,
            "forecasts": millis.len(),
            "p50_ms": part(0.5),
            "p99_ms": part(0.99),
            "most_ms": part(1.0),
        })
    );
}
