//! Whether `diff` keeps what it promises: simulations with known truth, sampled as the allocator samples.

use std::path::PathBuf;

use viewer::compare::{Comparison, Options, Pairing, Row, Way};
use viewer::graph::Granularity;
use viewer::input::{self, Input, Merge};
use viewer::model::Columns;

use crate::support::{Builder, PERIOD, Random, is_long};

/// Blocks of one size at one site, of one epoch.
#[derive(Clone, Copy)]
struct Blocks {
    site: u64,
    size: u64,
    number: u64,
}

/// Sites of a program with `total` bytes live: sizes from 32 bytes to 1 MiB, and few sites that hold much.
fn sites(random: &mut Random, count: u64, total: f64) -> Vec<Blocks> {
    let weights: Vec<f64> = (0..count).map(|rank| 1.0 / (rank as f64 + 10.0)).collect();
    let sum: f64 = weights.iter().sum();
    let mut blocks = Vec::new();
    for (site, weight) in (0..count).zip(weights) {
        let kinds = 1 + random.below(3);
        for _ in 0..kinds {
            let size = (32.0 * 2f64.powf(random.unit() * 15.0)) as u64 / 16 * 16;
            let number = (total * weight / sum / kinds as f64 / size as f64).round() as u64;
            blocks.push(Blocks { site, size, number });
        }
    }
    blocks
}

/// How many of them are sampled.
fn seen(random: &mut Random, blocks: Blocks) -> u32 {
    random.successes(blocks.number, -(-(blocks.size as f64) / PERIOD as f64).exp_m1())
}

fn put(builder: &mut Builder, blocks: Blocks, samples: u32, epoch: Option<i64>) {
    if samples > 0 {
        let name = format!("site_{}", blocks.site);
        let stack = builder.stack(&[&name, "main"]);
        builder.born(&stack, blocks.size as i64, samples, epoch);
    }
}

fn compare(base: Builder, new: Builder, pairing: Pairing) -> (Vec<(String, Row)>, Way) {
    let side = |builder: Builder| vec![Input::new(PathBuf::from("made"), builder.profile).unwrap()];
    let mut profile = input::combine(side(new), side(base), Merge::Nothing, false).unwrap();
    let columns = Columns::new(&profile, profile.default_type);
    let options = Options { columns, granularity: Granularity::Sites, by_cum: false, pairing };
    let compared = Comparison::new(&mut profile, &options).unwrap();
    let name = |row: &Row| profile.text(row.node.key.name).to_owned();
    (compared.rows.into_iter().map(|row| (name(&row), row)).collect(), compared.way)
}

#[test]
fn unchanged_sites_of_two_runs_raise_no_alarm() {
    let repetitions = if is_long() { 200 } else { 60 };
    let (mut alarms, mut bare, mut alone, mut tested) = (0, 0, 0, 0);
    for repetition in 0..repetitions {
        let mut random = Random::new(1000 + repetition);
        let population = sites(&mut random, 300, (2u64 << 30) as f64);
        let mut sides = [Builder::new(), Builder::new()];
        for builder in &mut sides {
            for &blocks in &population {
                let samples = seen(&mut random, blocks);
                put(builder, blocks, samples, None);
            }
        }
        let [base, new] = sides;
        let (rows, way) = compare(base, new, Pairing::Auto);
        assert!(matches!(way, Way::Independent(_)), "{way:?}");
        let grown = |row: &Row| row.verdict.change.delta > 0;
        alarms += u32::from(rows.iter().any(|(_, row)| grown(row) && row.verdict.is_real()));
        bare += rows.iter().filter(|(_, row)| row.verdict.change.delta > 1 << 20).count();
        alone += rows.iter().filter(|(_, row)| row.verdict.noise.unwrap() < 0.05).count();
        tested += rows.len();
    }
    let share = f64::from(alarms) / repetitions as f64;
    println!("alarms in {alarms} of {repetitions} repetitions");
    println!("sites that seem to have grown by over 1 MiB: {} on average", bare / repetitions as usize);
    println!("tests alone below 5 %: {:.3}", alone as f64 / tested as f64);
    assert!(share <= 0.07, "{alarms} of {repetitions}");
    assert!(bare / repetitions as usize >= 24, "{bare}");
    // Not by being deaf: a test alone rejects about as often as it may.
    let alone = alone as f64 / tested as f64;
    assert!((0.01..0.06).contains(&alone), "{alone}");
}

