//! Which number each id has. Only looked up, never walked: its order is of no consequence.

use std::hash::BuildHasher;

use hashbrown::hash_table::HashTable;
use hashbrown::{DefaultHashBuilder, hash_table};

/// Numbers by id. The ids themselves stay where they are kept: `name` says the id of a number.
#[derive(Default)]
pub(super) struct Ids {
    numbers: HashTable<WindowUpdate>,
    /// Seeded anew in every process, so that nobody can choose ids that fall together.
    hasher: DefaultHashBuilder,
}

/// A number, and enough of its id's hash that hardly another one has the same.
struct WindowUpdate {
    tag: u32,
    number: u32,
}

impl Ids {
    pub fn get<'a>(&self, id: &str, name: impl Fn(usize) -> &'a str) -> Option<usize> {
        let hash = self.hasher.hash_one(id);
        let is_it = |entry: &WindowUpdate| entry.tag == tag(hash) && name(entry.number as usize) == id;
        self.numbers.find(hash, is_it).map(|entry| entry.number as usize)
    }

    /// The number that an id almost surely has, without a look at the ids themselves. Whoever asks has to see whether it is
    /// that id's.
    pub fn guess(&self, id: &str) -> Option<usize> {
        let hash = self.hasher.hash_one(id);
        self.numbers.find(hash, |entry| entry.tag == tag(hash)).map(|entry| entry.number as usize)
    }

    /// Adds the id of a number, which is not there yet.
    pub fn insert<'a>(&mut self, number: usize, name: impl Fn(usize) -> &'a str) {
        let hash = |number: u32| self.hasher.hash_one(name(number as usize));
        let number = u32::try_from(number).expect("no partition holds four thousand million series");
        let entry = WindowUpdate { tag: tag(hash(number)), number };
        self.numbers.insert_unique(hash(number), entry, |entry| hash(entry.number));
    }

    /// Takes the id of a number out.
    pub fn remove<'a>(&mut self, number: usize, name: impl Fn(usize) -> &'a str) {
        let hash = self.hasher.hash_one(name(number));
        if let Ok(entry) = self.numbers.find_entry(hash, |entry| entry.number as usize == number) {
            hash_table::OccupiedEntry::remove(entry);
        }
    }
}

/// The middle of a hash: its ends say where in the table an entry lies.
fn tag(hash: u64) -> u32 {
    (hash >> 24) as u32
}
