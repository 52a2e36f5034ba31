//! At least once: a sink without transactions as part of a consumer group.

use std::collections::BTreeSet;

use anyhow::Result;
use tidecast_stream::{Output, Partition, Positions, Sink};

use crate::Group;

/// Commits the positions of a group once the output of a sink is durable. A process that dies in between writes that
/// output again.
///
/// A partition can be revoked long before the driver handles its `Revoked` event, which waits behind rows that were
/// read before. As soon as a commit finds that the partition is no longer owned, its open output is discarded, and so
/// is all further output until the driver calls [`Sink::discard`]: a file that starts in the middle of its range would
/// replace that of the next owner. The partition cannot come back before that: it is owned again only after the driver
/// has answered its `Assigned` event, which follows the `Revoked` event.
///
/// Until a commit finds out, a file may be completed and get its name. It is complete, and has the same bytes as the
/// next owner's: the same rows give the same forecasts, both start at the same position, and row groups have fixed
/// numbers of rows.
pub struct AtLeastOnce<S> {
    sink: S,
    /// `None` for inputs that are always read from their start.
    group: Option<Group>,
    /// Revoked partitions that the driver does not know of yet.
    revoked: BTreeSet<Partition>,
}

impl<S> AtLeastOnce<S> {
    pub fn new(sink: S, group: Option<Group>) -> Self {
        Self { sink, group, revoked: BTreeSet::new() }
    }
}

impl<S: Sink + Send> Sink for AtLeastOnce<S> {
    async fn write(&mut self, output: Output) -> Result<()> {
        if self.revoked.contains(&output.partition) {
            return Ok(());
        }
        self.sink.write(output).await
    }

    async fn commit(&mut self, reached: &Positions) -> Result<Positions> {
        let Some(group) = &self.group else { return self.sink.commit(reached).await };
        let mut owned = group.owned(reached);
        owned.retain(|partition, _| !self.revoked.contains(partition));
        let revoked: Vec<_> =
            reached.keys().filter(|partition| !owned.contains_key(*partition)).cloned().collect();
        if !revoked.is_empty() {
            self.sink.discard(&revoked).await?;
            self.revoked.extend(revoked);
        }
        let durable = self.sink.commit(&owned).await?;
        if durable.is_empty() { Ok(durable) } else { group.commit(&durable).await }
    }

    async fn discard(&mut self, partitions: &[Partition]) -> Result<()> {
        self.sink.discard(partitions).await?;
        self.revoked.retain(|partition| !partitions.contains(partition));
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
    use tidecast_core::schema::{ForecastBuilder, OutputLabels, ScoreBuilder};
    use tidecast_stream::Position;
    use tidecast_stream::settings::Delivery;
    use tidecast_tables::RollingParquetSink;
    use tidecast_tables::settings::{Layout, ParquetSinkConfig};

    use super::*;

    type FileSink = AtLeastOnce<RollingParquetSink>;

    fn partition() -> Partition {
        Partition { topic: "in".into(), number: 3 }
    }

    /// A sink and its group, which owns the partition, with files of a hundred positions.
    fn member(folder: &Path, instance: &str) -> (FileSink, Group) {
        let config =
            ParquetSinkConfig { path: folder.into(), layout: Layout::Lists, positions_per_file: 100 };
        let sink = RollingParquetSink::create(&config, &[], 1, Delivery::ExactlyOnce, instance).unwrap();
        let group = Group::without_brokers("in");
        group.gain(3);
        (AtLeastOnce::new(sink, Some(group.clone())), group)
    }

    /// Writes one forecast per position.
    async fn write(member: &mut FileSink, positions: Range<i64>) {
        let labels = OutputLabels { every: "1h".into(), model: "c0ffee".into() };
        let mut forecasts = ForecastBuilder::new(&[], labels.clone());
        for position in positions {
            forecasts.push(position, "a", "value", position, [&[position as f32][..]]);
        }
        let (forecasts, scores) = (forecasts.finish(), ScoreBuilder::new(&[], labels).finish());
        let (rejects, source) = Default::default();
        member.write(Output { partition: partition(), forecasts, scores, rejects, source }).await.unwrap();
    }

    async fn commit(member: &mut FileSink, position: i64) -> Option<i64> {
        let reached = [(partition(), Position(position))].into();
        member.commit(&reached).await.unwrap().get(&partition()).map(|position| position.0)
    }

    fn path(folder: &Path, start: i64) -> PathBuf {
        folder.join(format!("in-3-{start:020}-{:020}.parquet", start + 100))
    }

    fn bytes(folder: &Path, start: i64) -> Vec<u8> {
        fs::read(path(folder, start)).unwrap()
    }

    #[tokio::test]
    async fn member_that_lost_its_partition_does_not_replace_files_of_the_next_owner() {
        let folder = tempdir().unwrap();
        let ((mut old, group), (mut new, _)) = (member(folder.path(), "a"), member(folder.path(), "b"));
        write(&mut old, 0..150).await;
        assert_eq!(commit(&mut old, 150).await, Some(100));
        write(&mut new, 100..350).await;
        assert_eq!(commit(&mut new, 350).await, Some(300));
        let complete = [100, 200].map(|start| bytes(folder.path(), start));

        // The commit finds out, between rows that were read before.
        write(&mut old, 150..160).await;
        group.lose(3);
        assert_eq!(commit(&mut old, 160).await, None);
        write(&mut old, 160..330).await;
        assert_eq!(commit(&mut old, 330).await, None);
        assert!([100, 200].map(|start| bytes(folder.path(), start)) == complete);

        // Once the driver knows, the partition may come back, at the committed position of the next owner.
        old.discard(&[partition()]).await.unwrap();
        group.gain(3);
        write(&mut old, 300..400).await;
        assert_eq!(commit(&mut old, 400).await, Some(400));
        write(&mut new, 350..400).await;
        let first = bytes(folder.path(), 300);
        assert_eq!(commit(&mut new, 400).await, Some(400));
        assert!(first == bytes(folder.path(), 300), "complete files do not depend on their writer");
    }

    #[tokio::test]
    async fn member_unaware_of_its_loss_writes_the_same_file() {
        let folder = tempdir().unwrap();
        let ((mut old, group), (mut new, _)) = (member(folder.path(), "a"), member(folder.path(), "b"));
        write(&mut old, 0..50).await;
        write(&mut new, 0..150).await;
        commit(&mut new, 150).await;
        let complete = bytes(folder.path(), 0);
        group.lose(3);
        fs::remove_file(path(folder.path(), 0)).unwrap();
        write(&mut old, 50..120).await;
        assert!(bytes(folder.path(), 0) == complete);
    }
}
