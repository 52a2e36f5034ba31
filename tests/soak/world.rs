//! A group of instances on a topic that is fed without a pause, and what must come out of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Message, Offset, TopicPartitionList};
use tidecast_core::forecaster::Forecaster;
use tidecast_stream::codec::RowWriter;
use tidecast_core::schema::Forecasts;

use super::report::{Comparison, Round};
use crate::broker::unique;
use crate::command_line::program::{Outcome, RunningStats};
use crate::command_line::{Workspace, message};
use crate::harness::{Case, Row, row};

pub const PARTITIONS: i32 = 4;
const IDS: i64 = 24;
/// Between two steps of all ids.
const PACE: Duration = Duration::from_millis(25);
/// After which a round has failed, whatever was done to it.
const LONGEST: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(20);

pub struct World {
    pub address: String,
    pub workspace: Workspace,
    topics: [String; 3],
    group: String,
    pub members: BTreeMap<String, RunningStats>,
    feed: Option<Feed>,
    next_step: i64,
    /// One message of this many is damaged.
    pub damage: Option<u64>,
    /// What goes through the line without any of this.
    oracle: Forecaster,
    expected: BTreeMap<String, Vec<String>>,
    seen: BTreeMap<String, Vec<String>>,
    /// Bytes of damaged messages that were sent, and that came to the rejects.
    damaged: Vec<String>,
    rejected: Vec<String>,
    read: [BTreeMap<i32, i64>; 2],
    random: u64,
    /// Whether a strike has fallen within a transaction.
    was_within: bool,
    /// When the fault struck, until the group has gone on.
    struck: Option<Instant>,
    takeover: Duration,
}

/// Sends steps until it is told to stop.
struct Feed {
    stop: Arc<AtomicBool>,
    sent: Arc<Mutex<Vec<Sent>>>,
    thread: JoinHandle<i64>,
}

enum Sent {
    Row(Row),
    Damaged(String),
}

