//! The rules on the page: what each did, and what it could not.

use super::Page;
use crate::ops::human::{decimal, thousands};
use crate::ops::status::{RuleStatus, Status};

/// Rules that have seen something, those before a sink under its name as well.
pub(super) fn rules(page: &mut Page, status: &Status) {
    for rule in &status.rules {
        self::rule(page, &rule.name, rule);
    }
    for sink in &status.sinks {
        for rule in &sink.part.rules {
            self::rule(page, &format!("{}/{}", sink.part.name, rule.name), rule);
        }
    }
    let told: u64 = status.rules.iter().map(|rule| rule.errors).sum();
    if let Some(others) = status.rule_errors.checked_sub(told).filter(|others| *others > 0) {
        page.line("rules", &format!("WARNING: {} records whose way a rule could not find", thousands(others)));
    }
    if status.rule_letters_left_out > 0 {
        let count = thousands(status.rule_letters_left_out);
        page.line(
            "rules",
            &format!("WARNING: {count} records that a rule could not work on have no dead letter: too many at once"),
        );
    }
}

fn rule(page: &mut Page, name: &str, rule: &RuleStatus) {
    for (topic, reason) in &rule.stopped {
        let what = format!("STOPPED topic {topic}: {reason}; it takes nothing more until `headwater reload`");
        page.line(name, &what);
    }
    let counts =
        [(rule.errors, "records that it could not work on"), (rule.forgotten, "things forgotten for lack of room")];
    let told: Vec<_> =
        counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", thousands(*n))).collect();
    if !told.is_empty() {
        let last = rule.last_error.as_ref().map_or_else(String::new, |why| format!("; the last: {why}"));
        page.line(name, &format!("WARNING: {}{last}", told.join(", ")));
    }
    if rule.records_in == 0 {
        return;
    }
    let mut numbers = vec![format!("{} in, {} out", thousands(rule.records_in), thousands(rule.records_out))];
    let (change, word) = (rule.bytes_saved.unsigned_abs(), if rule.bytes_saved > 0 { "less" } else { "more" });
    if let Some(percent) = (change * 100).checked_div(rule.bytes_in).filter(|_| change > 0) {
        numbers.push(format!("{} {word} ({percent} %)", decimal(change)));
    }
    if rule.busy_us > 0 {
        numbers.push(format!("{:.1} us each", rule.busy_us as f64 / rule.records_in as f64));
    }
    page.line(name, &numbers.join(", "));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::sample;
    use crate::ops::text::page;

    #[test]
    fn a_rule_says_what_it_did_what_it_saved_and_why_it_failed_last() {
        let mut status = sample();
        let quiet = RuleStatus {
            name: "quiet".into(),
            records_in: 1204,
            records_out: 88,
            bytes_in: 120_400,
            bytes_out: 8800,
            bytes_saved: 111_600,
            busy_us: 3010,
            errors: 2,
            last_error: Some("`value` is no number".into()),
            ..RuleStatus::default()
        };
        let adds = RuleStatus {
            name: "adds".into(),
            records_in: 10,
            records_out: 10,
            bytes_in: 100,
            bytes_out: 150,
            bytes_saved: -50,
            ..RuleStatus::default()
        };
        status.rules = vec![quiet, RuleStatus { name: "idle".into(), ..RuleStatus::default() }];
        status.sinks[0].part.rules = vec![adds];
        let page = page(&status);
        let lines: Vec<_> = page.lines().skip(4).collect();
        assert_eq!(
            lines,
            [
                "quiet WARNING: 2 records that it could not work on; the last: `value` is no number",
                "quiet 1,204 in, 88 out, 112 kB less (92 %), 2.5 us each",
                "hq/adds 10 in, 10 out, 50 B more (50 %)",
            ]
        );
    }
}
