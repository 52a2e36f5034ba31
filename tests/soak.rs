//! Faults on a group of instances with continuous input. After every fault, a reader of committed records sees what an
//! undisturbed forecaster makes of the same rows: nothing lost, nothing duplicated, every byte equal.
//!
//! `TIDECAST_SOAK=N cargo test --release soak -- --nocapture --test-threads 1` runs N rounds per fault; by default
//! there are few.

mod deployment;
mod proxy;
mod report;

use std::fs;
use std::time::{Duration, Instant};

use crate::broker::{self, server};
use crate::command_line::program::count;
use deployment::{Deployment, corrupt_snapshots};
use proxy::Proxy;
use report::{Round, report};

/// Number of rounds per fault.
fn rounds(default: usize) -> usize {
    std::env::var("TIDECAST_SOAK").ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Three instances on the broker of all tests.
fn three_instances() -> Option<Deployment> {
    let address = broker::real()?;
    let mut deployment = Deployment::new(address, address, 1, "exactly_once");
    ["one", "two", "three"].iter().for_each(|name| deployment.start(name));
    Some(deployment)
}

/// Runs rounds of a fault. `inject` returns whether the fault hit an open transaction.
fn soak(
    fault: &str,
    mut deployment: Deployment,
    default_rounds: usize,
    mut inject: impl FnMut(&mut Deployment) -> bool,
) {
    let mut completed: Vec<Round> = Vec::new();
    for _ in 0..rounds(default_rounds) {
        deployment.start_round();
        let hit_transaction = inject(&mut deployment);
        deployment.wait_for_progress();
        completed.push(deployment.finish_round(hit_transaction));
    }
    report(fault, &completed);
    deployment.stop();
}

#[test]
fn soak_killed_instance() {
    let Some(deployment) = three_instances() else { return };
    soak("kill -9 of an instance", deployment, 3, |deployment| {
        let name = deployment.random_member();
        let hit_transaction = deployment.kill(&name);
        // Sometimes it restarts before the others have noticed.
        if deployment.random(2) == 0 {
            deployment.wait_for_progress();
        }
        deployment.start(&name);
        hit_transaction
    });
}

#[test]
fn soak_members_join_and_leave() {
    let Some(deployment) = three_instances() else { return };
    let mut max_stall = Duration::ZERO;
    soak("members joining and leaving", deployment, 1, |deployment| {
        let mut hit_transaction = false;
        for turn in 0..4 {
            hit_transaction |= deployment.is_in_transaction();
            if turn % 2 == 0 {
                deployment.start("four");
            } else if let Some(member) = deployment.members.remove("four") {
                member.signal("TERM");
                member.finish();
            }
            max_stall = max_stall.max(deployment.max_stall_within(Duration::from_secs(2)));
        }
        hit_transaction
    });
    eprintln!("{}", serde_json::json!({ "max_partition_stall_ms": max_stall.as_millis() as u64 }));
}

/// Damage to the folder of snapshots.
#[derive(Clone, Copy)]
enum StoreFault {
    Corrupted,
    Deleted,
    /// Replaced by a file, so that nothing can be written.
    Unwritable,
}

#[test]
fn soak_failing_state_store() {
    let Some(deployment) = three_instances() else { return };
    let mut turn = 0;
    soak(
        "the state store corrupted, deleted or unwritable, and kill -9 of an instance",
        deployment,
        3,
        |deployment| {
            let folder = deployment.workspace.path("state");
            let fault = [StoreFault::Corrupted, StoreFault::Deleted, StoreFault::Unwritable][turn % 3];
            turn += 1;
            let inject = |fault| match fault {
                StoreFault::Corrupted => corrupt_snapshots(&folder),
                StoreFault::Deleted => fs::remove_dir_all(&folder),
                StoreFault::Unwritable => {
                    fs::remove_dir_all(&folder).and_then(|()| fs::write(&folder, "a file"))
                }
            };
            // Fails if a snapshot is renamed at the same moment.
            while inject(fault).is_err() {}
            let name = deployment.random_member();
            let hit_transaction = deployment.kill(&name);
            if let StoreFault::Unwritable = fault {
                deployment.max_stall_within(Duration::from_secs(3));
                fs::remove_file(&folder).expect("the file is removed");
            }
            deployment.start(&name);
            hit_transaction
        },
    );
}

#[test]
fn soak_zombie_instance() {
    let Some(deployment) = three_instances() else { return };
    soak("an instance suspended beyond its session timeout", deployment, 1, |deployment| {
        let name = deployment.random_member();
        let hit_transaction = deployment.is_in_transaction();
        deployment.members[&name].signal("STOP");
        // The others take over once its session has timed out.
        deployment.wait_for_progress();
        let log_length = deployment.log(&name).len();
        deployment.members[&name].signal("CONT");
        let deadline = Instant::now() + Duration::from_secs(60);
        while !deployment.log(&name)[log_length..].contains("partition assigned") {
            assert!(Instant::now() < deadline, "it has not rejoined: {}", deployment.log(&name));
            std::thread::sleep(Duration::from_millis(50));
        }
        hit_transaction
    });
}

#[test]
fn soak_killed_broker() {
    let Some(_) = broker::real() else { return };
    let mut node = server::cluster(1, None).expect("a broker").pop().expect("one node");
    let address = node.address.clone();
    let mut deployment = Deployment::new(&address, &address, 1, "exactly_once");
    ["one", "two"].iter().for_each(|name| deployment.start(name));
    soak("kill -9 of the broker", deployment, 1, |deployment| {
        let hit_transaction = deployment.is_in_transaction();
        node.kill();
        std::thread::sleep(Duration::from_millis(deployment.random(2000)));
        node.start().expect("it starts again");
        node.wait();
        hit_transaction
    });
}

#[test]
fn soak_cluster_loses_a_broker() {
    let Some(_) = broker::real() else { return };
    let mut nodes = server::cluster(3, None).expect("brokers");
    let addresses: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
    let addresses = addresses.join(",");
    let mut deployment = Deployment::new(&addresses, &addresses, 3, "exactly_once");
    ["one", "two"].iter().for_each(|name| deployment.start(name));
    soak("a cluster of three loses a broker", deployment, 1, |deployment| {
        let hit_transaction = deployment.is_in_transaction();
        let lost = deployment.random(3) as usize;
        nodes[lost].kill();
        deployment.wait_for_progress();
        nodes[lost].start().expect("it starts again");
        nodes[lost].wait();
        hit_transaction
    });
}

#[test]
fn soak_disturbed_connection() {
    let Some(_) = broker::real() else { return };
    let proxy = Proxy::start();
    let (node, proxied_port) = server::node_behind_proxy(proxy.port()).expect("a broker");
    proxy.set_target(proxied_port);
    let proxy_address = format!("127.0.0.1:{}", proxy.port());
    let mut deployment = Deployment::new(&node.address, &proxy_address, 1, "exactly_once");
    ["one", "two"].iter().for_each(|name| deployment.start(name));
    let mut turn = 0;
    soak("a connection closed, stalled or throttled", deployment, 3, |deployment| {
        let hit_transaction = deployment.is_in_transaction();
        match turn % 3 {
            0 => proxy.close_connections(),
            1 => proxy.stall(Duration::from_millis(500 + deployment.random(12_000))),
            _ => proxy.throttle(Duration::from_secs(4)),
        }
        turn += 1;
        hit_transaction
    });
}

#[test]
fn soak_damaged_messages() {
    let Some(mut deployment) = three_instances() else { return };
    deployment.damaged_one_in = Some(100);
    soak("one message in a hundred damaged, and kill -9 of an instance", deployment, 2, |deployment| {
        let name = deployment.random_member();
        let hit_transaction = deployment.kill(&name);
        deployment.start(&name);
        hit_transaction
    });
}

/// Measures the cost of exactly once: the same backlog, processed with both guarantees in turn.
#[test]
fn soak_throughput_of_both_guarantees() {
    let Some(address) = broker::real() else { return };
    let rows = if std::env::var("TIDECAST_SOAK").is_ok() { 400_000 } else { 20_000 };
    let mut rates: [Vec<usize>; 2] = Default::default();
    let deployments =
        ["exactly_once", "at_least_once"].map(|delivery| Deployment::new(address, address, 1, delivery));
    for deployment in &deployments {
        deployment.produce_backlog(rows);
        deployment.workspace.change("commit = { every = \"20ms\", rows = 500 }", "");
    }
    for turn in 0..3 {
        for (deployment, rates) in deployments.iter().zip(&mut rates) {
            let outcome = deployment.process_backlog(turn);
            assert_eq!(count(&outcome.stderr, "rows") as i64, rows);
            rates.push(count(&outcome.stderr, "rows/s"));
        }
    }
    rates.iter_mut().for_each(|rates| rates.sort_unstable());
    let [exactly_once, at_least_once] = [rates[0][1], rates[1][1]];
    let line = serde_json::json!({
        "rows": rows,
        "exactly_once_rows_s": exactly_once,
        "at_least_once_rows_s": at_least_once,
        "ratio": exactly_once as f64 / at_least_once as f64,
    });
    eprintln!("{line}");
    assert!(exactly_once > 0 && at_least_once > 0);
}
