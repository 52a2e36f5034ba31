//! From the append of a reading to a reader's sight of its committed forecast.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::Message;
use rdkafka::producer::Producer;

use crate::readings::ids;
use crate::world::World;

/// Steps at the beginning that are not counted: the series are cold, connections are made.
const WARM: Duration = Duration::from_secs(5);
/// Readings are sent in portions.
const PORTIONS: usize = 100;

/// Milliseconds of each forecast while `load` readings a second come in, for so many seconds.
pub fn at(world: &World, load: usize, seconds: usize) -> Vec<i64> {
    let (topic, run) = world.fresh();
    let mut program = world.start(&topic, run, "");
    let reader = world.reader(&topic);
    let begin = Instant::now();
    let end = begin + WARM + Duration::from_secs(seconds as u64);
    let mut millis = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (producer, ids) = (world.producer(), ids(1000));
            let mut row = 0;
            while Instant::now() < end {
                let due = begin + Duration::from_secs_f64(row as f64 / load as f64);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                for _ in 0..load / PORTIONS {
                    world.send(&producer, &ids, row);
                    row += 1;
                }
                producer.poll(Duration::ZERO);
            }
            producer.flush(Duration::from_secs(30)).expect("messages arrive");
        });
        while Instant::now() < end {
            let Some(Ok(message)) = reader.poll(Duration::from_millis(5)) else { continue };
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
            if begin.elapsed() > WARM {
                millis.push(now - message.timestamp().to_millis().expect("the reading's time"));
            }
        }
    });
    program.kill().expect("it runs");
    program.wait().expect("the child is ours");
    assert!(!millis.is_empty(), "forecasts came");
    millis
}
