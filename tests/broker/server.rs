//! A real Apache Kafka, each node a process that is broker and controller: downloaded, formatted, started, and stopped
//! together with the tests.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};

/// Result of starting a broker; the error says what is missing.
pub(super) type BrokerResult<T> = std::result::Result<T, Box<dyn Error>>;

/// A broker starts within seconds on an idle machine; other tests may run at the same time.
const START_TIMEOUT: Duration = Duration::from_secs(120);

/// Runs a command, prints its process id, and waits until its own standard input closes, which is when the tests end,
/// however they end; then kills the command and removes the folder in the first argument. (A background job of a shell
/// does not keep the shell's input open.)
const WATCHDOG: &str = r#"folder=$1; shift; "$@" >>"$folder/log" 2>&1 & child=$!; echo $child; cat >/dev/null; kill -9 $child; wait $child; rm -rf "$folder""#;

/// A node of a cluster.
pub struct Node {
    jars: PathBuf,
    folder: PathBuf,
    pub address: String,
    running: Option<RunningNode>,
}

struct RunningNode {
    watchdog: Child,
    process_id: u32,
}

/// How clients reach a node behind a proxy: by a second listener.
#[derive(Clone, Copy)]
pub struct ProxiedListener {
    pub port: u16,
    /// The proxy's port, which the listener advertises.
    pub advertised_port: u16,
}

/// Starts a broker and returns its address. An error tells what is missing on this machine.
pub fn start() -> BrokerResult<String> {
    let node = cluster(1, None)?.pop().expect("one node");
    let address = node.address.clone();
    // It ends with the process.
    std::mem::forget(node);
    Ok(address)
}

/// Starts a node behind a proxy at `proxy_port`, and returns the port of its second listener as well.
pub fn node_behind_proxy(proxy_port: u16) -> BrokerResult<(Node, u16)> {
    let port = free_ports(1)?[0];
    let node =
        cluster(1, Some(ProxiedListener { port, advertised_port: proxy_port }))?.pop().expect("one node");
    Ok((node, port))
}

