//! The instructions of the fast paths against the committed table.
//!
//! `UPDATE=1` writes what was counted to the table instead.

use std::collections::BTreeMap;

use bench::allocators::Allocator;
use bench::fast_path::{Driver, PATTERNS};
use bench::fast_path_table::{self as table, Table};
use heapsift_tests::{artifacts, library, tools};

#[test]
fn fast_paths_are_no_longer_than_recorded() {
    if tools::need("valgrind").is_none() {
        return;
    }
    let driver = Driver::build(&artifacts::target_directory()).expect("the driver compiles");
    let library = library();
    let path = bench::home().join("fast_path.txt");
    let mut counted = Table::new();
    for pattern in &PATTERNS {
        let row = table::COLUMNS.map(|(name, conf)| {
            let ours = Allocator::ours(name, &library, conf);
            driver.cost(pattern, &ours, false).unwrap_or_else(|failure| panic!("{}: {failure}", pattern.name)).net
        });
        counted.insert(pattern.name.to_owned(), row);
    }
    if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
        table::write(&path, &counted).expect("the table can be written");
        return;
    }
    let recorded = table::read(&path).expect("the table is there");
    let names = |table: &Table| table.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&recorded), names(&counted), "patterns of the table");
    let mut longer = BTreeMap::new();
    for (name, costs) in &counted {
        for ((column, _), (&now, &then)) in table::COLUMNS.iter().zip(costs.iter().zip(&recorded[name])) {
            println!("{name:12} {column:3} {now:9.1} recorded {then:9.1}");
            if now > table::allowed(then) {
                longer.insert(format!("{name} {column}"), (then, now));
            }
        }
    }
    assert!(longer.is_empty(), "more instructions than recorded (then, now): {longer:#?}");
}
