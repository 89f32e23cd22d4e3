//! What a certificate says of itself: until when it is valid, and for whom it is. Nothing is verified here.
//!
//! rustls verifies certificates and shows none of their fields; whole X.509 libraries are ten times the size of what is
//! asked. So the DER of RFC 5280 is walked down to four fields, and everything else is stepped over:
//!
//! ```text
//! Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signatureValue }
//! tbsCertificate ::= SEQUENCE {
//!     [0] version OPTIONAL, serialNumber, signature, issuer,
//!     validity SEQUENCE { notBefore, notAfter },       UTCTime or GeneralizedTime, always in UTC
//!     subject SEQUENCE OF SET OF SEQUENCE { type, value },
//!     subjectPublicKeyInfo, [1] OPTIONAL, [2] OPTIONAL,
//!     [3] extensions SEQUENCE OF SEQUENCE { id, critical OPTIONAL, OCTET STRING } }
//! ```
//!
//! Lengths are never trusted: a read beyond the end is None, whatever the bytes. A subject with two common names has
//! none: nobody could say which of them was meant.

use crate::time::WallTime;

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const UTF8: u8 = 0x0c;
const PRINTABLE: u8 = 0x13;
const IA5: u8 = 0x16;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// In a list of alternative names.
const DNS_NAME: u8 = 0x82;
const URI: u8 = 0x86;

/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// 2.5.29.17
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub from: WallTime,
    pub until: WallTime,
    pub common_name: Option<String>,
    /// DNS names and URIs among the alternative names, in their order.
    pub names: Vec<String>,
}

impl Certificate {
    /// Reads the DER of one certificate; None when it is none.
    pub fn read(der: &[u8]) -> Option<Self> {
        let mut certificate = Der(Der(der).take(SEQUENCE)?);
        let mut tbs = Der(certificate.take(SEQUENCE)?);
        if tbs.tag() == Some(VERSION) {
            tbs.take(VERSION)?;
        }
        tbs.take(INTEGER)?;
        tbs.take(SEQUENCE)?;
        tbs.take(SEQUENCE)?;
        let mut validity = Der(tbs.take(SEQUENCE)?);
        let (from, until) = (validity.time()?, validity.time()?);
        let common_name = common_name(Der(tbs.take(SEQUENCE)?))?;
        tbs.take(SEQUENCE)?;
        let mut names = Vec::new();
        while let Some(tag) = tbs.tag() {
            let field = tbs.take(tag)?;
            if tag == EXTENSIONS {
                names = alternative_names(Der(Der(field).take(SEQUENCE)?))?;
            }
        }
        Some(Self { from, until, common_name, names })
    }

    /// For whom it is: the common name, else the first of the other names.
    pub fn name(&self) -> Option<&str> {
        self.common_name.as_deref().or(self.names.first().map(String::as_str))
    }
}

/// None: malformed; Some(None): there is not exactly one that can be read.
fn common_name(mut subject: Der<'_>) -> Option<Option<String>> {
    let (mut found, mut count) = (None, 0);
    while subject.tag().is_some() {
        let mut set = Der(subject.take(SET)?);
        while set.tag().is_some() {
            let mut attribute = Der(set.take(SEQUENCE)?);
            if attribute.take(OID)? != COMMON_NAME {
                continue;
            }
            count += 1;
            let tag = attribute.tag()?;
            let value = attribute.take(tag)?;
            // The other kinds of strings are of before 2003.
            if [UTF8, PRINTABLE, IA5].contains(&tag) {
                found = std::str::from_utf8(value).ok().filter(|text| !text.is_empty()).map(str::to_owned);
            }
        }
    }
    Some(found.filter(|_| count == 1))
}

fn alternative_names(mut extensions: Der<'_>) -> Option<Vec<String>> {
    let mut names = Vec::new();
    while extensions.tag().is_some() {
        let mut extension = Der(extensions.take(SEQUENCE)?);
        if extension.take(OID)? != ALTERNATIVE_NAMES {
            continue;
        }
        if extension.tag()? != OCTETS {
            let critical = extension.tag()?;
            extension.take(critical)?;
        }
        let mut list = Der(Der(extension.take(OCTETS)?).take(SEQUENCE)?);
        while let Some(tag) = list.tag() {
            let name = list.take(tag)?;
            if [DNS_NAME, URI].contains(&tag) {
                names.extend(std::str::from_utf8(name).ok().filter(|text| !text.is_empty()).map(str::to_owned));
            }
        }
    }
    Some(names)
}

/// Values, one behind the other.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn tag(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The contents of the next value, which must be of this kind.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (&[kind, first], rest) = self.0.split_first_chunk::<2>()?;
        if kind != tag {
            return None;
        }
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // Lengths of more than three bytes are of nothing that a certificate has.
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(value)
    }

    fn time(&mut self) -> Option<WallTime> {
        let tag = self.tag()?;
        let text = self.take(tag)?;
        let (year, rest) = match tag {
            UTC_TIME => {
                let (year, rest) = text.split_at_checked(2)?;
                let year = number(year)?;
                (if year < 50 { 2000 + year } else { 1900 + year }, rest)
            }
            GENERALIZED_TIME => {
                let (year, rest) = text.split_at_checked(4)?;
                (number(year)?, rest)
            }
            _ => return None,
        };
        let (rest, b"Z") = rest.split_at_checked(10)? else { return None };
        let mut pairs = rest.chunks(2).map(|pair| number(pair).and_then(|n| u32::try_from(n).ok()));
        let mut next = || pairs.next()?;
        let date = chrono::NaiveDate::from_ymd_opt(year, next()?, next()?)?;
        // chrono has no leap seconds of this kind.
        let time = date.and_hms_opt(next()?, next()?, next()?.min(59))?;
        Some(WallTime(time.and_utc().timestamp_micros()))
    }
}

