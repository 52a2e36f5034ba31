//! Forecasts, rejects and positions in one transaction: exactly once.
//!
//! Output stays in the outbox until its commit is known. A transaction that is aborted is sent again with what is still
//! ours. Where a commit or an abort gives no clear answer, the producer is given up: librdkafka speaks the old protocol, in
//! which a late request of one transaction may end the next. A new producer of the same id first settles what was open;
//! then the group's committed positions say what became of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaError, RDKafkaErrorCode};
use rdkafka::producer::{Producer as _, ThreadedProducer};
use tokio::task::spawn_blocking;

use super::commits::remedy_of;
use super::outbox::{Outbox, Topics};
use super::passing::is_passing_within;
use super::producer::{Deliveries, Failure, Producer};
use super::sink::ensure_topics;
use super::{Cluster, Group};
use crate::config;
use tidecast_stream::{Output, Partition, Positions, Sink};

/// How long an open transaction of a process that has died holds up those who read after it; and the longest that a
/// commit may take.
const TRANSACTION_TIMEOUT: &str = "10000";
const TIMED_OUT: Duration = Duration::from_secs(10);
/// How long one call waits; it is made again where that may help.
const CALL: Duration = Duration::from_secs(5);
/// How long calls are made again before the producer is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// After this a call hangs (`send_offsets_to_transaction` keeps to no timeout): its producer is left to it.
const HANGS: Duration = Duration::from_secs(60);
/// How long the first start may take: brokers that start elect coordinators, too.
const OPENING: Duration = Duration::from_secs(60);
/// Between two attempts.
const SHORT_PAUSE: Duration = Duration::from_millis(2);
const PAUSE: Duration = Duration::from_millis(50);
const LONG_PAUSE: Duration = Duration::from_secs(1);
/// Fenced off twice in this time without having been late: there is another process of this instance.
const RIVALRY: Duration = Duration::from_secs(60);

pub struct KafkaTransactions {
    cluster: Cluster,
    id: String,
    group: Group,
    topics: Topics,
    producer: Producer,
    outbox: Outbox,
    /// How much of the outbox is in the open transaction.
    sent: usize,
    /// When the open transaction began.
    began: Option<Instant>,
    /// The open transaction cannot be committed any more, for this reason.
    spoilt: Option<String>,
    fenced: Option<Instant>,
}

/// Why a transaction is not committed.
enum Trouble {
    /// Nothing is committed; after an abort the producer may go on.
    Abort(KafkaError),
    /// It may be committed or not, or the producer is of no use any more.
    Unknown(KafkaError),
    /// A message has not arrived; nothing is committed.
    Undelivered(anyhow::Error),
    Hangs,
}

type Client = Arc<ThreadedProducer<Deliveries>>;

impl KafkaTransactions {
    /// Creates the topics that are missing, with `partitions` partitions, and settles what an earlier process of this
    /// instance left open.
    ///
    /// # Errors
    /// When no broker answers, a topic cannot be created, or the brokers have no transactions for this user.
    pub async fn open(
        cluster: &Cluster,
        config: &config::KafkaSink,
        partitions: i32,
        group: Group,
        instance: &str,
    ) -> Result<Self> {
        let topics = ensure_topics(cluster, config, partitions).await?;
        let id = format!("{}/{instance}", group.name());
        let started = tokio::time::timeout(OPENING, started(cluster, &id, &group));
        let producer = started.await.with_context(|| {
            format!(
                "transactions of `{id}` could not be started within {} s; are the brokers' __transaction_state and its \
                 replication there? (delivery = \"at_least_once\" goes without)",
                OPENING.as_secs()
            )
        })??;
        Ok(Self {
            cluster: cluster.clone(),
            id,
            group,
            topics,
            producer,
            outbox: Outbox::default(),
            sent: 0,
            began: None,
            spoilt: None,
            fenced: None,
        })
    }