impl World {
    /// A pipeline on the brokers at `address`, which its members know by `known` (the same, or a way around it).
    pub fn new(address: &str, known: &str, copies: i32, delivery: &str) -> Self {
        let topics = ["readings", "forecasts", "rejects"].map(unique);
        let admin: AdminClient<DefaultClientContext> = client(address).create().expect("a client");
        let wanted: Vec<NewTopic> = topics
            .iter()
            .map(|topic| NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(copies)))
            .collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let made = runtime.block_on(admin.create_topics(&wanted, &AdminOptions::new())).expect("an answer");
        made.into_iter().for_each(|result| drop(result.expect("a new topic")));
        let group = unique("group");
        let [readings, forecasts, rejects] = &topics;
        let workspace = Workspace::new(&format!(
            r#"
            [source.kafka]
            brokers = "{known}"
            topic = "{readings}"
            group = "{group}"
            instance = "${{INSTANCE}}"
            client = {{ "session.timeout.ms" = "6000", "heartbeat.interval.ms" = "300" }}
            commit = {{ every = "20ms", rows = 500 }}
            [sink.kafka]
            topic = "{forecasts}"
            rejects = "{rejects}"
            [state]
            store = "state"
            every = "1s"
            "#
        ));
        workspace.change("\n[columns]", &format!("delivery = \"{delivery}\"\n[columns]"));
        let oracle = Case::default().forecaster();
        Self {
            address: address.to_owned(),
            workspace,
            topics,
            group,
            members: BTreeMap::new(),
            feed: None,
            next_step: 0,
            damage: None,
            oracle,
            expected: BTreeMap::new(),
            seen: BTreeMap::new(),
            damaged: Vec::new(),
            rejected: Vec::new(),
            read: Default::default(),
            random: 0x9E37_79B9_7F4A_7C15,
            was_within: false,
            struck: None,
            takeover: Duration::ZERO,
        }
    }

    /// A number below `bound`, from a fixed sequence.
    pub fn random(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % bound
    }

    pub fn start(&mut self, name: &str) {
        let log = "warn,tidecast=info,tidecast_kafka=debug";
        let variables = [("INSTANCE", name), ("TIDECAST_LOG", log)];
        let member =
            Running::start_for(Duration::from_secs(4 * 3600), &self.workspace.path(""), "run p.toml", &variables);
        self.members.insert(name.to_owned(), member);
    }

    /// A member's name, chosen at random.
    pub fn any(&mut self) -> String {
        let index = self.random(self.members.len() as u64) as usize;
        self.members.keys().nth(index).expect("there are members").clone()
    }

    /// Kills a member; returns whether it was within a transaction.
    pub fn kill(&mut self, name: &str) -> bool {
        self.wait_within(Some(name));
        let member = self.members.remove(name).expect("a member");
        member.signal("KILL");
        is_within(&member.finish().stderr)
    }

    /// Whether any member is within a transaction, as it is for now and then.
    pub fn is_within(&mut self) -> bool {
        self.wait_within(None)
    }

    /// Waits until a member is within a transaction: before the first strike, and before every other one by chance. A member
    /// rests between its commits, and a few strikes could all fall there.
    fn wait_within(&mut self, name: Option<&str>) -> bool {
        let waits = !self.was_within || self.random(2) == 0;
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let mut looked_at =
                self.members.iter_mut().filter(|(other, _)| name.is_none_or(|name| name == *other));
            let within = looked_at.any(|(_, member)| is_within(member.said()));
            if within || !waits || Instant::now() > deadline {
                self.was_within |= within;
                return within;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Begins to feed, and waits for a moment at random.
    pub fn begin(&mut self) {
        self.feed();
        self.wait_for_all_to_advance();
        std::thread::sleep(Duration::from_millis(self.random(1000)));
        self.struck = Some(Instant::now());
    }

    fn feed(&mut self) {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (topic, address) = (self.topics[0].clone(), self.address.clone());
        let (first, damage, seed) = (self.next_step, self.damage, self.random(1 << 40));
        let (stopped, log) = (stop.clone(), sent.clone());
        let thread = std::thread::spawn(move || {
            let mut config = client(&address);
            config.set("partitioner", "murmur2_random").set("linger.ms", "1");
            config.set("enable.idempotence", "true").set("message.timeout.ms", "120000");
            let producer: BaseProducer = config.create().expect("a producer");
            let mut step = first;
            while !stopped.load(Ordering::Relaxed) {
                for (key, payload, what) in messages(step, damage, seed) {
                    producer
                        .send(BaseRecord::to(&topic).key(&key).payload(&payload))
                        .map_err(|(error, _)| error)
                        .expect("room in the queue");
                    log.lock().expect("no holder panics").push(what);
                }
                (0..100).for_each(|_| producer.poll(Duration::ZERO));
                step += 1;
                std::thread::sleep(PACE);
            }
            producer.flush(LONGEST).expect("messages arrive");
            step
        });
        self.feed = Some(Feed { stop, sent, thread });
    }

    /// The committed position of each partition, as far as there is one.
    pub fn committed(&self) -> BTreeMap<i32, i64> {
        let mut config = client(&self.address);
        // What transactions hold back is of no interest here.
        config.set("group.id", &self.group).set("isolation.level", "read_uncommitted");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        for number in 0..PARTITIONS {
            list.add_partition(&self.topics[0], number);
        }
        let Ok(found) = consumer.committed_offsets(list, Duration::from_secs(5)) else {
            return BTreeMap::new();
        };
        let offset = |offset| if let Offset::Offset(offset) = offset { Some(offset) } else { None };
        found.elements().iter().filter_map(|e| Some((e.partition(), offset(e.offset())?))).collect()
    }

    /// Waits until the group has committed beyond where it stands now, in every partition.
    pub fn wait_for_all_to_advance(&mut self) {
        let before = self.committed();
        let at = |positions: &BTreeMap<i32, i64>, number| positions.get(&number).copied().unwrap_or(0);
        let mut now = BTreeMap::new();
        let goes_on = self.comes_true(|world| {
            now = world.committed();
            (0..PARTITIONS).all(|number| at(&now, number) > at(&before, number))
        });
        assert!(goes_on, "a partition has stood still: {before:?}, then {now:?}\n{}", self.said());
        if let Some(struck) = self.struck.take() {
            self.takeover = struck.elapsed();
        }
    }

    /// Watches for a while; returns the longest time in which some partition did not go on.
    pub fn longest_stall(&self, time: Duration) -> Duration {
        let (begin, mut longest) = (Instant::now(), Duration::ZERO);
        let mut last: BTreeMap<i32, (i64, Instant)> = BTreeMap::new();
        while begin.elapsed() < time {
            let now = Instant::now();
            for (number, position) in self.committed() {
                let (before, since) = *last.entry(number).or_insert((position, now));
                if position > before {
                    last.insert(number, (position, now));
                }
                longest = longest.max(now - since);
            }
            std::thread::sleep(POLL);
        }
        longest
    }

    /// Whether it comes true before the round has failed, which it has where a member ends.
    fn comes_true(&mut self, mut is_so: impl FnMut(&Self) -> bool) -> bool {
        let deadline = Instant::now() + LONGEST;
        while !is_so(self) {
            if Instant::now() > deadline || self.members.values_mut().any(|member| member.has_ended()) {
                return false;
            }
            std::thread::sleep(POLL);
        }
        true
    }

    /// What there is to know of a round that has failed.
    fn said(&mut self) -> String {
        let is_fed = self.feed.as_ref().is_some_and(|feed| !feed.thread.is_finished());
        let mut all = format!("fed: {is_fed}, ends: {:?}\n", self.ends());
        for (name, member) in &mut self.members {
            let state = if member.has_ended() { "ended" } else { "running" };
            all.push_str(&format!("--- {name}, {state}:\n{}\n", member.said()));
        }
        all
    }

    /// Stops feeding, waits until all is done, and compares what a reader of committed records has seen since the last
    /// time.
    pub fn end(&mut self, strikes: u64, within: u64) -> Round {
        let feed = self.feed.take().expect("it is fed");
        feed.stop.store(true, Ordering::Relaxed);
        self.next_step = feed.thread.join().expect("the feed ends");
        let sent = std::mem::take(&mut *feed.sent.lock().expect("no holder panics"));
        let ends = self.ends();
        for member in self.members.values_mut() {
            assert!(!member.has_ended(), "a member has ended: {}", member.said());
        }
        let is_done = self.comes_true(|world| world.committed() == ends);
        assert!(is_done, "not all is committed: {:?}\n{}", self.committed(), self.said());
        for what in &sent {
            match what {
                Sent::Row(row) => self.expect(row),
                Sent::Damaged(bytes) => self.damaged.push(bytes.clone()),
            }
        }
        self.see();
        let peak_mb = self.members.values().map(|member| member.peak_mb()).max().unwrap_or(0);
        let mut comparison = Comparison::of(&self.expected, &self.seen);
        comparison.add_rejects(&self.damaged, &self.rejected);
        Round { rows: sent.len(), strikes, within, takeover: self.takeover, peak_mb, comparison }
    }

    fn ends(&self) -> BTreeMap<i32, i64> {
        let consumer: BaseConsumer = client(&self.address).create().expect("a client");
        let end = |number| {
            let marks = consumer.fetch_watermarks(&self.topics[0], number, Duration::from_secs(20));
            (number, marks.expect("a partition has its ends").1)
        };
        (0..PARTITIONS).map(end).filter(|(_, end)| *end > 0).collect()
    }

    fn expect(&mut self, row: &Row) {
        let pushed = self.oracle.push(&Case::default().batch(0, std::slice::from_ref(row)));
        let writer = RowWriter::new(&pushed.forecasts).expect("forecasts can be written");
        let series = Forecasts::new(&pushed.forecasts).series;
        for i in 0..pushed.forecasts.num_rows() {
            let mut line = Vec::new();
            writer.write(i, &mut line).expect("a forecast can be written");
            let line = String::from_utf8(line).expect("JSON is text");
            self.expected.entry(series.value(i).to_owned()).or_default().push(line);
        }
    }

    /// Reads on in the topics of forecasts and of rejects.
    fn see(&mut self) {
        let mut positions = std::mem::take(&mut self.read);
        for (key, value) in self.read_on(1, &mut positions[0]) {
            self.seen.entry(key).or_default().push(value);
        }
        let rejects = self.read_on(2, &mut positions[1]);
        self.rejected.extend(rejects.into_iter().map(|(_, value)| value));
        self.read = positions;
    }

    fn read_on(&self, topic: usize, positions: &mut BTreeMap<i32, i64>) -> Vec<(String, String)> {
        let topic = &self.topics[topic];
        let mut config = client(&self.address);
        config.set("group.id", unique("reader")).set("enable.partition.eof", "true");
        config.set("enable.auto.commit", "false").set("isolation.level", "read_committed");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        for number in 0..PARTITIONS {
            let from = Offset::Offset(positions.get(&number).copied().unwrap_or(0));
            list.add_partition_offset(topic, number, from).expect("an offset");
        }
        consumer.assign(&list).expect("an assignment");
        let (mut read, mut unread) = (Vec::new(), PARTITIONS);
        while unread > 0 {
            match consumer.poll(Duration::from_secs(20)).expect("an event within twenty seconds") {
                Ok(message) => {
                    positions.insert(message.partition(), message.offset() + 1);
                    let text = |bytes: Option<&[u8]>| {
                        String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
                    };
                    read.push((text(message.key()), text(message.payload())));
                }
                Err(KafkaError::PartitionEOF(_)) => unread -= 1,
                Err(error) => panic!("reading {topic}: {error}"),
            }
        }
        read
    }

    /// Sends so many rows at once.
    pub fn fill(&self, rows: i64) {
        let mut config = client(&self.address);
        config.set("partitioner", "murmur2_random").set("linger.ms", "20");
        let producer: BaseProducer = config.create().expect("a producer");
        for step in 0..rows / IDS + 1 {
            for (key, payload, _) in
                messages(step, None, 0).into_iter().take((rows - step * IDS).min(IDS) as usize)
            {
                let mut record = BaseRecord::to(&self.topics[0]).key(&key).payload(&payload);
                while let Err((_, back)) = producer.send(record) {
                    record = back;
                    producer.poll(POLL);
                }
            }
        }
        producer.flush(LONGEST).expect("messages arrive");
    }

    /// Works off all there is, as a group that nobody has used.
    pub fn work_off(&self, turn: usize) -> Outcome {
        let group = unique("turn");
        let text = fs::read_to_string(self.workspace.path("p.toml")).expect("the pipeline");
        let name = format!("turn{turn}.toml");
        fs::write(self.workspace.path(&name), text.replace(&self.group, &group)).expect("room on the disk");
        let line = format!("run {name} --until-end");
        let variables = [("INSTANCE", "one")];
        Running::start_with(&self.workspace.path(""), &line, &variables).finish().succeeds()
    }

    /// Ends all members.
    pub fn stop(mut self) {
        for (name, member) in std::mem::take(&mut self.members) {
            member.signal("TERM");
            let outcome = member.finish();
            assert!(outcome.stderr.contains("stopped after"), "{name}: {outcome:#?}");
        }
    }
}

fn client(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address);
    config
}

