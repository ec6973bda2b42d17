//! Small files that were asked for lately, in memory. Objects never change under their key, so
//! nothing here can be wrong; whether somebody may have a file is decided before, by its row.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;

use super::key::StorageKey;

/// Bytes of the files of one age; there are two.
const BYTES: usize = 8 * 1024 * 1024;
/// What an entry costs besides its bytes, about.
const ENTRY: usize = 256;

/// Two ages of files. What is asked for becomes young; when the young ones are too many, they
/// become the old ones, and the old ones go. So what goes was not asked for in a while, and
/// neither a list nor a clock has to be kept.
#[derive(Debug, Default)]
pub(super) struct Small(Mutex<Ages>);

#[derive(Debug, Default)]
struct Ages {
    young: HashMap<StorageKey, Bytes>,
    old: HashMap<StorageKey, Bytes>,
    /// Of the young ones.
    bytes: usize,
}

impl Small {
    /// The file, if it is here and of this size.
    pub(super) fn get(&self, key: StorageKey, size: usize) -> Option<Bytes> {
        let mut ages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = match ages.young.get(&key) {
            Some(bytes) => bytes.clone(),
            None => {
                let bytes = ages.old.remove(&key)?;
                ages.insert(key, bytes.clone());
                bytes
            }
        };
        (found.len() == size).then_some(found)
    }

    pub(super) fn insert(&self, key: StorageKey, bytes: Bytes) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, bytes);
    }

    pub(super) fn forget(&self, key: StorageKey) {
        let mut ages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ages.old.remove(&key);
        if let Some(bytes) = ages.young.remove(&key) {
            ages.bytes -= bytes.len() + ENTRY;
        }
    }
}

impl Ages {
    fn insert(&mut self, key: StorageKey, bytes: Bytes) {
        let cost = bytes.len() + ENTRY;
        if self.bytes + cost > BYTES {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
        if let Some(before) = self.young.insert(key, bytes) {
            self.bytes -= before.len() + ENTRY;
        }
        self.bytes += cost;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::RequestId;

    #[test]
    fn memory_is_bounded_and_what_is_asked_for_stays() {
        let small = Small::default();
        let request = RequestId::random();
        let key = |generation| StorageKey { request, generation };
        small.insert(key(0), Bytes::from_static(b"often"));
        for generation in 1..2_000 {
            small.insert(key(generation), vec![0; 60_000].into());
            assert_eq!(small.get(key(0), 5), Some(Bytes::from_static(b"often")), "{generation}");
        }
        let kept = (1..2_000).filter(|g| small.get(key(*g), 60_000).is_some()).count();
        assert!((100..300).contains(&kept), "{kept}");
        assert_eq!(small.get(key(0), 6), None, "another size");
        small.forget(key(0));
        assert_eq!(small.get(key(0), 5), None);
    }
}
