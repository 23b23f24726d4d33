//! The cache of unwind rules: a table of code addresses that all threads share without a lock.
//!
//! It begins with one page, and doubles when entries get into each other's way, so that a program which takes few samples
//! touches few pages. What was known before is then looked up once more.
//!
//! An entry is two words, the rule and the address XOR the rule XOR the identity of the module. A torn pair, a pair of
//! another address and one of a module that has been unloaded since all fail the same comparison.

use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// log2 of the most entries; 16 bytes each.
const LG_ENTRIES: u32 = 14;
/// log2 of the entries of the table as it begins.
const LG_ENTRIES_FIRST: u32 = 8;

static TABLE: [[AtomicU64; 2]; 1 << LG_ENTRIES] = [const { [const { AtomicU64::new(0) }; 2] }; 1 << LG_ENTRIES];
/// log2 of the entries in use.
static LG_USED: AtomicU32 = AtomicU32::new(LG_ENTRIES_FIRST);
/// Entries that have taken the place of others since the table was last doubled.
static REPLACED: AtomicU32 = AtomicU32::new(0);

/// How to get from a frame to its caller's, packed.
///
/// Bits 0 and 1: [`Kind`]; bit 2: the caller's rbp was saved; bits 8 to 23: where, from the CFA, in words; bits 32 to
/// 63: the CFA's offset from its register. Of what is special, bits 3 and 4 say what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule(u64);

/// What a rule says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No rule: the walk can't go on by tables.
    Unknown,
    /// The CFA is the stack pointer plus an offset.
    FromStackPointer,
    /// The CFA is the frame pointer plus an offset.
    FromFramePointer,
    /// The CFA is the word at the frame pointer plus an offset, and rbp is saved at an offset from the frame pointer:
    /// what functions do that align their stack pointer further than their caller has.
    FromWord,
    /// There is no caller, or none can be told: the start of a thread or program, (bit 2 set) a signal frame, or (bit 4
    /// set) code whose tables say something else than what fits into a rule.
    Special,
}

impl Rule {
    pub(crate) const UNKNOWN: Rule = Rule(0);
    /// The outermost frame.
    pub(crate) const END: Rule = Rule(3);
    /// The kernel's frame around a signal handler.
    pub(crate) const SIGNAL: Rule = Rule(3 | 4);
    /// There are tables, and what they say is no other kind of rule: not code in which frame pointers may be guessed at.
    pub(crate) const OTHER: Rule = Rule(3 | 16);
    /// Of [`Kind::FromWord`].
    const FROM_WORD: u64 = 3 | 8;

    /// A rule with the CFA at `register + offset` and rbp perhaps saved at `cfa + rbp_words * 8`.
    pub(crate) fn new(from_frame_pointer: bool, offset: i32, rbp_words: Option<i16>) -> Rule {
        Rule::packed(if from_frame_pointer { 2 } else { 1 }, offset, rbp_words)
    }

    /// A rule with the CFA in the word at `rbp + offset`, and rbp saved at `rbp + rbp_words * 8`.
    pub(crate) fn from_word(offset: i32, rbp_words: i16) -> Rule {
        Rule::packed(Rule::FROM_WORD, offset, Some(rbp_words))
    }

    fn packed(kind: u64, offset: i32, rbp_words: Option<i16>) -> Rule {
        let saved = rbp_words.map_or(0, |words| 4 | u64::from(words.cast_unsigned()) << 8);
        Rule(kind | saved | u64::from(offset.cast_unsigned()) << 32)
    }

    pub(crate) fn kind(self) -> Kind {
        match self.0 & 3 {
            0 => Kind::Unknown,
            1 => Kind::FromStackPointer,
            2 => Kind::FromFramePointer,
            _ if self.0 & Rule::FROM_WORD == Rule::FROM_WORD => Kind::FromWord,
            _ => Kind::Special,
        }
    }

