//! A group of instances with continuous input, and the expected output.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use tidecast_core::forecaster::Forecaster;
use tidecast_core::schema::Forecasts;

use super::report::{Comparison, Round};
use crate::broker::{client, read_on, unique};
use crate::command_line::program::{Outcome, Running};
use crate::command_line::{Workspace, message};
use crate::harness::{Case, Row, json_lines, row};

const PARTITIONS: i32 = 4;
const SERIES: i64 = 24;
/// Between two steps of all series.
const STEP_INTERVAL: Duration = Duration::from_millis(25);
/// A round that takes longer has failed.
const ROUND_TIMEOUT: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

pub struct Deployment {
    address: String,
    pub workspace: Workspace,
    readings: String,
    forecasts: String,
    rejects: String,
    group: String,
    pub members: BTreeMap<String, Running>,
    input: Option<InputThread>,
    next_step: i64,
    /// Damages one message in this many.
    pub damaged_one_in: Option<u64>,
    /// Receives the same rows without disturbance.
    reference: Forecaster,
    expected: BTreeMap<String, Vec<String>>,
    actual: BTreeMap<String, Vec<String>>,
    /// Damaged messages that were sent.
    damaged: Vec<String>,
    /// Messages in the rejects topic.
    rejected: Vec<String>,
    forecasts_read: BTreeMap<i32, i64>,
    rejects_read: BTreeMap<i32, i64>,
    random_state: u64,
    has_hit_transaction: bool,
    /// When the fault was injected, until all partitions have progressed.
    injected: Option<Instant>,
    takeover: Duration,
}

/// Sends steps until it is stopped. Returns the next step.
struct InputThread {
    stop: Arc<AtomicBool>,
    sent: Arc<Mutex<Vec<Input>>>,
    thread: JoinHandle<i64>,
}

struct InputMessage {
    key: String,
    payload: String,
    input: Input,
}

enum Input {
    Row(Row),
    Damaged(String),
}

