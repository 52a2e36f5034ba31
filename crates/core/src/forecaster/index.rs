//! Lookup of the series of a partition by id, and their order of last use.

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;
use hashbrown::hash_table::{HashTable, OccupiedEntry};

/// Hash index from ids to slots. It is never iterated, so its order has no effect.
///
/// The ids are stored with the series: `id_of` returns the id of a slot.
#[derive(Default)]
pub(super) struct IdIndex {
    entries: HashTable<IndexEntry>,
    /// Seeded per process, so that nobody can choose colliding ids.
    hasher: DefaultHashBuilder,
}

/// A slot, and enough of its id's hash to make a wrong match improbable.
struct IndexEntry {
    tag: u32,
    slot: u32,
}

impl IdIndex {
    pub fn get<'a>(&self, id: &str, id_of: impl Fn(usize) -> &'a str) -> Option<usize> {
        let hash = self.hasher.hash_one(id);
        let is_match = |entry: &IndexEntry| entry.tag == tag(hash) && id_of(entry.slot as usize) == id;
        self.entries.find(hash, is_match).map(|entry| entry.slot as usize)
    }

    /// The probable slot of an id, found without reading any id; the caller must compare the id.
    pub fn guess(&self, id: &str) -> Option<usize> {
        let hash = self.hasher.hash_one(id);
        self.entries.find(hash, |entry| entry.tag == tag(hash)).map(|entry| entry.slot as usize)
    }

    /// Adds the id of a slot, which must not be in the index.
    pub fn insert<'a>(&mut self, slot: usize, id_of: impl Fn(usize) -> &'a str) {
        let hash = |slot: u32| self.hasher.hash_one(id_of(slot as usize));
        let slot = u32::try_from(slot).expect("a partition has fewer than 2^32 series");
        let entry = IndexEntry { tag: tag(hash(slot)), slot };
        self.entries.insert_unique(hash(slot), entry, |entry| hash(entry.slot));
    }

    /// Removes the id of a slot.
    pub fn remove<'a>(&mut self, slot: usize, id_of: impl Fn(usize) -> &'a str) {
        let hash = self.hasher.hash_one(id_of(slot));
        if let Ok(entry) = self.entries.find_entry(hash, |entry| entry.slot as usize == slot) {
            OccupiedEntry::remove(entry);
        }
    }
}

/// The middle bits of a hash; the table places entries by its ends.
fn tag(hash: u64) -> u32 {
    (hash >> 24) as u32
}

/// End of the list.
const NONE: u32 = u32::MAX;

/// Slots in the order of their latest rows, as a doubly linked list: every operation takes constant time.
///
/// Two series never tie, because a row has one position and one id. The order is that of the positions, so a restart
/// restores it.
#[derive(Debug, Default)]
pub(super) struct LruList {
    previous: Vec<u32>,
    next: Vec<u32>,
    first: u32,
    last: u32,
}

impl LruList {
    /// From the position of the latest row of each slot.
    pub fn new(positions: impl Iterator<Item = i64>) -> Self {
        let mut order: Vec<(i64, u32)> = positions.zip(0..).collect();
        order.sort_unstable();
        let (previous, next) = (vec![NONE; order.len()], vec![NONE; order.len()]);
        let mut list = Self { previous, next, first: NONE, last: NONE };
        order.into_iter().for_each(|(_, slot)| list.append(slot));
        list
    }

    /// The least recently used slot.
    pub fn oldest(&self) -> Option<usize> {
        (self.first != NONE).then_some(self.first as usize)
    }

    /// Moves a slot to the end.
    pub fn touch(&mut self, slot: usize) {
        let slot = slot as u32;
        if self.last != slot {
            self.unlink(slot);
            self.append(slot);
        }
    }

    fn append(&mut self, slot: u32) {
        (self.previous[slot as usize], self.next[slot as usize]) = (self.last, NONE);
        match self.last {
            NONE => self.first = slot,
            last => self.next[last as usize] = slot,
        }
        self.last = slot;
    }

    fn unlink(&mut self, slot: u32) {
        let (previous, next) = (self.previous[slot as usize], self.next[slot as usize]);
        match previous {
            NONE => self.first = next,
            previous => self.next[previous as usize] = next,
        }
        match next {
            NONE => self.last = previous,
            next => self.previous[next as usize] = previous,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_slot_has_the_lowest_position() {
        let mut positions = [7, 3, 9, 1, 5];
        let mut list = LruList::new(positions.iter().copied());
        for (position, slot) in (10..).zip([3, 3, 0, 4, 1, 2, 2, 0, 1, 4, 3, 0]) {
            list.touch(slot);
            positions[slot] = position;
            assert_eq!(list.oldest(), (0..5).min_by_key(|slot| positions[*slot]));
        }
        assert_eq!(LruList::new(std::iter::empty()).oldest(), None);
    }

    #[test]
    fn a_single_slot_is_first_and_last() {
        let mut list = LruList::new([4].into_iter());
        list.touch(0);
        assert_eq!(list.oldest(), Some(0));
    }
}
