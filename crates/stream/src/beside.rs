//! Scores beside forecasts: two sinks of the same kind that commit as one.

use anyhow::Result;

use super::{Output, Partition, Positions, Sink};

/// A sink of forecasts, and one of their scores where they are wanted. Each takes of an output what is its own.
pub struct WithScores<S> {
    pub forecasts: S,
    pub scores: Option<S>,
}

impl<S: Sink + Send> Sink for WithScores<S> {
    async fn write(&mut self, output: Output) -> Result<()> {
        if let Some(scores) = &mut self.scores {
            let partition = output.partition.clone();
            let (none, own) = (output.forecasts.slice(0, 0), output.scores.clone());
            let (rejects, origins) = Default::default();
            scores.write(Output { partition, forecasts: none, scores: own, rejects, origins }).await?;
        }
        self.forecasts.write(output).await
    }

    /// What both have: a crash between the two is done again, by both.
    async fn commit(&mut self, reached: &Positions) -> Result<Positions> {
        let Some(scores) = &mut self.scores else { return self.forecasts.commit(reached).await };
        let scored = scores.commit(reached).await?;
        let mut durable = self.forecasts.commit(reached).await?;
        durable.retain(|partition, _| scored.contains_key(partition));
        for (partition, position) in &mut durable {
            *position = (*position).min(scored[partition]);
        }
        Ok(durable)
    }

    async fn forget(&mut self, partitions: &[Partition]) -> Result<()> {
        for sink in std::iter::once(&mut self.forecasts).chain(&mut self.scores) {
            sink.forget(partitions).await?;
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        for sink in self.scores.iter_mut().chain([&mut self.forecasts]) {
            sink.finish().await?;
        }
        Ok(())
    }
}
