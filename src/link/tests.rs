//! Laws of a link: budgets through crashes and clocks, reserves, windows.

use proptest::prelude::*;

use super::*;
use crate::time::BootTime;
use crate::zone::no_names;

const URGENT: LaneId = LaneId(0);
const NORMAL: LaneId = LaneId(1);

fn wall(text: &str) -> WallTime {
    WallTime(chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros())
}

fn at(text: &str) -> Now {
    Now { boot: BootTime(0), wall: wall(text), trusted: true }
}

fn unset() -> Now {
    Now { boot: BootTime(0), wall: WallTime(0), trusted: false }
}

fn monthly(bytes: u64) -> Options {
    let budget = Some(Budget { bytes, per: Per::Month { reset_day: 1 } });
    Options { budget, zone: Zone::Fixed(0), ..Options::default() }
}

#[test]
fn a_spent_budget_closes_the_link_until_the_period_ends() {
    let mut link = Link::new(monthly(1000), None);
    let now = at("2026-11-27T12:00:00Z");
    link.spend(now, 0, 999);
    assert_eq!(link.gate(now, 0, NORMAL), Gate::Open);
    link.spend(now, 0, 1);
    assert_eq!(link.gate(now, 0, NORMAL), Gate::Spent { until: wall("2026-12-01T00:00:00Z") });
    assert_eq!(link.gate(at("2026-12-01T00:00:00Z"), 0, NORMAL), Gate::Open);
    assert_eq!(link.used(), 0);
}

#[test]
fn a_reserve_is_left_by_the_others_and_used_by_its_lane() {
    let mut link = Link::new(Options { reserve: vec![(URGENT, 200)], ..monthly(1000) }, None);
    let now = at("2026-11-27T12:00:00Z");
    link.spend(now, 0, 800);
    link.lay_to(NORMAL, 800);
    assert!(matches!(link.gate(now, 0, NORMAL), Gate::Spent { .. }));
    assert_eq!((link.gate(now, 0, URGENT), link.left(URGENT)), (Gate::Open, Some(200)));
    link.spend(now, 0, 150);
    link.lay_to(URGENT, 150);
    assert_eq!((link.left(URGENT), link.left(NORMAL)), (Some(50), Some(0)));
}

#[test]
fn a_lane_that_used_its_reserve_keeps_nothing_from_the_others() {
    let mut link = Link::new(Options { reserve: vec![(URGENT, 200)], ..monthly(1000) }, None);
    let now = at("2026-11-27T12:00:00Z");
    link.spend(now, 0, 300);
    link.lay_to(URGENT, 300);
    assert_eq!((link.left(URGENT), link.left(NORMAL)), (Some(700), Some(700)));
}

#[test]
fn an_untrusted_clock_begins_no_period_and_what_is_used_meanwhile_counts_in_the_one_that_it_is() {
    let mut link = Link::new(monthly(1000), None);
    link.spend(at("2026-11-27T12:00:00Z"), 0, 900);
    let mut link = Link::new(monthly(1000), link.settle().as_deref());
    link.spend(Now { wall: wall("2031-01-01T00:00:00Z"), ..unset() }, 0, 50);
    assert_eq!(link.used(), 950);
    // Back in the same month: both count. In a later one: what was used before the clock was set.
    let mut same = link.clone();
    same.gate(at("2026-11-28T00:00:00Z"), 0, NORMAL);
    assert_eq!(same.used(), 950);
    link.gate(at("2026-12-02T00:00:00Z"), 0, NORMAL);
    assert_eq!(link.used(), 50);
}

#[test]
fn a_clock_that_goes_back_gives_no_second_budget() {
    let mut link = Link::new(monthly(1000), None);
    link.spend(at("2026-12-01T00:00:00Z"), 0, 1000);
    for day in ["2026-11-30T00:00:00Z", "2026-12-01T00:00:01Z", "2020-01-01T00:00:00Z"] {
        assert!(matches!(link.gate(at(day), 0, NORMAL), Gate::Spent { .. }), "{day}");
    }
}

#[test]
fn outside_of_the_windows_only_the_lanes_that_bypass_them_send_and_all_do_while_the_clock_is_unset() {
    let windows =
        vec![Window::parse("02:00-02:20Z", &no_names).unwrap(), Window::parse("14:00-14:20Z", &no_names).unwrap()];
    let mut link = Link::new(Options { windows, bypass: vec![URGENT], ..Options::default() }, None);
    let now = at("2026-11-27T12:00:00Z");
    assert_eq!(link.gate(now, 0, NORMAL), Gate::Closed { until: wall("2026-11-27T14:00:00Z") });
    assert_eq!(link.gate(now, 0, URGENT), Gate::Open);
    assert_eq!(link.next_change(now, 0), Some(Span::from_secs(7200)));
    assert_eq!(link.gate(unset(), 0, NORMAL), Gate::Open);
    let open = at("2026-11-27T14:05:00Z");
    assert_eq!(
        (link.gate(open, 0, NORMAL), link.window_ends(open, 0)),
        (Gate::Open, Some(wall("2026-11-27T14:20:00Z")))
    );
}

#[test]
fn where_it_goes_on_a_spent_budget_closes_nothing() {
    let mut link = Link::new(Options { goes_on: true, ..monthly(10) }, None);
    let now = at("2026-11-27T12:00:00Z");
    link.spend(now, 0, 1000);
    assert_eq!((link.gate(now, 0, NORMAL), link.used()), (Gate::Open, 1000));
}

#[test]
fn other_options_keep_what_was_used_unless_the_periods_are_of_another_kind() {
    let mut link = Link::new(monthly(1000), None);
    let now = at("2026-11-27T12:00:00Z");
    link.spend(now, 0, 700);
    link.set(monthly(500));
    assert!(matches!(link.gate(now, 0, NORMAL), Gate::Spent { .. }));
    link.set(Options { budget: Some(Budget { bytes: 500, per: Per::Day }), ..monthly(1) });
    assert_eq!((link.gate(now, 0, NORMAL), link.used()), (Gate::Open, 0));
}

proptest! {
    /// Whatever is used between two crashes: what is known after one is no less, and more by little.
    #[test]
    fn a_crash_forgets_no_byte_and_invents_few(
        budget in 10_000u64..1 << 34,
        steps in prop::collection::vec((1u64..5000, prop::bool::weighted(0.05)), 1..200),
    ) {
        let now = at("2026-11-27T12:00:00Z");
        let options = monthly(budget);
        let (mut link, mut disk, mut truth, mut crashes) = (Link::new(options.clone(), None), None, 0u64, 0u64);
        let ahead = (budget / 256).clamp(4096, 1 << 20);
        for (bytes, crash) in steps {
            disk = link.promise(bytes).or(disk);
            link.spend(now, 0, bytes);
            truth += bytes;
            if crash {
                link = Link::new(options.clone(), disk.as_deref());
                crashes += 1;
                prop_assert!(link.used() >= truth, "{} of {truth}", link.used());
            }
        }
        prop_assert!(link.used() <= truth + crashes * ahead);
        let clean = Link::new(options, link.settle().or(disk).as_deref());
        prop_assert_eq!(clean.used(), link.used());
    }

    #[test]
    fn what_is_stored_may_be_anything(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut link = Link::new(monthly(1000), Some(&bytes));
        let now = at("2026-11-27T12:00:00Z");
        link.spend(now, 0, 1);
        let _ = (link.gate(now, 0, NORMAL), link.promise(1), link.settle());
    }
}
