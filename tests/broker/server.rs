//! A real Apache Kafka, one process that is broker and controller: fetched, formatted, started, and gone with us.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

pub(super) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A broker is up within seconds on a machine at rest; the tests of others may run at the same time.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(120);

/// Runs the command it is given, says its number, and waits until its own standard input closes, which is when the tests
/// end, however they end; then kills it and removes the folder named first. (A background job of a shell does not hold the
/// shell's input open.)
pub(super) const WATCH: &str = r#"folder=$1; shift; "$@" >>"$folder/log" 2>&1 & child=$!; echo $child; cat >/dev/null; kill -9 $child; wait $child; rm -rf "$folder""#;

/// A node of a cluster: a process that is broker and controller.
pub struct Node {
    jars: PathBuf,
    folder: PathBuf,
    pub address: String,
    /// The shell that watches over it, and the process itself.
    running: Option<(Child, u32)>,
}

/// What is special about a cluster.
#[derive(Clone, Default)]
pub struct Wishes {
    pub nodes: usize,
    /// A second listener, which says of itself that it is at this port.
    pub advertised: Option<u16>,
}

/// Starts a broker and returns its address; an error says what is missing on this machine.
pub fn start() -> Result<String> {
    let mut nodes = cluster(&Wishes { nodes: 1, advertised: None })?.0;
    let node = nodes.pop().expect("one node");
    let address = node.address.clone();
    // It ends with the process.
    std::mem::forget(node);
    Ok(address)
}

/// Starts a cluster. The second listener of its only node, if one was wished for, is at the port returned.
pub fn cluster(wishes: &Wishes) -> Result<(Vec<Node>, u16)> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let jars = jars()?;
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let ports = free_ports(2 * wishes.nodes + 1)?;
    let (ports, second) = ports.split_at(2 * wishes.nodes);
    let mut nodes = Vec::new();
    for id in 1..=wishes.nodes {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = target.join(format!("kafka-{}-{count}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let properties = folder.join("server.properties");
        fs::write(&properties, server_properties(&folder, id, ports, wishes, second[0]))?;
        let format = ["kafka.tools.StorageTool", "format", "-t", "VGlkZUNhc3RUZXN0LS0tMQ", "-c"];
        let output = java(&jars).args(format).arg(&properties).output()?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("formatting its storage failed: {why}").into());
        }
        let address = format!("127.0.0.1:{}", ports[2 * id - 2]);
        nodes.push(Node { jars: jars.clone(), folder, address, running: None });
    }
    for node in &mut nodes {
        node.start()?;
    }
    for node in &nodes {
        node.wait();
    }
    Ok((nodes, second[0]))
}

impl Node {
    /// Starts the process, on what it left behind.
    pub fn start(&mut self) -> Result<()> {
        let kafka = java(&self.jars);
        let mut watch = Command::new("sh")
            .args(["-c", WATCH, "sh"])
            .arg(&self.folder)
            .arg(kafka.get_program())
            .args(kafka.get_args())
            .arg("kafka.Kafka")
            .arg(self.folder.join("server.properties"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut number = String::new();
        BufReader::new(watch.stdout.take().ok_or("its output is piped")?).read_line(&mut number)?;
        self.running = Some((watch, number.trim().parse()?));
        Ok(())
    }

    /// Waits until it answers.
    pub fn wait(&self) {
        let deadline = Instant::now() + START_TIMEOUT;
        while !is_up(&self.address) {
            if Instant::now() >= deadline {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                panic!(
                    "Kafka at {} is not up after {} s; its log:\n{log}",
                    self.address,
                    START_TIMEOUT.as_secs()
                );
            }
        }
    }

    /// Kills it as a power cut would, but for what the disk has in its cache.
    pub fn kill(&mut self) {
        let Some((mut watch, process)) = self.running.take() else { return };
        // First the shell: it would remove what is to be started again.
        let _ = watch.kill();
        let _ = watch.wait();
        let _ = Command::new("kill").arg("-9").arg(process.to_string()).status();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

pub(super) fn is_up(address: &str) -> bool {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address);
    let consumer: BaseConsumer = config.create().expect("a client");
    consumer.fetch_metadata(None, Duration::from_secs(1)).is_ok_and(|metadata| !metadata.brokers().is_empty())
}

pub(super) fn java(jars: &Path) -> Command {
    let mut java = Command::new("java");
    // Small and quick to start, for minutes of little load.
    java.args(["-Xms64m", "-Xmx384m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]);
    java.args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp"]).arg(jars.join("*"));
    java
}

fn free_ports(count: usize) -> Result<Vec<u16>> {
    // All at once, so that no two are the same.
    let held = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<std::io::Result<Vec<_>>>()?;
    Ok(held
        .iter()
        .map(TcpListener::local_addr)
        .collect::<std::io::Result<Vec<_>>>()?
        .iter()
        .map(|a| a.port())
        .collect())
}

/// The ports are broker and controller of one node after the other; `second` is that of the second listener.
fn server_properties(folder: &Path, id: usize, ports: &[u16], wishes: &Wishes, second: u16) -> String {
    let (broker, controller) = (ports[2 * id - 2], ports[2 * id - 1]);
    let voter = |id: usize| format!("{id}@127.0.0.1:{}", ports[2 * id - 1]);
    let voters: Vec<String> = (1..=wishes.nodes).map(voter).collect();
    let copies = wishes.nodes;
    let in_sync = if copies > 1 { 2 } else { 1 };
    let (mut listeners, mut advertised) = (
        format!("PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}"),
        format!("PLAINTEXT://127.0.0.1:{broker}"),
    );
    if let Some(port) = wishes.advertised {
        listeners += &format!(",SECOND://127.0.0.1:{second}");
        advertised += &format!(",SECOND://127.0.0.1:{port}");
    }
    format!(
        "process.roles=broker,controller
node.id={id}
listeners={listeners}
advertised.listeners={advertised}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECOND:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.voters={}
log.dirs={}
auto.create.topics.enable=false
default.replication.factor={copies}
min.insync.replicas={in_sync}
offsets.topic.num.partitions=1
offsets.topic.replication.factor={copies}
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={in_sync}
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.retention.check.interval.ms=500
",
        voters.join(","),
        folder.join("data").display()
    )
}

/// The folder with Kafka's jars: fetched once, and again when `pom.xml` changes.
pub(super) fn jars() -> Result<PathBuf> {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kafka");
    fs::create_dir_all(&home)?;
    // Two test processes at once: the second waits and finds the work done.
    let lock = File::create(home.join("lock"))?;
    lock.lock()?;
    let pom = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broker/pom.xml");
    let (jars, receipt) = (home.join("jars"), home.join("pom.xml"));
    if fs::read(&receipt).ok() == Some(fs::read(&pom)?) {
        return Ok(jars);
    }
    // Its presence is checked first, so that a machine with neither is told in one line.
    Command::new("java").arg("-version").output().map_err(|error| format!("java: {error}"))?;
    writeln!(std::io::stderr(), "fetching Apache Kafka for the tests (45 MB, once)")?;
    let _ = fs::remove_dir_all(&jars);
    let fetched = Command::new("mvn")
        .args(["--quiet", "--batch-mode", "dependency:copy-dependencies", "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", jars.display()))
        .arg("--file")
        .arg(&pom)
        .output()
        .map_err(|error| format!("mvn: {error}"))?;
    if !fetched.status.success() {
        return Err(format!("mvn could not fetch it: {}", String::from_utf8_lossy(&fetched.stdout)).into());
    }
    fs::copy(&pom, &receipt)?;
    Ok(jars)
}
