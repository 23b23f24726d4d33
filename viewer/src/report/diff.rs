//! `diff`: what changed between two profiles, site by site, and whether the change is larger than
//! sampling error.

use serde_json::{Value, json};

use super::top::row_name;
use super::{estimate_json, interval_text, narrow};
use crate::compare::{self, Comparison, NotOneProcess, Pairing, Row, Verdict, Way};
use crate::graph::{Granularity, printable};
use crate::model::{Columns, Profile};
use crate::output::Style;
use crate::{escape, measure};

/// What to show.
#[derive(Clone, Debug)]
pub struct Options {
    /// The column, with what tells its uncertainty.
    pub columns: Columns,
    /// What makes a row.
    pub granularity: Granularity,
    /// Compare cumulative sums.
    pub by_cum: bool,
    /// How the two sides belong together.
    pub pairing: Pairing,
    /// Rows to show; 0 for all.
    pub node_count: usize,
    /// Unit of the table.
    pub unit: String,
}

/// The finished table.
#[derive(Debug)]
pub struct Diff {
    /// All rows that changed.
    rows: Vec<Row>,
    total: Verdict,
    way: Way,
    unchanged: usize,
    options: Options,
}

impl Diff {
    /// Compares the two sides of `profile`.
    ///
    /// # Errors
    /// Survivors were asked for and there is no knowing them.
    pub fn new(profile: &mut Profile, options: Options) -> Result<Self, NotOneProcess> {
        let compared = compare::Options {
            columns: options.columns,
            granularity: options.granularity,
            by_cum: options.by_cum,
            pairing: options.pairing,
        };
        let Comparison { mut rows, total, way } = Comparison::new(profile, &compared)?;
        let all = rows.len();
        rows.retain(|row| row.verdict.change.delta != 0);
        let unchanged = all - rows.len();
        Ok(Self { rows, total, way, unchanged, options })
    }

    /// The rows that are shown, and those that are left out.
    fn split(&self) -> (&[Row], &[Row]) {
        match self.options.node_count {
            0 => (&self.rows, &[]),
            most => self.rows.split_at(most.min(self.rows.len())),
        }
    }

    /// Rows that were tested, those without a change included.
    fn tested(&self) -> usize {
        self.rows.len() + self.unchanged
    }

    /// Growth by more than `limit` that sampling does not explain, of the whole or of a row, shown or not, each as a line.
    pub fn growth_over(&self, profile: &Profile, limit: i128) -> Vec<String> {
        let total = core::iter::once(("in all".into(), &self.total));
        let rows = self.rows.iter().map(|row| (printable(profile, &row.node.key), &row.verdict));
        let is_over = |verdict: &Verdict| verdict.change.delta > limit && verdict.is_real();
        total
            .chain(rows)
            .filter(|(_, verdict)| is_over(verdict))
            .map(|(name, verdict)| {
                let (from, to) = (&profile.sample_types[self.options.columns.column].unit, &self.options.unit);
                format!(
                    "{} (95%: {})  {}",
                    measure::signed_label(verdict.change.delta, from, to),
                    interval_text(verdict.change.interval, from, to),
                    escape::terminal(&name)
                )
            })
            .collect()
    }

    fn has_churn(&self) -> bool {
        self.way == Way::Survivors
    }

