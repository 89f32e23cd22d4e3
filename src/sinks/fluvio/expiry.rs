//! When a certificate is valid: the two dates of its DER encoding (RFC 5280, 4.1.2.5), and nothing else of it.
//!
//! Whether it is to be believed is rustls' business; this is for a person who must renew it in time.

use crate::time::WallTime;

/// From when to when a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub from: WallTime,
    pub to: WallTime,
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
/// The version, where it is not 1.
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// None: it is no certificate.
pub fn validity(der: &[u8]) -> Option<Validity> {
    let (mut certificate, _) = expect(der, SEQUENCE)?;
    let mut fields = take(&mut certificate, SEQUENCE)?;
    if fields.first() == Some(&VERSION) {
        take(&mut fields, VERSION)?;
    }
    // Serial number, algorithm of the signature, issuer.
    take(&mut fields, INTEGER)?;
    take(&mut fields, SEQUENCE)?;
    take(&mut fields, SEQUENCE)?;
    let mut dates = take(&mut fields, SEQUENCE)?;
    Some(Validity { from: date(&mut dates)?, to: date(&mut dates)? })
}

/// The contents of the element in front, which is stepped over.
fn take<'a>(bytes: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (contents, rest) = expect(bytes, tag)?;
    *bytes = rest;
    Some(contents)
}

/// The contents of the element in front, and what stands behind it.
fn expect(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = bytes.split_first()?;
    let (&len, rest) = rest.split_first().filter(|_| *found == tag)?;
    let (len, rest) = match len {
        0..=0x7f => (usize::from(len), rest),
        // How many bytes the length takes; a certificate is shorter than 16 MiB.
        0x81..=0x83 => {
            let (len, rest) = rest.split_at_checked(usize::from(len & 0x7f))?;
            (len.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(len)
}

/// `YYMMDDHHMMSSZ` (until 2049) or `YYYYMMDDHHMMSSZ`.
fn date(bytes: &mut &[u8]) -> Option<WallTime> {
    let text = |bytes| std::str::from_utf8(bytes).ok();
    let (year, rest) = match bytes.first()? {
        &UTC_TIME => {
            let (year, rest) = text(take(bytes, UTC_TIME)?)?.split_at_checked(2)?;
            let year = number(year)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        _ => {
            let (year, rest) = text(take(bytes, GENERALIZED_TIME)?)?.split_at_checked(4)?;
            (number(year)?, rest)
        }
    };
    let rest = rest.strip_suffix('Z').filter(|rest| rest.len() == 10)?;
    let part = |at: usize| number(rest.get(at..at + 2)?);
    let day = chrono::NaiveDate::from_ymd_opt(year as i32, part(0)?, part(2)?)?;
    let moment = day.and_hms_opt(part(4)?, part(6)?, part(8)?)?;
    Some(WallTime(moment.and_utc().timestamp_micros()))
}

fn number(digits: &str) -> Option<u32> {
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(from: (i32, u8, u8), to: (i32, u8, u8)) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        params.not_before = date_time_ymd(from.0, from.1, from.2);
        params.not_after = date_time_ymd(to.0, to.1, to.2);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn both_dates_are_read_however_the_year_is_written() {
        for (from, to) in [((1975, 1, 1), (2049, 12, 31)), ((2000, 2, 29), (2050, 1, 1)), ((2051, 3, 1), (4096, 1, 1))]
        {
            let day = |(year, month, day): (i32, u8, u8)| {
                let day = chrono::NaiveDate::from_ymd_opt(year, month.into(), day.into()).unwrap();
                WallTime(day.and_hms_opt(0, 0, 0).unwrap().and_utc().timestamp_micros())
            };
            assert_eq!(validity(&certificate(from, to)), Some(Validity { from: day(from), to: day(to) }));
        }
    }

    #[test]
    fn what_is_cut_short_is_no_certificate() {
        let whole = certificate((2020, 1, 1), (2030, 1, 1));
        assert!((0..whole.len()).all(|end| validity(&whole[..end]).is_none()));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(at in 0..400usize, byte in any::<u8>(), bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut bent = certificate((2020, 1, 1), (2030, 1, 1));
            if let Some(place) = bent.get_mut(at) {
                *place = byte;
            }
            let _ = (validity(&bent), validity(&bytes));
        }
    }
}