    /// Puts into the transaction what is in the outbox and not in it yet.
    async fn send(&mut self) -> Result<()> {
        if self.spoilt.is_some() {
            return Ok(());
        }
        if self.began.is_none() {
            if self.producer.has_broken() {
                tracing::info!(id = self.id, "an end may have been sent twice: a new producer goes on");
                self.renew().await?;
            }
            if let Err(error) = self.producer.client().begin_transaction() {
                tracing::warn!(id = self.id, "no transaction can be begun: {error}; a new producer may");
                self.renew().await?;
                self.producer.client().begin_transaction()?;
            }
            self.began = Some(Instant::now());
            tracing::debug!(id = self.id, "transaction begun");
        }
        while self.sent < self.outbox.len() {
            let (message, headers) = self.outbox.get(self.sent);
            if let Err(error) = self.producer.send(message, headers).await {
                self.blame()?;
                let fails_again = |error: &KafkaError| Failure::of("", None, error).is_permanent;
                if error.downcast_ref::<KafkaError>().is_some_and(fails_again) {
                    return Err(error);
                }
                self.spoilt = Some(format!("{error:#}"));
                return Ok(());
            }
            self.sent += 1;
        }
        Ok(())
    }

    /// # Errors
    /// If a message has failed that would fail again.
    fn blame(&self) -> Result<()> {
        match self.producer.failure() {
            Some(failure) if failure.is_permanent => Err(anyhow!("{}", failure.reason)),
            _ => Ok(()),
        }
    }

    /// One attempt. `None` where nothing is committed and another attempt is due.
    async fn attempt(&mut self, reached: &Positions) -> Result<Option<Positions>> {
        // The membership first: whatever leaves after it makes it stale, and it is refused.
        let Some(membership) = self.group.membership()? else { return Ok(None) };
        let (list, ours) = self.group.ours(reached)?;
        if ours.len() < reached.len() {
            self.drop_others(&ours).await?;
        }
        if ours.is_empty() {
            return Ok(Some(ours));
        }
        self.send().await?;
        let trouble = match self.spoilt.take() {
            Some(reason) => {
                tracing::warn!(id = self.id, "transaction aborted, to be sent again: {reason}");
                return self.abort().await.map(|()| None);
            }
            None => match self.end(list, membership).await? {
                Ok(()) => return Ok(Some(ours)),
                Err(trouble) => trouble,
            },
        };
        self.blame()?;
        match trouble {
            Trouble::Abort(error) | Trouble::Unknown(error) if is_permanent(&error) => {
                let what = format!("the positions cannot be committed ({})", remedy_of(code(&error)));
                Err(anyhow!(error).context(format!("group `{}`: {what}", self.group.name())))
            }
            Trouble::Abort(error) => {
                tracing::info!(id = self.id, "transaction aborted, to be sent again: {error}");
                self.abort().await.map(|()| None)
            }
            Trouble::Undelivered(error) => {
                tracing::warn!(id = self.id, "transaction aborted, to be sent again: {error:#}");
                self.abort().await.map(|()| None)
            }
            Trouble::Unknown(error) => {
                self.heed_fence(&error)?;
                tracing::warn!(id = self.id, "transaction in doubt: {error}; a new producer settles it");
                self.settle(&ours).await
            }
            Trouble::Hangs => {
                tracing::warn!(
                    id = self.id,
                    "the kafka client hangs in a transaction; a new producer settles it"
                );
                self.settle(&ours).await
            }
        }
    }

