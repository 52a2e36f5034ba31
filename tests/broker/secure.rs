//! A second real Kafka with security: TLS, SASL by password and by token, and access control. User `tide` may do
//! everything, and so may the tests themselves through the plaintext listener; user `stranger` has a password and no
//! permissions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::SystemTime;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

use super::server::{self, BrokerResult};

/// Must never be printed.
pub const PASSWORD: &str = "tide-and-time-9f31c7";

/// Addresses of the listeners, and certificates.
pub struct SecureBroker {
    pub plaintext: String,
    /// TLS without SASL.
    pub tls: String,
    /// TLS with SCRAM-SHA-256, SCRAM-SHA-512 or PLAIN.
    pub sasl_password: String,
    /// TLS with OAUTHBEARER, for unsigned tokens.
    pub sasl_token: String,
    /// The certificate authority of the broker, and an unrelated one.
    pub ca: PathBuf,
    pub other_ca: PathBuf,
}

/// The one secured broker of all tests; `None` without Java, with a line on standard error.
pub fn secure() -> Option<&'static SecureBroker> {
    static SECURE: OnceLock<Option<SecureBroker>> = OnceLock::new();
    super::real()?;
    let secure = SECURE.get_or_init(|| match start() {
        Ok(secure) => Some(secure),
        Err(reason) if super::is_required() => {
            panic!("TIDECAST_REQUIRE_BROKER=1, and there is no secured Kafka: {reason}")
        }
        Err(reason) => {
            eprintln!("SKIPPED: no secured Kafka: {reason}");
            None
        }
    });
    secure.as_ref()
}

impl SecureBroker {
    pub async fn topic(&self, name: &str) -> String {
        let topic = super::unique(name);
        let admin: AdminClient<DefaultClientContext> =
            super::client(&self.plaintext).create().expect("a client");
        let wanted = NewTopic::new(&topic, 1, TopicReplication::Fixed(1));
        let results = admin.create_topics([&wanted], &AdminOptions::new()).await.expect("an answer");
        results.into_iter().for_each(|result| drop(result.expect("a new topic")));
        topic
    }
}

/// An unsigned token of `tide`.
pub fn valid_token() -> String {
    token_expiring_in(3600)
}

pub fn expired_token() -> String {
    token_expiring_in(-3600)
}

pub fn token_expiring_in(seconds: i64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs() as i64;
    let (issued, expiry) = (now.min(now + seconds) - 10, now + seconds);
    let claims = format!(r#"{{"sub":"tide","iat":{issued},"exp":{expiry}}}"#);
    format!("{}.{}.", encode_base64url(br#"{"alg":"none"}"#), encode_base64url(claims.as_bytes()))
}

/// Without padding.
fn encode_base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let encode = |chunk: &[u8]| {
        let bits = chunk.iter().enumerate().map(|(i, byte)| u32::from(*byte) << (16 - 8 * i)).sum::<u32>();
        (0..=chunk.len())
            .map(move |i| ALPHABET[(bits >> (18 - 6 * i) & 63) as usize] as char)
            .collect::<String>()
    };
    bytes.chunks(3).map(encode).collect()
}

fn start() -> BrokerResult<SecureBroker> {
    let jars = server::jars()?;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kafka-secure-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let ca = create_certificate(&folder, "broker")?;
    let other_ca = create_certificate(&folder, "other")?;
    let ports = server::free_ports(5)?;
    let properties = folder.join("server.properties");
    fs::write(&properties, server_properties(&folder, &ports))?;

    let scram = |kind: &str, user: &str| format!("{kind}=[name={user},password={PASSWORD}]");
    let mut format = server::java(&jars);
    format.args(["kafka.tools.StorageTool", "format", "-t", "VGlkZUNhc3RUZXN0LS0tMQ", "-c"]).arg(&properties);
    for (kind, user) in [("SCRAM-SHA-512", "tide"), ("SCRAM-SHA-256", "tide"), ("SCRAM-SHA-512", "stranger")]
    {
        format.arg("--add-scram").arg(scram(kind, user));
    }
    run(&mut format)?;

    let mut watchdog = server::watched_kafka(&jars, &folder).stderr(Stdio::null()).spawn()?;
    // Open until this process ends, which the watchdog waits for.
    std::mem::forget(watchdog.stdin.take());
    let plaintext = format!("127.0.0.1:{}", ports[0]);
    server::wait_until_up(&plaintext, &folder);
    let [tls, sasl_password, sasl_token] = [1, 2, 3].map(|index| format!("localhost:{}", ports[index]));
    Ok(SecureBroker { plaintext, tls, sasl_password, sasl_token, ca, other_ca })
}

/// Creates `NAME.p12` with a key and a self-signed certificate, and returns the file of the certificate.
fn create_certificate(folder: &Path, name: &str) -> BrokerResult<PathBuf> {
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
    run(keytool(line).args(names))?;
    run(keytool("-exportcert -rfc").arg("-file").arg(&file))?;
    Ok(file)
}

fn run(command: &mut Command) -> BrokerResult<()> {
    let output = command.output().map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?} failed: {output:?}").into()),
    }
}

fn server_properties(folder: &Path, ports: &[u16]) -> String {
    let [plaintext, tls, password, token, controller] = ports else { panic!("five ports") };
    let module = "org.apache.kafka.common.security";
    format!(
        "process.roles=broker,controller
node.id=1
listeners=OPEN://127.0.0.1:{plaintext},TLS://127.0.0.1:{tls},PASSWORD://127.0.0.1:{password},TOKEN://127.0.0.1:{token},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=OPEN://127.0.0.1:{plaintext},TLS://localhost:{tls},PASSWORD://localhost:{password},TOKEN://localhost:{token}
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
