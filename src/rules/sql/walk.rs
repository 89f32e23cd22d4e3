//! From a record's bytes to the slots of a plan: one walk over the members of its value, no tree.
//!
//! The walk goes on only until every slot that is needed has its value, so what follows is not judged (as in
//! [`crate::json`], where the first of two members of one name counts as well). A value that is no object has no
//! members: every slot is missing.

use crate::json::{Malformed, Scanner, key_is};

/// Names of a member, and of members within it.
pub type Names = Vec<String>;

/// Fields that a plan reads, each once.
#[derive(Debug, Default)]
pub struct Slots {
    names: Vec<Names>,
}

/// Where a field stands in the value.
pub type Range = Option<(u32, u32)>;

impl Slots {
    /// The slot of a field; a new one if there is none yet.
    pub fn of(&mut self, names: Names) -> usize {
        if let Some(slot) = self.names.iter().position(|known| *known == names) {
            return slot;
        }
        self.names.push(names);
        self.names.len() - 1
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }
}

/// A member: its raw key, and where its value begins and ends.
type Found<'a> = (&'a [u8], u32, u32);

/// A walk that can be taken up again where it stopped.
pub struct Walk<'a> {
    value: &'a [u8],
    scanner: Scanner<'a>,
    state: State,
}

#[derive(PartialEq)]
enum State {
    Before,
    Among,
    Done,
}

impl<'a> Walk<'a> {
    pub fn new(value: &'a [u8]) -> Self {
        Self { value, scanner: Scanner::new(value), state: State::Before }
    }

    /// Goes on until the first `needed` slots have their places, or nothing is left.
    pub fn fill(&mut self, slots: &Slots, needed: usize, places: &mut [Range]) -> Result<(), Malformed> {
        let mut missing = places.iter().take(needed).filter(|place| place.is_none()).count();
        while missing > 0 && self.state != State::Done {
            let Some((key, start, end)) = self.member()? else {
                break;
            };
            let escaped = memchr::memchr(b'\\', key).is_some();
            for (slot, names) in slots.names.iter().enumerate() {
                let first = names.first().map_or("", String::as_str);
                let same = if escaped { key_is(key, first) } else { key == first.as_bytes() };
                if !same || places[slot].is_some() {
                    continue;
                }
                places[slot] = within(self.value, (start, end), &names[1..])?;
                missing -= usize::from(slot < needed && places[slot].is_some());
            }
        }
        Ok(())
    }

    /// The next member: its raw key and where its value stands.
    fn member(&mut self) -> Result<Option<Found<'a>>, Malformed> {
        if self.state == State::Before {
            self.scanner.space();
            if self.scanner.peek() != Some(b'{') {
                self.scanner.value(0)?;
                self.scanner.end()?;
                self.state = State::Done;
                return Ok(None);
            }
            self.scanner.open(b'{')?;
            self.state = State::Among;
            if self.scanner.closes(b'}') {
                self.state = State::Done;
                return Ok(None);
            }
        } else if !self.scanner.more(b'}')? {
            self.state = State::Done;
            return Ok(None);
        }
        let key = self.scanner.key()?;
        let start = self.scanner.at() as u32;
        self.scanner.value(1)?;
        Ok(Some((key, start, self.scanner.at() as u32)))
    }
}

/// Follows the names from a value into the members below it.
fn within(value: &[u8], range: (u32, u32), names: &[String]) -> Result<Range, Malformed> {
    let (mut start, mut end) = range;
    for name in names {
        let raw = &value[start as usize..end as usize];
        let Some((from, to)) = member_of(raw, name)? else {
            return Ok(None);
        };
        (start, end) = (start + from, start + to);
    }
    Ok(Some((start, end)))
}

/// Where the member `name` of an object stands in its bytes. None: it has none, or is no object.
pub fn member_of(raw: &[u8], name: &str) -> Result<Range, Malformed> {
    let mut walk = Walk::new(raw);
    while let Some((key, start, end)) = walk.member()? {
        if key_is(key, name) {
            return Ok(Some((start, end)));
        }
    }
    Ok(None)
}

/// Appends the members of an object, as they stand and with commas between, without those that `left_out` names. False when
/// it is no object; whether anything follows it is checked.
pub fn copy_members(value: &[u8], left_out: impl Fn(&[u8]) -> bool, out: &mut Vec<u8>) -> Result<bool, Malformed> {
    let mut scanner = Scanner::new(value);
    scanner.space();
    if scanner.peek() != Some(b'{') {
        return Ok(false);
    }
    scanner.open(b'{')?;
    let mut first = true;
    if !scanner.closes(b'}') {
        loop {
            scanner.space();
            let start = scanner.at();
            let key = scanner.key()?;
            scanner.value(1)?;
            if !left_out(key) {
                if !first {
                    out.push(b',');
                }
                first = false;
                out.extend_from_slice(&value[start..scanner.at()]);
            }
            if !scanner.more(b'}')? {
                break;
            }
        }
    }
    scanner.end()?;
    Ok(true)
}
