//! Labels of a program's choice: pairs of texts that a thread puts on what it allocates, each set of them kept once.

use alloc_core::ThreadSlot;
use alloc_core::lock::{Mutex, Rank};

use crate::sampler::word;
use crate::table::{Array, Index, Zeroed, hash};

/// Longest key or value, in bytes.
pub const TEXT_MAX: usize = 63;
/// Most pairs of a thread at a time.
pub const PAIRS_MAX: usize = 4;
/// Most different texts, keys and values together.
const TEXTS_MAX: usize = 4096;
/// Most different sets of pairs.
const SETS_MAX: usize = 8192;
/// Bits of [`word::CHOICES`] below the number of the thread's set.
const SHIFT: u32 = 16;

/// Labels that rows have anyway.
const TAKEN: [&[u8]; 8] =
    [b"bytes", b"thread", b"epoch", b"period", b"lifetime", b"freed_by", b"requested", b"occupancy"];

/// Why labels stay as they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The key or the value is empty or too long, or has characters that a label can't have; or the key has a meaning of
    /// its own in dumps.
    Text,
    /// The thread has as many labels as it can have, or there have been too many different ones.
    Full,
    /// The thread is ending.
    Thread,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Text {
    bytes: [u8; TEXT_MAX],
    length: u8,
}
// SAFETY: bytes.
unsafe impl Zeroed for Text {}

impl Text {
    fn new(text: &[u8]) -> Self {
        let mut bytes = [0; TEXT_MAX];
        bytes[..text.len()].copy_from_slice(text);
        Text { bytes, length: text.len() as u8 }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    fn hash(&self) -> u64 {
        self.as_bytes().iter().fold(self.length.into(), |state, &byte| hash(state ^ u64::from(byte)))
    }
}

/// Pairs of numbers of texts, sorted by key; 0: none.
type Set = [[u16; 2]; PAIRS_MAX];

#[derive(Clone, Copy, Debug)]
struct Sets(Set);
// SAFETY: integers.
unsafe impl Zeroed for Sets {}

fn hash_of(set: &Set) -> u64 {
    set.iter().fold(1, |state, [key, value]| hash(state ^ u64::from(*key) << 16 ^ u64::from(*value)))
}

#[derive(Debug)]
struct Inner {
    texts: Array<Text>,
    text_index: Index,
    /// The next text's number; number 0 is none.
    next_text: usize,
    sets: Array<Sets>,
    set_index: Index,
    /// The next set's number; set 0 has no labels.
    next_set: usize,
}

/// All labels.
#[derive(Debug)]
pub struct Labels {
    inner: Mutex<Inner>,
}

impl Inner {
    fn make(&mut self) -> Option<()> {
        if self.next_set == 0 {
            if !self.texts.reserve(TEXTS_MAX) {
                return None;
            }
            if !self.sets.reserve(SETS_MAX) {
                self.texts.release();
                return None;
            }
            (self.next_text, self.next_set) = (1, 1);
        }
        Some(())
    }

    fn text(&mut self, text: &[u8]) -> Option<u16> {
        let wanted = Text::new(text);
        let texts = self.texts.as_mut_slice();
        if let Some(known) = self.text_index.find(wanted.hash(), |id| texts[id as usize] == wanted) {
            return Some(known as u16);
        }
        if self.next_text == TEXTS_MAX {
            return None;
        }
        texts[self.next_text] = wanted;
        self.text_index.insert(self.next_text as u32, |id| texts[id as usize].hash()).then(|| {
            self.next_text += 1;
            (self.next_text - 1) as u16
        })
    }

    fn set(&mut self, wanted: &Set) -> Option<u16> {
        if wanted.iter().all(|pair| pair[0] == 0) {
            return Some(0);
        }
        let sets = self.sets.as_mut_slice();
        if let Some(known) = self.set_index.find(hash_of(wanted), |id| sets[id as usize].0 == *wanted) {
            return Some(known as u16);
        }
        if self.next_set == SETS_MAX {
            return None;
        }
        sets[self.next_set] = Sets(*wanted);
        self.set_index.insert(self.next_set as u32, |id| hash_of(&sets[id as usize].0)).then(|| {
            self.next_set += 1;
            (self.next_set - 1) as u16
        })
    }
}

impl Labels {
    /// None.
    pub const fn new() -> Self {
        let inner = Inner {
            texts: Array::new(),
            text_index: Index::new(),
            next_text: 0,
            sets: Array::new(),
            set_index: Index::new(),
            next_set: 0,
        };
        Labels { inner: Mutex::new(Rank::Stacks, inner) }
    }

    /// The number of the set that a thread has now.
    pub fn current(slot: &ThreadSlot) -> u16 {
        (slot.words[word::CHOICES] >> SHIFT) as u16
    }