    /// Offset of the CFA, or of the word that it is in, from its register.
    pub(crate) fn cfa_offset(self) -> usize {
        ((self.0 >> 32) as i32) as isize as usize
    }

    /// Where the caller's rbp is, in bytes from the CFA, or from the frame pointer for [`Kind::FromWord`].
    pub(crate) fn saved_rbp(self) -> Option<usize> {
        (self.0 & 4 != 0).then(|| ((self.0 >> 8) as i16 as isize * 8) as usize)
    }
}

fn slot(address: usize) -> &'static [AtomicU64; 2] {
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let entry = (address as u64).wrapping_mul(SPREAD) >> 32 >> (32 - LG_USED.load(Ordering::Relaxed));
    &TABLE[entry as usize & ((1 << LG_ENTRIES) - 1)]
}

/// The cached rule for `address` in the module of identity `module`.
#[inline]
pub(crate) fn find(address: usize, module: u64) -> Option<Rule> {
    let [check, rule] = slot(address);
    // Relaxed: the words carry their own check, see the module's documentation.
    let rule = rule.load(Ordering::Relaxed);
    (check.load(Ordering::Relaxed) ^ rule ^ module == address as u64).then_some(Rule(rule))
}

/// Caches a rule.
pub(crate) fn store(address: usize, module: u64, rule: Rule) {
    let [check, word] = slot(address);
    if word.load(Ordering::Relaxed) != 0 {
        replaced();
    }
    check.store(address as u64 ^ rule.0 ^ module, Ordering::Relaxed);
    word.store(rule.0, Ordering::Relaxed);
}

/// Doubles the table when an eighth of its entries had no place of their own.
#[cold]
fn replaced() {
    let lg_used = LG_USED.load(Ordering::Relaxed);
    // Relaxed: two threads that come here at once double it once, or a little early.
    if REPLACED.fetch_add(1, Ordering::Relaxed) >> (lg_used - 3) != 0 && lg_used < LG_ENTRIES {
        REPLACED.store(0, Ordering::Relaxed);
        let _ = LG_USED.compare_exchange(lg_used, lg_used + 1, Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing() {
        let rule = Rule::new(false, -24, Some(-3));
        assert_eq!(rule.kind(), Kind::FromStackPointer);
        assert_eq!(100usize.wrapping_add(rule.cfa_offset()), 76);
        assert_eq!(rule.saved_rbp().map(|o| 100usize.wrapping_add(o)), Some(76));
        assert_eq!(Rule::new(true, 16, None).saved_rbp(), None);
        for rule in [Rule::END, Rule::SIGNAL, Rule::OTHER] {
            assert_eq!(rule.kind(), Kind::Special);
        }
        let rule = Rule::from_word(-24, 0);
        assert_eq!((rule.kind(), rule.saved_rbp()), (Kind::FromWord, Some(0)));
        assert_eq!(100usize.wrapping_add(rule.cfa_offset()), 76);
    }

    #[test]
    fn identity_matters() {
        let rule = Rule::new(true, 16, Some(-2));
        store(0x1234_5678, 77, rule);
        assert_eq!(find(0x1234_5678, 77), Some(rule));
        assert_eq!(find(0x1234_5678, 78), None);
        assert_eq!(find(0x1234_5679, 77), None);
    }

    #[test]
    fn the_table_grows_with_what_it_holds() {
        let rule = Rule::new(true, 16, Some(-2));
        let known = |count: usize| (1..=count).filter(|&n| find(n << 20, 99) == Some(rule)).count();
        for n in 1..=20 {
            store(n << 20, 99, rule);
        }
        let before = LG_USED.load(Ordering::Relaxed);
        // Again and again, as walks do that find a rule missing.
        for _ in 0..20 {
            for n in 1..=4000 {
                if find(n << 20, 99).is_none() {
                    store(n << 20, 99, rule);
                }
            }
        }
        assert!(LG_USED.load(Ordering::Relaxed) > before);
        assert!(known(4000) > 3600, "{}", known(4000));
    }
}
