//! The sink at work beside the driver: outputs and commits go to it in order, so that rows are pulled and pushed while
//! what came of earlier ones is encoded, sent and made durable. What it holds is weighed, in rows and in bytes, and bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::Instrument;

use super::weight::{BYTES_MOST, Weight};
use crate::{Output, Partition, Positions, Sink};

/// After a failure, nobody waits longer for its consequences to be tidied up.
const ABANDON_TIMEOUT: Duration = Duration::from_secs(5);

enum Order {
    Write(Output, Weight),
    Commit(Positions),
    Forget(Vec<Partition>, oneshot::Sender<()>),
    Finish,
}

pub struct Writer<S> {
    orders: mpsc::UnboundedSender<Order>,
    commits: mpsc::UnboundedReceiver<Positions>,
    task: Option<JoinHandle<Result<S>>>,
    backlog: Arc<Backlog>,
    /// Outputs that are not known to be durable.
    kept: Weight,
    /// Those of the commit under way, if there is one.
    committing: Option<Weight>,
}

/// Outputs that the sink has not taken yet.
#[derive(Default)]
pub struct Backlog {
    rows: AtomicUsize,
    bytes: AtomicUsize,
    shrunk: Notify,
    /// What is left of it is not to be taken any more.
    abandoned: AtomicBool,
}

impl Backlog {
    pub fn rows(&self) -> usize {
        self.rows.load(Ordering::Relaxed)
    }

    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn grow(&self, by: Weight) {
        self.rows.fetch_add(by.rows, Ordering::Relaxed);
        self.bytes.fetch_add(by.bytes, Ordering::Relaxed);
    }

    fn shrink(&self, by: Weight) {
        self.rows.fetch_sub(by.rows, Ordering::Relaxed);
        self.bytes.fetch_sub(by.bytes, Ordering::Relaxed);
        self.shrunk.notify_one();
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
        Self { orders, commits, task: Some(task), backlog, kept: Weight::default(), committing: None }
    }

    /// Outputs since the last commit began.
    pub fn uncommitted(&self) -> Weight {
        self.kept - self.committing.unwrap_or_default()
    }

    /// Outputs that are not known to be durable: they may still be in memory.
    pub fn kept(&self) -> Weight {
        self.kept
    }

    /// Outputs that the sink has not taken yet.
    pub fn backlog(&self) -> Arc<Backlog> {
        self.backlog.clone()
    }

    pub fn is_committing(&self) -> bool {
        self.committing.is_some()
    }

    /// Hands over what came of `rows` rows.
    pub fn write(&mut self, output: Output, rows: usize) {
        let weight = Weight::of(&output, rows);
        self.kept += weight;
        self.backlog.grow(weight);
        self.order(Order::Write(output, weight));
    }

    /// Waits until what the sink has not taken yet leaves room for more bytes.
    ///
    /// # Errors
    /// The sink's; it is of no further use then.
    pub async fn room(&mut self) -> Result<()> {
        while self.backlog.bytes() >= BYTES_MOST {
            tokio::select! {
                () = self.backlog.shrunk() => {}
                () = self.orders.closed() => return Err(self.failure().await),
            }
        }
        Ok(())
    }

    /// Commits all that was handed over, after the commit under way if there is one. Returns the positions that were taken.
    pub async fn flush(&mut self, reached: Positions) -> Result<Positions> {
        let mut durable = Positions::new();
        if self.is_committing() {
            durable = self.committed().await?;
        }
        if self.kept.rows > 0 || !reached.is_empty() {
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
                self.kept -= self.committing.take().unwrap_or_default();
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
            Order::Write(output, weight) => {
                sink.write(output).await?;
                backlog.shrink(weight);
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

#[cfg(test)]
mod tests {
    use anyhow::Error;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::{Origins, Record};
    use tidecast_core::table::{ForecastBuilder, ForecastStamp, ScoreBuilder};

    /// Takes an output for each permit, until there are none to come.
    struct Gated(Arc<Semaphore>);

    impl Sink for Gated {
        async fn write(&mut self, _: Output) -> Result<()> {
            self.0.acquire().await.map(|permit| permit.forget()).map_err(Error::from)
        }

        async fn commit(&mut self, reached: &Positions) -> Result<Positions> {
            Ok(reached.clone())
        }

        async fn forget(&mut self, _: &[Partition]) -> Result<()> {
            Ok(())
        }

        async fn finish(&mut self) -> Result<()> {
            Ok(())
        }
    }

    /// One that came of a message of so many bytes.
    fn output(bytes: usize) -> Output {
        let stamp = ForecastStamp { every: String::new(), model: String::new() };
        let record = Record { payload: Some(vec![0; bytes].into()), ..Record::default() };
        Output {
            partition: Partition { topic: "memory".into(), number: 0 },
            forecasts: ForecastBuilder::new(&[], stamp.clone()).finish(),
            scores: ScoreBuilder::new(&[], stamp).finish(),
            rejects: vec![],
            origins: Origins { records: vec![record] },
        }
    }

    #[tokio::test]
    async fn room_is_waited_for_until_the_sink_takes_something_or_fails() {
        let gate = Arc::new(Semaphore::new(0));
        let mut writer = Writer::start(Gated(gate.clone()));
        writer.write(output(BYTES_MOST / 2), 1);
        writer.room().await.expect("there is some");
        writer.write(output(BYTES_MOST / 2), 1);
        tokio::select! {
            biased;
            _ = writer.room() => panic!("there is none"),
            () = tokio::task::yield_now() => gate.add_permits(1),
        }
        writer.room().await.expect("one is taken");
        writer.write(output(BYTES_MOST / 2), 1);
        gate.close();
        writer.room().await.expect_err("the sink has failed");
    }
}
