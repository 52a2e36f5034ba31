//! A second real Kafka, with locks: TLS with a certificate of its own, SASL by password and by token, rights by user.
//! `tide` may do everything, as may whoever comes through the listener without locks, which the tests look in by;
//! `stranger` has a password and no right to anything.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Instant, SystemTime};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;

use super::server::{self, Result};

/// What nobody may ever see printed.
pub const PASSWORD: &str = "tide-and-time-9f31c7";

pub struct Secure {
    /// Without locks.
    pub open: String,
    /// TLS without SASL.
    pub tls: String,
    /// TLS, and SCRAM-SHA-256, SCRAM-SHA-512 or PLAIN.
    pub password: String,
    /// TLS and OAUTHBEARER, with tokens that nobody signed.
    pub token: String,
    /// The authority of its certificate, and one that has nothing to do with it.
    pub authority: PathBuf,
    pub other_authority: PathBuf,
}

/// One for all tests of the binary; `None` where there is no Java, which is said.
pub fn secure() -> Option<&'static Secure> {
    static SECURE: OnceLock<Option<Secure>> = OnceLock::new();
    super::real()?;
    let secure = SECURE.get_or_init(|| match start() {
        Ok(secure) => Some(secure),
        Err(reason) if std::env::var("TIDECAST_REQUIRE_BROKER").is_ok_and(|value| value == "1") => {
            panic!("TIDECAST_REQUIRE_BROKER=1, and there is no Kafka with locks: {reason}")
        }
        Err(reason) => {
            eprintln!("SKIPPED: no Kafka with locks: {reason}");
            None
        }
    });
    secure.as_ref()
}

impl Secure {
    pub async fn topic(&self, name: &str) -> String {
        let topic = super::unique(name);
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.open);
        let admin: AdminClient<DefaultClientContext> = config.create().expect("a client");
        let wanted = NewTopic::new(&topic, 1, TopicReplication::Fixed(1));
        let results = admin.create_topics([&wanted], &AdminOptions::new()).await.expect("an answer");
        results.into_iter().for_each(|result| drop(result.expect("a new topic")));
        topic
    }
}

/// A token of `tide` that is good for an hour, or of the past. Nobody signed it.
pub fn token(good: bool) -> String {
    if good { token_for(3600) } else { token_for(-3600) }
}

