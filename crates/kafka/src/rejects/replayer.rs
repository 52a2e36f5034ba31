//! Sends rejects through again: some of them, and how far all are done, in one transaction. What is too large for the topic
//! is passed over, for it would be so again, and all that wait behind it would wait for ever.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext, PurgeConfig};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::{ANSWER, REPLAYS, Rejected, Rejects};
use crate::Cluster;
use crate::client::Logged;
use tidecast_core::series::Refusal;

/// A reject, and the value to send in its place.
type Replayed = (Rejected, Vec<u8>);

pub struct Replayer {
    producer: BaseProducer<Deliveries>,
    group: String,
    reasons: Vec<Refusal>,
}

impl Replayer {
    /// Ends whatever an earlier one left unfinished; open the [`Rejects`] only then.
    pub fn open(cluster: &Cluster, group: &str, reasons: &[Refusal]) -> Result<Self> {
        let group = format!("{group}-rejects");
        let settings = [
            ("transactional.id", group.as_str()),
            ("compression.type", "zstd"),
            // What a replay that died left open holds up the readers of the topic for so long.
            ("transaction.timeout.ms", "30000"),
            // Whoever wrote a message may have been allowed more than our client is by itself: the topic decides.
            ("message.max.bytes", "67108864"),
            // Only one that is too large by itself is refused as that, and not a batch of many.
            ("batch.size", "65536"),
        ];
        let producer: BaseProducer<Deliveries> = cluster.client(&settings, Deliveries::default())?;
        producer.init_transactions(ANSWER).context("taking over from an earlier replay")?;
        Ok(Self { producer, group, reasons: reasons.to_vec() })
    }

    /// Sends messages and notes that all that was read of the rejects is done: both, or neither. Returns how many were passed
    /// over, because they are too large.
    ///
    /// # Errors
    /// Whatever the broker says. Then nothing of this call was sent, or all of it; a new replay finds out.
    pub fn send(&mut self, rejects: &mut Rejects, messages: &[Replayed]) -> Result<usize> {
        for (number, next) in &rejects.reached {
            if let Some(marks) = rejects.marks.get_mut(number) {
                marks.raise(&self.reasons, *next);
            }
        }
        let mut too_large = BTreeSet::new();
        loop {
            let Err(error) = self.transact(rejects, messages, &mut too_large) else {
                return Ok(too_large.len());
            };
            self.undo();
            // A transaction that lost a message is not committed, and this can be sent again without it.
            let refused = self.producer.context().take_too_large();
            if refused.is_empty() {
                return Err(error.context(format!(
                    "group {}: a part of the replay was broken off; start it again, it goes on where it was",
                    self.group
                )));
            }
            for number in refused {
                pass_over(&messages[number].0, &mut too_large, number);
            }
        }
    }

    /// Else the topic's readers wait for its end. That this fails, too, is no news.
    fn undo(&self) {
        self.producer.purge(PurgeConfig::default().queue());
        // The client does not say by itself what became of messages, and does not abort before it has said so.
        let _ = self.producer.flush(ANSWER);
        let _ = self.producer.abort_transaction(ANSWER);
    }

    fn transact(
        &self,
        rejects: &Rejects,
        messages: &[Replayed],
        too_large: &mut BTreeSet<usize>,
    ) -> Result<()> {
        self.producer.begin_transaction()?;
        for (number, message) in messages.iter().enumerate() {
            if !too_large.contains(&number) && !self.produce(rejects, number, message)? {
                pass_over(&message.0, too_large, number);
            }
        }
        let mut list = TopicPartitionList::new();
        for (number, marks) in &rejects.marks {
            let mut element = list.add_partition(&rejects.topic, *number);
            element.set_offset(Offset::Offset(marks.offset()))?;
            element.set_metadata(marks.metadata());
        }
        let group = rejects.consumer.group_metadata().context("the client knows no group")?;
        self.producer.send_offsets_to_transaction(&list, &group, ANSWER)?;
        match self.producer.commit_transaction(ANSWER) {
            // The client asks for the call again; once is enough, for it has waited long.
            Err(KafkaError::Transaction(error)) if error.is_retriable() => {
                Ok(self.producer.commit_transaction(ANSWER)?)
            }
            result => Ok(result?),
        }
    }

    /// Hands a message over; returns whether it was taken, which it is not where it is too large.
    fn produce(&self, rejects: &Rejects, number: usize, (rejected, value): &Replayed) -> Result<bool> {
        let place = format!("{}/{}/{}", rejects.topic, rejected.partition, rejected.offset);
        let count = rejected.replays.saturating_add(1).to_string();
        let headers = OwnedHeaders::new_with_capacity(2)
            .insert(Header { key: "rejected", value: Some(&place) })
            .insert(Header { key: REPLAYS, value: Some(&count) });
        let mut record: BaseRecord<'_, [u8], [u8], usize> =
            BaseRecord::with_opaque_to(&rejects.source, number);
        record.key = rejected.key.as_deref();
        // Where its series lives: the producer that it came from may place keys another way than we do.
        record.partition = Some(rejected.source.number);
        record.payload = Some(value);
        record.headers = Some(headers);
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(true),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    self.producer.poll(Duration::from_millis(100));
                }
                Err((error, _)) if is_too_large(&error) => return Ok(false),
                Err((error, _)) => {
                    return Err(
                        anyhow!(error).context(format!("sending {place} to topic `{}`", rejects.source))
                    );
                }
            }
        }
    }
}

fn is_too_large(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge)
}

/// Says of a message, once, that it is not sent.
fn pass_over(rejected: &Rejected, too_large: &mut BTreeSet<usize>, number: usize) {
    if too_large.insert(number) {
        tracing::warn!(
            "{}/{}: too large to be sent again, passed over; the topic's `max.message.bytes` and `message.max.bytes` in \
             `client` of [sink.kafka] say what is",
            rejected.source,
            rejected.source_offset
        );
    }
}

/// A message that does not arrive fails its transaction: there is nothing more to do about it here, unless the broker
/// finds it too large.
#[derive(Default)]
struct Deliveries {
    log: Logged,
    /// The numbers of those.
    too_large: Mutex<Vec<usize>>,
}

impl Deliveries {
    fn take_too_large(&self) -> Vec<usize> {
        std::mem::take(&mut self.too_large.lock().expect("no holder panics"))
    }
}

impl ClientContext for Deliveries {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.log.generate_oauth_token(config)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.log.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.log.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        if result.as_ref().is_err_and(|(error, _)| is_too_large(error)) {
            self.too_large.lock().expect("no holder panics").push(number);
        }
    }
}
