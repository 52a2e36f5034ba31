//! The source and the sink as the driver has them, and somebody watching or nobody.

use std::time::Instant;

use anyhow::Result;

use super::observer::{Observer, Stamps};
use crate::io::{Event, Output, Partition, Positions, Sink, Source};

pub struct Watched<T> {
    pub inner: T,
    observer: Option<Observer>,
    /// Of what is written and not committed.
    stamps: Stamps,
}

impl<T> Watched<T> {
    pub fn new(inner: T, observer: Option<Observer>) -> Self {
        Self { inner, observer, stamps: Stamps::default() }
    }
}

impl<S: Source + Send> Source for Watched<S> {
    async fn next(&mut self) -> Result<Event> {
        let event = self.inner.next().await?;
        if let Some(observer) = &self.observer {
            match &event {
                Event::Assigned(assigned) => observer.assigned(assigned),
                Event::Reading(partition) => observer.reading(partition),
                Event::Rows(batch) => observer.rows(batch),
                Event::Revoked { partitions, .. } => observer.revoked(partitions),
                Event::End => {}
            }
        }
        Ok(event)
    }

    async fn close(&mut self) -> Result<()> {
        self.inner.close().await
    }
}

impl<S: Sink + Send> Sink for Watched<S> {
    async fn write(&mut self, output: Output) -> Result<()> {
        if let Some(observer) = &self.observer {
            observer.output(&output);
            self.stamps.add(observer.fresh(&output));
        }
        self.inner.write(output).await
    }

    async fn commit(&mut self, reached: &Positions) -> Result<Positions> {
        let Some(observer) = &self.observer else { return self.inner.commit(reached).await };
        let began = Instant::now();
        let durable = self.inner.commit(reached).await?;
        observer.committed(&durable, began.elapsed(), &std::mem::take(&mut self.stamps));
        Ok(durable)
    }

    async fn forget(&mut self, partitions: &[Partition]) -> Result<()> {
        self.inner.forget(partitions).await
    }

    async fn finish(&mut self) -> Result<()> {
        self.inner.finish().await
    }
}
