//! The meaning of librdkafka's errors and log lines: which errors a retry cures, how to fix a rejected connection, which
//! values must not reach the log.
//!
//! All code that depends on the *text* of librdkafka is in this module. The tests pin the version it was written for,
//! and provoke the texts that need no secured broker; `tests/command_line/security.rs` provokes the others.

use std::borrow::Cow;
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};

use anyhow::Result;
use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::oauth;
use crate::settings::{ClientProperties, REDACTED, is_secret};

/// A broker restarts within a minute. A longer outage is reported.
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// Repeats `request` after transient errors, for up to [`RETRY_TIMEOUT`]. Blocks.
pub(crate) fn retry_transient<T>(mut request: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + RETRY_TIMEOUT;
    loop {
        match request() {
            Err(error) if has_transient_cause(&error) && Instant::now() < deadline => {
                tracing::warn!("{error:#}; retrying");
                std::thread::sleep(RETRY_INTERVAL);
            }
            result => return result,
        }
    }
}

pub(crate) fn has_transient_cause(error: &anyhow::Error) -> bool {
    error.downcast_ref::<KafkaError>().is_some_and(is_transient)
}

/// True if the error goes away by itself: a broker restarts, a leader or coordinator moves, the group rebalances. A
/// failed request has to be repeated; the client's own background work continues.
pub(crate) fn is_transient(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::*;
    matches!(
        error.rdkafka_error_code(),
        Some(
            // A rebalance: afterwards the position can be committed, or the partition has another owner.
            RebalanceInProgress
                | IllegalGeneration
                | UnknownMemberId
                | AssignmentLost
                | UnstableOffsetCommit
                | StaleMemberEpoch
                | FencedMemberEpoch
                // The coordinator moves.
                | NotCoordinator
                | CoordinatorLoadInProgress
                | CoordinatorNotAvailable
                | WaitingForCoordinator
                // A partition's leader moves.
                | NotLeaderForPartition
                | LeaderNotAvailable
                | OffsetNotAvailable
                | ReplicaNotAvailable
                | KafkaStorageError
                | FencedLeaderEpoch
                | UnknownLeaderEpoch
                // The broker is down or does not answer. When a broker leaves the cluster's metadata, the client
                // destroys its handle together with the pending requests.
                | BrokerTransportFailure
                | BrokerDestroy
                | DestroyBroker
                | AllBrokersDown
                | Resolve
                | NetworkException
                | RequestTimedOut
                | OperationTimedOut
                | TimedOutQueue
                | WaitCache
                | Retry
        )
    )
}

/// Advice for a topic without permission.
pub(crate) const NOT_AUTHORIZED: &str = "this user is not authorized: grant it DESCRIBE, and READ or WRITE, or correct \
                                         \"sasl.username\" in `client`";

/// Fragments of librdkafka's reasons with the advice for each. The first match wins.
const DIAGNOSES: [(&str, &str); 13] = [
    ("certificate verify failed", CA),
    ("ssl.ca.location", "\"ssl.ca.location\" in `client` must be a file of certificates"),
    ("hostname mismatch", "`brokers` must use a name that is in the broker's certificate"),
    ("certificate required", CLIENT_CERTIFICATE),
    ("PLAINTEXT broker listener", NO_TLS),
    ("security.protocol", TLS),
    // The broker closed the connection after the first request.
    ("in state APIVERSION_QUERY", TLS),
    ("nsupported SASL mechanism", MECHANISM),
    ("mechanism handshake", MECHANISM),
    ("OAUTHBEARER", TOKEN),
    ("invalid_token", TOKEN),
    ("uthentication fail", "check \"sasl.username\", \"sasl.password\" and \"sasl.mechanism\" in `client`"),
    ("SSL handshake failed", NO_TLS),
];

const CA: &str = "set \"ssl.ca.location\" in `client` to the certificate of the authority that signed the broker's; the \
                  default is the system's certificates";
const CLIENT_CERTIFICATE: &str = "the broker requires a client certificate: set \"ssl.certificate.location\" and \
                                  \"ssl.key.location\" in `client`";
const NO_TLS: &str =
    "the listener may not use TLS: check \"security.protocol\" in `client` and the port in `brokers`";
const TLS: &str =
    "the listener may require TLS or SASL: check \"security.protocol\" in `client` and the port in `brokers`";
const MECHANISM: &str = "check \"sasl.mechanism\" in `client`";
const TOKEN: &str = "the broker rejected the token: check \"sasl.oauthbearer.config\" in `client`";

fn advice(reason: &str) -> Option<&'static str> {
    DIAGNOSES.iter().find(|(fragment, _)| reason.contains(fragment)).map(|(_, advice)| *advice)
}

