//! Latency from the append of a row to its committed forecast.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::Message;
use rdkafka::producer::Producer;

use crate::common::rows::ids;
use crate::environment::Environment;

/// Time before the measurement, in which series warm up and connections are made.
const WARMUP: Duration = Duration::from_secs(5);
/// Rows are sent in this many bursts per second.
const BURSTS: usize = 100;

/// Milliseconds of each forecast at `load` rows per second, measured for some seconds.
pub fn measure(environment: &Environment, load: usize, seconds: usize) -> Vec<i64> {
    let (topic, run) = environment.new_output_topic();
    let mut program = environment.start_program(&topic, run, "");
    let reader = environment.reader(&topic);
    let begin = Instant::now();
    let end = begin + WARMUP + Duration::from_secs(seconds as u64);
    let mut millis = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (producer, ids) = (environment.producer(), ids(1000));
            let mut row = 0;
            while Instant::now() < end {
                let due = begin + Duration::from_secs_f64(row as f64 / load as f64);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                for _ in 0..load / BURSTS {
                    environment.send(&producer, &ids, row);
                    row += 1;
                }
                producer.poll(Duration::ZERO);
            }
            producer.flush(Duration::from_secs(30)).expect("messages are delivered");
        });
        while Instant::now() < end {
            let Some(Ok(message)) = reader.poll(Duration::from_millis(5)) else { continue };
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
            if begin.elapsed() > WARMUP {
                millis.push(now - message.timestamp().to_millis().expect("the time of the row"));
            }
        }
    });
    program.kill().expect("the program runs");
    program.wait().expect("the process is a child of this one");
    assert!(!millis.is_empty(), "there are forecasts");
    millis
}
