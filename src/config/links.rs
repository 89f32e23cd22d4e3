//! `[links.NAME]`: a way out, its budget, rate and windows.

use std::io::Read;

use super::model::{LaneConfig, LinkConfig};
use super::reader::Reader;
use super::units::parse_size;
use crate::lane::LaneId;
use crate::limits::MAX_LINKS;
use crate::link::{Budget, Options, Per, Window, parse_rate};
use crate::zone::Zone;

/// The longest name of a network interface (`IFNAMSIZ`, without its closing zero).
const MAX_INTERFACE: usize = 15;

pub fn links(root: &Reader<'_>, lanes: &[LaneConfig]) -> Vec<LinkConfig> {
    root.named("links", MAX_LINKS).into_iter().filter_map(|(name, r)| link(name, &r, lanes)).collect()
}

fn link(name: &str, r: &Reader<'_>, lanes: &[LaneConfig]) -> Option<LinkConfig> {
    let name = super::reader::name_of(name, r);
    let interface = r.opt_text("interface", "interface", interface);
    let budget = budget(r);
    let zone = r.text("zone", "zone", "local", |text| Zone::parse(text, &zone_file));
    let rate = r.opt_text("rate", "rate", |text| parse_rate(text, parse_size));
    let windows = r.list("windows", "list of windows", |text, _| Window::parse(text, &zone_file));
    let bypass = r.list("bypass", "list of lanes", |text, _| lane(text, lanes));
    let reserve = reserve(r, budget, lanes);
    let goes_on = r.choice("when_spent", &[("stop", false), ("go-on", true)]);
    let on_demand = r.choice("connect", &[("always", false), ("on-demand", true)]);
    if windows.is_empty() && !bypass.is_empty() {
        r.warn("bypass", "there are no windows: every lane may send at any time");
    }
    for (key, given) in [("reserve", !reserve.is_empty()), ("when_spent", goes_on)] {
        if given && !r.has("budget") {
            r.warn(key, "there is no budget that it could mean");
        }
    }
    let options = Options { budget, zone: zone?, rate, windows, bypass, reserve, goes_on };
    Some(LinkConfig { name: name?, interface, on_demand, options })
}

/// What the machine's time zone database has under a name.
pub fn zone_file(name: &str) -> Result<Vec<u8>, String> {
    /// The largest of today's database has 4 KiB.
    const MOST: u64 = 64 * 1024;
    let dir = std::env::var_os("TZDIR").unwrap_or_else(|| "/usr/share/zoneinfo".into());
    let path = std::path::Path::new(&dir).join(name);
    let mut bytes = Vec::new();
    let read = std::fs::File::open(&path).and_then(|file| file.take(MOST).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(bytes),
        Err(_) if !std::path::Path::new(&dir).is_dir() => {
            let dir = std::path::Path::new(&dir).display();
            Err(format!(
                "`{name}`: this machine has no time zones in {dir}: install tzdata, or write an offset like +02:00"
            ))
        }
        Err(e) => Err(format!("`{name}` is no time zone that this machine knows ({}: {e})", path.display())),
    }
}

fn interface(text: &str) -> Result<String, String> {
    let good = (1..=MAX_INTERFACE).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
    good.then(|| text.to_owned()).ok_or_else(|| format!("`{text}` is no name of a network interface, like wwan0"))
}

/// `300MB/month` or `20MB/day`, with the day of the month on which it begins.
fn budget(r: &Reader<'_>) -> Option<Budget> {
    let reset_day = r.int("reset_day", 1, 1..=31);
    let budget = r.opt_text("budget", "size/day or size/month", |text| {
        let (size, per) = text
            .split_once('/')
            .ok_or_else(|| format!("`{text}` does not say for how long; write it like 300MB/month or 20MB/day"))?;
        let per = match per.trim() {
            "day" => Per::Day,
            "month" => Per::Month { reset_day: u8::try_from(reset_day).unwrap_or(1) },
            other => return Err(format!("`{other}`: a budget is for a day or a month")),
        };
        let bytes = parse_size(size.trim_end())?;
        if bytes < 64 * 1024 {
            return Err(format!("`{text}`: less than 64KiB carries nothing but handshakes"));
        }
        Ok(Budget { bytes, per })
    });
    if reset_day != 1 && !matches!(budget, Some(Budget { per: Per::Month { .. }, .. })) {
        r.warn("reset_day", "there is no budget for a month that it could mean");
    }
    budget
}

fn lane(text: &str, lanes: &[LaneConfig]) -> Result<LaneId, String> {
    let at = lanes.iter().position(|lane| lane.name.as_str() == text);
    at.and_then(|at| u8::try_from(at).ok()).map(LaneId).ok_or_else(|| super::parts::unknown_lane(text, lanes))
}

/// `{ urgent = "20%" }` or `{ urgent = "5MB" }` of the budget.
fn reserve(r: &Reader<'_>, budget: Option<Budget>, lanes: &[LaneConfig]) -> Vec<(LaneId, u64)> {
    let bytes = budget.map_or(0, |budget| budget.bytes);
    let mut reserve: Vec<(LaneId, u64)> = Vec::new();
    for (name, text, at) in r.texts("reserve") {
        let share = match text.strip_suffix('%') {
            Some(percent) => {
                percent.trim().parse::<u8>().ok().filter(|n| *n <= 100).map(|n| bytes / 100 * u64::from(n))
            }
            None => parse_size(&text).ok(),
        };
        match (lane(name, lanes), share) {
            (Ok(lane), Some(share)) => reserve.push((lane, share)),
            (Err(why), _) => r.error(at, "reserve", why),
            (_, None) => {
                r.error(at, "reserve", format!("`{text}`: write a share of the budget, like \"20%\" or \"5MB\""))
            }
        }
    }
    if budget.is_some() && reserve.iter().map(|(_, share)| *share).sum::<u64>() > bytes {
        r.wrong("reserve", "the lanes keep more than the whole budget together");
    }
    reserve
}
