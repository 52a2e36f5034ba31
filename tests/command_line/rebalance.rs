//! New partitions and restarted members under a running pipeline.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;

use super::*;

const RUN: &str = "-v run p.toml --to -";

#[test]
fn partitions_added_to_the_topic_are_read() {
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
    // Sent before the run has discovered the partition.
    let messages: Vec<String> = readings(&["c"], 0..6).iter().map(message).collect();
    broker::produce(&topics.readings, Some(1), messages.iter().map(|message| ("c", message.as_str())));
    run.read_lines(3);
    run.signal("TERM");
    run.finish().succeeds().logs(&["the topic has more partitions than at the start", "9 forecasts"]);
    workspace.run(RUN).fails(&["partitions of the topic was 1, is 2", "state.on_change = \"cold\""]);
}

#[test]
fn a_restarted_static_member_gets_its_partitions_back_at_once() {
    let Some(_) = broker::real() else { return };
    let topics = Topics::new(2);
    let workspace = Workspace::new(&between(&topics));
    workspace.change("[sink.kafka]", "instance = \"one\"\nstatic_membership = true\n[sink.kafka]");
    topics.send(&readings(&["a", "b"], 0..6));
    let mut run = workspace.start(RUN);
    run.read_lines(6);
    run.signal("KILL");
    run.finish();
    topics.send(&readings(&["a", "b"], 6..8));
    let restarted = Instant::now();
    let mut run = workspace.start(RUN);
    run.read_lines(4);
    // Otherwise the group would wait 6 s for the session of the killed member.
    assert!(restarted.elapsed() < Duration::from_secs(5), "{:?}", restarted.elapsed());
    run.signal("TERM");
    run.finish().succeeds();
}