/// A token that ends in so many seconds.
pub fn token_for(seconds: i64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs() as i64;
    let (from, until) = (now.min(now + seconds) - 10, now + seconds);
    let claims = format!(r#"{{"sub":"tide","iat":{from},"exp":{until}}}"#);
    format!("{}.{}.", base64(br#"{"alg":"none"}"#), base64(claims.as_bytes()))
}

/// In the alphabet of URLs, without padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let piece = |chunk: &[u8]| {
        let bits = chunk.iter().enumerate().map(|(i, byte)| u32::from(*byte) << (16 - 8 * i)).sum::<u32>();
        (0..=chunk.len())
            .map(move |i| ALPHABET[(bits >> (18 - 6 * i) & 63) as usize] as char)
            .collect::<String>()
    };
    bytes.chunks(3).map(piece).collect()
}

fn start() -> Result<Secure> {
    let jars = server::jars()?;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kafka-secure-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let authority = certificate(&folder, "broker")?;
    let other_authority = certificate(&folder, "other")?;
    let listeners = (0..5).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<std::io::Result<Vec<_>>>()?;
    let ports = listeners.iter().map(|it| it.local_addr().map(|address| address.port()));
    let ports = ports.collect::<std::io::Result<Vec<u16>>>()?;
    drop(listeners);
    let properties = folder.join("server.properties");
    fs::write(&properties, server_properties(&folder, &ports))?;

    let scram = |kind: &str, user: &str| format!("{kind}=[name={user},password={PASSWORD}]");
    let mut format = server::java(&jars);
    format.args(["kafka.tools.StorageTool", "format", "-t", "VGlkZUNhc3RUZXN0LS0tMQ", "-c"]).arg(&properties);
    for (kind, user) in [("SCRAM-SHA-512", "tide"), ("SCRAM-SHA-256", "tide"), ("SCRAM-SHA-512", "stranger")]
    {
        format.arg("--add-scram").arg(scram(kind, user));
    }
    done(&mut format)?;

    let log_path = folder.join("log");
    let kafka = server::java(&jars);
    let mut watch = Command::new("sh")
        .args(["-c", server::WATCH, "sh"])
        .arg(&folder)
        .arg(kafka.get_program())
        .args(kafka.get_args())
        .arg("kafka.Kafka")
        .arg(&properties)
        .stdin(Stdio::piped())
        // The process writes to the log by itself.
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    // Held open until the process ends: it is what the shell watches.
    std::mem::forget(watch.stdin.take());
    let open = format!("127.0.0.1:{}", ports[0]);
    let deadline = Instant::now() + server::START_TIMEOUT;
    while !server::is_up(&open) {
        if Instant::now() >= deadline {
            panic!(
                "Kafka with locks is not up; its log:\n{}",
                fs::read_to_string(&log_path).unwrap_or_default()
            );
        }
    }
    let at = |port: u16| format!("localhost:{port}");
    let [tls, password, token] = [at(ports[1]), at(ports[2]), at(ports[3])];
    Ok(Secure { open, tls, password, token, authority, other_authority })
}

/// Makes `NAME.p12` with a key and a certificate that is its own authority, and returns the certificate's file.
fn certificate(folder: &Path, name: &str) -> Result<PathBuf> {
    let (store, file) = (folder.join(format!("{name}.p12")), folder.join(format!("{name}.pem")));
    let keytool = |line: &str| {
        let mut keytool = Command::new("keytool");
        keytool
            .args(line.split_whitespace())
            .args(["-alias", name, "-storepass", PASSWORD, "-keystore"])
            .arg(&store);
        keytool
    };
    let line = "-genkeypair -keyalg EC -groupname secp256r1 -validity 2 -storetype PKCS12";
    let names = ["-dname", "CN=localhost", "-ext", "san=dns:localhost,ip:127.0.0.1", "-ext", "bc=ca:true"];
    done(keytool(line).args(names))?;
    done(keytool("-exportcert -rfc").arg("-file").arg(&file))?;
    Ok(file)
}

fn done(command: &mut Command) -> Result<()> {
    let output = command.output().map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?} failed: {output:?}").into()),
    }
}

fn server_properties(folder: &Path, ports: &[u16]) -> String {
    let [open, tls, password, token, controller] = ports else { panic!("five ports") };
    let module = "org.apache.kafka.common.security";
    format!(
        "process.roles=broker,controller
node.id=1
listeners=OPEN://127.0.0.1:{open},TLS://127.0.0.1:{tls},PASSWORD://127.0.0.1:{password},TOKEN://127.0.0.1:{token},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=OPEN://127.0.0.1:{open},TLS://localhost:{tls},PASSWORD://localhost:{password},TOKEN://localhost:{token}
listener.security.protocol.map=OPEN:PLAINTEXT,TLS:SSL,PASSWORD:SASL_SSL,TOKEN:SASL_SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=OPEN
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:{controller}
ssl.keystore.type=PKCS12
ssl.keystore.location={folder}/broker.p12
ssl.keystore.password={PASSWORD}
ssl.key.password={PASSWORD}
listener.name.password.sasl.enabled.mechanisms=SCRAM-SHA-512,SCRAM-SHA-256,PLAIN
listener.name.password.scram-sha-512.sasl.jaas.config={module}.scram.ScramLoginModule required;
listener.name.password.scram-sha-256.sasl.jaas.config={module}.scram.ScramLoginModule required;
listener.name.password.plain.sasl.jaas.config={module}.plain.PlainLoginModule required user_tide=\"{PASSWORD}\";
listener.name.token.sasl.enabled.mechanisms=OAUTHBEARER
listener.name.token.oauthbearer.sasl.jaas.config={module}.oauthbearer.OAuthBearerLoginModule required;
listener.name.token.oauthbearer.connections.max.reauth.ms=3000
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:tide
log.dirs={folder}/data
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
",
        folder = folder.display()
    )
}
