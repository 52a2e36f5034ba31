//! The sink at work beside the driver: outputs and commits go to it in order, so that rows are pulled and pushed while
//! what came of earlier ones is encoded, sent and made durable. What it holds is counted in rows and bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::io::{Output, Partition, Positions, Sink};

/// After a failure, nobody waits longer for its consequences to be tidied up.
const ABANDON_TIMEOUT: Duration = Duration::from_secs(5);

enum Order {
    Write(Output, usize),
    Commit(Positions),
    Forget(Vec<Partition>, oneshot::Sender<()>),
    Finish,
}

pub struct Writer<S> {
    orders: mpsc::UnboundedSender<Order>,
    commits: mpsc::UnboundedReceiver<Positions>,
    task: Option<JoinHandle<Result<S>>>,
    backlog: Arc<Backlog>,
    /// Rows whose output is not known to be durable.
    kept: usize,
    /// Rows of the commit under way, if there is one.
    committing: Option<usize>,
}

/// Rows whose output the sink has not taken yet.
#[derive(Default)]
pub struct Backlog {
    rows: AtomicUsize,
    shrunk: Notify,
    /// What is left of it is not to be taken any more.
    abandoned: AtomicBool,
}

impl Backlog {
    pub fn rows(&self) -> usize {
        self.rows.load(Ordering::Relaxed)
    }

    /// Waits until it has shrunk since this was last awaited. Cancel-safe.
    pub async fn shrunk(&self) {
        self.shrunk.notified().await;
    }
}

impl<S: Sink + Send + 'static> Writer<S> {
    pub fn start(sink: S) -> Self {
        let (orders, incoming) = mpsc::unbounded_channel();
        let (committed, commits) = mpsc::unbounded_channel();
        let backlog = Arc::<Backlog>::default();
        let task = tokio::spawn(work(sink, incoming, committed, backlog.clone()));
        Self { orders, commits, task: Some(task), backlog, kept: 0, committing: None }
    }

    /// Rows since the last commit began.
    pub fn uncommitted(&self) -> usize {
        self.kept - self.committing.unwrap_or(0)
    }

    /// Rows whose output is not known to be durable: it may still be in memory.
    pub fn kept(&self) -> usize {
        self.kept
    }

    /// Rows whose output the sink has not taken yet.
    pub fn backlog(&self) -> Arc<Backlog> {
        self.backlog.clone()
    }

    pub fn is_committing(&self) -> bool {
        self.committing.is_some()
    }

    /// Hands over what came of `rows` rows.
    pub fn write(&mut self, output: Output, rows: usize) {
        self.kept += rows;
        self.backlog.rows.fetch_add(rows, Ordering::Relaxed);
        self.order(Order::Write(output, rows));
    }

    /// Commits all that was handed over, after the commit under way if there is one. Returns the positions that were taken.
    pub async fn flush(&mut self, reached: Positions) -> Result<Positions> {
        let mut durable = Positions::new();
        if self.is_committing() {
            durable = self.committed().await?;
        }
        if self.kept > 0 || !reached.is_empty() {
            self.begin_commit(reached);
            durable.extend(self.committed().await?);
        }
        Ok(durable)
    }

    /// Begins to commit all that was handed over.
    pub fn begin_commit(&mut self, reached: Positions) {
        assert!(self.committing.is_none(), "one commit at a time");
        self.committing = Some(self.kept);
        self.order(Order::Commit(reached));
    }

    /// The end of the commit under way: the positions that it took. Without one, it waits for ever (or for a failure).
    /// Cancel-safe.
    ///
    /// # Errors
    /// The sink's; it is of no further use then.
    pub async fn committed(&mut self) -> Result<Positions> {
        match self.commits.recv().await {
            Some(positions) => {
                self.kept -= self.committing.take().unwrap_or(0);
                Ok(positions)
            }
            None => Err(self.failure().await),
        }
    }

    /// Drops what is not committed of partitions that are no longer ours.
    pub async fn forget(&mut self, partitions: Vec<Partition>) -> Result<()> {
        let (done, forgotten) = oneshot::channel();
        self.order(Order::Forget(partitions, done));
        match forgotten.await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.failure().await),
        }
    }

    /// Says that the input is over, if it is, and returns the sink.
    pub async fn end(mut self, is_over: bool) -> Result<S> {
        if is_over {
            self.order(Order::Finish);
        }
        let task = self.task.take().context("the sink has ended before")?;
        drop(self);
        task.await.context("the sink panicked")?
    }

    /// Ends after a failure: what is not committed is dropped, of all `partitions`, so that nobody waits for it.
    pub async fn abandon(mut self, partitions: &[Partition]) {
        self.backlog.abandoned.store(true, Ordering::Relaxed);
        let Some(task) = self.task.take() else { return };
        drop(self);
        let ended = async {
            if let Ok(Ok(mut sink)) = task.await
                && let Err(error) = sink.forget(partitions).await
            {
                tracing::warn!("giving up what is not committed: {error:#}");
            }
        };
        if tokio::time::timeout(ABANDON_TIMEOUT, ended).await.is_err() {
            tracing::warn!("the sink did not end within {} s", ABANDON_TIMEOUT.as_secs());
        }
    }

    fn order(&mut self, order: Order) {
        // One that has failed says so where its answer is awaited.
        let _ = self.orders.send(order);
    }

    async fn failure(&mut self) -> anyhow::Error {
        let Some(task) = &mut self.task else { return anyhow!("the sink has failed before") };
        // Awaited in place: who gives up waiting can ask again.
        let ended = task.await;
        self.task = None;
        match ended {
            Ok(Err(error)) => error,
            Ok(Ok(_)) => anyhow!("the sink has ended before its time"),
            Err(error) => anyhow!(error).context("the sink panicked"),
        }
    }
}

async fn work<S: Sink>(
    mut sink: S,
    mut orders: mpsc::UnboundedReceiver<Order>,
    committed: mpsc::UnboundedSender<Positions>,
    backlog: Arc<Backlog>,
) -> Result<S> {
    while let Some(order) = orders.recv().await {
        if backlog.abandoned.load(Ordering::Relaxed) {
            continue;
        }
        match order {
            Order::Write(output, rows) => {
                sink.write(output).await?;
                backlog.rows.fetch_sub(rows, Ordering::Relaxed);
                backlog.shrunk.notify_one();
            }
            Order::Commit(reached) => {
                let span = tracing::trace_span!(target: "spans", "commit", partitions = reached.len());
                let positions = sink.commit(&reached).instrument(span).await?;
                // Nobody listens where the driver has failed.
                let _ = committed.send(positions);
            }
            Order::Forget(partitions, done) => {
                sink.forget(&partitions).await?;
                let _ = done.send(());
            }
            Order::Finish => sink.finish().await?,
        }
    }
    Ok(sink)
}
