//! What was made with effort and may be asked for again, in bounded memory: what was asked for longest ago goes first.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

/// Values with their weights in bytes, which together don't exceed a budget.
#[derive(Debug)]
pub struct Cache<K, V> {
    budget: usize,
    used: usize,
    /// Counts requests, which tells what was asked for longest ago.
    now: u64,
    held: HashMap<K, Held<V>>,
}

#[derive(Debug)]
struct Held<V> {
    value: Arc<V>,
    weight: usize,
    asked: u64,
}

impl<K: Clone + Eq + Hash, V> Cache<K, V> {
    /// An empty one.
    pub fn new(budget: usize) -> Self {
        Self { budget, used: 0, now: 0, held: HashMap::new() }
    }

    /// The value, if it is still there.
    pub fn get(&mut self, key: &K) -> Option<Arc<V>> {
        self.now += 1;
        let held = self.held.get_mut(key)?;
        held.asked = self.now;
        Some(held.value.clone())
    }

    /// Keeps a value, unless it is heavier than all may be together.
    pub fn put(&mut self, key: K, value: Arc<V>, weight: usize) {
        self.drop_key(&key);
        if weight > self.budget {
            return;
        }
        while self.used > self.budget - weight {
            let Some(oldest) = self.held.iter().min_by_key(|(_, held)| held.asked).map(|(key, _)| key.clone()) else {
                break;
            };
            self.drop_key(&oldest);
        }
        self.now += 1;
        self.used += weight;
        self.held.insert(key, Held { value, weight, asked: self.now });
    }

    fn drop_key(&mut self, key: &K) {
        if let Some(gone) = self.held.remove(key) {
            self.used -= gone.weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_holds_and_what_was_asked_for_stays() {
        let mut cache = Cache::new(100);
        for key in 0..3 {
            cache.put(key, Arc::new(key), 30);
        }
        assert_eq!(cache.get(&0).as_deref(), Some(&0));
        cache.put(3, Arc::new(3), 30);
        assert!(
            cache.get(&1).is_none() && cache.get(&0).is_some() && cache.get(&2).is_some() && cache.get(&3).is_some()
        );
        // Too heavy: the others stay.
        cache.put(4, Arc::new(4), 101);
        assert!(cache.get(&4).is_none() && cache.held.len() == 3 && cache.used == 90);
        // The same again is no second one.
        cache.put(3, Arc::new(7), 100);
        assert_eq!((cache.get(&3).as_deref(), cache.held.len(), cache.used), (Some(&7), 1, 100));
    }
}