    /// Positions into the transaction, then its end. Waits for the messages in between: the client's own waiting, in the
    /// call that ends the transaction, looks only ten times a second.
    async fn end(
        &self,
        list: TopicPartitionList,
        membership: ConsumerGroupMetadata,
    ) -> Result<Result<(), Trouble>> {
        let began = Instant::now();
        let offsets = call(self.producer.client(), move |client| {
            client.send_offsets_to_transaction(&list, &membership, CALL)
        });
        match offsets.await? {
            Ok(Ok(())) => {}
            Ok(Err(KafkaError::Transaction(error))) if error.txn_requires_abort() => {
                return Ok(Err(Trouble::Abort(KafkaError::Transaction(error))));
            }
            Ok(Err(error)) => return Ok(Err(Trouble::Unknown(error))),
            Err(Hanging) => return Ok(Err(Trouble::Hangs)),
        }
        let positions = began.elapsed();
        if let Err(error) = self.producer.settle().await {
            return Ok(Err(Trouble::Undelivered(error)));
        }
        let messages = began.elapsed() - positions;
        let ended = call(self.producer.client(), |client| client.commit_transaction(CALL)).await?;
        let end = began.elapsed() - positions - messages;
        tracing::debug!(id = self.id, ?positions, ?messages, ?end, "transaction ended");
        Ok(match ended {
            Ok(ended) => ended.map_err(Trouble::Unknown),
            Err(Hanging) => Err(Trouble::Hangs),
        })
    }

    /// Takes out of the transaction what came of partitions that are not ours any more.
    async fn drop_others(&mut self, ours: &Positions) -> Result<()> {
        let before = self.outbox.len();
        self.outbox.retain(|partition| ours.contains_key(partition));
        if self.outbox.len() < before { self.abort().await } else { Ok(()) }
    }

    /// Undoes the open transaction; all of the outbox is to be sent again.
    async fn abort(&mut self) -> Result<()> {
        (self.sent, self.spoilt) = (0, None);
        if self.began.is_none() {
            return Ok(());
        }
        let aborted = call(self.producer.client(), |client| client.abort_transaction(CALL)).await?;
        match aborted {
            Ok(Ok(())) => {
                self.began = None;
                self.producer.forgive();
            }
            Ok(Err(error)) => {
                self.heed_fence(&error)?;
                tracing::warn!(id = self.id, "an abort in doubt: {error}; a new producer settles it");
                self.renew().await?;
            }
            Err(Hanging) => self.renew().await?,
        }
        Ok(())
    }

