//! A pair of sinks, one for forecasts and one for scores, that commit as one.

use anyhow::Result;

use crate::{Output, Partition, Positions, Sink, SourceRecords};

/// A sink for forecasts and an optional sink for their scores.
pub struct ForecastAndScores<S> {
    pub forecasts: S,
    pub scores: Option<S>,
}

impl<S: Sink + Send> Sink for ForecastAndScores<S> {
    async fn write(&mut self, output: Output) -> Result<()> {
        if let Some(scores) = &mut self.scores {
            let scores_only = Output {
                partition: output.partition.clone(),
                forecasts: output.forecasts.slice(0, 0),
                scores: output.scores.clone(),
                rejects: Vec::new(),
                source: SourceRecords::default(),
            };
            scores.write(scores_only).await?;
        }
        self.forecasts.write(output).await
    }

    /// Returns the lower position of the two sinks: after a crash between the two commits both write the rest again.
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

    async fn discard(&mut self, partitions: &[Partition]) -> Result<()> {
        self.forecasts.discard(partitions).await?;
        if let Some(scores) = &mut self.scores {
            scores.discard(partitions).await?;
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        if let Some(scores) = &mut self.scores {
            scores.finish().await?;
        }
        self.forecasts.finish().await
    }
}
