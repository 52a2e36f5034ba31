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
use crate::state::Lookup;
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
        let mut words = text.split(' ');
        let (program, lineage, start) = (words.next()?, words.next()?, words.next()?);
        let start = Position(start.parse().ok()?);
        let bootstrapped = match words.next() {
            None => false,
            Some("bootstrapped") => true,
            Some(_) => return None,
        };
        let is_valid = program == "tidecast" && words.next().is_none();
        is_valid.then(|| Self { lineage: lineage.to_owned(), start, bootstrapped })
    }
}

/// Recovers a partition: restores the newest matching snapshot at or below the committed position. The rows from there to
/// the committed position are replayed.
///
/// # Errors
/// If the stored state does not match and no policy is declared for that.
pub async fn recover(options: Arc<DriverOptions>, assignment: Assignment) -> Result<PartitionTask> {
    let Assignment { partition, committed, reset, default_start, log_start, replay_from } = assignment;
    let Some(CommittedPosition { position: committed, metadata }) = committed else {
        if let Some(StateOptions { store, .. }) = &options.state {
            if reset {
                store.remove_all(&partition).await?;
            }
            refuse_orphaned_snapshot(&partition, store.positions(&partition).await?.last())?;
        }
        return Ok(PartitionTask::new(options.setup.clone(), default_start));
    };
    let mut task = PartitionTask::new(options.setup.clone(), committed);
    task.committed = Some(committed);
    let Some(StateOptions { store, .. }) = &options.state else {
        tracing::warn!(topic = %partition.topic, partition = partition.number, position = committed.0, "no [state] is configured: series start cold");
        return Ok(task);
    };
    let metadata = CommitMetadata::parse(&metadata);
    let is_compatible = metadata.as_ref().is_none_or(|metadata| store.is_compatible(&metadata.lineage));
    let is_bootstrapped = metadata.as_ref().is_some_and(|metadata| metadata.bootstrapped);
    let start = metadata.as_ref().filter(|_| is_compatible).map(|metadata| metadata.start);
    let new_state = || (Forecaster::new(options.setup.clone()), CandidateRecords::default());
    let restore = |(forecaster, candidates): &mut (Forecaster, CandidateRecords), batch: &RecordBatch| {
        candidates.restore(batch);
        Ok(forecaster.restore_batch(batch)?)
    };
    match store.restore_newest(&partition, start, committed, new_state, restore).await? {
        Lookup::Found { position, .. } if is_compatible && position < log_start => {
            let rows = format!("the rows from the snapshot at {position} on");
            return on_data_loss(&options, &partition, &rows, log_start, task);
        }
        Lookup::Found { position, start, state } if is_compatible => {
            (task.forecaster, task.candidates) = state;
            (task.start, task.next, task.saved) = (start, position, Some(position));
            task.bootstrapped = is_bootstrapped;
        }
        Lookup::LineageMismatch(differences) if start.is_none() => {
            return on_mismatch(&options, &partition, &differences, replay_from, task).await;
        }
        _ if !is_compatible => {
            let lineage = metadata.map_or(String::new(), |metadata| metadata.lineage);
            let differences =
                [format!("its lineage is {}, that of the committed position {lineage}", store.lineage_hash())];
            return on_mismatch(&options, &partition, &differences, replay_from, task).await;
        }
        _ if is_bootstrapped => {
            let differences = ["it began with a bootstrap history, and no snapshot of it is left".to_owned()];
            return on_mismatch(&options, &partition, &differences, replay_from, task).await;
        }
        // The state is rebuilt from its start. With a known start, snapshots of other lineages are irrelevant.
        _ => match (start, options.start) {
            (Some(start), _) if start < log_start => {
                let rows = format!("the rows from {start} on, from which its state is rebuilt,");
                return on_data_loss(&options, &partition, &rows, log_start, task);
            }
            (Some(start), _) => (task.start, task.next) = (start, start),
            (None, StartOffset::Earliest) => {
                task.next = log_start.min(committed);
                task.start = task.next;
            }
            (None, StartOffset::Latest) => {
                tracing::warn!(topic = %partition.topic, partition = partition.number, position = committed.0, "there is no snapshot: series start cold");
            }
            (None, StartOffset::Fail) => bail!(
                "{partition}: the committed position is {committed}, but there is no snapshot to restore; \
                 set start = \"earliest\" to rebuild the state, or \"latest\" to continue with cold series"
            ),
        },
    }
    Ok(task)
}

/// Fails if there is a snapshot without a committed position: the group's positions have expired or were deleted, because a
/// start is committed before the first row is read. To start over would forecast the whole topic again.
fn refuse_orphaned_snapshot(partition: &Partition, newest: Option<&(Position, Position)>) -> Result<()> {
    match newest {
        Some((position, _)) => bail!(
            "{partition}: the group has no committed position (it may have expired: see the brokers' \
             offsets.retention.minutes), but there is a snapshot at {position}; to continue, set the group's position there; \
             to start over, remove the partition's snapshots or use another `group`"
        ),
        None => Ok(()),
    }
}

/// Applies the policy for deleted rows that the state needs. `cold` is the task without them.
fn on_data_loss(
    options: &DriverOptions,
    partition: &Partition,
    rows: &str,
    log_start: Position,
    cold: PartitionTask,
) -> Result<PartitionTask> {
    match options.on_data_loss {
        OnDataLoss::Fail => bail!(
            "{partition}: {rows} are needed, but the topic's retention has deleted all rows below {log_start}; \
             set `on_data_loss = \"cold\"` to continue with cold series"
        ),
        OnDataLoss::Cold => {
            tracing::warn!(topic = %partition.topic, partition = partition.number, "{rows} are deleted below {log_start}: series start cold");
            Ok(cold)
        }
    }
}

/// Applies the policy for a state of another lineage. `task` is the task without it.
async fn on_mismatch(
    options: &DriverOptions,
    partition: &Partition,
    differences: &[String],
    replay_from: Option<Position>,
    mut task: PartitionTask,
) -> Result<PartitionTask> {
    let differences = differences.join(", ");
    let Some(StateOptions { store, on_mismatch, .. }) = &options.state else { return Ok(task) };
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
            let (setup, history, partitions) = (options.setup.clone(), history.clone(), *partitions);
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