/// Appends advice to one of librdkafka's reasons, if there is any.
pub(crate) fn diagnose(reason: &str) -> String {
    match advice(reason) {
        Some(advice) => format!("{reason}; {advice}"),
        None => reason.to_string(),
    }
}

/// True if a log line reports that the connection to the transaction coordinator broke, or that a request to it timed
/// out. The client logs this before it repeats the request.
pub(crate) fn is_coordinator_failure(facility: &str, line: &str) -> bool {
    matches!(facility, "FAIL" | "REQTMOUT") && line.contains("TxnCoordinator")
}

/// Removes the `[thrd:NAME]: ` prefix of a log line.
fn without_thread(line: &str) -> &str {
    line.rsplit_once("]: ").map_or(line, |(_, message)| message)
}

/// Secrets of all clusters in this process, the longest first. Global, because a context exists before its properties
/// are known, and a log line must not contain the secret of another cluster either.
static SECRETS: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// Shorter values are not secrets, and redacting them would garble every line.
const SECRET_LENGTH_MIN: usize = 4;

/// Makes [`redact`] replace the secrets in these properties. librdkafka hides the properties that it knows to be
/// secret, but quotes all others, and a password may be in the wrong one.
pub(crate) fn register_secrets(properties: &ClientProperties) {
    let values = properties.iter().filter(|(name, value)| is_secret(name, value)).map(|(_, value)| value);
    let mut secrets = SECRETS.write().expect("no holder panics");
    for value in values.filter(|value| value.len() >= SECRET_LENGTH_MIN) {
        if !secrets.contains(value) {
            secrets.push(value.clone());
        }
    }
    secrets.sort_by_key(|value| std::cmp::Reverse(value.len()));
}

pub(crate) fn redact(line: &str) -> Cow<'_, str> {
    let secrets = SECRETS.read().expect("no holder panics");
    let secrets = secrets.iter().filter(|secret| line.contains(secret.as_str()));
    secrets.fold(Cow::Borrowed(line), |line, secret| Cow::Owned(line.replace(secret.as_str(), REDACTED)))
}

/// Client context that forwards log lines to `tracing` and remembers the last failure, to explain later errors.
#[derive(Default)]
pub(crate) struct ClientLog {
    last_failure: Mutex<Option<String>>,
    rejection: Mutex<Option<String>>,
    /// The caller reports failures in its error, so they are not logged as warnings as well.
    is_probe: bool,
}

impl ClientLog {
    /// For a client that asks a question and ends.
    pub fn probe() -> Self {
        Self { is_probe: true, ..Self::default() }
    }

    pub fn last_failure(&self) -> Option<String> {
        self.last_failure.lock().expect("no holder panics").clone()
    }

    /// The reason why the cluster rejected the client, which a retry does not change. Only meaningful at the start:
    /// later it may be a handshake interrupted by a restarting broker.
    pub fn rejection(&self) -> Option<String> {
        self.rejection.lock().expect("no holder panics").clone()
    }

    fn record_failure(&self, reason: &str) {
        let mut last = self.last_failure.lock().expect("no holder panics");
        // To a probe, a reason with known advice explains more than its consequences.
        let is_better = |last: &String| advice(last).is_some() && advice(reason).is_none();
        if !(self.is_probe && last.as_ref().is_some_and(is_better)) {
            *last = Some(reason.to_string());
        }
    }
}

impl ClientContext for ClientLog {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        oauth::refresh_token(config)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        use RDKafkaLogLevel::*;
        let line = redact(line);
        match level {
            Emerg | Alert | Critical | Error => self.record_failure(without_thread(&line)),
            // A closed connection is no error to the client, which reconnects. To a probe it may be the reason.
            Warning | Notice | Info if self.is_probe && facility == "FAIL" => {
                self.record_failure(without_thread(&line));
            }
            _ => {}
        }
        match level {
            Emerg | Alert | Critical | Error | Warning if !self.is_probe => {
                tracing::warn!(target: "tidecast::kafka", "{facility} {line}");
            }
            Debug => tracing::debug!(target: "tidecast::kafka", "{facility} {line}"),
            _ => tracing::info!(target: "tidecast::kafka", "{facility} {line}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let reason = &redact(reason);
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::PartitionEOF) => return,
            // A consequence of the failure of each broker, which is the better explanation.
            Some(RDKafkaErrorCode::AllBrokersDown) if self.last_failure().is_some() => {}
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL) => {
                *self.rejection.lock().expect("no holder panics") = Some(reason.to_string());
                self.record_failure(reason);
            }
            _ => self.record_failure(reason),
        }
        tracing::debug!(target: "tidecast::kafka", "{error}: {reason}");
    }
}

impl ConsumerContext for ClientLog {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::Arc;

    use anyhow::Context as _;
    use rdkafka::ClientConfig;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{
        BaseProducer, BaseRecord, DefaultProducerContext, DeliveryResult, Producer, ProducerContext,
    };