impl Deployment {
    /// Creates the topics of a pipeline on the brokers at `address`. The members use `member_address`, which may be a
    /// proxy.
    pub fn new(address: &str, member_address: &str, replication: i32, delivery: &str) -> Self {
        let [readings, forecasts, rejects] = ["readings", "forecasts", "rejects"].map(unique);
        let admin: AdminClient<DefaultClientContext> = client(address).create().expect("a client");
        let topics = [&readings, &forecasts, &rejects];
        let topics =
            topics.map(|topic| NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(replication)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let created =
            runtime.block_on(admin.create_topics(&topics, &AdminOptions::new())).expect("an answer");
        created.into_iter().for_each(|result| drop(result.expect("a new topic")));
        let group = unique("group");
        let workspace = Workspace::new(&format!(
            r#"
            [source.kafka]
            brokers = "{member_address}"
            topic = "{readings}"
            group = "{group}"
            instance = "${{INSTANCE}}"
            client = {{ "session.timeout.ms" = "6000", "heartbeat.interval.ms" = "300" }}
            commit = {{ every = "20ms", rows = 500 }}
            [sink.kafka]
            topic = "{forecasts}"
            rejects_topic = "{rejects}"
            [state]
            store = "state"
            every = "1s"
            "#
        ));
        workspace.change("\n[columns]", &format!("delivery = \"{delivery}\"\n[columns]"));
        let start: BTreeMap<i32, i64> = (0..PARTITIONS).map(|number| (number, 0)).collect();
        Self {
            address: address.to_owned(),
            workspace,
            readings,
            forecasts,
            rejects,
            group,
            members: BTreeMap::new(),
            input: None,
            next_step: 0,
            damaged_one_in: None,
            reference: Case::default().forecaster(),
            expected: BTreeMap::new(),
            actual: BTreeMap::new(),
            damaged: Vec::new(),
            rejected: Vec::new(),
            forecasts_read: start.clone(),
            rejects_read: start,
            random_state: 0x9E37_79B9_7F4A_7C15,
            has_hit_transaction: false,
            injected: None,
            takeover: Duration::ZERO,
        }
    }

    /// A number below `bound`, from a fixed sequence.
    pub fn random(&mut self, bound: u64) -> u64 {
        self.random_state ^= self.random_state << 13;
        self.random_state ^= self.random_state >> 7;
        self.random_state ^= self.random_state << 17;
        (self.random_state >> 11) % bound
    }

    /// Starts a member.
    pub fn start(&mut self, name: &str) {
        let log_levels = "warn,tidecast=info,tidecast_stream=info,tidecast_kafka=debug";
        let variables = [("INSTANCE", name), ("TIDECAST_LOG", log_levels)];
        let (timeout, folder) = (Duration::from_secs(4 * 3600), self.workspace.path(""));
        self.members
            .insert(name.to_owned(), Running::start_with_timeout(timeout, &folder, "run p.toml", &variables));
    }

    pub fn random_member(&mut self) -> String {
        let index = self.random(self.members.len() as u64) as usize;
        self.members.keys().nth(index).expect("there are members").clone()
    }

    /// The log of a member so far.
    pub fn log(&mut self, name: &str) -> &str {
        self.members.get_mut(name).expect("a member").stderr_so_far()
    }

    /// Kills a member. Returns whether that hit an open transaction.
    pub fn kill(&mut self, name: &str) -> bool {
        self.wait_for_transaction(Some(name));
        let member = self.members.remove(name).expect("a member");
        member.signal("KILL");
        is_in_transaction(&member.finish().stderr)
    }

    /// True if any member has an open transaction.
    pub fn is_in_transaction(&mut self) -> bool {
        self.wait_for_transaction(None)
    }

    /// Waits for an open transaction of a member: before the first fault, and before others at random. Members are idle
    /// between commits, so a few faults could all miss a transaction.
    fn wait_for_transaction(&mut self, name: Option<&str>) -> bool {
        let waits = !self.has_hit_transaction || self.random(2) == 0;
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let mut candidates =
                self.members.iter_mut().filter(|(other, _)| name.is_none_or(|name| name == *other));
            let is_open = candidates.any(|(_, member)| is_in_transaction(member.stderr_so_far()));
            if is_open || !waits || Instant::now() > deadline {
                self.has_hit_transaction |= is_open;
                return is_open;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Starts the input, and waits for a random time.
    pub fn start_round(&mut self) {
        self.start_input();
        self.wait_for_progress();
        std::thread::sleep(Duration::from_millis(self.random(1000)));
        self.injected = Some(Instant::now());
    }

    fn start_input(&mut self) {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (topic, address) = (self.readings.clone(), self.address.clone());
        let (first, damaged_one_in, seed) = (self.next_step, self.damaged_one_in, self.random(1 << 40));
        let (stopped, log) = (stop.clone(), sent.clone());
        let thread = std::thread::spawn(move || {
            let mut config = client(&address);
            config.set("partitioner", "murmur2_random").set("linger.ms", "1");
            config.set("enable.idempotence", "true").set("message.timeout.ms", "120000");
            let producer: BaseProducer = config.create().expect("a producer");
            let mut step = first;
            while !stopped.load(Ordering::Relaxed) {
                for InputMessage { key, payload, input } in step_messages(step, damaged_one_in, seed) {
                    let record = BaseRecord::to(&topic).key(&key).payload(&payload);
                    producer.send(record).map_err(|(error, _)| error).expect("room in the queue");
                    log.lock().expect("no holder panics").push(input);
                }
                (0..100).for_each(|_| producer.poll(Duration::ZERO));
                step += 1;
                std::thread::sleep(STEP_INTERVAL);
            }
            producer.flush(ROUND_TIMEOUT).expect("messages arrive");
            step
        });
        self.input = Some(InputThread { stop, sent, thread });
    }

    /// The committed positions by partition, without those that are pending in a transaction.
    fn committed(&self) -> BTreeMap<i32, i64> {
        let mut config = client(&self.address);
        // Does not wait for open transactions.
        config.set("group.id", &self.group).set("isolation.level", "read_uncommitted");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        for number in 0..PARTITIONS {
            list.add_partition(&self.readings, number);
        }
        let Ok(found) = consumer.committed_offsets(list, Duration::from_secs(5)) else {
            return BTreeMap::new();
        };
        let offset = |offset| if let Offset::Offset(offset) = offset { Some(offset) } else { None };
        found.elements().iter().filter_map(|e| Some((e.partition(), offset(e.offset())?))).collect()
    }

    /// Waits until the committed position of every partition has advanced.
    pub fn wait_for_progress(&mut self) {
        let before = self.committed();
        let position = |positions: &BTreeMap<i32, i64>, number| positions.get(&number).copied().unwrap_or(0);
        let mut now = BTreeMap::new();
        let has_advanced = self.wait_until(|deployment| {
            now = deployment.committed();
            (0..PARTITIONS).all(|number| position(&now, number) > position(&before, number))
        });
        assert!(
            has_advanced,
            "a partition does not advance: {before:?}, then {now:?}\n{}",
            self.diagnostics()
        );
        if let Some(injected) = self.injected.take() {
            self.takeover = injected.elapsed();
        }
    }

    /// Observes the partitions for this time. Returns the longest time in which one did not advance.
    pub fn max_stall_within(&self, time: Duration) -> Duration {
        let (start, mut max_stall) = (Instant::now(), Duration::ZERO);
        let mut last: BTreeMap<i32, (i64, Instant)> = BTreeMap::new();
        while start.elapsed() < time {
            let now = Instant::now();
            for (number, position) in self.committed() {
                let (before, since) = *last.entry(number).or_insert((position, now));
                if position > before {
                    last.insert(number, (position, now));
                }
                max_stall = max_stall.max(now - since);
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        max_stall
    }

    /// Returns false after the timeout, or when a member ends.
    fn wait_until(&mut self, mut condition: impl FnMut(&Self) -> bool) -> bool {
        let deadline = Instant::now() + ROUND_TIMEOUT;
        while !condition(self) {
            if Instant::now() > deadline || self.members.values_mut().any(|member| member.has_ended()) {
                return false;
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        true
    }

    /// State and logs of all members, for the message of a failed round.
    fn diagnostics(&mut self) -> String {
        let has_input = self.input.as_ref().is_some_and(|input| !input.thread.is_finished());
        let mut all = format!("input running: {has_input}, end offsets: {:?}\n", self.end_offsets());
        for (name, member) in &mut self.members {
            let state = if member.has_ended() { "ended" } else { "running" };
            all.push_str(&format!("--- {name}, {state}:\n{}\n", member.stderr_so_far()));
        }
        all
    }

    /// Stops the input, waits until everything is committed, and compares the output of all rounds so far.
    pub fn finish_round(&mut self, hit_transaction: bool) -> Round {
        let input = self.input.take().expect("there is input");
        input.stop.store(true, Ordering::Relaxed);
        self.next_step = input.thread.join().expect("the input ends");
        let sent = std::mem::take(&mut *input.sent.lock().expect("no holder panics"));
        let end_offsets = self.end_offsets();
        for member in self.members.values_mut() {
            assert!(!member.has_ended(), "a member has ended: {}", member.stderr_so_far());
        }
        let is_done = self.wait_until(|deployment| deployment.committed() == end_offsets);
        assert!(is_done, "not everything is committed: {:?}\n{}", self.committed(), self.diagnostics());
        for input in &sent {
            match input {
                Input::Row(row) => self.expect_forecasts(row),
                Input::Damaged(payload) => self.damaged.push(payload.clone()),
            }
        }
        self.read_output();
        let peak_mb = self.members.values().map(|member| member.peak_mb()).max().unwrap_or(0);
        let mut comparison = Comparison::new(&self.expected, &self.actual);
        comparison.add_rejects(&self.damaged, &self.rejected);
        Round { rows: sent.len(), hit_transaction, takeover: self.takeover, peak_mb, comparison }
    }

    fn end_offsets(&self) -> BTreeMap<i32, i64> {
        let consumer: BaseConsumer = client(&self.address).create().expect("a client");
        let end_offset = |number| {
            let watermarks = consumer.fetch_watermarks(&self.readings, number, Duration::from_secs(20));
            (number, watermarks.expect("a partition has watermarks").1)
        };
        (0..PARTITIONS).map(end_offset).filter(|(_, end)| *end > 0).collect()
    }

    fn expect_forecasts(&mut self, row: &Row) {
        let pushed = self.reference.push(&Case::default().batch(0, std::slice::from_ref(row)));
        let series = Forecasts::new(&pushed.forecasts).series;
        for (index, line) in json_lines(&pushed.forecasts).into_iter().enumerate() {
            self.expected.entry(series.value(index).to_owned()).or_default().push(line);
        }
    }

    /// Reads the new forecasts and rejects.
    fn read_output(&mut self) {
        for message in read_on(&self.address, &self.forecasts, &mut self.forecasts_read) {
            let series = message.key.unwrap_or_default();
            self.actual.entry(series).or_default().push(message.value.unwrap_or_default());
        }
        let rejects = read_on(&self.address, &self.rejects, &mut self.rejects_read);
        self.rejected.extend(rejects.into_iter().map(|message| message.value.unwrap_or_default()));
    }

    /// Sends this many rows at once.
    pub fn produce_backlog(&self, rows: i64) {
        let mut config = client(&self.address);
        config.set("partitioner", "murmur2_random").set("linger.ms", "20");
        let producer: BaseProducer = config.create().expect("a producer");
        for step in 0..rows / SERIES + 1 {
            let count = (rows - step * SERIES).min(SERIES) as usize;
            for InputMessage { key, payload, .. } in step_messages(step, None, 0).into_iter().take(count) {
                let mut record = BaseRecord::to(&self.readings).key(&key).payload(&payload);
                while let Err((_, unsent)) = producer.send(record) {
                    record = unsent;
                    producer.poll(POLL_INTERVAL);
                }
            }
        }
        producer.flush(ROUND_TIMEOUT).expect("messages arrive");
    }

    /// Processes all input in a new group.
    pub fn process_backlog(&self, turn: usize) -> Outcome {
        let pipeline = fs::read_to_string(self.workspace.path("p.toml")).expect("the pipeline");
        let pipeline = pipeline.replace(&self.group, &unique("turn"));
        let name = format!("turn{turn}.toml");
        fs::write(self.workspace.path(&name), pipeline).expect("room on the disk");
        let line = format!("run {name} --until-end");
        Running::start_with(&self.workspace.path(""), &line, &[("INSTANCE", "one")]).finish().succeeds()
    }

    /// Stops all members.
    pub fn stop(mut self) {
        for (name, member) in std::mem::take(&mut self.members) {
            member.signal("TERM");
            let outcome = member.finish();
            assert!(outcome.stderr.contains("stopped after"), "{name}: {outcome:#?}");
        }
    }
}

/// True if the last log line of the transactional sink reports the beginning of a transaction.
fn is_in_transaction(log: &str) -> bool {
    let last = log.lines().rev().find(|line| line.contains("tidecast_kafka::transactions"));
    last.is_some_and(|line| line.contains("transaction begun"))
}

/// One message per series, some of them preceded by a damaged one.
fn step_messages(step: i64, damaged_one_in: Option<u64>, seed: u64) -> Vec<InputMessage> {
    let mut messages = Vec::new();
    for id in 0..SERIES {
        let value = 20.0 + id as f64 + ((step * step + 13 * id) * 7919 % 10_007) as f64 / 701.0;
        let row = row(&format!("sensor-{id}"), 10 * step, value);
        let (key, payload) = (row.series.clone(), message(&row));
        let mut hash = seed ^ (step as u64 * 31 + id as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        hash ^= hash >> 29;
        if damaged_one_in.is_some_and(|count| hash.is_multiple_of(count)) {
            // A new series cannot tell which of two distant times is the wrong one.
            let kind = if step < 3 { 0 } else { hash / 1000 };
            let damaged = damage(&payload, kind);
            let input = Input::Damaged(damaged.clone());
            messages.push(InputMessage { key: key.clone(), payload: damaged, input });
        }
        messages.push(InputMessage { key, payload, input: Input::Row(row) });
    }
    messages
}

/// Damages a message in one of the ways that the codec recognizes.
fn damage(payload: &str, kind: u64) -> String {
    match kind % 11 {
        0 => payload[..payload.len() / 2].to_owned(),
        1 => format!("{payload}{payload}"),
        2 => payload.replace("\"sensor\"", "\"senzor\""),
        3 => payload.replace("\"time\"", "\"tome\""),
        4 => payload.replace("\"value\":", "\"value\":\"x\",\"v\":"),
        5 => payload.replace("\"time\":", "\"time\":\"noon\",\"t\":"),
        6 => format!("[{payload}]"),
        7 => "\u{0}\u{1}\u{2}".to_owned(),
        // Too far ahead: a candidate until the next row refutes it.
        8 => payload.replacen("\"time\":", "\"time\":40709088", 1),
        9 => format!("{{\"sensor\":\"{}\",\"time\":1,\"value\":1}}", "x".repeat(300)),
        _ => String::new(),
    }
}

/// Changes bytes in the middle of every snapshot.
pub fn corrupt_snapshots(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let mut bytes = fs::read(&path)?;
        let middle = bytes.len() / 2;
        bytes.iter_mut().skip(middle).take(8).for_each(|byte| *byte ^= 0x55);
        fs::write(&path, bytes)?;
    }
    Ok(())
}