fn number(digits: &[u8]) -> Option<i32> {
    digits.iter().try_fold(0, |n, digit| digit.is_ascii_digit().then(|| n * 10 + i32::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(tag: u8, contents: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        match contents.len() {
            n @ 0..0x80 => out.push(n as u8),
            n @ 0x80..0x100 => out.extend([0x81, n as u8]),
            n => out.extend([0x82, (n >> 8) as u8, n as u8]),
        }
        out.extend_from_slice(contents);
        out
    }

    fn joined(tag: u8, parts: &[Vec<u8>]) -> Vec<u8> {
        value(tag, &parts.concat())
    }

    fn attribute(oid: &[u8], tag: u8, text: &[u8]) -> Vec<u8> {
        joined(SET, &[joined(SEQUENCE, &[value(OID, oid), value(tag, text)])])
    }

    fn certificate(validity: [Vec<u8>; 2], subject: &[Vec<u8>], extensions: &[Vec<u8>]) -> Vec<u8> {
        let mut tbs = vec![
            value(VERSION, &value(INTEGER, &[2])),
            value(INTEGER, &[1; 20]),
            value(SEQUENCE, b"signature"),
            joined(SEQUENCE, &[attribute(COMMON_NAME, UTF8, b"an authority")]),
            joined(SEQUENCE, &validity),
            joined(SEQUENCE, subject),
            value(SEQUENCE, &[0; 300]),
        ];
        if !extensions.is_empty() {
            tbs.push(value(EXTENSIONS, &joined(SEQUENCE, extensions)));
        }
        joined(SEQUENCE, &[joined(SEQUENCE, &tbs), value(SEQUENCE, b"x"), value(0x03, b"y")])
    }

    fn times() -> [Vec<u8>; 2] {
        [value(UTC_TIME, b"991231235959Z"), value(GENERALIZED_TIME, b"20500101000000Z")]
    }

    #[test]
    fn validity_and_names_are_read() {
        let dns = joined(
            SEQUENCE,
            &[value(0x81, b"a@b"), value(DNS_NAME, b"sc.example"), value(0x87, &[10, 0, 0, 1]), value(URI, b"urn:x")],
        );
        let extensions = [
            joined(SEQUENCE, &[value(OID, b"\x55\x1d\x13"), value(0x01, &[0xff]), value(OCTETS, b"")]),
            joined(SEQUENCE, &[value(OID, ALTERNATIVE_NAMES), value(0x01, &[0xff]), value(OCTETS, &dns)]),
        ];
        let subject = [attribute(b"\x55\x04\x0a", UTF8, b"Works"), attribute(COMMON_NAME, PRINTABLE, b"press-7")];
        let read = Certificate::read(&certificate(times(), &subject, &extensions)).unwrap();
        assert_eq!(read.from, WallTime(946_684_799_000_000));
        assert_eq!(read.until, WallTime(2_524_608_000_000_000));
        assert_eq!(read.common_name.as_deref(), Some("press-7"));
        assert_eq!(read.names, ["sc.example", "urn:x"]);
        let read = Certificate::read(&certificate(times(), &[], &extensions)).unwrap();
        assert_eq!(read.name(), Some("sc.example"));
    }

    #[test]
    fn a_subject_with_two_common_names_has_none() {
        let name = |text: &[u8]| attribute(COMMON_NAME, UTF8, text);
        let two = [name(b"press-7"), name(b"admin")];
        assert_eq!(Certificate::read(&certificate(times(), &two, &[])).unwrap().name(), None);
        let none_readable = [attribute(COMMON_NAME, 0x1e, b"\0a")];
        assert_eq!(Certificate::read(&certificate(times(), &none_readable, &[])).unwrap().name(), None);
    }

    #[test]
    fn two_digits_of_a_year_are_of_1950_to_2049() {
        let year = |text: &[u8]| Der(&value(UTC_TIME, text)).time().map(|t| t.0 / 1_000_000 / 86_400 / 365 + 1970);
        assert_eq!(year(b"490601000000Z"), Some(2049));
        assert_eq!(year(b"700601000000Z"), Some(1970));
        assert_eq!(Der(&value(UTC_TIME, b"500101000000Z")).time(), Some(WallTime(-631_152_000_000_000)));
    }

    #[test]
    fn times_that_are_none_are_refused() {
        for bad in [
            &b"9912312359Z"[..],
            b"991231235959",
            b"991331235959Z",
            b"990230235959Z",
            b"99123123595xZ",
            b"",
            b"99123123595959Z",
        ] {
            assert_eq!(Der(&value(UTC_TIME, bad)).time(), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_damaged_certificate_never_panics(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let mut der = certificate(times(), &[attribute(COMMON_NAME, UTF8, b"x")], &[value(SEQUENCE, b"")]);
            let at = at.index(der.len());
            der[at] = byte;
            let cut = cut.index(der.len());
            let _ = (Certificate::read(&der), Certificate::read(&der[..cut]));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Certificate::read(&bytes);
        }
    }
}
