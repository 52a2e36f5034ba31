//! The partitions assigned to this process, and those in recovery.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::checkpointer::Checkpointer;
use super::partition_task::{BatchResult, PartitionTask};
use super::recovery::{self, CommitMetadata};
use super::reject_limit::RejectBudgets;
use super::sink_task::{BUFFERED_BYTES_MAX, SinkTask};
use super::{DriverOptions, Progress};
use crate::{Assignment, Batch, Partition, Positions, Sink, StartPosition};

pub struct PartitionTasks {
    options: Arc<DriverOptions>,
    tasks: BTreeMap<Partition, PartitionTask>,
    /// Recoveries under way, with the number of their assignment.
    recoveries: JoinSet<(Partition, u64, Result<PartitionTask>)>,
    pending: BTreeMap<Partition, PendingRecovery>,
    assignments: u64,
    /// Positions reached since the last commit began.
    uncommitted: Positions,
    checkpointer: Option<Checkpointer>,
    progress: Progress,
    reject_budgets: RejectBudgets,
    /// Threads that push the batches of several partitions. `None` if the process may not start threads; batches are then
    /// pushed one after another.
    pool: Option<ThreadPool>,
}

/// A partition whose recovery has not finished.
struct PendingRecovery {
    /// Distinguishes repeated assignments of the partition.
    number: u64,
    began: Instant,
    reply: oneshot::Sender<StartPosition>,
    recovery: AbortHandle,
}

impl PartitionTasks {
    pub fn new(options: Arc<DriverOptions>) -> Self {
        Self {
            reject_budgets: RejectBudgets::new(options.reject_limit.clone()),
            checkpointer: options.state.as_ref().map(Checkpointer::new),
            options,
            tasks: BTreeMap::new(),
            recoveries: JoinSet::new(),
            pending: BTreeMap::new(),
            assignments: 0,
            uncommitted: Positions::new(),
            progress: Progress::default(),
            pool: ThreadPoolBuilder::new().build().ok(),
        }
    }

    pub fn progress(&self) -> Progress {
        let series = self.tasks.values().map(|task| task.forecaster.series_count()).sum();
        let replay_remaining = self.tasks.values().map(PartitionTask::replay_remaining).sum();
        Progress { series, replay_remaining, ..self.progress.clone() }
    }

    /// The number of recovered partitions.
    pub fn partition_count(&self) -> usize {
        self.tasks.len()
    }

    pub fn partitions(&self) -> Vec<Partition> {
        self.tasks.keys().cloned().collect()
    }

    /// Begins the recovery of an assigned partition.
    pub fn assign(&mut self, assignment: Assignment, reply: oneshot::Sender<StartPosition>) {
        self.assignments += 1;
        let (partition, number) = (assignment.partition.clone(), self.assignments);
        let recovery = recovery::recover(self.options.clone(), assignment);
        let name = partition.clone();
        let recovery = self.recoveries.spawn(async move { (name, number, recovery.await) });
        let pending = PendingRecovery { number, began: Instant::now(), reply, recovery };
        if let Some(previous) = self.pending.insert(partition, pending) {
            previous.recovery.abort();
        }
    }

    pub fn is_recovering(&self) -> bool {
        !self.recoveries.is_empty()
    }

    /// Waits for the next recovery to finish, and starts the reading of its partition. Cancel-safe.
    pub async fn finish_recovery(&mut self) -> Result<()> {
        let Some(joined) = self.recoveries.join_next().await else { return Ok(()) };
        let (partition, number, task) = match joined {
            Err(error) if error.is_cancelled() => return Ok(()),
            joined => joined.context("the recovery of a partition panicked")?,
        };
        if self.pending.get(&partition).is_none_or(|pending| pending.number != number) {
            // The partition was revoked meanwhile.
            return Ok(());
        }
        let Some(PendingRecovery { began, reply, .. }) = self.pending.remove(&partition) else {
            return Ok(());
        };
        let task = task?;
        let metadata = match &self.options.state {
            Some(state) => {
                let lineage = state.store.lineage_hash().to_owned();
                CommitMetadata { lineage, start: task.start, bootstrapped: task.bootstrapped }.format()
            }
            None => String::new(),
        };
        if let Some(checkpointer) = &mut self.checkpointer {
            checkpointer.add(&partition, task.saved);
        }
        let PartitionTask { next, replay_until, .. } = task;
        tracing::info!(
            topic = %partition.topic,
            partition = partition.number,
            position = next.0,
            replay_until = replay_until.0,
            millis = began.elapsed().as_millis() as u64,
            "partition assigned"
        );
        self.tasks.insert(partition, task);
        // If the source is closed, nobody reads the partition.
        let _ = reply.send(StartPosition { position: next, replay_until, metadata });
        Ok(())
    }

    /// Registers the start position of a partition without a committed one, so that it is committed before any output and
    /// never chosen again. Returns whether there is something to commit.
    pub fn on_reading_started(&mut self, partition: Partition) -> bool {
        let uncommitted = self.tasks.get(&partition).filter(|task| task.committed.is_none());
        let start = uncommitted.map(|task| task.next);
        self.uncommitted.extend(start.map(|start| (partition, start)));
        start.is_some()
    }

