//! An in-memory source and sink, which can cut batches and end a run at any point.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::{Result, anyhow};

use tidecast_stream::{Batch, Output, Partition, Positions, Sink, Source, SourceEvent};

/// One scripted event of a [`MemorySource`].
#[derive(Debug)]
pub enum Step {
    Batch(Batch),
    /// The source returns an error, like a lost connection.
    Fail,
    EndOfInput,
}

#[derive(Debug, Default)]
pub struct MemorySource {
    pub steps: VecDeque<Step>,
}

impl MemorySource {
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect() }
    }
}

impl Source for MemorySource {
    async fn next(&mut self) -> Result<SourceEvent> {
        match self.steps.pop_front() {
            Some(Step::Batch(batch)) => Ok(SourceEvent::Batch(batch)),
            Some(Step::Fail) => Err(anyhow!("scripted failure of the memory source")),
            Some(Step::EndOfInput) | None => Ok(SourceEvent::EndOfInput),
        }
    }

    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A sink that stores every output. Clones share the contents, so that a test can read them while the driver owns the sink.
#[derive(Clone, Debug, Default)]
pub struct MemorySink(Arc<Mutex<MemoryContents>>);

#[derive(Clone, Debug, Default)]
pub struct MemoryContents {
    pub outputs: Vec<Output>,
    /// The number of committed outputs.
    pub durable: usize,
    pub committed: Positions,
}

impl MemorySink {
    pub fn contents(&self) -> MemoryContents {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, MemoryContents> {
        self.0.lock().expect("no holder panics")
    }
}

impl Sink for MemorySink {
    async fn write(&mut self, output: Output) -> Result<()> {
        self.lock().outputs.push(output);
        Ok(())
    }

    async fn commit(&mut self, reached: &Positions) -> Result<Positions> {
        let mut contents = self.lock();
        contents.durable = contents.outputs.len();
        contents.committed.extend(reached.clone());
        Ok(reached.clone())
    }

    async fn discard(&mut self, partitions: &[Partition]) -> Result<()> {
        let mut contents = self.lock();
        let durable = contents.durable;
        let uncommitted = contents.outputs.split_off(durable);
        let owned = uncommitted.into_iter().filter(|output| !partitions.contains(&output.partition));
        contents.outputs.extend(owned);
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}
