//! `mask`: personal data made unreadable, in fields of a JSON object, the key or the whole value.
//!
//! What cannot be masked as it was meant is hidden altogether: a text that is no address under `email` or `ip` becomes
//! [`HIDDEN`], never itself. Numbers and booleans become strings where something of them is hidden. Fields that are not
//! there are no error; a value in which fields are to be masked and that is not JSON fails the record, and is
//! better dropped or put aside than passed on.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Answer;
use super::failed::Failed;
use super::replace::Target;
use crate::json;
use crate::record::RecordRef;

/// What stands for something that is hidden altogether.
pub const HIDDEN: &str = "***";
/// What stands for one hidden character.
const STAR: u8 = b'*';
/// What one compiled expression, and its lazily built automaton, may take.
const PATTERN_BYTES: usize = 256 * 1024;

/// How a text is masked.
#[derive(Clone, Debug, PartialEq)]
pub enum Mask {
    /// All but the last characters: each other one is a star. A text that is not longer is hidden altogether.
    KeepLast(usize),
    /// This text instead.
    Text(String),
    /// `anna@example.com` is `a***@example.com`.
    Email,
    /// The network of an address: the bits after these prefixes are zero.
    Ip { v4: u8, v6: u8 },
    /// What an expression matches is replaced; `$1` is the first group.
    Replace(Replace),
}

impl Mask {
    /// To /24 and /48, what a site usually has.
    pub const IP: Mask = Mask::Ip { v4: 24, v6: 48 };