    /// Finds out what became of a transaction in doubt. What is not committed is to be sent again.
    async fn settle(&mut self, positions: &Positions) -> Result<Option<Positions>> {
        self.renew().await?;
        let numbers: Vec<i32> = positions.keys().map(|partition| partition.number).collect();
        let committed = loop {
            let (group, numbers) = (self.group.clone(), numbers.clone());
            let asked = spawn_blocking(move || group.committed(&numbers)).await?;
            match asked {
                Ok(committed) => break committed,
                Err(error) if is_passing_within(&error) => {
                    tracing::warn!(id = self.id, "{error:#}; asking again");
                    tokio::time::sleep(LONG_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        };
        let is_done = |partition: &Partition, position| {
            let at = committed.get(&partition.number).and_then(Option::as_ref);
            at.is_some_and(|committed| committed.position >= position)
        };
        self.outbox.retain(|partition| {
            positions.get(partition).is_some_and(|position| !is_done(partition, *position))
        });
        let all = positions.iter().all(|(partition, position)| is_done(partition, *position));
        tracing::info!(id = self.id, committed = all, "transaction settled");
        Ok(all.then(|| positions.clone()))
    }

    /// Another producer of the same id: what the one before left open is committed or aborted then.
    async fn renew(&mut self) -> Result<()> {
        (self.sent, self.began, self.spoilt) = (0, None, None);
        let new = started(&self.cluster, &self.id, &self.group).await?;
        let old = std::mem::replace(&mut self.producer, new);
        // To end it takes a moment, or for ever.
        drop(spawn_blocking(move || drop(old)));
        Ok(())
    }

    /// The broker fences a producer off whose transaction has timed out, or of whose id there is a newer one. The first is
    /// our own lateness; the second, if it goes on, is a rival.
    fn heed_fence(&mut self, error: &KafkaError) -> Result<()> {
        if !is_fenced(error) {
            return Ok(());
        }
        let late = self.began.is_some_and(|began| began.elapsed() >= TIMED_OUT);
        if late {
            return Ok(());
        }
        if self.fenced.is_some_and(|before| before.elapsed() < RIVALRY) {
            bail!(
                "another process runs with the transactional id `{}`: give every process of the group an `instance` of \
                 its own in [source.kafka], and start this one again",
                self.id
            );
        }
        self.fenced = Some(Instant::now());
        Ok(())
    }
}

impl Sink for KafkaTransactions {
    async fn write(&mut self, output: Output) -> Result<()> {
        self.outbox.add(&output, &self.topics)?;
        if self.sent < self.outbox.len() { self.send().await } else { Ok(()) }
    }

    async fn commit(&mut self, reached: &Positions) -> Result<Positions> {
        let mut pause = PAUSE;
        loop {
            if let Some(positions) = self.attempt(reached).await? {
                tracing::debug!(id = self.id, messages = self.outbox.len(), "transaction committed");
                self.outbox.clear();
                (self.sent, self.began) = (0, None);
                return Ok(positions);
            }
            // A rebalance under way, or a broker that restarts, takes a moment.
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(LONG_PAUSE);
        }
    }

    async fn forget(&mut self, partitions: &[Partition]) -> Result<()> {
        let before = self.outbox.len();
        self.outbox.retain(|partition| !partitions.contains(partition));
        if self.outbox.len() < before { self.abort().await } else { Ok(()) }
    }

    async fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A producer whose id is fenced off against all earlier ones. Tries for as long as the brokers do not answer.
async fn started(cluster: &Cluster, id: &str, group: &Group) -> Result<Producer> {
    let settings = [
        ("transactional.id", id),
        ("transaction.timeout.ms", TRANSACTION_TIMEOUT),
        ("message.timeout.ms", TRANSACTION_TIMEOUT),
    ];
    loop {
        let producer = Producer::with(cluster, &settings)?;
        let started = call(producer.client(), |client| client.init_transactions(CALL)).await?;
        let error = match started {
            Ok(Ok(())) => return Ok(producer),
            Ok(Err(error)) if is_permanent(&error) => {
                return Err(anyhow!(error).context(format!(
                    "transactions of `{id}` cannot be started: this user needs the right to write with this transactional \
                     id, or set delivery = \"at_least_once\""
                )));
            }
            Ok(Err(error)) => error.to_string(),
            Err(Hanging) => "no answer".to_owned(),
        };
        let complaint = producer.last_complaint().unwrap_or_default();
        tracing::warn!(
            id,
            group = group.name(),
            "transactions cannot be started: {error} {complaint}; trying again"
        );
        drop(spawn_blocking(move || drop(producer)));
        tokio::time::sleep(LONG_PAUSE).await;
    }
}

struct Hanging;

/// Makes a call that blocks, again for as long as it may help.
async fn call(
    client: Client,
    call: impl Fn(&ThreadedProducer<Deliveries>) -> Result<(), KafkaError> + Send + 'static,
) -> Result<Result<Result<(), KafkaError>, Hanging>> {
    let work = spawn_blocking(move || patiently(Instant::now() + PATIENCE, || call(&client)));
    match tokio::time::timeout(HANGS, work).await {
        Ok(result) => Ok(Ok(result?)),
        Err(_) => Ok(Err(Hanging)),
    }
}

fn patiently(deadline: Instant, mut call: impl FnMut() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
    let mut pause = SHORT_PAUSE;
    loop {
        match call() {
            Err(KafkaError::Transaction(error)) if error.is_retriable() && Instant::now() < deadline => {
                tracing::debug!("to be tried again: {error}");
                std::thread::sleep(pause);
                pause = (2 * pause).min(PAUSE);
            }
            result => return result,
        }
    }
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

/// Trying again would fail again.
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
