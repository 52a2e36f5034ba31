//! Exactly once: forecasts, scores, rejects and positions in one transaction.
//!
//! Output stays in the outbox until its commit is known. An aborted transaction is sent again, without the partitions
//! that are no longer owned. After a commit or an abort without a clear answer, the producer is replaced: librdkafka
//! speaks the protocol before KIP-890, in which a delayed request of one transaction may end the next one. A new
//! producer with the same id first ends the open transaction; then the group's committed positions show how it ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaError, RDKafkaErrorCode};
use rdkafka::producer::{Producer as _, ThreadedProducer};
use tidecast_stream::{Output, Partition, Positions, Sink};
use tokio::task::spawn_blocking;

use crate::errors::has_transient_cause;
use crate::group::{Committable, permanent_commit_advice};
use crate::producer::{DeliveryFailure, DeliveryTracker, Producer};
use crate::settings::KafkaSinkConfig;
use crate::sink::{Outbox, SinkTopics};
use crate::{Cluster, Group};

/// Maximum duration of a commit. The open transaction of a dead process blocks its readers for as long.
const TRANSACTION_TIMEOUT_MS: &str = "10000";
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout of a single call, which is repeated after retriable errors.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum time for the repetitions of a call; then the producer is replaced.
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);
/// After this time a call hangs (`send_offsets_to_transaction` ignores its timeout), and its producer is abandoned.
const HANG_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum time for the first start: brokers that are starting still elect coordinators.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const RETRY_DELAY_MIN: Duration = Duration::from_millis(2);
const RETRY_DELAY: Duration = Duration::from_millis(50);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(1);
/// A second fencing within this time, without a timeout, means that another process has the same instance.
const FENCING_WINDOW: Duration = Duration::from_secs(60);

pub struct TransactionalKafkaSink {
    cluster: Cluster,
    transactional_id: String,
    group: Group,
    topics: SinkTopics,
    producer: Producer,
    outbox: Outbox,
    /// Number of messages of the outbox in the open transaction.
    sent: usize,
    /// When the open transaction began.
    began: Option<Instant>,
    /// Why the open transaction can no longer be committed.
    abort_reason: Option<String>,
    last_fenced: Option<Instant>,
}

/// Why a transaction was not committed.
enum TxnFailure {
    /// Nothing is committed. After an abort the producer can continue.
    Abortable(KafkaError),
    /// It may be committed or not, or the producer is unusable.
    InDoubt(KafkaError),
    /// A message has not arrived. Nothing is committed.
    Undelivered(anyhow::Error),
    CallTimeout,
}

/// Result of a blocking call of the client.
enum CallOutcome {
    Ok,
    Failed(KafkaError),
    /// The call still hangs.
    TimedOut,
}

/// Result of one attempt to commit.
enum Attempt {
    Committed(Positions),
    /// Nothing is committed, and another attempt is due.
    Retry,
}

impl TransactionalKafkaSink {
    /// Creates missing topics with `partitions` partitions, and ends the open transaction of an earlier process of this
    /// instance.
    ///
    /// # Errors
    /// If no broker answers, a topic cannot be created, or this user may not use transactions.
    pub async fn open(
        cluster: &Cluster,
        config: &KafkaSinkConfig,
        partitions: i32,
        group: Group,
        instance: &str,
    ) -> Result<Self> {
        let topics = SinkTopics::ensure(cluster, config, partitions).await?;
        let transactional_id = format!("{}/{instance}", group.name());
        let producer =
            tokio::time::timeout(START_TIMEOUT, start_producer(cluster, &transactional_id, &group));
        let producer = producer.await.with_context(|| {
            format!(
                "transactions of `{transactional_id}` could not be started within {} s; check that the brokers' topic \
                 __transaction_state and its replicas are available (delivery = \"at_least_once\" needs no transactions)",
                START_TIMEOUT.as_secs()
            )
        })??;
        Ok(Self {
            cluster: cluster.clone(),
            transactional_id,
            group,
            topics,
            producer,
            outbox: Outbox::default(),
            sent: 0,
            began: None,
            abort_reason: None,
            last_fenced: None,
        })
    }

    /// Begins a transaction if none is open.
    async fn ensure_transaction(&mut self) -> Result<()> {
        if self.began.is_some() {
            return Ok(());
        }
        if self.producer.has_lost_coordinator() {
            tracing::info!(
                id = self.transactional_id,
                "the connection to the transaction coordinator broke, and a request may have been sent twice; replacing \
                 the producer"
            );
            self.recreate_producer().await?;
        }
        if let Err(error) = self.producer.client().begin_transaction() {
            tracing::warn!(
                id = self.transactional_id,
                "cannot begin a transaction: {error}; replacing the producer"
            );
            self.recreate_producer().await?;
            self.producer.client().begin_transaction()?;
        }
        self.began = Some(Instant::now());
        tracing::debug!(id = self.transactional_id, "transaction begun");
        Ok(())
    }