/// Whether the last that was said of a transaction is its beginning.
fn is_within(said: &str) -> bool {
    let last = said.lines().rev().find(|line| line.contains("tidecast_kafka::transactions"));
    last.is_some_and(|line| line.contains("transaction begun"))
}

/// The messages of one step: a reading of every id, and now and then a damaged one before it.
fn messages(step: i64, damage: Option<u64>, seed: u64) -> Vec<(String, String, Sent)> {
    let mut all = Vec::new();
    for id in 0..IDS {
        let value = 20.0 + id as f64 + ((step * step + 13 * id) * 7919 % 10_007) as f64 / 701.0;
        let row = row(&format!("sensor-{id}"), 10 * step, value);
        let whole = message(&row);
        let mut hash = seed ^ (step as u64 * 31 + id as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        hash ^= hash >> 29;
        if damage.is_some_and(|every| hash.is_multiple_of(every)) {
            // A series that has hardly begun does not know yet which of two times is the wrong one.
            let kind = if step < 3 { 0 } else { hash / 1000 };
            let damaged = super::damage::damaged(&whole, kind);
            all.push((row.series.clone(), damaged.clone(), Sent::Damaged(damaged)));
        }
        all.push((row.series.clone(), whole, Sent::Row(row)));
    }
    all
}

/// Changes bytes in the middle of every snapshot.
pub fn corrupt(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let mut bytes = fs::read(&path)?;
        let middle = bytes.len() / 2;
        bytes.iter_mut().skip(middle).take(8).for_each(|byte| *byte ^= 0x55);
        fs::write(&path, bytes)?;
    }
    Ok(())
}
