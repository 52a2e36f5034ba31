//! Sinks that commit nothing themselves, under a group whose partitions come and go.

use std::collections::BTreeSet;

use anyhow::Result;

use super::{Output, Partition, Positions, Sink, kafka};

/// A sink that commits nothing itself: once its output is durable, the group it reads from is told. What is written
/// between the two by a process that dies there is written again.
///
/// A partition can leave long before the driver hears of it: its `Revoked` waits behind rows that were read before. As
/// soon as a commit finds it gone, what is open of it is dropped, and what still comes of it is dropped as well until the
/// driver says [`Sink::forget`]: a file begun in the midst of what it should hold would take the place of its next
/// owner's. The partition cannot come back before that: it is ours again only once the driver has answered its
/// `Assigned`, which comes after the `Revoked`.
///
/// Until a commit finds out, what is open goes on, and a file may come to its end and get its name. It has all that
/// belongs in it, so that its bytes are those of the next owner's: the same rows make the same forecasts, which begin at
/// the cut or at the position that both go on from, and row groups are cut at fixed numbers of them.
pub struct AtLeastOnce<S> {
    sink: S,
    /// `None` for inputs that are read from their start each time.
    group: Option<kafka::Group>,
    /// Partitions that have left, of which the driver does not know yet.
    gone: BTreeSet<Partition>,
}

impl<S> AtLeastOnce<S> {
    pub fn new(sink: S, group: Option<kafka::Group>) -> Self {
        Self { sink, group, gone: BTreeSet::new() }
    }
}

impl<S: Sink + Send> Sink for AtLeastOnce<S> {
    async fn write(&mut self, output: Output) -> Result<()> {
        if self.gone.contains(&output.partition) {
            return Ok(());
        }
        self.sink.write(output).await
    }

    async fn commit(&mut self, reached: &Positions) -> Result<Positions> {
        let Some(group) = &self.group else { return self.sink.commit(reached).await };
        // What is not ours any more is its next owner's to write: he may have done so already.
        let mut ours = group.owned(reached);
        ours.retain(|partition, _| !self.gone.contains(partition));
        let others: Vec<_> =
            reached.keys().filter(|partition| !ours.contains_key(*partition)).cloned().collect();
        if !others.is_empty() {
            self.sink.forget(&others).await?;
            self.gone.extend(others);
        }
        let durable = self.sink.commit(&ours).await?;
        if durable.is_empty() { Ok(durable) } else { group.commit(&durable).await }
    }

    async fn forget(&mut self, partitions: &[Partition]) -> Result<()> {
        self.sink.forget(partitions).await?;
        self.gone.retain(|partition| !partitions.contains(partition));
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        self.sink.finish().await
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::ops::Range;
    use std::path::{Path, PathBuf};

    use tempfile::tempdir;

    use super::*;
    use crate::config::{Delivery, Layout, ParquetSink};
    use crate::Position;
    use tidecast_tables::ParquetParts;
    use tidecast_core::table::{ForecastBuilder, ForecastStamp, ScoreBuilder};

    type Parts = AtLeastOnce<ParquetParts>;

    fn partition() -> Partition {
        Partition { topic: "in".into(), number: 3 }
    }

    /// A member of a group of its own, which has the partition and fills a folder with files of a hundred positions.
    fn member(folder: &Path, instance: &str) -> (Parts, kafka::Group) {
        let config = ParquetSink { path: folder.into(), layout: Layout::Lists, positions: 100 };
        let parts = ParquetParts::create(&config, &[], 1, Delivery::ExactlyOnce, instance).unwrap();
        let group = kafka::Group::without_brokers("in");
        group.take(3);
        (AtLeastOnce::new(parts, Some(group.clone())), group)
    }

    /// Writes a forecast for each of these positions.
    async fn write(member: &mut Parts, positions: Range<i64>) {
        let stamp = ForecastStamp { every: "1h".into(), model: "c0ffee".into() };
        let mut forecasts = ForecastBuilder::new(&[], stamp.clone());
        for position in positions {
            forecasts.push(position, "a", "value", position, [&[position as f32][..]]);
        }
        let (partition, forecasts, scores) =
            (partition(), forecasts.finish(), ScoreBuilder::new(&[], stamp).finish());
        let (rejects, origins) = Default::default();
        member.write(Output { partition, forecasts, scores, rejects, origins }).await.unwrap();
    }

    async fn commit(member: &mut Parts, position: i64) -> Option<i64> {
        let reached = [(partition(), Position(position))].into();
        member.commit(&reached).await.unwrap().get(&partition()).map(|position| position.0)
    }

    fn path(folder: &Path, start: i64) -> PathBuf {
        folder.join(format!("in-3-{start:020}-{:020}.parquet", start + 100))
    }

    fn file(folder: &Path, start: i64) -> Vec<u8> {
        fs::read(path(folder, start)).unwrap()
    }

    #[tokio::test]
    async fn one_that_has_lost_its_partition_replaces_no_file_of_the_next_owner() {
        let folder = tempdir().unwrap();
        let ((mut late, group), (mut next, _)) = (member(folder.path(), "a"), member(folder.path(), "b"));
        write(&mut late, 0..150).await;
        assert_eq!(commit(&mut late, 150).await, Some(100));
        write(&mut next, 100..350).await;
        assert_eq!(commit(&mut next, 350).await, Some(300));
        let whole = [100, 200].map(|start| file(folder.path(), start));

        // It hears of its loss with a commit, between rows that it had read before.
        write(&mut late, 150..160).await;
        group.lose(3);
        assert_eq!(commit(&mut late, 160).await, None);
        write(&mut late, 160..330).await;
        assert_eq!(commit(&mut late, 330).await, None);
        assert!([100, 200].map(|start| file(folder.path(), start)) == whole);

        // Once the driver knows, it may have the partition again, and go on from where the next owner has come to.
        late.forget(&[partition()]).await.unwrap();
        group.take(3);
        write(&mut late, 300..400).await;
        assert_eq!(commit(&mut late, 400).await, Some(400));
        write(&mut next, 350..400).await;
        let again = file(folder.path(), 300);
        assert_eq!(commit(&mut next, 400).await, Some(400));
        assert!(again == file(folder.path(), 300), "whole files are the same, whoever writes them");
    }

    #[tokio::test]
    async fn one_that_does_not_know_of_its_loss_writes_the_same_file() {
        let folder = tempdir().unwrap();
        let ((mut late, group), (mut next, _)) = (member(folder.path(), "a"), member(folder.path(), "b"));
        write(&mut late, 0..50).await;
        write(&mut next, 0..150).await;
        commit(&mut next, 150).await;
        let whole = file(folder.path(), 0);
        group.lose(3);
        fs::remove_file(path(folder.path(), 0)).unwrap();
        write(&mut late, 50..120).await;
        assert!(file(folder.path(), 0) == whole);
    }
}
