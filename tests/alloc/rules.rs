//! What rules hold once they have seen records, by the byte as they asked for it: fifty bundled ones within 1 MiB, and a
//! SmartModule within 2 MiB beside its linear memory.

use std::collections::BTreeMap;

use headwater::limits::MAX_WASM_TOTAL;
use headwater::name::Name;
use headwater::record::RecordRef;
use headwater::rules::wasm::{Budget, File, Guest, Use};
use headwater::rules::{Chain, Env, Rule, RuleSpec, WayOut};
use headwater::template::Context;

use super::held;

#[path = "../support/fifty.rs"]
mod fifty;
#[path = "../support/modules.rs"]
mod modules;

use modules::bytes_of;

use fifty::{Fifty, Kept};

#[test]
fn fifty_rules_of_every_kind_hold_less_than_a_mebibyte_after_many_records() {
    // What the first use of a library leaves behind for good is not a rule's.
    let mut world = Kept::default();
    Fifty::load().run(10, &mut world);
    let (mut rules, loaded) = held(Fifty::load);
    let mut world = Kept::default();
    // What they keep of records is the ring's: not counted.
    rules.run(1, &mut Kept::default());
    let (_, running) = held(|| {
        rules.run(3000, &mut world);
        println!("what they keep in the ring: {} bytes", world.bytes());
        let Kept { emitted, failed, .. } = std::mem::take(&mut world);
        assert!(emitted > 50_000, "{emitted} came out: {failed:?}");
    });
    let total = loaded + running;
    println!("fifty rules: {loaded} bytes loaded, {running} more after 3,000 records each");
    assert!(total <= 1024 * 1024, "fifty rules hold {total} bytes");
}

#[test]
fn a_smartmodule_holds_less_than_two_mebibytes_beside_its_linear_memory() {
    for (name, value) in [
        ("filter", "a plum and an apple".as_bytes()),
        ("filter_regex", b"pump 7 temp 21.5"),
        ("map_json", b"{\"n\":21,\"s\":\"x\"}"),
    ] {
        let file = bytes_of(name);
        let params = vec![("regex".to_owned(), r"temp\s+2[0-9]\.\d".to_owned())];
        let budget = Budget::new(MAX_WASM_TOTAL);
        let ((chain, linear), bytes) = held(|| {
            let file = File::new(&file, &budget).expect("a module");
            let guest = Guest::new(&file, Use { params, ..Use::default() }).expect("a rule");
            let rule = Rule::new(Name::new("m").unwrap(), RuleSpec::Wasm(Box::new(guest)));
            let mut chain = Chain::new(&[rule]);
            let labels = BTreeMap::new();
            let context = Context { node: "n", topic: "t", source: "s", labels: &labels };
            let env = Env { context, time: None };
            for _ in 0..1000 {
                chain.apply(&env, &RecordRef::of(value), &mut WayOut(&mut |_| {}));
            }
            (chain, budget.taken())
        });
        let beside = bytes - linear as i64;
        println!("{name}: {} bytes of file, {linear} of linear memory, {beside} beside it", file.len());
        assert!(linear > 0, "{name} runs");
        assert!(beside <= 2 * 1024 * 1024, "{name} holds {beside} bytes beside its linear memory");
        drop(chain);
    }
}
