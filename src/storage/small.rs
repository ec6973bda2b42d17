//! Small files that were asked for lately, in memory. Objects never change under their key, so
//! nothing here can be wrong; whether somebody may have a file is decided before, by its row.

use bytes::Bytes;
use quick_cache::{Weighter, sync::Cache};

use super::key::StorageKey;

/// Bytes of all that is kept.
const BYTES: u64 = 16 * 1024 * 1024;
/// What an entry costs besides its bytes, about.
const ENTRY: u64 = 256;
/// How many entries there may be, about: files of a few kilobytes.
const MANY: usize = 4096;

/// The files that were asked for lately, or often.
#[derive(Debug)]
pub(super) struct Small(Cache<StorageKey, Bytes, Size>);

#[derive(Clone, Debug)]
struct Size;

impl Weighter<StorageKey, Bytes> for Size {
    fn weight(&self, _: &StorageKey, bytes: &Bytes) -> u64 {
        bytes.len() as u64 + ENTRY
    }
}

impl Default for Small {
    fn default() -> Self {
        Small(Cache::with_weighter(MANY, BYTES, Size))
    }
}

impl Small {
    /// The file, if it is here and of this size.
    pub(super) fn get(&self, key: StorageKey, size: usize) -> Option<Bytes> {
        self.0.get(&key).filter(|bytes| bytes.len() == size)
    }

    pub(super) fn insert(&self, key: StorageKey, bytes: Bytes) {
        self.0.insert(key, bytes);
    }

    pub(super) fn forget(&self, key: StorageKey) {
        self.0.remove(&key);
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
