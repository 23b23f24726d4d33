//! Many tests at once.

/// q values by Benjamini and Hochberg: for each probability the smallest share of false alarms among all tests that are
/// called significant if this one is. `None` was not tested and doesn't count.
pub fn false_discovery(probabilities: &[Option<f64>]) -> Vec<Option<f64>> {
    let mut order: Vec<(f64, usize)> =
        probabilities.iter().enumerate().filter_map(|(at, p)| p.map(|p| (p, at))).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let tests = order.len() as f64;
    let mut rates = vec![None; probabilities.len()];
    let mut least = 1.0f64;
    for (rank, (p, at)) in order.into_iter().enumerate().rev() {
        least = least.min(p * tests / (rank as f64 + 1.0));
        rates[at] = Some(least);
    }
    rates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_the_paper() {
        // Benjamini and Hochberg 1995, section 3.2: fifteen tests, of which four are significant at 0.05.
        let p = [
            0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528,
            0.7590, 1.0,
        ];
        let mut tests: Vec<Option<f64>> = p.iter().rev().copied().map(Some).collect();
        tests.insert(3, None);
        let q = false_discovery(&tests);
        assert_eq!(q[3], None);
        assert_eq!(q.iter().flatten().filter(|&&q| q <= 0.05).count(), 4);
        assert!((q[15].unwrap() - 0.0015).abs() < 1e-12 && q[0] == Some(1.0));
    }

    #[test]
    fn no_test_has_no_rate() {
        assert_eq!(false_discovery(&[]), Vec::new());
        assert_eq!(false_discovery(&[None]), vec![None]);
    }
}