    /// Sends the messages of the outbox that are not in the transaction yet.
    async fn send(&mut self) -> Result<()> {
        if self.abort_reason.is_some() {
            return Ok(());
        }
        self.ensure_transaction().await?;
        while self.sent < self.outbox.len() {
            let (message, headers) = self.outbox.get(self.sent);
            if let Err(error) = self.producer.send(message, headers).await {
                self.check_delivery()?;
                let is_permanent = |error: &KafkaError| DeliveryFailure::new("", None, error).is_permanent;
                if error.downcast_ref::<KafkaError>().is_some_and(is_permanent) {
                    return Err(error);
                }
                self.abort_reason = Some(format!("{error:#}"));
                return Ok(());
            }
            self.sent += 1;
        }
        Ok(())
    }

    /// # Errors
    /// If the delivery of a message has failed permanently.
    fn check_delivery(&self) -> Result<()> {
        match self.producer.failure() {
            Some(failure) if failure.is_permanent => Err(anyhow!("{}", failure.reason)),
            _ => Ok(()),
        }
    }

    async fn try_commit(&mut self, reached: &Positions) -> Result<Attempt> {
        // Before the owned partitions: a later revocation makes the membership stale, and the coordinator refuses it.
        let Some(membership) = self.group.membership()? else { return Ok(Attempt::Retry) };
        let committable = self.group.committable(reached)?;
        let owned = committable.positions.clone();
        if owned.len() < reached.len() {
            self.discard_unowned(&owned).await?;
        }
        // The driver passes `reached` for every partition with queued output, so nothing is queued here: a partition that is
        // not owned was discarded above.
        if owned.is_empty() {
            return Ok(Attempt::Committed(owned));
        }
        self.send().await?;
        if let Some(reason) = self.abort_reason.take() {
            tracing::warn!(id = self.transactional_id, "transaction aborted, to be sent again: {reason}");
            self.abort().await?;
            return Ok(Attempt::Retry);
        }
        match self.end_transaction(committable, membership).await? {
            Ok(()) => Ok(Attempt::Committed(owned)),
            Err(failure) => self.handle_failure(failure, &owned).await,
        }
    }

    async fn handle_failure(&mut self, failure: TxnFailure, owned: &Positions) -> Result<Attempt> {
        self.check_delivery()?;
        let id = &self.transactional_id;
        match failure {
            TxnFailure::Abortable(error) | TxnFailure::InDoubt(error) if is_permanent(&error) => {
                let advice = permanent_commit_advice(code(&error));
                let context =
                    format!("group `{}`: the positions cannot be committed ({advice})", self.group.name());
                return Err(anyhow!(error).context(context));
            }
            TxnFailure::Abortable(error) => {
                tracing::info!(id, "transaction aborted, to be sent again: {error}")
            }
            TxnFailure::Undelivered(error) => {
                tracing::warn!(id, "transaction aborted, to be sent again: {error:#}")
            }
            TxnFailure::InDoubt(error) => {
                self.check_fenced(&error)?;
                tracing::warn!(
                    id = self.transactional_id,
                    "transaction in doubt: {error}; replacing the producer"
                );
                return self.resolve_in_doubt(owned).await;
            }
            TxnFailure::CallTimeout => {
                tracing::warn!(id, "transaction in doubt: the kafka client hangs; replacing the producer");
                return self.resolve_in_doubt(owned).await;
            }
        }
        self.abort().await?;
        Ok(Attempt::Retry)
    }