/// A process with 300 sites of which a tenth is replaced between two dumps; `leak` more bytes at the site `leaking`, which
/// held 64 MiB. Base and new.
fn one_process(random: &mut Random, leak: u64, others: bool) -> [Builder; 2] {
    const LEAKING: Blocks = Blocks { site: 1_000_000, size: 1024, number: (64 << 20) / 1024 };
    let mut population = if others { sites(random, 299, (2u64 << 30) as f64) } else { Vec::new() };
    population.push(LEAKING);
    let [mut base, mut new] = [Builder::new(), Builder::new()];
    new.profile.time_nanos += 60_000_000_000;
    for blocks in population {
        let part = |share: f64| Blocks { number: (blocks.number as f64 * share) as u64, ..blocks };
        let (survived, gone) = (seen(random, part(0.9)), seen(random, part(0.1)));
        let mut born = seen(random, part(0.1));
        if blocks.site == LEAKING.site {
            born += seen(random, Blocks { number: leak / blocks.size, ..blocks });
        }
        put(&mut base, blocks, survived + gone, Some(1));
        put(&mut new, blocks, survived, Some(1));
        put(&mut new, blocks, born, Some(2));
    }
    [base, new]
}

#[test]
fn survivors_show_a_small_growth() {
    let repetitions = if is_long() { 200 } else { 60 };
    let (mut exact, mut churn, mut today) = (0, 0, 0);
    for repetition in 0..repetitions {
        let found = |pairing: Pairing| {
            let [base, new] = one_process(&mut Random::new(5000 + repetition), 8 << 20, false);
            let (rows, way) = compare(base, new, pairing);
            assert_eq!(way == Way::Survivors, pairing == Pairing::Auto, "{way:?}");
            rows.into_iter().next().unwrap().1.verdict
        };
        let verdict = found(Pairing::Auto);
        let grown = verdict.change.delta > 0;
        exact += u32::from(grown && verdict.noise.unwrap() < 0.05);
        churn += u32::from(grown && verdict.churn.unwrap() < 0.05);
        let verdict = found(Pairing::Independent);
        today += u32::from(verdict.change.delta > 0 && verdict.noise.unwrap() < 0.05);
    }
    println!(
        "8 MiB on 64 MiB, 90 % survive, alone at 5 %: found by survivors {exact}, as a trend {churn}, as independent \
              {today} of {repetitions}"
    );
    let share = |count: u32| f64::from(count) / repetitions as f64;
    assert!(share(exact) >= 0.65, "{exact} of {repetitions}");
    assert!(share(churn) >= 0.65, "{churn} of {repetitions}");
    assert!(share(today) <= 0.05, "{today} of {repetitions}");
}

#[test]
fn nothing_but_churn_is_no_trend() {
    let repetitions = if is_long() { 200 } else { 40 };
    let (mut alarms, mut found, mut tested, mut alone) = (0, 0, 0, [0usize; 2]);
    for repetition in 0..repetitions {
        let mut random = Random::new(9000 + repetition);
        let [base, new] = one_process(&mut random, 0, true);
        let (rows, way) = compare(base, new, Pairing::Auto);
        assert_eq!(way, Way::Survivors);
        alarms += u32::from(rows.iter().any(|(_, row)| row.verdict.change.delta > 0 && row.verdict.is_trend()));
        tested += rows.len();
        for (_, row) in &rows {
            alone[0] += usize::from(row.verdict.noise.unwrap() < 0.05);
            alone[1] += usize::from(row.verdict.churn.unwrap() < 0.05);
        }
        let [base, new] = one_process(&mut random, 8 << 20, true);
        let (rows, _) = compare(base, new, Pairing::Auto);
        let leak = rows.iter().find(|(name, _)| name == "site_1000000").unwrap();
        found += u32::from(leak.1.verdict.change.delta > 0 && leak.1.verdict.is_real());
    }
    let share = |count: usize| count as f64 / tested as f64;
    println!("trends where there is only churn: in {alarms} of {repetitions} repetitions");
    println!("alone below 5 %: noise {:.3}, churn {:.3}", share(alone[0]), share(alone[1]));
    println!("the same 8 MiB among 300 sites, after correction: found in {found} of {repetitions}");
    assert!(f64::from(alarms) / repetitions as f64 <= 0.07, "{alarms} of {repetitions}");
    assert!(share(alone[0]) < 0.06 && share(alone[1]) < 0.06, "{alone:?} of {tested}");
}
