//! Numbers as the decimals they are written as: compared and divided without floats.

use std::cmp::Ordering;

/// `digits` times ten to the `exponent`. The digits begin and end with one that is not zero; zero has none. Numbers
/// that are equal are equal here, however they were written. Exponents beyond 64 bits are taken for the largest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decimal {
    negative: bool,
    digits: Vec<u8>,
    exponent: i64,
}

impl Decimal {
    /// Reads a number of JSON's grammar.
    pub fn parse(text: &[u8]) -> Self {
        let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
        let end = text.iter().position(|b| matches!(b, b'e' | b'E')).unwrap_or(text.len());
        let mut exponent = text.get(end + 1..).map_or(0, power);
        let mut digits = Vec::with_capacity(end);
        let mut point = false;
        for b in &text[..end] {
            match b {
                b'.' => point = true,
                digit => {
                    exponent = exponent.saturating_sub(i64::from(point));
                    if !digits.is_empty() || *digit != b'0' {
                        digits.push(*digit);
                    }
                }
            }
        }
        while digits.last() == Some(&b'0') {
            digits.pop();
            exponent = exponent.saturating_add(1);
        }
        if digits.is_empty() {
            return Self { negative: false, digits, exponent: 0 };
        }
        Self { negative, digits, exponent }
    }

    pub fn is_integer(&self) -> bool {
        self.exponent >= 0
    }

    pub fn is_positive(&self) -> bool {
        !self.negative && !self.digits.is_empty()
    }

    /// The digits as an integer, if it has at most 64 bits.
    pub fn mantissa(&self) -> Option<u64> {
        std::str::from_utf8(&self.digits).ok()?.parse().ok()
    }

    /// Whether it is a whole multiple of `divisor`, whose digits are `mantissa`. With exponents aligned the question is
    /// one of integers: digits · 10^k modulo the mantissa. Where the divisor's exponent is the larger, this number's last
    /// digit would have to be zero, and it is not.
    pub fn is_multiple_of(&self, divisor: &Decimal, mantissa: u64) -> bool {
        if self.digits.is_empty() {
            return true;
        }
        let Some(k) = self.exponent.checked_sub(divisor.exponent).filter(|k| *k >= 0) else { return false };
        let modulus = u128::from(mantissa.max(1));
        let digits = self.digits.iter().fold(0u128, |rest, b| (rest * 10 + u128::from(b - b'0')) % modulus);
        let (mut power, mut base, mut k) = (1 % modulus, 10 % modulus, k.unsigned_abs());
        while k > 0 {
            if k & 1 == 1 {
                power = power * base % modulus;
            }
            base = base * base % modulus;
            k >>= 1;
        }
        (digits * power).is_multiple_of(modulus)
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        let sign = if self.negative { "-" } else { "" };
        out.extend_from_slice(sign.as_bytes());
        out.extend_from_slice(&self.digits);
        out.extend_from_slice(format!("e{}", self.exponent).as_bytes());
    }

    fn magnitude(&self) -> (i128, &[u8]) {
        // Zero is below every other number.
        let top =
            if self.digits.is_empty() { i128::MIN } else { i128::from(self.exponent) + self.digits.len() as i128 };
        (top, &self.digits)
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.negative, other.negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => self.magnitude().cmp(&other.magnitude()),
            (true, true) => other.magnitude().cmp(&self.magnitude()),
        }
    }
}

fn power(text: &[u8]) -> i64 {
    let (negative, digits) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    };
    let size = digits.iter().fold(0i64, |n, b| n.saturating_mul(10).saturating_add(i64::from(b.saturating_sub(b'0'))));
    if negative { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(text: &str) -> Decimal {
        Decimal::parse(text.as_bytes())
    }

    #[test]
    fn numbers_are_equal_however_they_are_written() {
        for (a, b) in [("1", "1.0"), ("100", "1e2"), ("0", "-0.0e9"), ("1.50", "15E-1"), ("0.001", "1e-3")] {
            assert_eq!(of(a), of(b));
        }
        assert!(of("18446744073709551615") > of("18446744073709551614"));
        assert!(of("1e400") > of("9e399") && of("-1e400") < of("0") && of("0.1") > of("0"));
        assert!(of("1e99999999999999999999") > of("1e400") && of("1e-99999999999999999999") < of("1e-400"));
        assert!(of("1.0").is_integer() && of("1e2").is_integer() && !of("0.5").is_integer());
    }

    #[test]
    fn multiples_are_found_without_rounding() {
        let multiple = |a: &str, b: &str| of(a).is_multiple_of(&of(b), of(b).mantissa().unwrap());
        for (a, b) in [
            ("0.3", "0.1"),
            ("4.02", "0.01"),
            ("0", "7"),
            ("-9", "3"),
            ("1e308", "0.5"),
            ("1e400", "125"),
            ("75", "2.5"),
        ] {
            assert!(multiple(a, b), "{a} {b}");
        }
        for (a, b) in [("0.35", "0.1"), ("7", "2"), ("1e400", "7"), ("0.00751", "0.0001"), ("5", "10")] {
            assert!(!multiple(a, b), "{a} {b}");
        }
    }

    proptest! {
        #[test]
        fn order_is_that_of_scaled_integers(a in -99_999i64..99_999, b in -99_999i64..99_999, p in 0u32..4, q in 0u32..4) {
            let text = |n: i64, places: u32| format!("{n}e-{places}");
            let scaled = |n: i64, places: u32| n * 10i64.pow(4 - places);
            prop_assert_eq!(of(&text(a, p)).cmp(&of(&text(b, q))), scaled(a, p).cmp(&scaled(b, q)));
            if b > 0 {
                let divides = scaled(a, p) % scaled(b, q) == 0;
                let divisor = of(&text(b, q));
                prop_assert_eq!(of(&text(a, p)).is_multiple_of(&divisor, divisor.mantissa().unwrap()), divides);
            }
        }
    }
}