    /// Adds the positions to the transaction and commits it. Waits for the deliveries in between: the client's own
    /// wait, in the committing call, checks them only ten times a second.
    async fn end_transaction(
        &self,
        committable: Committable,
        membership: ConsumerGroupMetadata,
    ) -> Result<Result<(), TxnFailure>> {
        let start = Instant::now();
        let list = committable.list;
        let send_offsets = move |client: &ThreadedProducer<DeliveryTracker>| {
            client.send_offsets_to_transaction(&list, &membership, CALL_TIMEOUT)
        };
        match call(self.producer.client(), send_offsets).await? {
            CallOutcome::Ok => {}
            CallOutcome::Failed(KafkaError::Transaction(error)) if error.txn_requires_abort() => {
                return Ok(Err(TxnFailure::Abortable(KafkaError::Transaction(error))));
            }
            CallOutcome::Failed(error) => return Ok(Err(TxnFailure::InDoubt(error))),
            CallOutcome::TimedOut => return Ok(Err(TxnFailure::CallTimeout)),
        }
        let positions = start.elapsed();
        if let Err(error) = self.producer.flush().await {
            return Ok(Err(TxnFailure::Undelivered(error)));
        }
        let messages = start.elapsed() - positions;
        let outcome = call(self.producer.client(), |client| client.commit_transaction(CALL_TIMEOUT)).await?;
        let end = start.elapsed() - positions - messages;
        tracing::debug!(id = self.transactional_id, ?positions, ?messages, ?end, "transaction ended");
        Ok(match outcome {
            CallOutcome::Ok => Ok(()),
            CallOutcome::Failed(error) => Err(TxnFailure::InDoubt(error)),
            CallOutcome::TimedOut => Err(TxnFailure::CallTimeout),
        })
    }

    /// Removes the output of partitions that are no longer owned.
    async fn discard_unowned(&mut self, owned: &Positions) -> Result<()> {
        let before = self.outbox.len();
        self.outbox.retain(|partition| owned.contains_key(partition));
        if self.outbox.len() < before { self.abort().await } else { Ok(()) }
    }

    /// Aborts the open transaction, so that the whole outbox is sent again.
    async fn abort(&mut self) -> Result<()> {
        (self.sent, self.abort_reason) = (0, None);
        if self.began.is_none() {
            return Ok(());
        }
        match call(self.producer.client(), |client| client.abort_transaction(CALL_TIMEOUT)).await? {
            CallOutcome::Ok => {
                self.began = None;
                self.producer.clear_failure();
            }
            CallOutcome::Failed(error) => {
                self.check_fenced(&error)?;
                tracing::warn!(id = self.transactional_id, "abort in doubt: {error}; replacing the producer");
                self.recreate_producer().await?;
            }
            CallOutcome::TimedOut => self.recreate_producer().await?,
        }
        Ok(())
    }

    /// Replaces the producer and reads how the transaction ended. What is not committed is sent again.
    async fn resolve_in_doubt(&mut self, positions: &Positions) -> Result<Attempt> {
        self.recreate_producer().await?;
        let numbers: Vec<i32> = positions.keys().map(|partition| partition.number).collect();
        let committed = loop {
            let (group, numbers) = (self.group.clone(), numbers.clone());
            match spawn_blocking(move || group.committed(&numbers)).await? {
                Ok(committed) => break committed,
                Err(error) if has_transient_cause(&error) => {
                    tracing::warn!(id = self.transactional_id, "{error:#}; retrying");
                    tokio::time::sleep(RETRY_DELAY_MAX).await;
                }
                Err(error) => return Err(error),
            }
        };
        let is_committed = |partition: &Partition, position| {
            let committed = committed.get(&partition.number).and_then(Option::as_ref);
            committed.is_some_and(|committed| committed.position >= position)
        };
        self.outbox.retain(|partition| {
            positions.get(partition).is_some_and(|position| !is_committed(partition, *position))
        });
        let committed = positions.iter().all(|(partition, position)| is_committed(partition, *position));
        tracing::info!(id = self.transactional_id, committed, "transaction resolved");
        Ok(if committed { Attempt::Committed(positions.clone()) } else { Attempt::Retry })
    }

    /// Starts a producer with the same id, which commits or aborts the open transaction of the previous one.
    async fn recreate_producer(&mut self) -> Result<()> {
        (self.sent, self.began, self.abort_reason) = (0, None, None);
        let new = start_producer(&self.cluster, &self.transactional_id, &self.group).await?;
        let old = std::mem::replace(&mut self.producer, new);
        // Destroying it takes a moment, or forever.
        drop(spawn_blocking(move || drop(old)));
        Ok(())
    }

    /// A broker fences a producer whose transaction has timed out, or whose id has a newer producer. The first is our
    /// own delay; the second, if it repeats, is another process.
    ///
    /// # Errors
    /// If another process has the same transactional id.
    fn check_fenced(&mut self, error: &KafkaError) -> Result<()> {
        let has_timed_out = self.began.is_some_and(|began| began.elapsed() >= TRANSACTION_TIMEOUT);
        if !is_fenced(error) || has_timed_out {
            return Ok(());
        }
        if self.last_fenced.is_some_and(|last| last.elapsed() < FENCING_WINDOW) {
            bail!(
                "another process runs with the transactional id `{}`: give every process of the group its own `instance` in \
                 [source.kafka], and restart this one",
                self.transactional_id
            );
        }
        self.last_fenced = Some(Instant::now());
        Ok(())
    }
}

