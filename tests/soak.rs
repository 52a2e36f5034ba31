//! Faults, one after the other, on a group of instances that is fed without a pause. After every one of them, what a
//! reader of committed records sees is what a straight run over the same rows gives: nothing missing, nothing twice, every
//! byte equal.
//!
//! `TIDECAST_SOAK=N cargo test --release soak -- --nocapture --test-threads 1` does each N times; without it, a few.

mod cost;
mod damage;
mod proxy;
mod report;
mod world;

use std::fs;
use std::time::{Duration, Instant};

use crate::broker::{self, server};
use proxy::Proxy;
use report::{Round, report};
use world::World;

/// Rounds of a fault.
fn rounds(few: usize) -> usize {
    std::env::var("TIDECAST_SOAK").ok().and_then(|value| value.parse().ok()).unwrap_or(few)
}

/// Three instances on the broker that all tests share.
fn three() -> Option<World> {
    let address = broker::real()?;
    let mut world = World::new(address, address, 1, "exactly_once");
    ["one", "two", "three"].iter().for_each(|name| world.start(name));
    Some(world)
}

/// What one strike does: whether it fell within a transaction.
fn soak(fault: &str, mut world: World, few: usize, mut strike: impl FnMut(&mut World) -> bool) {
    let mut round = |world: &mut World| -> Round {
        world.begin();
        let within = u64::from(strike(world));
        world.wait_for_all_to_advance();
        world.end(1, within)
    };
    let rounds: Vec<Round> = (0..rounds(few)).map(|_| round(&mut world)).collect();
    report(fault, &rounds);
    world.stop();
}

#[test]
fn soak_kill_of_an_instance() {
    let Some(world) = three() else { return };
    soak("kill -9 of an instance", world, 3, |world| {
        let name = world.any();
        let within = world.kill(&name);
        // Sometimes it is back before the others have noticed.
        if world.random(2) == 0 {
            world.wait_for_all_to_advance();
        }
        world.start(&name);
        within
    });
}

#[test]
fn soak_members_come_and_go() {
    let Some(world) = three() else { return };
    let mut longest = Duration::ZERO;
    soak("members joining and leaving", world, 1, |world| {
        let mut within = false;
        for turn in 0..4 {
            within |= world.is_within();
            if turn % 2 == 0 {
                world.start("four");
            } else if let Some(member) = world.members.remove("four") {
                member.signal("TERM");
                member.finish();
            }
            longest = longest.max(world.longest_stall(Duration::from_secs(2)));
        }
        within
    });
    eprintln!("{}", serde_json::json!({ "longest_stall_of_a_partition_ms": longest.as_millis() as u64 }));
}

/// What happens to the folder of the snapshots.
#[derive(Clone, Copy)]
enum Harm {
    Corrupt,
    Delete,
    /// A file in its place: nothing can be written there.
    Unwritable,
}

#[test]
fn soak_the_state_store_fails() {
    let Some(world) = three() else { return };
    let mut turn = 0;
    soak("the state store corrupted, deleted or unwritable, and kill -9 of an instance", world, 3, |world| {
        let folder = world.place.path("state");
        let harm = [Harm::Corrupt, Harm::Delete, Harm::Unwritable][turn % 3];
        turn += 1;
        let harmed = |harm| match harm {
            Harm::Corrupt => world::corrupt(&folder),
            Harm::Delete => fs::remove_dir_all(&folder),
            Harm::Unwritable => fs::remove_dir_all(&folder).and_then(|()| fs::write(&folder, "in the way")),
        };
        // A snapshot may be renamed into place at this very moment.
        while harmed(harm).is_err() {}
        let name = world.any();
        let within = world.kill(&name);
        if let Harm::Unwritable = harm {
            world.longest_stall(Duration::from_secs(3));
            fs::remove_file(&folder).expect("it was in the way");
        }
        world.start(&name);
        within
    });
}

#[test]
fn soak_a_zombie_comes_back() {
    let Some(world) = three() else { return };
    soak("an instance stopped past its session and woken up", world, 1, |world| {
        let name = world.any();
        let within = world.is_within();
        world.members[&name].signal("STOP");
        // The others take over once its session has timed out.
        world.wait_for_all_to_advance();
        let before = world.members.get_mut(&name).expect("a member").said().len();
        world.members[&name].signal("CONT");
        let deadline = Instant::now() + Duration::from_secs(60);
        let has_rejoined = |world: &mut World| {
            world.members.get_mut(&name).expect("a member").said()[before..].contains("partition assigned")
        };
        while !has_rejoined(world) {
            assert!(
                Instant::now() < deadline,
                "it has not rejoined: {}",
                world.members.get_mut(&name).expect("a member").said()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        within
    });
}

#[test]
fn soak_the_broker_is_killed() {
    let Some(_) = broker::real() else { return };
    let (mut nodes, _) = server::cluster(&server::Wishes { nodes: 1, advertised: None }).expect("a broker");
    let address = nodes[0].address.clone();
    let mut world = World::new(&address, &address, 1, "exactly_once");
    ["one", "two"].iter().for_each(|name| world.start(name));
    soak("kill -9 of the broker", world, 1, |world| {
        let within = world.is_within();
        nodes[0].kill();
        std::thread::sleep(Duration::from_millis(world.random(2000)));
        nodes[0].start().expect("it starts again");
        nodes[0].wait();
        within
    });
}

#[test]
fn soak_a_cluster_loses_a_broker() {
    let Some(_) = broker::real() else { return };
    let (mut nodes, _) = server::cluster(&server::Wishes { nodes: 3, advertised: None }).expect("brokers");
    let addresses: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
    let all = addresses.join(",");
    let mut world = World::new(&all, &all, 3, "exactly_once");
    ["one", "two"].iter().for_each(|name| world.start(name));
    soak("a cluster of three loses a broker", world, 1, |world| {
        let within = world.is_within();
        let lost = world.random(3) as usize;
        nodes[lost].kill();
        world.wait_for_all_to_advance();
        nodes[lost].start().expect("it starts again");
        nodes[lost].wait();
        within
    });
}

#[test]
fn soak_the_connection_is_disturbed() {
    let Some(_) = broker::real() else { return };
    let proxy = Proxy::start();
    let wishes = server::Wishes { nodes: 1, advertised: Some(proxy.port()) };
    let (nodes, second) = server::cluster(&wishes).expect("a broker");
    proxy.lead_to(second);
    let known = format!("127.0.0.1:{}", proxy.port());
    let mut world = World::new(&nodes[0].address, &known, 1, "exactly_once");
    ["one", "two"].iter().for_each(|name| world.start(name));
    let mut turn = 0;
    soak("a connection cut, stalled or throttled", world, 3, |world| {
        let within = world.is_within();
        match turn % 3 {
            0 => proxy.cut(),
            1 => proxy.stall(Duration::from_millis(500 + world.random(12_000))),
            _ => proxy.throttle(Duration::from_secs(4)),
        }
        turn += 1;
        within
    });
}

#[test]
fn soak_damaged_messages() {
    let Some(mut world) = three() else { return };
    world.damage = Some(100);
    soak("one message in a hundred damaged, and kill -9 of an instance", world, 2, |world| {
        let name = world.any();
        let within = world.kill(&name);
        world.start(&name);
        within
    });
}
