//! The name of a snapshot: topic, partition, position, lineage, and where its life began.

use super::{Partition, Position};

/// What the name of a snapshot of a known partition says. Ordered by position.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    pub position: Position,
    pub lineage: String,
    /// Formats before 3 did not say it.
    pub start: Option<Position>,
}

impl Name {
    pub fn parse(partition: &Partition, text: &str) -> Option<Self> {
        let rest = text.strip_prefix(&prefix(partition))?.strip_suffix(".arrow")?;
        let mut parts = rest.split('-');
        let position = Position(parts.next()?.parse().ok()?);
        let lineage = parts.next()?.to_owned();
        let start = match parts.next() {
            Some(start) => Some(Position(start.parse().ok()?)),
            None => None,
        };
        parts.next().is_none().then_some(Self { position, lineage, start })
    }

    pub fn of(&self, partition: &Partition) -> String {
        let start = self.start.map_or(String::new(), |start| format!("-{:020}", start.0));
        format!("{}{:020}-{}{start}.arrow", prefix(partition), self.position.0, self.lineage)
    }
}

/// Topics hold no `@`, so one partition's names never start like another's.
fn prefix(partition: &Partition) -> String {
    format!("{}@{}@", partition.topic.replace(['/', '\\'], "_"), partition.number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_it_is_of() {
        let partition = Partition { topic: "a-b".into(), number: 7 };
        let name = Name { position: Position(42), lineage: "0123456789ab".into(), start: Some(Position(5)) };
        let text = name.of(&partition);
        assert_eq!(text, "a-b@7@00000000000000000042-0123456789ab-00000000000000000005.arrow");
        assert_eq!(Name::parse(&partition, &text), Some(name));
        let other = Partition { topic: "a-b".into(), number: 71 };
        assert_eq!(Name::parse(&other, &text), None);
        let before = Name::parse(&partition, "a-b@7@00000000000000000042-0123456789ab.arrow").unwrap();
        assert_eq!((before.position, before.start), (Position(42), None));
    }
}
