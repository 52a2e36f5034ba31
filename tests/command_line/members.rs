//! What comes and goes under a running pipeline: partitions, and the process itself.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;

use super::*;

const RUN: &str = "-v run p.toml --to -";

#[test]
fn a_topic_may_grow_while_it_is_read() {
    let Some(address) = broker::real() else { return };
    let topics = Topics::new(1);
    let workspace = Workspace::new(&between(&topics));
    workspace.change(
        "\"heartbeat.interval.ms\"",
        "\"topic.metadata.refresh.interval.ms\" = \"500\", \"heartbeat.interval.ms\"",
    );
    workspace.change("[sink.kafka]", "start = \"latest\"\n[sink.kafka]");
    let mut run = workspace.start(RUN);
    run.wait_for("partition assigned");
    topics.send(&readings(&["a", "b"], 0..6));
    run.read_lines(6);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", address).create().unwrap();
    let more = NewPartitions::new(&topics.readings, 2);
    runtime.block_on(admin.create_partitions([&more], &AdminOptions::new())).unwrap();
    // It is there before the run has heard of it: nothing of it is passed over.
    let messages: Vec<String> = readings(&["c"], 0..6).iter().map(message).collect();
    broker::produce(&topics.readings, Some(1), messages.iter().map(|message| ("c", message.as_str())));
    run.read_lines(3);
    run.signal("TERM");
    run.finish().succeeds().says(&["the topic has more partitions than at the start", "9 forecasts"]);
    workspace.run(RUN).fails(&["partitions of the topic was 1, is 2", "state.on_change = \"cold\""]);
}

#[test]
fn a_static_member_that_is_back_at_once_is_not_missed() {
    let Some(_) = broker::real() else { return };
    let topics = Topics::new(2);
    let workspace = Workspace::new(&between(&topics));
    workspace.change("[sink.kafka]", "instance = \"one\"\nstatic_member = true\n[sink.kafka]");
    topics.send(&readings(&["a", "b"], 0..6));
    let mut run = workspace.start(RUN);
    run.read_lines(6);
    run.signal("KILL");
    run.finish();
    topics.send(&readings(&["a", "b"], 6..8));
    let back = Instant::now();
    let mut run = workspace.start(RUN);
    run.read_lines(4);
    // Else the group would wait for the session of the one that was killed, 6 s.
    assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
    run.signal("TERM");
    run.finish().succeeds();
}
