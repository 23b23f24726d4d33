//! The table of live samples against a map, at peaks, and what it leaves behind.

use super::*;
use std::collections::HashMap;

fn all(records: &Records, moment: Moment) -> Vec<Record> {
    let mut found = Vec::new();
    let all = |record: &Record| Some(*record);
    let result = records.snapshot(moment, all, |record| {
        found.push(*record);
        Ok(())
    });
    assert_eq!(result, Ok(()));
    found.sort_by_key(|record| (record.address, record.birth));
    found
}

#[test]
fn records_against_a_map() {
    let records = Records::new();
    let mut model: HashMap<u64, Record> = HashMap::new();
    // What lived at the last peak.
    let (mut peak, mut at_peak) = (0, Vec::new());
    let arena = |address: u64| (address >> 9) as usize;
    let mut state = 1u64;
    for i in 0..300_000u64 {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let address = (state >> 40 & 0x3fff) * 16 + 0x7f00_0000_0000;
        let record = Record { address, birth: i, peak, bucket: BucketId(1), ..Record::default() };
        if state >> 33 & 1 == 0 && !model.contains_key(&address) {
            assert!(records.insert(&record, arena(address)));
            model.insert(address, record);
        } else {
            assert_eq!(records.remove(address as usize, arena(address), peak), model.remove(&address));
        }
        if i % 50_000 == 25_000 {
            peak += 1;
            at_peak = model.values().copied().collect();
        }
    }
    let sorted = |mut records: Vec<Record>| {
        records.sort_by_key(|record| (record.address, record.birth));
        records
    };
    assert_eq!(all(&records, Moment::Now), sorted(model.into_values().collect()));
    assert_eq!(all(&records, Moment::Peak(peak)), sorted(at_peak));
    assert_eq!(records.dropped(), 0);
}

#[test]
fn a_late_free_leaves_what_is_kept_for_a_newer_peak() {
    let records = Records::new();
    for (address, peak) in [(4096, 0), (8192, 0), (12288, 1), (16384, 0)] {
        // All in one shard.
        let address = (address..).step_by(16).find(|&address| Records::shard_of(address, 1) == 16).unwrap();
        records.insert(&Record { address: address as u64, peak, birth: u64::from(peak), ..Record::default() }, 1);
    }
    let wanted = all(&records, Moment::Peak(2));
    assert_eq!(wanted.len(), 4);
    let free = |record: &Record, peak| records.remove(record.address as usize, 1, peak).unwrap();
    free(&wanted[0], 2);
    // Both have heard of the first peak only: one was there, the other wasn't, and both were at the second.
    free(&wanted[1], 1);
    free(&wanted[2], 1);
    assert_eq!(all(&records, Moment::Peak(2)), wanted);
    // Nobody watches any more: nothing is kept.
    free(&wanted[3], 0);
    assert_eq!(all(&records, Moment::Peak(2)), wanted[..3]);
}

#[test]
fn tables_are_at_least_half_full() {
    let records = Records::new();
    let mut state = 7u64;
    for count in 1..200_000u64 {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        records.insert(&Record { address: state >> 20 | 1 << 45, ..Record::default() }, 0);
        if count % 20_000 == 0 {
            let slots: usize = records.shards.iter().map(|shard| shard.lock().slots.as_slice().len()).sum();
            let bytes = slots * core::mem::size_of::<Record>() / count as usize;
            assert!(bytes <= 82, "{bytes} bytes a record at {count}");
        }
    }
}

#[test]
fn a_record_can_be_changed() {
    let records = Records::new();
    assert!(!records.change(4096, 7, |_| {}));
    records.insert(&Record { address: 4096, unasked: 3, ..Record::default() }, 7);
    assert!(records.change(4096, 7, |record| record.unasked = 9));
    assert_eq!(records.remove(4096, 7, 0).map(|record| record.unasked), Some(9));
    assert!(all(&records, Moment::Now).is_empty());
}

#[test]
fn forgotten_samples_are_found_once_more_by_their_frees() {
    let records = Records::new();
    let record = |address, peak| Record { address, peak, bucket: BucketId(1), ..Record::default() };
    for address in [4096, 8192, 12288] {
        records.insert(&record(address, 0), 1);
    }
    records.remove(4096, 1, 1);
    assert_eq!(all(&records, Moment::Peak(1)).len(), 3);
    records.clear();
    assert!(all(&records, Moment::Now).is_empty() && all(&records, Moment::Peak(1)).is_empty());
    // The free takes the slab's flag away, and keeps nothing for the peak.
    assert!(records.remove(8192, 1, 1).is_some() && records.remove(8192, 1, 1).is_none());
    assert!(all(&records, Moment::Peak(1)).is_empty());
    // A block of the same address is a sample as any other.
    records.insert(&record(12288, 1), 1);
    assert_eq!(all(&records, Moment::Now), [record(12288, 1)]);
}

#[test]
fn what_is_freed_while_a_dump_copies_is_a_part_of_it() {
    let records = Records::new();
    let record = |address, epoch, peak| Record { address, epoch, peak, bucket: BucketId(1), ..Record::default() };
    let address = |i: u64| 4096 + i * 16;
    let before: Vec<Record> = (0..5000).map(|i| record(address(i), 1 + (i % 3) as u32, (i % 2) as u32)).collect();
    for record in &before {
        assert!(records.insert(record, 1));
    }
    let ended = records.end(3);
    // All of the oldest are freed, of which some lived at a peak, and others come in their places.
    for freed in before.iter().filter(|record| record.epoch == 1) {
        assert_eq!(records.remove(freed.address as usize, 1, 1), Some(*freed));
        assert!(records.insert(&record(freed.address, 4, 1), 1));
    }
    // Some of those don't live long.
    for i in (0..1000).step_by(3) {
        assert_eq!(records.remove(address(i) as usize, 1, 1), Some(record(address(i), 4, 1)));
    }
    assert_eq!(all(&records, ended.moment()), before);
    let at_peak: Vec<Record> = before.iter().filter(|record| record.peak < 1).copied().collect();
    assert_eq!(all(&records, Moment::Peak(1)), at_peak);
    assert_eq!(all(&records, Moment::Now).len(), before.len() - 334);
    // Once it is done nothing is kept for it, nor for one that begins later.
    let moment = ended.moment();
    drop(ended);
    assert!(records.remove(address(1) as usize, 1, 0).is_some());
    assert!(all(&records, moment).iter().all(|record| record.epoch != 1 && record.address != address(1)));
    let ended = records.end(4);
    assert_eq!(all(&records, ended.moment()), all(&records, Moment::Now));
}
