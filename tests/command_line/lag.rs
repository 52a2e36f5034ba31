//! The reported lag of a pipeline.

use super::serving::{RUN, SERVE, dashboard_address, get_until};
use super::*;
use crate::broker::TransactionEnd;

/// Polls until the pipeline is ready.
fn wait_until_ready(address: &str) {
    get_until(address, "/readyz", |answer| answer.status() == "200");
}

#[test]
fn a_lagging_pipeline_is_not_ready_and_reports_its_lag_while_paused() {
    let topics = Topics::new(1);
    topics.send(&readings(&["a", "b"], 0..3000));
    let limits = "[limits]\nqueue_rows = 1000\n";
    let workspace = Workspace::new(&format!("{}{limits}{SERVE}ready_lag = 10\n", between(&topics)));
    // The run blocks as soon as the pipe of its standard output is full.
    let mut run = workspace.start(RUN);
    let address = dashboard_address(&mut run);
    let answer = get_until(&address, "/readyz", |answer| answer.body.contains("rows behind"));
    assert_eq!(answer.status(), "503");
    // The lag includes rows that a paused consumer does not fetch.
    let before = get_until(&address, "/metrics", |answer| answer.sum("tidecast_partition_lag_rows") > 0.0);
    topics.send(&readings(&["a", "b"], 3000..6000));
    let after =
        before.sum("tidecast_partition_lag_rows") + before.sum("tidecast_partition_position") + 6000.0;
    get_until(&address, "/metrics", |answer| {
        answer.sum("tidecast_partition_lag_rows") + answer.sum("tidecast_partition_position") == after
    });
    let expected = expected(&Case::default(), &readings(&["a", "b"], 0..6000), OnEndOfInput::LeaveOpen);
    run.read_lines(expected.values().map(Vec::len).sum());
    wait_until_ready(&address);
    run.signal("TERM");
    run.finish().succeeds();
}

#[test]
fn unreadable_records_are_not_lag() {
    let Some(_) = broker::real() else { return };
    let (topics, row) = (Topics::new(2), |value: f64| message(&super::row("a", 10, value)));
    // An aborted record ends the topic, after a committed transaction.
    broker::produce_in_transactions(
        &topics.readings,
        "a",
        [(row(1.0), TransactionEnd::Commit), (row(2.0), TransactionEnd::Abort)],
    );
    let workspace = Workspace::new(&format!("{}{SERVE}ready_lag = 0\n", between(&topics)));
    let mut run = workspace.start(RUN);
    let address = dashboard_address(&mut run);
    wait_until_ready(&address);
    get_until(&address, "/metrics", |answer| answer.sum("tidecast_partition_position") == 1.0);
    wait_until_ready(&address);
    run.signal("TERM");
    run.finish().succeeds();

    // Records before a start at the end are not read.
    let topics = Topics::new(2);
    topics.send(&readings(&["a", "b"], 0..30));
    let latest = between(&topics).replace("group =", "start = \"latest\"\ngroup =");
    let workspace = Workspace::new(&format!("{latest}{SERVE}ready_lag = 0\n"));
    let mut run = workspace.start(RUN);
    let address = dashboard_address(&mut run);
    wait_until_ready(&address);
    run.signal("TERM");
    run.finish().succeeds();
}