    /// Pushes batches of different partitions through their forecasters in parallel, and writes the outputs in the order of
    /// the batches.
    pub async fn push<S: Sink + Send + 'static>(
        &mut self,
        batches: Vec<Batch>,
        sink: &mut SinkTask<S>,
    ) -> Result<()> {
        let rows_max = self.options.setup.rows_per_push();
        let mut batches: Vec<_> = batches.into_iter().map(|batch| batch.split(rows_max)).collect();
        loop {
            // The output of a few rows can be large, so it is written before the next rows are pushed.
            let round: Vec<Batch> = batches.iter_mut().filter_map(Iterator::next).collect();
            if round.is_empty() {
                return Ok(());
            }
            sink.wait_capacity().await?;
            self.push_round(round, sink).await?;
        }
    }

    /// Pushes at most one batch per partition. Each piece of a split batch reports the position after the whole batch, even
    /// though the other pieces are not pushed yet. That is safe: commits and snapshots start between two calls of
    /// [`PartitionTasks::push`] only, and an error within it ends the run without a commit.
    async fn push_round<S: Sink + Send + 'static>(
        &mut self,
        batches: Vec<Batch>,
        sink: &mut SinkTask<S>,
    ) -> Result<()> {
        let setup = &self.options.setup;
        for Batch { partition, .. } in &batches {
            let task = self.tasks.entry(partition.clone());
            let task = task.or_insert_with(|| PartitionTask::unassigned(setup.clone()));
            if let Some(checkpointer) = &mut self.checkpointer {
                checkpointer.free_copy_space(task).await?;
            }
        }
        for result in self.push_parallel(batches) {
            self.reject_budgets.count(&result);
            let BatchResult { output, counters, next, replayed, is_replay, .. } = result;
            self.progress.replayed += replayed;
            self.progress.counters.add(&counters);
            self.progress.position = Some(next);
            if !is_replay {
                self.uncommitted.insert(output.partition.clone(), next);
            }
            // A batch of skipped positions alone still advances the position.
            sink.write(output, (counters.rows as usize).max(1));
        }
        Ok(())
    }

    /// Pushes each batch through its forecaster, in parallel. The results are in the order of the batches.
    ///
    /// This is CPU work on the driver's asynchronous task. It blocks nothing but the driver, since the source and the sink have
    /// their own tasks and threads, and the output of a push is bounded by `Setup::rows_per_push`. For a small batch a
    /// blocking thread would cost more than the push.
    fn push_parallel(&mut self, batches: Vec<Batch>) -> Vec<BatchResult> {
        let mut tasks: BTreeMap<&Partition, &mut PartitionTask> = self.tasks.iter_mut().collect();
        let mut work = Vec::with_capacity(batches.len());
        for batch in batches {
            let task = tasks.remove(&batch.partition).expect("at most one batch per partition");
            work.push((task, batch));
        }
        match &self.pool {
            Some(pool) if work.len() > 1 => {
                pool.install(|| work.into_par_iter().map(|(task, batch)| task.push(batch)).collect())
            }
            // A single batch takes no detour through the pool.
            _ => work.into_iter().map(|(task, batch)| task.push(batch)).collect(),
        }
    }

    /// Closes the open steps of all partitions at the end of the input, a limited number of series at a time.
    pub async fn close_steps<S: Sink + Send + 'static>(&mut self, sink: &mut SinkTask<S>) -> Result<()> {
        let series_max = self.options.setup.rows_per_push();
        for (partition, task) in &mut self.tasks {
            for (output, counters) in task.close_steps(partition, series_max) {
                self.progress.counters.add(&counters);
                let rows = output.forecasts.num_rows().max(1);
                sink.write(output, rows);
                let in_flight = sink.in_flight();
                if in_flight.rows >= self.options.queue_rows || in_flight.bytes >= BUFFERED_BYTES_MAX {
                    let durable = sink.flush(std::mem::take(&mut self.uncommitted)).await?;
                    self.progress.committed.extend(durable);
                }
            }
        }
        Ok(())
    }

    /// The error of an exceeded reject limit. The caller commits all pushed rows before it fails.
    pub fn take_reject_error(&mut self) -> Option<String> {
        self.reject_budgets.take_error()
    }

    pub fn take_uncommitted(&mut self) -> Positions {
        std::mem::take(&mut self.uncommitted)
    }

    /// Registers durable positions.
    pub fn on_committed(&mut self, positions: Positions) {
        for (partition, position) in positions {
            if let Some(task) = self.tasks.get_mut(&partition) {
                task.committed = Some(position);
            }
            self.progress.committed.insert(partition, position);
        }
    }

    /// Waits until [`PartitionTasks::advance_checkpoint`] has work. Cancel-safe.
    pub fn next_checkpoint(&self) -> impl Future<Output = ()> + use<> {
        let due = self.checkpointer.as_ref().map(Checkpointer::next_due);
        async move {
            match due {
                Some(due) => due.await,
                None => std::future::pending().await,
            }
        }
    }

    /// Advances the snapshots that are due.
    pub async fn advance_checkpoint(&mut self) -> Result<()> {
        match &mut self.checkpointer {
            Some(checkpointer) => checkpointer.advance(&mut self.tasks).await,
            None => Ok(()),
        }
    }

    /// Saves the state of every partition at the end of the run.
    pub async fn checkpoint_all(&mut self) {
        if let Some(checkpointer) = self.checkpointer.take() {
            checkpointer.checkpoint_all(&mut self.tasks).await;
        }
    }

    /// Drops revoked partitions. Their next owner starts from the newest snapshot.
    pub fn revoke(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            self.reject_budgets.remove(partition);
            if let Some(pending) = self.pending.remove(partition) {
                pending.recovery.abort();
            }
            self.uncommitted.remove(partition);
            if let Some(checkpointer) = &mut self.checkpointer {
                checkpointer.remove(partition);
            }
            if let Some(task) = self.tasks.remove(partition) {
                tracing::info!(topic = %partition.topic, partition = partition.number, position = task.next.0, "partition revoked");
            }
        }
    }

    /// Counts the series that can forecast. Visits all of them.
    pub fn count_warm_series(&mut self) {
        self.progress.warm_series = self.tasks.values().map(|task| task.forecaster.warm_series_count()).sum();
    }
}
