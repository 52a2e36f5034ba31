//! Positions on their way to the group's coordinator. A commit is answered when the coordinator has it, or when nothing
//! of it is ours any more.

use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::KafkaError;
use tokio::sync::oneshot;

use super::passing::is_passing;
use super::poll::Poller;
use super::source::Command;
use crate::io::Positions;

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
                    let error = anyhow!(error).context(format!("group `{}` at {reached}", self.group.name()));
                    // The driver may have dropped its side of the call.
                    let _ = commit.done.send(Err(error.context(
                        "the positions could not be committed (start again: what came since the last commit is done again)",
                    )));
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

fn describe(reached: &Positions) -> String {
    let parts: Vec<String> =
        reached.iter().map(|(partition, position)| format!("{partition}:{position}")).collect();
    parts.join(" ")
}
