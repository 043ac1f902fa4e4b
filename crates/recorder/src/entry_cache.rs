//! A cache of the newest entries: folder and stream need them just after they are appended, without a query.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

/// The most entries that are cached, and the most bytes.
const KEPT: usize = 4_096;
const KEPT_BYTES: usize = 8 << 20;

/// An entry in canonical JSON.
pub(crate) type Entry = Arc<[u8]>;

/// Shared by the appending side and its readers.
#[derive(Clone, Default)]
pub(crate) struct EntryCache(Arc<Mutex<Window>>);

#[derive(Default)]
struct Window {
    /// The index of the first one that is kept.
    first: u64,
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl EntryCache {
    /// Keeps entries that are in the ledger from index `first` on.
    pub(crate) fn push(&self, first: u64, entries: impl Iterator<Item = Vec<u8>>) {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if window.first + window.entries.len() as u64 != first {
            *window = Window { first, ..Window::default() };
        }
        for entry in entries {
            window.bytes += entry.len();
            window.entries.push_back(entry.into());
            while window.entries.len() > KEPT || window.bytes > KEPT_BYTES {
                let Some(oldest) = window.entries.pop_front() else { break };
                window.bytes -= oldest.len();
                window.first += 1;
            }
        }
    }

    /// Up to `most` entries from index `from` on; none if the first of them is not cached.
    pub(crate) fn get(&self, from: u64, most: usize) -> Vec<Entry> {
        let window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(skip) = from.checked_sub(window.first).and_then(|skip| usize::try_from(skip).ok()) else {
            return vec![];
        };
        window.entries.iter().skip(skip).take(most).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(entries: &[Entry]) -> Vec<u8> {
        entries.iter().map(|entry| entry[0]).collect()
    }

    #[test]
    fn the_newest_entries_are_cached_and_no_others() {
        let cache = EntryCache::default();
        cache.push(7, [vec![7], vec![8]].into_iter());
        cache.push(9, [vec![9]].into_iter());
        assert_eq!(numbers(&cache.get(8, 5)), [8, 9]);
        assert_eq!(numbers(&cache.get(7, 2)), [7, 8]);
        assert!(cache.get(6, 1).is_empty() && cache.get(10, 1).is_empty());
    }

    #[test]
    fn large_entries_are_evicted_sooner() {
        let cache = EntryCache::default();
        cache.push(0, (0..3_u8).map(|n| vec![n; KEPT_BYTES / 2]));
        assert!(cache.get(0, 1).is_empty());
        assert_eq!(numbers(&cache.get(1, 5)), [1, 2]);
    }

    #[test]
    fn the_oldest_entries_are_evicted_and_a_gap_empties_the_cache() {
        let cache = EntryCache::default();
        cache.push(0, (0..KEPT + 1).map(|n| vec![n as u8]));
        assert!(cache.get(0, 1).is_empty());
        assert_eq!(cache.get(1, KEPT + 1).len(), KEPT);
        cache.push(10_000, [vec![1]].into_iter());
        assert!(cache.get(1, 1).is_empty());
        assert_eq!(numbers(&cache.get(10_000, 1)), [1]);
    }
}
