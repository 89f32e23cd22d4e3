//! What a `sql` rule costs beside the native one of the same meaning: two fields of an event of 200 bytes, one compared with
//! a number, one with a text. CPU time of a record, in this process; half of the records pass.

use std::collections::BTreeMap;

use headwater::json::Path;
use headwater::name::Name;
use headwater::record::RecordRef;
use headwater::rules::filter::{Condition, Needle, Number, Test};
use headwater::rules::sql::{Input, Outcome, Query, Scratch};
use headwater::rules::{Chain, Env, Rule, RuleSpec, WayOut};
use headwater::template::Context;

use super::support::{RECORDS, Result, each, json_events, paired};

const ROUNDS: usize = 11;

/// `celsius > 30` and a text in `device`.
fn native() -> Result<Chain> {
    let above = Condition::Field(Path::parse("celsius")?, Test::Above(Number::Int(30)));
    let device = Condition::Field(Path::parse("device")?, Test::Contains(Needle::new(b"boiler-")));
    let spec = RuleSpec::Filter(Condition::All(vec![above, device]));
    Ok(Chain::new(&[Rule::new(Name::new("native")?, spec)]))
}

pub fn run() -> Result<()> {
    let (events, labels) = (json_events(), BTreeMap::new());
    let context = Context { node: "n", topic: "temperature", source: "s", labels: &labels };
    let mut chain = native()?;
    let query = |text: &str| Query::compile(text).map_err(|e| e.to_string());
    let where_only = query("SELECT * FROM temperature WHERE celsius > 30 AND device LIKE '%boiler-%'")?;
    let project =
        query("SELECT device, celsius * 1.8 + 32 AS f FROM temperature WHERE celsius > 30 AND device LIKE 'boiler-%'")?;
    let (mut scratch, mut out) = (Scratch::default(), Vec::new());
    let mut sql = |query: &Query, record: &RecordRef<'_>| {
        out.clear();
        let input = Input { context: &context, record: *record, admitted: None };
        !matches!(query.apply(&input, &mut scratch, &mut out), Ok(Outcome::Dropped) | Err(_))
    };
    let env = Env { context, time: None };
    let mut natively = |record: &RecordRef<'_>| chain.apply(&env, record, &mut WayOut(&mut |_| {})).outputs > 0;
    let (ours, theirs) = (each(&events, |r| sql(&where_only, r)).1, each(&events, &mut natively).1);
    if ours != theirs || ours == 0 || ours == RECORDS {
        return Err(format!("sql passes {ours} and the native rule {theirs} of {RECORDS}").into());
    }
    let (filtered, bare) =
        paired(ROUNDS, || Ok(each(&events, |r| sql(&where_only, r)).0), || Ok(each(&events, &mut natively).0))?;
    println!("native filter, two fields           {bare:7.0} ns a record");
    println!("sql WHERE, the same two             {filtered:7.0} ns a record, {:.2} times the native", filtered / bare);
    let (made, bare) =
        paired(ROUNDS, || Ok(each(&events, |r| sql(&project, r)).0), || Ok(each(&events, &mut natively).0))?;
    println!("sql WHERE and two selected          {made:7.0} ns a record, {:.2} times the native", made / bare);
    Ok(())
}
