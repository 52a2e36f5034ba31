//! A source that plays back events and a sink that keeps what it is given: the ends for tests, where a batch may be
//! cut anywhere and a run stopped at any point.

use std::collections::VecDeque;

use anyhow::{Result, anyhow};

use super::{Batch, Event, Output, Positions, Sink, Source};

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
    pub committed: Positions,
}

impl MemorySource {
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect(), committed: Positions::new() }
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

    async fn commit(&mut self, reached: &Positions) -> Result<Positions> {
        self.committed.extend(reached.clone());
        Ok(reached.clone())
    }

    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Keeps every output; `durable` counts those that a commit has covered.
#[derive(Debug, Default)]
pub struct MemorySink {
    pub outputs: Vec<Output>,
    pub durable: usize,
}

impl Sink for MemorySink {
    async fn write(&mut self, output: &Output) -> Result<()> {
        self.outputs.push(output.clone());
        Ok(())
    }

    async fn commit(&mut self, _reached: &Positions) -> Result<()> {
        self.durable = self.outputs.len();
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}
