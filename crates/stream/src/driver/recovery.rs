//! Recovery of a partition: its committed position, the snapshot that matches it, and the declared policy if none does.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow::array::RecordBatch;
use tidecast_core::forecaster::Forecaster;
use tokio::task::spawn_blocking;

use super::candidate_records::CandidateRecords;
use super::partition_task::PartitionTask;
use super::{DriverOptions, LineageMismatchPolicy, StateOptions};
use crate::settings::{OnDataLoss, StartOffset};
use crate::state::{Lookup, SnapshotStore};
use crate::{Assignment, CommittedPosition, Partition, Position};

/// The identity of the state behind a committed position. It is committed as the position's metadata, so that the two
/// cannot diverge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitMetadata {
    /// Hash of the lineage.
    pub lineage: String,
    /// The position of the first row in the state.
    pub start: Position,
    /// The state began with a bootstrap history, which the topic alone cannot rebuild.
    pub bootstrapped: bool,
}

impl CommitMetadata {
    pub fn format(&self) -> String {
        let bootstrapped = if self.bootstrapped { " bootstrapped" } else { "" };
        format!("tidecast {} {}{bootstrapped}", self.lineage, self.start)
    }

    /// `None` for the metadata of another program.
    pub fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        let (lineage, start, bootstrapped) = match words[..] {
            ["tidecast", lineage, start] => (lineage, start, false),
            ["tidecast", lineage, start, "bootstrapped"] => (lineage, start, true),
            _ => return None,
        };
        Some(Self { lineage: lineage.to_owned(), start: Position(start.parse().ok()?), bootstrapped })
    }
}

/// Recovers a partition: restores the newest matching snapshot at or below the committed position. The rows from there to
/// the committed position are replayed.
///
/// # Errors
/// If the stored state does not match and no policy is declared for that.
pub async fn recover(options: Arc<DriverOptions>, assignment: Assignment) -> Result<PartitionTask> {
    let Some(committed) = &assignment.committed else {
        if let Some(StateOptions { store, .. }) = &options.state {
            if assignment.reset {
                store.remove_all(&assignment.partition).await?;
            }
            refuse_orphaned_snapshot(store, &assignment.partition).await?;
        }
        return Ok(PartitionTask::new(options.setup.clone(), assignment.default_start));
    };
    let mut task = PartitionTask::new(options.setup.clone(), committed.position);
    task.committed = Some(committed.position);
    match &options.state {
        Some(state) => {
            Recovery { options: &options, state, assignment: &assignment }.restore(committed, task).await
        }
        None => {
            let Partition { topic, number } = &assignment.partition;
            tracing::warn!(%topic, partition = number, position = committed.position.0, "no [state] is configured: series start cold");
            Ok(task)
        }
    }
}

/// Fails if there is a snapshot without a committed position: the group's positions have expired or were deleted, because a
/// start is committed before the first row is read. To start over would forecast the whole topic again.
async fn refuse_orphaned_snapshot(store: &SnapshotStore, partition: &Partition) -> Result<()> {
    match store.positions(partition).await?.last() {
        Some((position, _)) => bail!(
            "{partition}: the group has no committed position (it may have expired: see the brokers' \
             offsets.retention.minutes), but there is a snapshot at {position}; to continue, set the group's position there; \
             to start over, remove the partition's snapshots or use another `group`"
        ),
        None => Ok(()),
    }
}

/// The recovery of a partition with a committed position and a snapshot store.
struct Recovery<'a> {
    options: &'a DriverOptions,
    state: &'a StateOptions,
    assignment: &'a Assignment,
}

