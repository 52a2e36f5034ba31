//! A real Apache Kafka, one process that is broker and controller: fetched, formatted, started, and gone with us.

use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

pub(super) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A broker is up within seconds on a machine at rest; the tests of others may run at the same time.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(120);

/// Runs the command it is given until its standard input closes, which is when the tests end, however they end; then
/// kills it and removes the folder named first. (A background job of a shell does not hold the shell's input open.)
pub(super) const WATCH: &str =
    r#"folder=$1; shift; "$@" & child=$!; cat >/dev/null; kill -9 $child; wait $child; rm -rf "$folder""#;

/// Starts a broker and returns its address; an error says what is missing on this machine.
pub fn start() -> Result<String> {
    let jars = jars()?;
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = target.join(format!("kafka-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let (broker, controller) = free_ports()?;
    let properties = folder.join("server.properties");
    fs::write(&properties, server_properties(&folder, broker, controller))?;

    let format = ["kafka.tools.StorageTool", "format", "-t", "VGlkZUNhc3RUZXN0LS0tMQ", "-c"];
    let output = java(&jars).args(format).arg(&properties).output()?;
    if !output.status.success() {
        return Err(
            format!("formatting its storage failed: {}", String::from_utf8_lossy(&output.stderr)).into()
        );
    }

    let log_path = folder.join("log");
    let log = File::create(&log_path)?;
    let kafka = java(&jars);
    let mut watch = Command::new("sh")
        .args(["-c", WATCH, "sh"])
        .arg(&folder)
        .arg(kafka.get_program())
        .args(kafka.get_args())
        .arg("kafka.Kafka")
        .arg(&properties)
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    // Held open until the process ends: it is what the shell watches.
    std::mem::forget(watch.stdin.take());

    let address = format!("127.0.0.1:{broker}");
    let deadline = Instant::now() + START_TIMEOUT;
    while !is_up(&address) {
        if Instant::now() >= deadline {
            let log = fs::read_to_string(&log_path).unwrap_or_default();
            panic!("Kafka at {address} is not up after {} s; its log:\n{log}", START_TIMEOUT.as_secs());
        }
    }
    Ok(address)
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

fn free_ports() -> Result<(u16, u16)> {
    let (first, second) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    Ok((first.local_addr()?.port(), second.local_addr()?.port()))
}

fn server_properties(folder: &Path, broker: u16, controller: u16) -> String {
    format!(
        "process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker}
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:{controller}
log.dirs={}
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.retention.check.interval.ms=500
",
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
