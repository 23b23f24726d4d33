//! Collections, closures and trait objects, allocated at many depths, in two threads.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Write as _;

trait Shape {
    fn corners(&self) -> Vec<(f64, f64)>;
    fn name(&self) -> String;
}

struct Square(f64);
struct Polygon(Vec<(f64, f64)>);

impl Shape for Square {
    fn corners(&self) -> Vec<(f64, f64)> {
        vec![(0.0, 0.0), (self.0, 0.0), (self.0, self.0), (0.0, self.0)]
    }

    fn name(&self) -> String {
        format!("square of {}", self.0)
    }
}

impl Shape for Polygon {
    fn corners(&self) -> Vec<(f64, f64)> {
        self.0.iter().rev().copied().collect()
    }

    fn name(&self) -> String {
        self.0.iter().fold(String::new(), |mut text, (x, y)| {
            write!(text, "{x}:{y} ").unwrap();
            text
        })
    }
}

#[inline(never)]
fn tree(depth: u32, seed: u64) -> BTreeMap<u64, Vec<String>> {
    let mut all =
        if depth == 0 { BTreeMap::new() } else { tree(depth - 1, seed.wrapping_mul(6364136223846793005) + 1) };
    for i in 0..4 {
        all.entry(seed % 97 + i).or_default().push("x".repeat((seed % 400) as usize));
    }
    all
}

fn work(rounds: u64) -> usize {
    let mut held: HashMap<String, VecDeque<Box<dyn Shape + Send>>> = HashMap::new();
    let mut sum = 0;
    for round in 0..rounds {
        let shapes: Vec<Box<dyn Shape + Send>> = (0..8)
            .map(|i| -> Box<dyn Shape + Send> {
                if (i + round) % 3 == 0 {
                    Box::new(Square(i as f64))
                } else {
                    Box::new(Polygon((0..i + 3).map(|k| (k as f64, round as f64)).collect()))
                }
            })
            .collect();
        let mut names: Vec<String> = shapes.iter().map(|shape| shape.name()).collect();
        names.sort_by_key(|name| name.chars().rev().collect::<String>());
        for (name, shape) in names.into_iter().zip(shapes) {
            sum += shape.corners().len();
            let queue = held.entry(name).or_default();
            queue.push_back(shape);
            if queue.len() > 3 {
                queue.pop_front();
            }
        }
        sum += tree(round as u32 % 20, round).values().flatten().map(String::len).sum::<usize>();
    }
    sum
}

fn main() {
    let rounds = std::env::args().nth(1).map_or(200, |text| text.parse().expect("a number of rounds"));
    let other = std::thread::spawn(move || work(rounds));
    println!("{}", work(rounds) + other.join().unwrap());
}
