//! Which snapshots above the committed position this process wrote itself. It may remove those and no others: it cannot know
//! whether it still has the partition, and what another wrote may be all that the next owner can start from.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use object_store::path::Path;

/// By where they lie. Those at or below the committed position are forgotten, which bounds it.
#[derive(Debug, Default)]
pub struct Written(Mutex<BTreeSet<Path>>);

impl Written {
    pub fn add(&self, path: Path) {
        self.with(|paths| paths.insert(path));
    }

    pub fn forget(&self, path: &Path) {
        self.with(|paths| paths.remove(path));
    }

    pub fn has(&self, path: &Path) -> bool {
        self.with(|paths| paths.contains(path))
    }

    fn with<T>(&self, see: impl FnOnce(&mut BTreeSet<Path>) -> T) -> T {
        // What is in there is whole after every statement.
        see(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
