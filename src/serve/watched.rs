//! The source and the sink as the driver has them, and somebody watching or nobody.

use std::time::Instant;

use anyhow::Result;

use super::observer::Observer;
use super::stamps::Stamps;
use tidecast_stream::{Event, Output, Partition, Positions, Sink, Source};

pub struct Watched<T> {
    pub inner: T,
    observer: Option<Observer>,
    /// Of what is written and not durable.
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
                Event::Reading { partition, from } => observer.reading(partition, *from),
                Event::Rows(batch) => observer.rows(batch),
                // It is ours until all of it is committed: see `forget`.
                Event::Revoked { .. } | Event::End => {}
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
            self.stamps.add(&output.partition, observer.fresh(&output));
        }
        self.inner.write(output).await
    }

    async fn commit(&mut self, reached: &Positions) -> Result<Positions> {
        let Some(observer) = &self.observer else { return self.inner.commit(reached).await };
        let began = Instant::now();
        let durable = self.inner.commit(reached).await?;
        observer.committed(&durable, began.elapsed(), &self.stamps.take(&durable));
        Ok(durable)
    }

    async fn forget(&mut self, partitions: &[Partition]) -> Result<()> {
        if let Some(observer) = &self.observer {
            observer.revoked(partitions);
            self.stamps.forget(partitions);
        }
        self.inner.forget(partitions).await
    }

    async fn finish(&mut self) -> Result<()> {
        self.inner.finish().await
    }
}
