//! A source that plays back events and a sink that keeps what it is given: the ends for tests, where a batch may be
//! cut anywhere and a run stopped at any point.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::{Result, anyhow};

use super::{Batch, Event, Output, Partition, Positions, Sink, Source};

/// What a [`MemorySource`] plays.
#[derive(Debug)]
pub enum Step {
    Rows(Batch),
    /// The source fails here, as a lost connection would.
    Abort,
    /// The input is over.
    End,
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
    async fn next(&mut self) -> Result<Event> {
        match self.steps.pop_front() {
            Some(Step::Rows(batch)) => Ok(Event::Rows(batch)),
            Some(Step::Abort) => Err(anyhow!("the source was told to fail here")),
            Some(Step::End) | None => Ok(Event::End),
        }
    }

    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Keeps every output. Its clones share what is kept, so that it can be looked at when the sink has been given away.
#[derive(Clone, Debug, Default)]
pub struct MemorySink(Arc<Mutex<Kept>>);

#[derive(Clone, Debug, Default)]
pub struct Kept {
    pub outputs: Vec<Output>,
    /// How many of them a commit has covered.
    pub durable: usize,
    pub committed: Positions,
}

impl MemorySink {
    pub fn kept(&self) -> Kept {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().expect("no holder panics")
    }
}

impl Sink for MemorySink {
    async fn write(&mut self, output: Output) -> Result<()> {
        self.lock().outputs.push(output);
        Ok(())
    }

    async fn commit(&mut self, reached: &Positions) -> Result<Positions> {
        let mut kept = self.lock();
        kept.durable = kept.outputs.len();
        kept.committed.extend(reached.clone());
        Ok(reached.clone())
    }

    async fn forget(&mut self, partitions: &[Partition]) -> Result<()> {
        let mut kept = self.lock();
        let durable = kept.durable;
        let late = kept.outputs.split_off(durable);
        kept.outputs.extend(late.into_iter().filter(|output| !partitions.contains(&output.partition)));
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}