/// Starts a cluster. Only a single node can have a second listener.
pub fn cluster(count: usize, proxied: Option<ProxiedListener>) -> BrokerResult<Vec<Node>> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let jars = jars()?;
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let ports = free_ports(2 * count)?;
    let mut nodes = Vec::new();
    for id in 1..=count {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = target.join(format!("kafka-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let properties = folder.join("server.properties");
        fs::write(&properties, server_properties(&folder, id, &ports, proxied))?;
        let format = ["kafka.tools.StorageTool", "format", "-t", "VGlkZUNhc3RUZXN0LS0tMQ", "-c"];
        let output = java(&jars).args(format).arg(&properties).output()?;
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr);
            return Err(format!("formatting its storage failed: {reason}").into());
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
    Ok(nodes)
}

/// The command of a watchdog that runs the node with `server.properties` in `folder`, with its output in `log` there.
pub(super) fn watched_kafka(jars: &Path, folder: &Path) -> Command {
    let kafka = java(jars);
    let mut watchdog = Command::new("sh");
    watchdog
        .args(["-c", WATCHDOG, "sh"])
        .arg(folder)
        .arg(kafka.get_program())
        .args(kafka.get_args())
        .arg("kafka.Kafka")
        .arg(folder.join("server.properties"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    watchdog
}

impl Node {
    /// Starts the process with the data of its last run.
    pub fn start(&mut self) -> BrokerResult<()> {
        let mut watchdog = watched_kafka(&self.jars, &self.folder).spawn()?;
        let mut process_id = String::new();
        BufReader::new(watchdog.stdout.take().ok_or("its output is piped")?).read_line(&mut process_id)?;
        self.running = Some(RunningNode { watchdog, process_id: process_id.trim().parse()? });
        Ok(())
    }

    /// Waits until it answers.
    pub fn wait(&self) {
        wait_until_up(&self.address, &self.folder);
    }

    /// Kills the process with SIGKILL.
    pub fn kill(&mut self) {
        let Some(RunningNode { mut watchdog, process_id }) = self.running.take() else { return };
        // The watchdog first: it would remove the data.
        let _ = watchdog.kill();
        let _ = watchdog.wait();
        let _ = Command::new("kill").arg("-9").arg(process_id.to_string()).status();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Waits until the node with this folder answers.
pub(super) fn wait_until_up(address: &str, folder: &Path) {
    let deadline = Instant::now() + START_TIMEOUT;
    while !is_up(address) {
        if Instant::now() >= deadline {
            let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
            panic!("Kafka at {address} does not answer after {} s; its log:\n{log}", START_TIMEOUT.as_secs());
        }
    }
}

fn is_up(address: &str) -> bool {
    let consumer: BaseConsumer = super::client(address).create().expect("a client");
    consumer.fetch_metadata(None, Duration::from_secs(1)).is_ok_and(|metadata| !metadata.brokers().is_empty())
}

pub(super) fn java(jars: &Path) -> Command {
    let mut java = Command::new("java");
    // Small and quick to start, for a few minutes with little load.
    java.args(["-Xms64m", "-Xmx384m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]);
    java.args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp"]).arg(jars.join("*"));
    java
}

pub(super) fn free_ports(count: usize) -> BrokerResult<Vec<u16>> {
    // All open at once, so that all are different.
    let listeners =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<std::io::Result<Vec<_>>>()?;
    let ports = listeners.iter().map(|listener| Ok(listener.local_addr()?.port()));
    ports.collect()
}

/// `ports` contains the broker and the controller port of each node.
fn server_properties(folder: &Path, id: usize, ports: &[u16], proxied: Option<ProxiedListener>) -> String {
    let (broker, controller, nodes) = (ports[2 * id - 2], ports[2 * id - 1], ports.len() / 2);
    let voter = |id: usize| format!("{id}@127.0.0.1:{}", ports[2 * id - 1]);
    let voters: Vec<String> = (1..=nodes).map(voter).collect();
    let in_sync = if nodes > 1 { 2 } else { 1 };
    let (mut listeners, mut advertised) = (
        format!("PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}"),
        format!("PLAINTEXT://127.0.0.1:{broker}"),
    );
    if let Some(ProxiedListener { port, advertised_port }) = proxied {
        listeners += &format!(",PROXIED://127.0.0.1:{port}");
        advertised += &format!(",PROXIED://127.0.0.1:{advertised_port}");
    }
    format!(
        "process.roles=broker,controller
node.id={id}
listeners={listeners}
advertised.listeners={advertised}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.voters={}
log.dirs={}
auto.create.topics.enable=false
default.replication.factor={nodes}
min.insync.replicas={in_sync}
offsets.topic.num.partitions=1
offsets.topic.replication.factor={nodes}
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor={nodes}
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

/// The folder with Kafka's jars: downloaded once, and again when `pom.xml` changes.
pub(super) fn jars() -> BrokerResult<PathBuf> {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kafka");
    fs::create_dir_all(&home)?;
    // Two test processes may start at once: the second waits and finds the jars.
    let lock = File::create(home.join("lock"))?;
    lock.lock()?;
    let pom = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broker/pom.xml");
    let (jars, downloaded) = (home.join("jars"), home.join("pom.xml"));
    if fs::read(&downloaded).ok() == Some(fs::read(&pom)?) {
        return Ok(jars);
    }
    // Checked first, so that a machine without Java gets a short message.
    Command::new("java").arg("-version").output().map_err(|error| format!("java: {error}"))?;
    writeln!(std::io::stderr(), "downloading Apache Kafka for the tests (45 MB, once)")?;
    let _ = fs::remove_dir_all(&jars);
    let output = Command::new("mvn")
        .args(["--quiet", "--batch-mode", "dependency:copy-dependencies", "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", jars.display()))
        .arg("--file")
        .arg(&pom)
        .output()
        .map_err(|error| format!("mvn: {error}"))?;
    if !output.status.success() {
        return Err(format!("mvn could not download it: {}", String::from_utf8_lossy(&output.stdout)).into());
    }
    fs::copy(&pom, &downloaded)?;
    Ok(jars)
}
