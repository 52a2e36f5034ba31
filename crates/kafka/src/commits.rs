//! Positions on their way to the group's coordinator. A commit is answered when the coordinator has it, or when nothing
//! of it is ours any more.

use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::sync::oneshot;

use super::passing::is_passing;
use super::poll::Poller;
use super::source::Command;
use tidecast_stream::Positions;

/// A coordinator that moves, or a group that rebalances, refuses commits for seconds. After this it is an outage that
/// the driver should know about.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);
const RETRY_EVERY: Duration = Duration::from_millis(50);

pub(super) struct Commit {
    reached: Positions,
    done: oneshot::Sender<Result<Positions>>,
    deadline: Instant,
    next_try: Instant,
}

impl Poller {
    /// Takes commands and carries the commits among them out.
    pub(super) fn obey(&mut self) -> Result<()> {
        loop {
            match self.ends.commands.try_recv() {
                Ok(command) => self.accept(command)?,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.is_closing = true;
                    break;
                }
            }
        }
        self.commit();
        Ok(())
    }

    pub(super) fn accept(&mut self, command: Command) -> Result<()> {
        let now = Instant::now();
        match command {
            Command::Commit { reached, done } => {
                self.commits.push_back(Commit {
                    reached,
                    done,
                    deadline: now + COMMIT_TIMEOUT,
                    next_try: now,
                });
            }
            Command::Join => self.consumer.subscribe(&[&self.group.topic])?,
            Command::Close => self.is_closing = true,
        }
        Ok(())
    }

    /// Commits in the order they came; one that has to wait holds up those behind it, so that no position goes back.
    fn commit(&mut self) {
        while let Some(mut commit) = self.commits.pop_front() {
            let now = Instant::now();
            if now < commit.next_try {
                return self.commits.push_front(commit);
            }
            let result = self.commit_owned(&commit.reached);
            match result {
                Err(error) if is_passing(&error) && now < commit.deadline && !self.is_closing => {
                    tracing::debug!(group = self.group.name(), "commit to be tried again: {error}");
                    commit.next_try = now + RETRY_EVERY;
                    return self.commits.push_front(commit);
                }
                Err(error) => {
                    let reached = describe(&commit.reached);
                    let what = format!("the positions could not be committed ({})", remedy(&error));
                    let error = anyhow!(error).context(format!("group `{}` at {reached}", self.group.name()));
                    // The driver may have dropped its side of the call.
                    let _ = commit.done.send(Err(error.context(what)));
                }
                Ok(committed) => {
                    let _ = commit.done.send(Ok(committed));
                }
            }
        }
    }

    /// Commits what is still ours. What is not was given up or lost meanwhile; its new owner starts at the last commit.
    fn commit_owned(&self, reached: &Positions) -> Result<Positions, KafkaError> {
        let (list, ours) = self.group.ours(reached)?;
        if !ours.is_empty() {
            self.consumer.commit(&list, CommitMode::Sync)?;
        }
        Ok(ours)
    }
}

/// What to do about positions that the coordinator did not take in time, or does not take.
fn remedy(error: &KafkaError) -> &'static str {
    match is_passing(error) {
        true => "start again: what came since the last commit is done again",
        false => remedy_of(error.rdkafka_error_code()),
    }
}

/// What to do about positions that the coordinator will never take. What came since the last commit is done again after it.
pub(super) fn remedy_of(code: Option<RDKafkaErrorCode>) -> &'static str {
    use RDKafkaErrorCode::*;
    match code {
        Some(GroupAuthorizationFailed) => {
            "grant this user READ on the group, or name another user in `client` of [source.kafka]"
        }
        Some(TopicAuthorizationFailed) => {
            "grant this user READ on the topic, or name another user in `client` of [source.kafka]"
        }
        Some(TransactionalIdAuthorizationFailed) => {
            "grant this user WRITE on the transactional id, or set delivery = \"at_least_once\""
        }
        Some(FencedInstanceId) => {
            "another process runs as this `instance`: give every process of the group one of its own in [source.kafka]"
        }
        Some(OffsetMetadataTooLarge) => {
            "raise `offset.metadata.max.bytes` of the brokers to their default of 4096"
        }
        _ => "that does not pass by itself: see what the brokers' logs say of it",
    }
}

fn describe(reached: &Positions) -> String {
    let parts: Vec<String> =
        reached.iter().map(|(partition, position)| format!("{partition}:{position}")).collect();
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_passes_is_to_be_started_again() {
        let said = |code| remedy(&KafkaError::ConsumerCommit(code));
        for code in [RDKafkaErrorCode::NotCoordinator, RDKafkaErrorCode::RequestTimedOut] {
            assert!(said(code).contains("start again"), "{code}");
        }
        for (code, what) in [
            (RDKafkaErrorCode::GroupAuthorizationFailed, "READ on the group"),
            (RDKafkaErrorCode::TopicAuthorizationFailed, "READ on the topic"),
            (RDKafkaErrorCode::FencedInstanceId, "`instance`"),
            (RDKafkaErrorCode::InvalidCommitOffsetSize, "logs"),
        ] {
            assert!(said(code).contains(what) && !said(code).contains("start again"), "{code}");
        }
    }
}