impl Recovery<'_> {
    /// Restores the state into `task`, which is cold and starts at the committed position. The first row that applies:
    ///
    /// | committed metadata | newest snapshot | action |
    /// |---|---|---|
    /// | another lineage | any | policy for another lineage |
    /// | none, or this lineage | found, but the rows after it are deleted | policy for data loss |
    /// | none, or this lineage | found | restore the snapshot |
    /// | none | of another lineage only | policy for another lineage |
    /// | none | none | policy `start` |
    /// | this lineage, bootstrapped | none | policy for another lineage |
    /// | this lineage, rows deleted since its start | none | policy for data loss |
    /// | this lineage | none | replay all rows since its start |
    async fn restore(&self, committed: &CommittedPosition, mut task: PartitionTask) -> Result<PartitionTask> {
        let (store, log_start) = (&self.state.store, self.assignment.log_start);
        let metadata = CommitMetadata::parse(&committed.metadata);
        let compatible = metadata.as_ref().filter(|metadata| store.is_compatible(&metadata.lineage));
        let start = compatible.map(|metadata| metadata.start);
        let lookup = self.restore_newest(committed.position, start).await?;
        if let Some(CommitMetadata { lineage, .. }) = &metadata
            && compatible.is_none()
        {
            let differences = match lookup {
                Lookup::LineageMismatch(differences) => differences,
                Lookup::Found { .. } | Lookup::NotFound => vec![format!(
                    "its lineage is {}, that of the committed position {lineage}",
                    store.lineage_hash()
                )],
            };
            return self.on_mismatch(&differences, task).await;
        }
        match (lookup, metadata) {
            (Lookup::Found { position, .. }, _) if position < log_start => {
                self.on_data_loss(&format!("the rows from the snapshot at {position} on"), task)
            }
            (Lookup::Found { position, start, state }, metadata) => {
                (task.forecaster, task.candidates) = state;
                (task.start, task.next, task.saved) = (start, position, Some(position));
                task.bootstrapped = metadata.is_some_and(|metadata| metadata.bootstrapped);
                Ok(task)
            }
            (Lookup::LineageMismatch(differences), None) => self.on_mismatch(&differences, task).await,
            (Lookup::NotFound, None) => self.start_without_snapshot(task),
            // With a known start, snapshots of other lineages are irrelevant.
            (Lookup::LineageMismatch(_) | Lookup::NotFound, Some(metadata)) => {
                self.rebuild(&metadata, task).await
            }
        }
    }

    /// Rebuilds the state of a committed position without a snapshot, by a replay of all its rows.
    async fn rebuild(&self, metadata: &CommitMetadata, mut task: PartitionTask) -> Result<PartitionTask> {
        let start = metadata.start;
        if metadata.bootstrapped {
            let difference = "it began with a bootstrap history, and no snapshot of it is left".to_owned();
            return self.on_mismatch(&[difference], task).await;
        }
        if start < self.assignment.log_start {
            let rows = format!("the rows from {start} on, from which its state is rebuilt,");
            return self.on_data_loss(&rows, task);
        }
        (task.start, task.next) = (start, start);
        Ok(task)
    }

    async fn restore_newest(
        &self,
        committed: Position,
        start: Option<Position>,
    ) -> Result<Lookup<(Forecaster, CandidateRecords)>> {
        let Self { options, state, assignment } = self;
        let new_state = || (Forecaster::new(options.setup.clone()), CandidateRecords::default());
        let restore = |(forecaster, candidates): &mut (Forecaster, CandidateRecords), batch: &RecordBatch| {
            candidates.restore(batch);
            Ok(forecaster.restore_batch(batch)?)
        };
        state.store.restore_newest(&assignment.partition, start, committed, new_state, restore).await
    }

    /// Applies the `start` policy to a committed position without any snapshot or metadata.
    fn start_without_snapshot(&self, mut task: PartitionTask) -> Result<PartitionTask> {
        let Assignment { partition, log_start, .. } = self.assignment;
        match self.options.start {
            StartOffset::Earliest => {
                task.next = task.next.min(*log_start);
                task.start = task.next;
            }
            StartOffset::Latest => {
                tracing::warn!(topic = %partition.topic, partition = partition.number, position = task.next.0, "there is no snapshot: series start cold");
            }
            StartOffset::Fail => bail!(
                "{partition}: the committed position is {}, but there is no snapshot to restore; \
                 set start = \"earliest\" to rebuild the state, or \"latest\" to continue with cold series",
                task.next
            ),
        }
        Ok(task)
    }

    /// Applies the policy for deleted rows that the state needs.
    fn on_data_loss(&self, rows: &str, task: PartitionTask) -> Result<PartitionTask> {
        let Assignment { partition, log_start, .. } = self.assignment;
        match self.options.on_data_loss {
            OnDataLoss::Fail => bail!(
                "{partition}: {rows} are needed, but the topic's retention has deleted all rows below {log_start}; \
                 set `on_data_loss = \"cold\"` to continue with cold series"
            ),
            OnDataLoss::Cold => {
                tracing::warn!(topic = %partition.topic, partition = partition.number, "{rows} are deleted below {log_start}: series start cold");
                Ok(task)
            }
        }
    }

    /// Applies the policy for a state of another lineage.
    async fn on_mismatch(&self, differences: &[String], mut task: PartitionTask) -> Result<PartitionTask> {
        let Assignment { partition, replay_from, .. } = self.assignment;
        let StateOptions { store, on_mismatch, .. } = self.state;
        let differences = differences.join(", ");
        if !matches!(on_mismatch, LineageMismatchPolicy::Fail) {
            // Snapshots of this lineage, if any, are of an earlier start.
            store.remove_all(partition).await?;
        }
        match on_mismatch {
            LineageMismatchPolicy::Fail => bail!(
                "{partition}: the stored state does not match this pipeline: {differences}; revert the change, or set \
                 state.on_change = \"cold\", or \"replay\" or \"bootstrap\" to rebuild the state"
            ),
            LineageMismatchPolicy::Cold => {
                tracing::warn!(topic = %partition.topic, partition = partition.number, differences, "series start cold");
            }
            LineageMismatchPolicy::Replay => {
                task.next = replay_from.unwrap_or(task.next).min(task.next);
                task.start = task.next;
                tracing::warn!(topic = %partition.topic, partition = partition.number, differences, from = task.next.0, "replaying the topic to rebuild the state");
            }
            LineageMismatchPolicy::Bootstrap { history, partitions, lock } => {
                let _turn = lock.lock().await;
                tracing::warn!(topic = %partition.topic, partition = partition.number, differences, "building the state from {}", history.name);
                let (setup, history, partitions) = (self.options.setup.clone(), history.clone(), *partitions);
                let starts = [(partition.number, task.next)].into();
                let build = move || history.build_states(&setup, partitions, &starts, |_, _| ());
                for (_, state) in spawn_blocking(build).await.context("reading the history panicked")?? {
                    task.forecaster = state;
                }
                task.bootstrapped = true;
                // The topic alone cannot rebuild this state, so it is saved before the first row.
                store.save(partition, task.start, task.next, task.forecaster.snapshot_batches()).await?;
                task.saved = Some(task.next);
            }
        }
        Ok(task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_round_trips_and_that_of_other_programs_is_ignored() {
        for bootstrapped in [false, true] {
            let metadata =
                CommitMetadata { lineage: "0123456789ab".into(), start: Position(7), bootstrapped };
            assert_eq!(CommitMetadata::parse(&metadata.format()), Some(metadata));
        }
        for other in ["", "tidecast", "tidecast x", "tidecast x y", "tidecast x 7 8", "another x 7"] {
            assert_eq!(CommitMetadata::parse(other), None, "{other}");
        }
    }
}