    pub fn check(&self) -> Result<(), MaskError> {
        match self {
            Mask::KeepLast(count) if *count > 64 => Err(MaskError::KeepLast),
            Mask::Ip { v4, v6 } if *v4 > 32 || *v6 > 128 => Err(MaskError::Prefix),
            _ => Ok(()),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Replace {
    regex: regex::bytes::Regex,
    with: String,
}

impl Replace {
    pub fn new(pattern: &str, with: &str) -> Result<Self, MaskError> {
        let regex = regex::bytes::RegexBuilder::new(pattern)
            .size_limit(PATTERN_BYTES)
            .dfa_size_limit(PATTERN_BYTES)
            .build()
            .map_err(|e| MaskError::Pattern(e.to_string()))?;
        Ok(Self { regex, with: with.to_owned() })
    }
}

impl PartialEq for Replace {
    fn eq(&self, other: &Self) -> bool {
        self.regex.as_str() == other.regex.as_str() && self.with == other.with
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MaskError {
    #[error("`keep_last` is at most 64 characters")]
    KeepLast,
    #[error("a prefix is at most 32 bits for IPv4 and 128 for IPv6")]
    Prefix,
    #[error("`pattern` is not a regular expression: {0}")]
    Pattern(String),
}

/// A checked rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Masking {
    target: Target,
    mask: Mask,
}

impl Masking {
    pub fn new(target: Target, mask: Mask) -> Result<Self, MaskError> {
        mask.check()?;
        Ok(Self { target, mask })
    }

    /// Writes the new value to `out`.
    pub fn rewrite(&self, record: &RecordRef<'_>, out: &mut Vec<u8>) -> Result<Answer, Failed> {
        if self.target.value {
            out.clear();
            self.mask.write(record.value, out);
            return Ok(Answer::Value);
        }
        let Some(fields) = self.target.fields() else { return Ok(Answer::Pass) };
        let mut text = Vec::new();
        let mut with = |plain: &[u8], out: &mut Vec<u8>| {
            text.clear();
            self.mask.write(plain, &mut text);
            json::write_string(&text, out);
        };
        let changed = fields.replace(record.value, &mut with, out)?;
        Ok(Answer::rewritten(changed))
    }

    /// Writes the new key to `out`, which `Answer::Value` stands for.
    pub fn rewrite_key(&self, record: &RecordRef<'_>, out: &mut Vec<u8>) -> Answer {
        let Some(key) = record.key.filter(|_| self.target.key) else { return Answer::Pass };
        out.clear();
        self.mask.write(key, out);
        Answer::Value
    }
}

impl Mask {
    /// Appends the masked text.
    fn write(&self, plain: &[u8], out: &mut Vec<u8>) {
        match self {
            Mask::KeepLast(count) => keep_last(&String::from_utf8_lossy(plain), *count, out),
            Mask::Text(text) => out.extend_from_slice(text.as_bytes()),
            Mask::Email => email(plain, out),
            Mask::Ip { v4, v6 } => match network(plain, *v4, *v6) {
                Some(network) => out.extend_from_slice(network.to_string().as_bytes()),
                None => out.extend_from_slice(HIDDEN.as_bytes()),
            },
            Mask::Replace(replace) => {
                out.extend_from_slice(&replace.regex.replace_all(plain, replace.with.as_bytes()));
            }
        }
    }
}

fn keep_last(plain: &str, count: usize, out: &mut Vec<u8>) {
    let length = plain.chars().count();
    let hidden = if length > count { length - count } else { length };
    out.resize(out.len() + hidden, STAR);
    plain.chars().skip(hidden).for_each(|c| out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()));
}

/// Keeps the domain, and of the rest the first character where it is not the only one.
fn email(plain: &[u8], out: &mut Vec<u8>) {
    let parts = std::str::from_utf8(plain).ok().and_then(|text| text.trim().rsplit_once('@'));
    let domain = |d: &str| !d.is_empty() && d.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
    match parts.filter(|(local, d)| !local.is_empty() && domain(d)) {
        Some((local, domain)) => {
            let mut chars = local.chars();
            if let (Some(first), Some(_)) = (chars.next(), chars.next()) {
                out.extend_from_slice(first.encode_utf8(&mut [0; 4]).as_bytes());
            }
            out.extend_from_slice(HIDDEN.as_bytes());
            out.push(b'@');
            out.extend_from_slice(domain.as_bytes());
        }
        None => out.extend_from_slice(HIDDEN.as_bytes()),
    }
}

/// The network of an address, alone or with a port; an IPv4 address within an IPv6 one is the former.
fn network(plain: &[u8], v4: u8, v6: u8) -> Option<IpAddr> {
    let text = std::str::from_utf8(plain).ok()?.trim();
    let address = text.parse().ok().or_else(|| text.parse().ok().map(|a: SocketAddr| a.ip()))?;
    Some(match address.to_canonical() {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(v4)).unwrap_or(0);
            Ipv4Addr::from_bits(ip.to_bits() & mask).into()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(v6)).unwrap_or(0);
            Ipv6Addr::from_bits(ip.to_bits() & mask).into()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Path;
    use proptest::prelude::*;

    fn masked(mask: &Mask, plain: &[u8]) -> String {
        let target = Target::new(&[], false, true).unwrap();
        let mut out = b"left over".to_vec();
        let made = Masking::new(target, mask.clone()).unwrap().rewrite(&RecordRef::of(plain), &mut out);
        assert_eq!(made, Ok(Answer::Value));
        String::from_utf8(out).unwrap()
    }

    fn fields(paths: &[&str], mask: Mask) -> Masking {
        let paths: Vec<Path> = paths.iter().map(|p| Path::parse(p).unwrap()).collect();
        Masking::new(Target::new(&paths, false, false).unwrap(), mask).unwrap()
    }

    #[test]
    fn all_but_the_last_characters_are_stars() {
        assert_eq!(masked(&Mask::KeepLast(4), b"DE89370400440532013000"), "******************3000");
        assert_eq!(masked(&Mask::KeepLast(2), "Zo\u{e9}\u{1f600}".as_bytes()), "**\u{e9}\u{1f600}");
        assert_eq!(masked(&Mask::KeepLast(4), b"1234"), "****");
        assert_eq!(masked(&Mask::KeepLast(0), b"12"), "**");
    }

    #[test]
    fn addresses_keep_their_domain_or_network_and_anything_else_is_hidden() {
        for (plain, shown) in [
            ("anna@example.com", "a***@example.com"),
            ("a@example.com", "***@example.com"),
            ("\"x@y\"@example.com", "\"***@example.com"),
            ("anna@", HIDDEN),
            ("mail to anna@example.com now", HIDDEN),
            ("anna", HIDDEN),
        ] {
            assert_eq!(masked(&Mask::Email, plain.as_bytes()), shown);
        }
        for (plain, shown) in [
            ("192.168.7.42", "192.168.7.0"),
            ("192.168.7.42:5060", "192.168.7.0"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1::"),
            ("[2001:db8:1:2::1]:443", "2001:db8:1::"),
            ("::ffff:10.1.2.3", "10.1.2.0"),
            ("10.1.2.300", HIDDEN),
        ] {
            assert_eq!(masked(&Mask::IP, plain.as_bytes()), shown);
        }
        assert_eq!(masked(&Mask::Ip { v4: 0, v6: 0 }, b"1.2.3.4"), "0.0.0.0");
        assert_eq!(masked(&Mask::Ip { v4: 32, v6: 128 }, b"1.2.3.4"), "1.2.3.4");
    }

    #[test]
    fn an_expression_replaces_what_it_matches() {
        let replace = Mask::Replace(Replace::new(r"(\d{4})-\d+", "$1-X").unwrap());
        assert_eq!(masked(&replace, b"card 1234-5678, card 9999-1"), "card 1234-X, card 9999-X");
        assert!(Replace::new("(", "").is_err());
    }

    #[test]
    fn fields_are_masked_where_they_stand_and_null_stays() {
        let rule = fields(&["pin", "user.card"], Mask::KeepLast(2));
        let mut out = Vec::new();
        let value = br#"{"pin":1234,"user":{"card":"ab\"cd","n":1},"x":null}"#;
        assert_eq!(rule.rewrite(&RecordRef::of(value), &mut out), Ok(Answer::Value));
        assert_eq!(out, br#"{"pin":"**34","user":{"card":"***cd","n":1},"x":null}"#);
        assert_eq!(rule.rewrite(&RecordRef::of(b"{\"pin\":null}"), &mut out), Ok(Answer::Pass));
        assert!(rule.rewrite(&RecordRef::of(b"pin=1234"), &mut out).is_err());
    }

    #[test]
    fn the_key_is_masked_only_where_it_is_asked_for() {
        let record = RecordRef { key: Some(b"anna@example.com"), ..RecordRef::of(b"{}") };
        let mut out = Vec::new();
        let rule = Masking::new(Target::new(&[], true, false).unwrap(), Mask::Email).unwrap();
        assert_eq!(rule.rewrite_key(&record, &mut out), Answer::Value);
        assert_eq!(out, b"a***@example.com");
        assert_eq!(rule.rewrite(&record, &mut out), Ok(Answer::Pass));
        assert_eq!(rule.rewrite_key(&RecordRef::of(b"{}"), &mut out), Answer::Pass);
        assert_eq!(fields(&["a"], Mask::Email).rewrite_key(&record, &mut out), Answer::Pass);
    }

    #[test]
    fn options_out_of_range_are_refused() {
        let target = || Target::new(&[], true, false).unwrap();
        assert_eq!(Masking::new(target(), Mask::Ip { v4: 33, v6: 48 }), Err(MaskError::Prefix));
        assert_eq!(Masking::new(target(), Mask::KeepLast(65)), Err(MaskError::KeepLast));
    }

    proptest! {
        /// Hidden letters and shown ones come from different alphabets, so that one that shows is seen.
        #[test]
        fn a_hidden_character_is_never_shown(hidden in "[a-z\u{e0}-\u{ef}]{0,20}", shown in "[A-Z]{0,6}") {
            let plain = format!("{hidden}{shown}");
            let masked = masked(&Mask::KeepLast(shown.chars().count()), plain.as_bytes());
            prop_assert!(!masked.chars().any(char::is_lowercase), "{masked}");
            prop_assert_eq!(masked.chars().count(), plain.chars().count());
        }

        #[test]
        fn what_is_no_address_never_shows(text in "[a-z .,;]{1,20}", count in 0usize..30) {
            for mask in [Mask::Email, Mask::IP, Mask::Text("#".into())] {
                let masked = masked(&mask, text.as_bytes());
                prop_assert!(masked == HIDDEN || masked == "#", "{masked}");
            }
            let masked = masked(&Mask::KeepLast(count), text.as_bytes());
            prop_assert!(masked.bytes().filter(|b| *b != STAR).count() <= count.min(text.len() - 1));
        }

        #[test]
        fn a_network_holds_its_address_and_no_more_bits(bits: u32, v4 in 0u8..=32) {
            let plain = Ipv4Addr::from_bits(bits).to_string();
            let masked: Ipv4Addr = masked(&Mask::Ip { v4, v6: 48 }, plain.as_bytes()).parse().unwrap();
            let host = 32 - u32::from(v4);
            prop_assert_eq!(u64::from(masked.to_bits()), (u64::from(bits) >> host) << host);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut out = Vec::new();
            for mask in [Mask::Email, Mask::IP, Mask::KeepLast(3), Mask::Replace(Replace::new("a+", "$0$9").unwrap())] {
                mask.write(&bytes, &mut out);
                let _ = fields(&["a"], mask).rewrite(&RecordRef::of(&bytes), &mut out);
            }
        }
    }
}
