//! Which number each id has. Only looked up, never walked: its order is of no consequence.

use std::hash::BuildHasher;

use hashbrown::hash_table::HashTable;
use hashbrown::{DefaultHashBuilder, hash_table};

/// Numbers by id. The ids themselves stay where they are kept: `name` says the id of a number.
#[derive(Default)]
pub(super) struct Ids {
    numbers: HashTable<u32>,
    /// Seeded anew in every process, so that nobody can choose ids that fall together.
    hasher: DefaultHashBuilder,
}

impl Ids {
    pub fn get<'a>(&self, id: &str, name: impl Fn(usize) -> &'a str) -> Option<usize> {
        let hash = self.hasher.hash_one(id);
        self.numbers.find(hash, |number| name(*number as usize) == id).map(|number| *number as usize)
    }

    /// Adds the id of a number, which is not there yet.
    pub fn insert<'a>(&mut self, number: usize, name: impl Fn(usize) -> &'a str) {
        let hash = |number: &u32| self.hasher.hash_one(name(*number as usize));
        let number = u32::try_from(number).expect("no partition holds four thousand million series");
        self.numbers.insert_unique(hash(&number), number, hash);
    }

    /// Takes the id of a number out.
    pub fn remove<'a>(&mut self, number: usize, name: impl Fn(usize) -> &'a str) {
        let hash = self.hasher.hash_one(name(number));
        if let Ok(entry) = self.numbers.find_entry(hash, |found| *found as usize == number) {
            hash_table::OccupiedEntry::remove(entry);
        }
    }
}