    /// The table for people.
    pub fn text(&self, profile: &Profile, style: Style) -> String {
        let value_type = &profile.sample_types[self.options.columns.column];
        let from = value_type.unit.as_str();
        let format = |value: i128| measure::label(value, from, &self.options.unit);
        let signed = |value: i128| measure::signed_label(value, from, &self.options.unit);
        let total = &self.total;
        let mut out = format!("Type: {}\n{}\n", escape::terminal(&value_type.kind), self.way_line());
        out.push_str(&format!(
            "Total: {} -> {}, {} (95%: {})\n",
            format(total.shown.0),
            format(total.shown.1),
            signed(total.change.delta),
            interval_text(total.change.interval, from, &self.options.unit),
        ));
        let source = if matches!(self.way, Way::Groups(..)) { "chance" } else { "sampling error" };
        out.push_str(&format!("* the change is larger than {source} explains: q < 0.05 over {} rows\n", self.tested()));
        if self.has_churn() {
            out.push_str("! and a trend rather than ordinary churn: sign-flip test, q < 0.05\n");
        }
        let churn = if self.has_churn() { format!("{:>8} ", "churn p") } else { String::new() };
        let title = format!(
            "{:>11}    {:>20} {:>8} {:>8} {churn}{:>10} {:>10} {:>13} {:>6}  name",
            "change", "change 95%", "noise p", "q", "base", "new", "samples", "kind"
        );
        out.push_str(&style.paint("1", &title));
        out.push('\n');
        let (shown, left_out) = self.split();
        for row in shown {
            let verdict = &row.verdict;
            let mark = match (verdict.is_real(), verdict.is_trend()) {
                (_, true) => "*!",
                (true, false) => "* ",
                (false, false) => "  ",
            };
            let churn = if self.has_churn() { format!("{:>8} ", probability(verdict.churn)) } else { String::new() };
            let numbers = format!(
                "{:>11} {mark} {:>20} {:>8} {:>8} {churn}{:>10} {:>10} {:>13} {:>6}  ",
                signed(verdict.change.delta),
                interval_text(verdict.change.interval, from, &self.options.unit),
                probability(verdict.noise),
                probability(verdict.noise_rate),
                format(verdict.shown.0),
                format(verdict.shown.1),
                samples(verdict),
                verdict.kind(),
            );
            let room = style.width.map_or(usize::MAX, |width| width.saturating_sub(numbers.chars().count()));
            let name = row_name(profile, &row.node, self.options.granularity);
            let line = format!("{numbers}{}", escape::shorten(&name, room.max(20)));
            let is_sure = if self.has_churn() { verdict.is_trend() } else { verdict.is_real() };
            out.push_str(&match (is_sure, verdict.change.delta > 0) {
                (true, true) => style.paint("31", &line),
                (true, false) => style.paint("34", &line),
                (false, _) => line,
            });
            out.push('\n');
        }
        if !left_out.is_empty() {
            let rows = left_out.len();
            let sum = left_out.iter().fold(0i128, |sum, row| sum.saturating_add(row.verdict.change.delta));
            out.push_str(&format!("{:>11}    in {rows} more rows (-n 0 shows all)\n", signed(sum)));
        }
        if self.unchanged > 0 {
            out.push_str(&format!("{} did not change\n", measure::counted(self.unchanged, "row")));
        }
        out
    }

    fn way_line(&self) -> String {
        match (&self.way, &self.total.turnover) {
            (Way::Survivors, Some(turnover)) => format!(
                "Compared by survivors, as dumps of one process: {} samples in both, {} came, {} went",
                turnover.survivors as u64, turnover.born.samples as u64, turnover.gone.samples as u64
            ),
            (Way::Groups(base, new), _) => {
                format!("Compared as groups: means of {base} and {new} files, Welch's test")
            }
            (Way::Independent(Some(reason)), _) => format!("Compared as independent: {reason}"),
            _ => "Compared as independent".to_owned(),
        }
    }

    /// The table for programs.
    pub fn json(&self, profile: &Profile) -> Value {
        let value_type = &profile.sample_types[self.options.columns.column];
        let (shown, left_out) = self.split();
        let rows: Vec<Value> = shown
            .iter()
            .map(|row| {
                let mut value = verdict_json(&row.verdict);
                value["name"] = printable(profile, &row.node.key).into();
                value["file"] = profile.text(row.node.place.0).into();
                value["line"] = row.node.place.1.into();
                value
            })
            .collect();
        let mut total = verdict_json(&self.total);
        // Of one test there is no rate.
        for rate in ["noise_q", "churn_q"] {
            total[rate] = Value::Null;
        }
        json!({
            "sample_type": value_type.kind,
            "unit": value_type.unit,
            "compared": match self.way {
                Way::Independent(_) => "independent",
                Way::Survivors => "survivors",
                Way::Groups(..) => "groups",
            },
            "why_not_survivors": match &self.way {
                Way::Independent(Some(reason)) => Some(reason.to_string()),
                _ => None,
            },
            "total": total,
            "rows_tested": self.tested(),
            "unchanged_rows": self.unchanged,
            "rows_left_out": left_out.len(),
            "rows": rows,
        })
    }