    use super::*;
    use crate::Cluster;
    use crate::settings::Brokers;

    #[test]
    fn text_is_that_of_the_pinned_client_version() {
        let (_, version) = rdkafka::util::get_rdkafka_version();
        assert_eq!(
            version, "2.12.1",
            "check every text in this module against the new librdkafka, then pin it here"
        );
    }

    /// The error of a client with these properties, from a server that answers every connection with `answer`.
    fn connection_error(answer: &'static [u8], properties: &[(&str, &str)]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let _ = stream.read(&mut [0; 512]);
                let _ = stream.write_all(answer);
            }
        });
        let properties = properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let properties = ClientProperties::from(properties.collect::<BTreeMap<_, _>>());
        let cluster = Cluster::new(&Brokers::Addresses(address), None, &properties).unwrap();
        cluster.require_topic("any").unwrap_err().to_string()
    }

    #[test]
    fn rejected_connections_are_diagnosed_from_their_real_texts() {
        let closed_at_once = connection_error(b"", &[]);
        assert!(closed_at_once.contains(TLS), "{closed_at_once}");
        let no_tls = connection_error(b"not TLS\n", &[("security.protocol", "ssl")]);
        assert!(no_tls.contains(NO_TLS), "{no_tls}");
        let ca = [("security.protocol", "ssl"), ("ssl.ca.location", "/nowhere.pem")];
        let no_ca = connection_error(b"", &ca);
        assert!(no_ca.contains("must be a file of certificates"), "{no_ca}");
    }

    /// Records the lines that [`is_coordinator_failure`] recognizes.
    #[derive(Clone, Default)]
    struct CoordinatorFailures(Arc<Mutex<Vec<String>>>);

    impl ClientContext for CoordinatorFailures {
        fn log(&self, _: RDKafkaLogLevel, facility: &str, line: &str) {
            if is_coordinator_failure(facility, line) {
                self.0.lock().unwrap().push(format!("{facility} {line}"));
            }
        }
    }

    impl ProducerContext for CoordinatorFailures {
        type DeliveryOpaque = ();

        fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
    }

    /// Disturbs the coordinator of an open transaction. Returns the first line that is recognized as its failure.
    fn coordinator_failure(disturb: impl FnOnce(&MockCluster<'_, DefaultProducerContext>)) -> String {
        let mock = MockCluster::new(1).unwrap();
        let failures = CoordinatorFailures::default();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", mock.bootstrap_servers()).set("transactional.id", "id");
        config.set("socket.timeout.ms", "1000").set_log_level(RDKafkaLogLevel::Info);
        let producer: BaseProducer<_> = config.create_with_context(failures.clone()).unwrap();
        producer.init_transactions(Duration::from_secs(20)).unwrap();
        producer.begin_transaction().unwrap();
        let record = BaseRecord::<str, str>::to("topic").payload("value");
        producer.send(record).map_err(|(error, _)| error).unwrap();
        producer.flush(Duration::from_secs(20)).unwrap();
        assert!(failures.0.lock().unwrap().is_empty());
        disturb(&mock);
        let _ = producer.commit_transaction(Duration::from_secs(4));
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(line) = failures.0.lock().unwrap().first() {
                return line.clone();
            }
            assert!(Instant::now() < deadline, "the client did not log the failure");
            producer.poll(Duration::from_millis(20));
        }
    }

    #[test]
    fn failures_of_the_coordinator_are_recognized_in_real_log_lines() {
        let disconnected = coordinator_failure(|mock| mock.broker_down(1).unwrap());
        assert!(disconnected.starts_with("FAIL "), "{disconnected}");
        let timed_out =
            coordinator_failure(|mock| mock.broker_round_trip_time(1, Duration::from_secs(10)).unwrap());
        assert!(timed_out.starts_with("REQTMOUT "), "{timed_out}");
    }

    #[test]
    fn transient_errors_are_retried_and_others_returned() {
        let errors = [RDKafkaErrorCode::DestroyBroker, RDKafkaErrorCode::TopicAuthorizationFailed];
        let mut errors = errors.into_iter().map(KafkaError::MetadataFetch);
        let result = retry_transient(|| {
            Err::<(), _>(errors.next().expect("no third request"))
                .context("reading the first and last offset")
        });
        assert!(format!("{:#}", result.unwrap_err()).contains("Topic authorization failed"));
    }

    #[test]
    fn registered_secrets_are_redacted() {
        let given =
            [("sasl.password", "tide-7"), ("ssl.key.password", "tide-7-and-more"), ("debug", "broker")];
        let given = given.map(|(name, value)| (name.to_string(), value.to_string()));
        register_secrets(&BTreeMap::from(given).into());
        assert_eq!(redact("broker: tide-7-and-more, then tide-7"), "broker: ***, then ***");
    }
}
