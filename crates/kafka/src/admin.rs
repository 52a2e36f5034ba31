//! Topics made where they are missing.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::Cluster;
use super::client::Logged;

/// A controller answers in milliseconds; a cluster that is starting takes seconds.
const CREATE_TIMEOUT: Duration = Duration::from_secs(15);

/// Makes sure that `topic` exists, and returns its partition count. A topic made here has `partitions` partitions, the
/// broker's own replication, and keeps its records for ever: what a run wrote is there until someone decides otherwise.
/// A topic that exists is left as it is.
///
/// # Errors
/// When no broker answers, or the broker refuses.
pub async fn ensure_topic(cluster: &Cluster, topic: &str, partitions: i32) -> Result<i32> {
    if let Some(count) = partition_count(cluster, topic).await? {
        return Ok(count);
    }
    if let Some(embedded) = cluster.embedded() {
        embedded.create_topic(topic, partitions)?;
        return Ok(partitions);
    }
    let admin: AdminClient<Logged> = cluster.client(&[], Logged::default())?;
    let wanted = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1)).set("retention.ms", "-1");
    let options =
        AdminOptions::new().request_timeout(Some(CREATE_TIMEOUT)).operation_timeout(Some(CREATE_TIMEOUT));
    let outcome = match admin.create_topics([&wanted], &options).await {
        Ok(results) => results.into_iter().find_map(Result::err).map_or(Ok(()), |(_, code)| Err(code)),
        Err(KafkaError::AdminOp(code)) => Err(code),
        Err(error) => return Err(error).with_context(|| format!("creating topic `{topic}`")),
    };
    match outcome {
        Ok(()) => tracing::info!(topic, partitions, "created topic, retention.ms=-1"),
        // Someone else was faster, as two instances that start together are.
        Err(RDKafkaErrorCode::TopicAlreadyExists) => {}
        Err(code) => bail!(
            "topic `{topic}` does not exist and cannot be created ({code}); create it with {partitions} partitions"
        ),
    }
    appeared(topic, CREATE_TIMEOUT, async || partition_count(cluster, topic).await).await
}

/// Waits for a new topic until `count` knows its partitions.
async fn appeared(
    topic: &str,
    most: Duration,
    mut count: impl AsyncFnMut() -> Result<Option<i32>>,
) -> Result<i32> {
    let deadline = Instant::now() + most;
    loop {
        if let Some(count) = count().await? {
            return Ok(count);
        }
        if Instant::now() >= deadline {
            bail!(
                "topic `{topic}` was created but did not appear within {} s; start again once the brokers list it, and look \
                 into their logs if they do not",
                most.as_secs()
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Whether the topic is compacted, as far as the brokers tell.
pub(super) async fn is_compacted(cluster: &Cluster, topic: &str) -> Option<bool> {
    let policy = setting(cluster, topic, "cleanup.policy").await?;
    Some(policy.split(',').any(|policy| policy.trim() == "compact"))
}

/// Bytes that the topic takes in one message at most, as far as the brokers tell.
pub(super) async fn message_bytes(cluster: &Cluster, topic: &str) -> Option<usize> {
    setting(cluster, topic, "max.message.bytes").await?.parse().ok()
}

/// A setting of a topic. The brokers may not tell everybody.
async fn setting(cluster: &Cluster, topic: &str, name: &str) -> Option<String> {
    if cluster.embedded().is_some() {
        return None;
    }
    let admin: AdminClient<Logged> = cluster.client(&[], Logged::default()).ok()?;
    let options = AdminOptions::new().request_timeout(Some(CREATE_TIMEOUT));
    let told = admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options).await;
    let config = match told.map(|mut all| all.pop()) {
        Ok(Some(Ok(config))) => config,
        other => {
            tracing::debug!(topic, "the settings of the topic are not told: {other:?}");
            return None;
        }
    };
    config.entry_map().get(name).and_then(|entry| entry.value.clone())
}

async fn partition_count(cluster: &Cluster, topic: &str) -> Result<Option<i32>> {
    let (cluster, topic) = (cluster.clone(), topic.to_string());
    tokio::task::spawn_blocking(move || cluster.partitions(&topic))
        .await
        .context("asking kafka for the topic")?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_topic_that_does_not_appear_is_named_with_what_to_do() {
        let mut answers = [Some(3)].into_iter();
        let known = appeared("t", Duration::ZERO, async || Ok(answers.next().flatten())).await;
        assert_eq!(known.unwrap(), 3);
        let error = appeared("t", Duration::ZERO, async || Ok(None)).await.unwrap_err().to_string();
        assert!(
            error.contains("topic `t`") && error.contains("start again once the brokers list it"),
            "{error}"
        );
    }
}