    /// Gives the calling thread a label, in place of the one with that key (`None`: takes that one away).
    pub fn change(&self, slot: &mut ThreadSlot, key: &[u8], value: Option<&[u8]>) -> Result<(), Refusal> {
        let plain = |text: &[u8]| (1..=TEXT_MAX).contains(&text.len()) && text.iter().all(|&b| b >= b' ' && b != 0x7f);
        let is_key = |text: &[u8]| plain(text) && text.is_ascii() && !TAKEN.contains(&text);
        if !is_key(key) || !value.is_none_or(plain) {
            return Err(Refusal::Text);
        }
        let mut inner = self.inner.lock();
        inner.make().ok_or(Refusal::Full)?;
        let mut set = inner.sets.as_slice()[usize::from(Self::current(slot))].0;
        let key = inner.text(key).ok_or(Refusal::Full)?;
        let place = set.iter().position(|pair| pair[0] == key);
        match (value, place) {
            (None, None) => return Ok(()),
            (None, Some(at)) => set[at] = [0, 0],
            (Some(value), place) => {
                let value = inner.text(value).ok_or(Refusal::Full)?;
                let free = || set.iter().position(|pair| pair[0] == 0);
                let at = place.or_else(free).ok_or(Refusal::Full)?;
                set[at] = [key, value];
            }
        }
        // The same labels are the same set, whatever came first.
        set.sort_unstable();
        let number = inner.set(&set).ok_or(Refusal::Full)?;
        let choices = &mut slot.words[word::CHOICES];
        *choices = *choices & ((1 << SHIFT) - 1) | usize::from(number) << SHIFT;
        Ok(())
    }

    /// The pairs of a set: keys and values.
    pub fn get(&'static self, set: u16) -> impl Iterator<Item = (&'static str, &'static [u8])> {
        let inner = self.inner.lock();
        let number = usize::from(set);
        let pairs = if number < inner.next_set { inner.sets.as_slice()[number].0 } else { Set::default() };
        let texts: *const [Text] = inner.texts.as_slice();
        drop(inner);
        pairs.into_iter().filter(|pair| pair[0] != 0).map(move |[key, value]| {
            // SAFETY: a text that has a number keeps its place and never changes, and the table is static.
            let text = |number: u16| unsafe { (*texts)[usize::from(number)].as_bytes() };
            (core::str::from_utf8(text(key)).unwrap_or(""), text(value))
        })
    }

    /// In the child of a fork: a text or a set that was being added is dropped.
    pub fn after_fork(&self) {
        self.inner.after_fork(|inner| {
            let Inner { texts, text_index, next_text, sets, set_index, next_set } = inner;
            text_index.rebuild(*next_text as u32, |id| texts.as_slice()[id as usize].hash());
            set_index.rebuild(*next_set as u32, |id| hash_of(&sets.as_slice()[id as usize].0));
        });
    }
}

impl Default for Labels {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;
    use std::vec::Vec;

    fn shown(labels: &'static Labels, slot: &ThreadSlot) -> Vec<String> {
        let pairs = labels.get(Labels::current(slot));
        let mut all: Vec<String> =
            pairs.map(|(key, value)| std::format!("{key}={}", std::str::from_utf8(value).unwrap())).collect();
        all.sort();
        all
    }

    #[test]
    fn sets_are_kept_once() {
        static LABELS: Labels = Labels::new();
        let mut slot = ThreadSlot { uid: 1, words: [0; 7] };
        slot.words[word::CHOICES] = 5;
        let mut other = ThreadSlot { uid: 2, words: [0; 7] };
        assert!(shown(&LABELS, &slot).is_empty());
        LABELS.change(&mut slot, b"tenant", Some(b"a")).unwrap();
        LABELS.change(&mut slot, b"request", Some("ü".as_bytes())).unwrap();
        LABELS.change(&mut other, b"request", Some("ü".as_bytes())).unwrap();
        LABELS.change(&mut other, b"tenant", Some(b"a")).unwrap();
        assert_eq!(Labels::current(&slot), Labels::current(&other));
        assert_eq!(shown(&LABELS, &slot), ["request=ü", "tenant=a"]);
        LABELS.change(&mut slot, b"tenant", Some(b"b")).unwrap();
        assert_eq!(shown(&LABELS, &slot), ["request=ü", "tenant=b"]);
        assert_eq!(shown(&LABELS, &other), ["request=ü", "tenant=a"]);
        LABELS.change(&mut slot, b"tenant", None).unwrap();
        LABELS.change(&mut slot, b"never set", None).unwrap();
        LABELS.change(&mut slot, b"request", None).unwrap();
        assert_eq!((Labels::current(&slot), slot.words[word::CHOICES]), (0, 5));
        for key in [&b""[..], b"bytes", b"a\n", &[b'x'; TEXT_MAX + 1], "ü".as_bytes()] {
            assert_eq!(LABELS.change(&mut slot, key, Some(b"v")), Err(Refusal::Text), "{key:?}");
        }
        for key in 0..PAIRS_MAX {
            LABELS.change(&mut slot, std::format!("k{key}").as_bytes(), Some(b"v")).unwrap();
        }
        assert_eq!(LABELS.change(&mut slot, b"one more", Some(b"v")), Err(Refusal::Full));
        assert_eq!(shown(&LABELS, &slot).len(), PAIRS_MAX);
    }

    #[test]
    fn there_is_a_limit() {
        static LABELS: Labels = Labels::new();
        let mut slot = ThreadSlot { uid: 1, words: [0; 7] };
        let mut value = |number: usize| LABELS.change(&mut slot, b"id", Some(std::format!("{number}").as_bytes()));
        assert!((0..TEXTS_MAX - 2).all(|number| value(number) == Ok(())));
        assert_eq!((value(TEXTS_MAX), value(5)), (Err(Refusal::Full), Ok(())));
        assert_eq!(shown(&LABELS, &slot), ["id=5"]);
    }
}