impl Sink for TransactionalKafkaSink {
    async fn write(&mut self, output: Output) -> Result<()> {
        self.outbox.add(&output, &self.topics)?;
        if self.sent < self.outbox.len() { self.send().await } else { Ok(()) }
    }

    async fn commit(&mut self, reached: &Positions) -> Result<Positions> {
        let mut delay = RETRY_DELAY;
        loop {
            if let Attempt::Committed(positions) = self.try_commit(reached).await? {
                tracing::debug!(
                    id = self.transactional_id,
                    messages = self.outbox.len(),
                    "transaction committed"
                );
                self.outbox.clear();
                (self.sent, self.began) = (0, None);
                return Ok(positions);
            }
            // A rebalance, or a broker that restarts, takes a moment.
            tokio::time::sleep(delay).await;
            delay = (2 * delay).min(RETRY_DELAY_MAX);
        }
    }

    async fn discard(&mut self, partitions: &[Partition]) -> Result<()> {
        let before = self.outbox.len();
        self.outbox.retain(|partition| !partitions.contains(partition));
        if self.outbox.len() < before { self.abort().await } else { Ok(()) }
    }

    async fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Starts a producer, which fences all earlier ones with its id. Retries for as long as the brokers do not answer.
async fn start_producer(cluster: &Cluster, transactional_id: &str, group: &Group) -> Result<Producer> {
    let settings = [
        ("transactional.id", transactional_id),
        ("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS),
        ("message.timeout.ms", TRANSACTION_TIMEOUT_MS),
    ];
    loop {
        let producer = Producer::with_settings(cluster, &settings)?;
        let error = match call(producer.client(), |client| client.init_transactions(CALL_TIMEOUT)).await? {
            CallOutcome::Ok => return Ok(producer),
            CallOutcome::Failed(error) if is_permanent(&error) => {
                return Err(anyhow!(error).context(format!(
                    "transactions of `{transactional_id}` cannot be started: grant this user WRITE on this transactional \
                     id, or set delivery = \"at_least_once\""
                )));
            }
            CallOutcome::Failed(error) => error.to_string(),
            CallOutcome::TimedOut => "no answer".to_owned(),
        };
        let failure = producer.last_client_failure().unwrap_or_default();
        tracing::warn!(
            id = transactional_id,
            group = group.name(),
            "transactions cannot be started: {error} {failure}; retrying"
        );
        drop(spawn_blocking(move || drop(producer)));
        tokio::time::sleep(RETRY_DELAY_MAX).await;
    }
}

/// Makes a blocking call, repeated after retriable errors for up to [`RETRY_TIMEOUT`].
async fn call(
    client: Arc<ThreadedProducer<DeliveryTracker>>,
    call: impl Fn(&ThreadedProducer<DeliveryTracker>) -> Result<(), KafkaError> + Send + 'static,
) -> Result<CallOutcome> {
    let calls = spawn_blocking(move || {
        let deadline = Instant::now() + RETRY_TIMEOUT;
        let mut delay = RETRY_DELAY_MIN;
        loop {
            match call(&client) {
                Err(KafkaError::Transaction(error)) if error.is_retriable() && Instant::now() < deadline => {
                    tracing::debug!("retrying: {error}");
                    std::thread::sleep(delay);
                    delay = (2 * delay).min(RETRY_DELAY);
                }
                result => return result,
            }
        }
    });
    Ok(match tokio::time::timeout(HANG_TIMEOUT, calls).await {
        Ok(result) => match result? {
            Ok(()) => CallOutcome::Ok,
            Err(error) => CallOutcome::Failed(error),
        },
        Err(_) => CallOutcome::TimedOut,
    })
}

fn code(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    match error {
        KafkaError::Transaction(transaction) => Some(RDKafkaError::code(transaction)),
        other => other.rdkafka_error_code(),
    }
}

fn is_fenced(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::*;
    matches!(code(error), Some(Fenced | ProducerFenced | InvalidProducerEpoch | FencedInstanceId))
}

/// True if another attempt would fail again.
fn is_permanent(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::*;
    matches!(
        code(error),
        Some(
            TransactionalIdAuthorizationFailed
                | ClusterAuthorizationFailed
                | TopicAuthorizationFailed
                | GroupAuthorizationFailed
                | MessageSizeTooLarge
                | InvalidMessageSize
                | UnsupportedFeature
                | InvalidTransactionTimeout
        )
    )
}