    /// The table for spreadsheets, in the profile's own unit.
    pub fn csv(&self, profile: &Profile) -> String {
        let mut out = String::from(
            "name,file,line,kind,delta,low,high,noise_p,noise_q,churn_p,churn_q,significant,base,new,\
             base_samples,new_samples\n",
        );
        let number = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.4e}"));
        for Row { node, verdict } in self.split().0 {
            let ends = match verdict.change.interval {
                Some(i) => format!("{:.0},{:.0}", i.low, i.high),
                None => ",".to_owned(),
            };
            out.push_str(&format!(
                "{},{},{},{},{},{ends},{},{},{},{},{},{},{},{},{}\n",
                escape::csv(&printable(profile, &node.key)),
                escape::csv(profile.text(node.place.0)),
                node.place.1,
                verdict.kind(),
                verdict.change.delta,
                number(verdict.noise),
                number(verdict.noise_rate),
                number(verdict.churn),
                number(verdict.churn_rate),
                verdict.is_real(),
                verdict.shown.0,
                verdict.shown.1,
                verdict.sides.base.samples as u64,
                verdict.sides.new.samples as u64,
            ));
        }
        out
    }
}

/// Samples of both sides; where it is known, those of the base that went, and those that came.
fn samples(verdict: &Verdict) -> String {
    match &verdict.turnover {
        Some(turnover) => format!(
            "{}-{}+{}",
            verdict.sides.base.samples as u64, turnover.gone.samples as u64, turnover.born.samples as u64
        ),
        None => format!("{}->{}", verdict.sides.base.samples as u64, verdict.sides.new.samples as u64),
    }
}

/// A probability with as many digits as it deserves.
pub(crate) fn probability(p: Option<f64>) -> String {
    match p {
        None => "-".to_owned(),
        Some(p) if p <= 1e-15 => "<1e-15".to_owned(),
        Some(p) if p < 0.001 => format!("{p:.0e}"),
        Some(p) if p < 0.0995 => format!("{p:.3}"),
        Some(p) => format!("{p:.2}"),
    }
}

/// What a comparison says of one row, for programs.
pub(crate) fn verdict_json(verdict: &Verdict) -> Value {
    let interval = verdict.change.interval;
    let mut value = json!({
        "kind": verdict.kind(),
        "delta": narrow(verdict.change.delta),
        "low": interval.map(|i| i.low),
        "high": interval.map(|i| i.high),
        "noise_p": verdict.noise,
        "noise_q": verdict.noise_rate,
        "churn_p": verdict.churn,
        "churn_q": verdict.churn_rate,
        "significant": verdict.is_real(),
        "trend": verdict.churn.map(|_| verdict.is_trend()),
        "base": estimate_json(&verdict.sides.base),
        "new": estimate_json(&verdict.sides.new),
    });
    if let Some(turnover) = &verdict.turnover {
        value["survived_samples"] = (turnover.survivors as u64).into();
        value["came"] = estimate_json(&turnover.born);
        value["went"] = estimate_json(&turnover.gone);
    }
    if verdict.shown != (verdict.sides.base.value, verdict.sides.new.value) {
        value["base_mean"] = narrow(verdict.shown.0).into();
        value["new_mean"] = narrow(verdict.shown.1).into();
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_short() {
        let texts: Vec<String> = [0.5, 0.05, 0.0012, 0.000_31, 1e-15].iter().map(|&p| probability(Some(p))).collect();
        assert_eq!(texts, ["0.50", "0.050", "0.001", "3e-4", "<1e-15"]);
        assert_eq!(probability(None), "-");
    }
}
