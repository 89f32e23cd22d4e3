//! Exact decimal numbers: PostgreSQL's `numeric`, up to 37 digits.
//!
//! A [`Decimal`] is an integer and the number of its digits that stand after the point, so that the digits of a JSON number
//! stay what they are: `1.50` is 1.50. Scales follow PostgreSQL: a sum has the longer one, a product their sum, a
//! quotient at least 16 significant digits. Halves are rounded away from zero.
//!
//! What has more than 37 digits loses digits after the point; what has more than 37 before it is out of range, where
//! PostgreSQL would go on (to 131,072 digits).

use std::cmp::Ordering;

use super::value::{EvalError, Kind};

/// Digits that a number can have. Ten times such a number still fits `i128`.
pub const MAX_DIGITS: u32 = 37;

/// `digits` / 10^`scale`.
#[derive(Clone, Copy, Debug)]
pub struct Decimal {
    digits: i128,
    scale: u8,
}

const POWERS: [i128; 39] = {
    let mut powers = [1; 39];
    let mut n = 1;
    while n < powers.len() {
        powers[n] = powers[n - 1] * 10;
        n += 1;
    }
    powers
};

/// 10^`n`; `n` is at most 38.
fn pow10(n: u32) -> i128 {
    POWERS[n.min(38) as usize]
}

fn digits_of(magnitude: u128) -> u32 {
    magnitude.checked_ilog10().map_or(1, |n| n + 1)
}

fn out_of_range() -> EvalError {
    let what = format!("numeric out of range: more than {MAX_DIGITS} digits (CAST to double precision for such sizes)");
    EvalError::new(Kind::OutOfRange, what)
}

impl Decimal {
    pub const ZERO: Decimal = Decimal { digits: 0, scale: 0 };

    pub fn from_int(n: i64) -> Self {
        Self { digits: n.into(), scale: 0 }
    }

    /// `digits` / 10^`scale`, for parts that are known to be small.
    pub fn new(digits: i64, scale: u8) -> Self {
        Self { digits: digits.into(), scale }
    }

    pub fn scale(self) -> u32 {
        self.scale.into()
    }

    pub fn is_zero(self) -> bool {
        self.digits == 0
    }

    pub fn signum(self) -> i64 {
        self.digits.signum() as i64
    }

    #[must_use]
    pub fn neg(self) -> Self {
        Self { digits: -self.digits, ..self }
    }

    #[must_use]
    pub fn abs(self) -> Self {
        Self { digits: self.digits.abs(), ..self }
    }

    /// Reads digits with an optional sign, point and exponent, as JSON and SQL write numbers. None: it is no number, or
    /// not one of 37 digits.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if let Some(short) = Self::parse_short(bytes) {
            return Some(short);
        }
        let negative = bytes.first() == Some(&b'-');
        let mut at = usize::from(matches!(bytes.first(), Some(b'-' | b'+')));
        let (mut digits, mut scale, mut seen, mut point) = (0i128, 0i32, 0usize, false);
        while let Some(&b) = bytes.get(at) {
            match b {
                b'0'..=b'9' => {
                    digits = digits.checked_mul(10)?.checked_add(i128::from(b - b'0'))?;
                    scale += i32::from(point);
                    seen += 1;
                }
                b'.' if !point => point = true,
                _ => break,
            }
            at += 1;
        }
        if seen == 0 || scale > 1000 {
            return None;
        }
        let exponent = match bytes.get(at) {
            None => 0,
            Some(b'e' | b'E') => text[at + 1..].parse::<i32>().ok().filter(|e| e.abs() < 1000)?,
            Some(_) => return None,
        };
        let digits = if negative { -digits } else { digits };
        Self::with_scale(digits, scale - exponent)
    }

    /// What most numbers are: up to 18 digits, which cannot overflow, and a point.
    fn parse_short(bytes: &[u8]) -> Option<Self> {
        let (negative, magnitude) = if let [b'-', rest @ ..] = bytes { (true, rest) } else { (false, bytes) };
        let (mut digits, mut point) = (0i64, None);
        if magnitude.len() > 19 {
            return None;
        }
        for (at, b) in magnitude.iter().enumerate() {
            match b {
                b'0'..=b'9' if at < 18 || point.is_some() => digits = digits * 10 + i64::from(b - b'0'),
                b'.' if point.is_none() => point = Some(at),
                _ => return None,
            }
        }
        let scale = point.map_or(0, |point| magnitude.len() - 1 - point);
        let seen = magnitude.len() - usize::from(point.is_some());
        let digits = if negative { -digits } else { digits };
        (seen > 0).then_some(Self { digits: digits.into(), scale: scale as u8 })
    }

    /// A scale below zero is multiplied out.
    fn with_scale(digits: i128, scale: i32) -> Option<Self> {
        if scale >= 0 {
            let fits = digits_of(digits.unsigned_abs()) <= MAX_DIGITS;
            return u8::try_from(scale)
                .ok()
                .filter(|s| fits && u32::from(*s) <= MAX_DIGITS)
                .map(|scale| Self { digits, scale });
        }
        if digits == 0 {
            return Some(Self::ZERO);
        }
        let up = scale.unsigned_abs();
        if digits_of(digits.unsigned_abs()) + up > MAX_DIGITS {
            return None;
        }
        Some(Self { digits: digits * pow10(up), scale: 0 })
    }

    /// Its digits, as many after the point as its scale says.
    pub fn write(self, out: &mut dyn std::fmt::Write) {
        let magnitude = self.digits.unsigned_abs();
        let sign = if self.digits < 0 { "-" } else { "" };
        let unit = pow10(self.scale()).unsigned_abs();
        let _ = write!(out, "{sign}{}", magnitude / unit);
        if self.scale > 0 {
            let _ = write!(out, ".{:0width$}", magnitude % unit, width = usize::from(self.scale));
        }
    }

    /// The nearest double.
    pub fn to_f64(self) -> f64 {
        // Both exact, so the quotient is rounded once.
        if self.digits.unsigned_abs() < 1 << 53 && self.scale <= 22 {
            return self.digits as f64 / 10f64.powi(self.scale.into());
        }
        let mut text = String::new();
        self.write(&mut text);
        text.parse().unwrap_or(f64::NAN)
    }

    /// From a double, with the 15 digits that are sure. None: no finite number, or too large.
    pub fn from_f64(f: f64) -> Option<Self> {
        let text = format!("{f:.14e}");
        let (mantissa, exponent) = text.split_once('e')?;
        let exponent: i32 = exponent.parse().ok()?;
        let mantissa =
            if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
        if exponent < -60 {
            return Some(Self::ZERO);
        }
        match Self::parse(&format!("{mantissa}e{exponent}")) {
            Some(number) => Some(number),
            // Small ones lose the digits that have no place.
            None if exponent < 0 => {
                let exact = Self::parse(mantissa)?;
                let down = u32::try_from(exact.scale() as i32 - exponent).ok()?.saturating_sub(MAX_DIGITS);
                Some(Self { digits: divide_round(exact.digits, pow10(down)), scale: MAX_DIGITS as u8 })
            }
            None => None,
        }
    }

    /// As an integer, rounded.
    pub fn to_i64(self) -> Option<i64> {
        i64::try_from(divide_round(self.digits, pow10(self.scale()))).ok()
    }

    /// The same number with `scale` digits after the point, rounded; a scale below zero rounds before the point.
    pub fn round(self, scale: i64) -> Result<Self, EvalError> {
        self.to_scale(scale, divide_round)
    }

    /// As [`round`](Self::round), cutting off.
    pub fn trunc(self, scale: i64) -> Result<Self, EvalError> {
        self.to_scale(scale, |n, d| n / d)
    }

    pub fn floor(self) -> Self {
        Self { digits: self.digits.div_euclid(pow10(self.scale())), scale: 0 }
    }

    pub fn ceil(self) -> Self {
        self.neg().floor().neg()
    }

    fn to_scale(self, scale: i64, divide: fn(i128, i128) -> i128) -> Result<Self, EvalError> {
        let scale = scale.clamp(-100, 100);
        let have = i64::from(self.scale);
        if scale >= have {
            let up = (scale - have) as u32;
            if digits_of(self.digits.unsigned_abs()) + up > MAX_DIGITS || scale > i64::from(MAX_DIGITS) {
                return Err(out_of_range());
            }
            return Ok(Self { digits: self.digits * pow10(up), scale: scale as u8 });
        }
        let down = (have - scale) as u32;
        // 10^38 is more than twice any number: what remains is zero.
        let digits = divide(self.digits, pow10(down));
        if scale >= 0 {
            return Ok(Self { digits, scale: scale as u8 });
        }
        let up = scale.unsigned_abs() as u32;
        if digits == 0 {
            return Ok(Self::ZERO);
        }
        if digits_of(digits.unsigned_abs()) + up > MAX_DIGITS {
            return Err(out_of_range());
        }
        Ok(Self { digits: digits * pow10(up), scale: 0 })
    }

    /// Both with the longer scale; None when one does not fit.
    fn aligned(self, other: Self) -> Option<(i128, i128, u8)> {
        let scale = self.scale.max(other.scale);
        let short = |n: Self| i64::try_from(n.digits).ok().filter(|_| scale - n.scale <= 18).map(i128::from);
        if let (Some(a), Some(b)) = (short(self), short(other)) {
            // 63 bits and 60 more.
            return Some((a * pow10((scale - self.scale).into()), b * pow10((scale - other.scale).into()), scale));
        }
        let a = self.digits.checked_mul(pow10((scale - self.scale).into()))?;
        let b = other.digits.checked_mul(pow10((scale - other.scale).into()))?;
        Some((a, b, scale))
    }

    fn checked(digits: i128, scale: u8) -> Result<Self, EvalError> {
        let (mut digits, mut scale) = (digits, scale);
        let extra = digits_of(digits.unsigned_abs()).saturating_sub(MAX_DIGITS);
        if extra > 0 {
            let left = u32::from(scale).checked_sub(extra).ok_or_else(out_of_range)?;
            digits = divide_round(digits, pow10(extra));
            scale = left as u8;
        }
        Ok(Self { digits, scale })
    }

    pub fn add(self, other: Self) -> Result<Self, EvalError> {
        if let Some((a, b, scale)) = self.aligned(other)
            && let Some(sum) = a.checked_add(b)
        {
            return Self::checked(sum, scale);
        }
        // Too long side by side: the one with more digits after the point gives some up.
        let (short, long) = if self.scale < other.scale { (self, other) } else { (other, self) };
        let spare = MAX_DIGITS.saturating_sub(digits_of(short.digits.unsigned_abs()));
        let scale = (u32::from(short.scale) + spare).min(long.scale()).saturating_sub(1);
        if scale < short.scale() {
            return Err(out_of_range());
        }
        let (short, long) = (short.round(scale.into())?, long.round(scale.into())?);
        let sum = short.digits.checked_add(long.digits).ok_or_else(out_of_range)?;
        Self::checked(sum, scale as u8)
    }

    pub fn sub(self, other: Self) -> Result<Self, EvalError> {
        self.add(other.neg())
    }

    pub fn mul(self, other: Self) -> Result<Self, EvalError> {
        let scale = self.scale() + other.scale();
        if let Some(product) = self.digits.checked_mul(other.digits)
            && scale <= MAX_DIGITS
        {
            return Self::checked(product, scale as u8);
        }
        let negative = (self.digits < 0) != (other.digits < 0);
        let (digits, scale) = wide_product(self.digits.unsigned_abs(), other.digits.unsigned_abs(), scale)?;
        let digits = i128::try_from(digits).map_err(|_| out_of_range())?;
        Ok(Self { digits: if negative { -digits } else { digits }, scale })
    }

    /// The quotient, with the digits after the point that PostgreSQL would give it.
    pub fn div(self, other: Self) -> Result<Self, EvalError> {
        if other.is_zero() {
            return Err(EvalError::new(Kind::DivisionByZero, "division by zero"));
        }
        let wanted = self.quotient_scale(other);
        let negative = (self.digits < 0) != (other.digits < 0);
        let (numerator, divisor) = (self.digits.unsigned_abs(), other.digits.unsigned_abs());
        let (mut quotient, mut rest) = (numerator / divisor, numerator % divisor);
        // Digit by digit: the remainder times ten always fits.
        let mut scale = self.scale() as i32 - other.scale() as i32;
        while scale < wanted as i32 && (digits_of(quotient) < MAX_DIGITS || scale < 0) {
            quotient = quotient.checked_mul(10).ok_or_else(out_of_range)? + rest * 10 / divisor;
            rest = rest * 10 % divisor;
            scale += 1;
        }
        let digits = i128::try_from(quotient).map_err(|_| out_of_range())?;
        let sign = if negative { -1 } else { 1 };
        let up = i128::from(rest * 2 >= divisor);
        Self::checked(sign * (digits + up), u8::try_from(scale).map_err(|_| out_of_range())?)
    }

    /// At least 16 significant digits, counted in PostgreSQL's digits to the base of 10,000, and no fewer digits after
    /// the point than either number has.
    fn quotient_scale(self, other: Self) -> u32 {
        let (weight, first) = self.leading();
        let (other_weight, other_first) = other.leading();
        let mut weight = weight - other_weight;
        if first <= other_first {
            weight -= 1;
        }
        let scale = (16 - weight * 4).max(self.scale.into()).max(other.scale.into()).max(0);
        (scale as u32).min(MAX_DIGITS)
    }

    /// The exponent and value of the first digit to the base of 10,000.
    fn leading(self) -> (i32, i128) {
        let mut magnitude = self.digits.abs();
        if magnitude == 0 {
            return (0, 0);
        }
        // So that groups of four digits begin at the point.
        let mut weight = -(i32::from(self.scale).div_euclid(4) + i32::from(!self.scale.is_multiple_of(4)));
        let missing = (4 - self.scale() % 4) % 4;
        if digits_of(magnitude.unsigned_abs()) + missing > 38 {
            magnitude /= pow10(4 - missing);
            weight += 1;
        } else {
            magnitude *= pow10(missing);
        }
        while magnitude >= 10_000 {
            magnitude /= 10_000;
            weight += 1;
        }
        (weight, magnitude)
    }

    pub fn rem(self, other: Self) -> Result<Self, EvalError> {
        if other.is_zero() {
            return Err(EvalError::new(Kind::DivisionByZero, "division by zero"));
        }
        let (a, b, scale) = self.aligned(other).ok_or_else(out_of_range)?;
        Self::checked(a % b, scale)
    }

    pub fn compare(self, other: Self) -> Ordering {
        if let Some((a, b, _)) = self.aligned(other) {
            return a.cmp(&b);
        }
        // One does not fit with the other's scale: the one with more digits before the point is the larger.
        let (a, b) = (self.floor(), other.floor());
        if a.digits != b.digits { a.digits.cmp(&b.digits) } else { self.fraction().cmp(&other.fraction()) }
    }

    /// What is above the floor, in units of 10^-37.
    fn fraction(self) -> i128 {
        self.digits.rem_euclid(pow10(self.scale())) * pow10(MAX_DIGITS.saturating_sub(self.scale()))
    }
}

/// Halves away from zero.
fn divide_round(n: i128, d: i128) -> i128 {
    let (quotient, rest) = (n / d, n % d);
    if rest.unsigned_abs() >= d.unsigned_abs() - rest.unsigned_abs() { quotient + n.signum() } else { quotient }
}

/// The product of what does not fit 128 bits, with so many digits after the point fewer that it does.
fn wide_product(a: u128, b: u128, scale: u32) -> Result<(u128, u8), EvalError> {
    let low = |n: u128| n & u128::from(u64::MAX);
    let (a1, a0, b1, b0) = (a >> 64, low(a), b >> 64, low(b));
    // Four limbs of 64 bits, the lowest first.
    let middle = ((a0 * b0) >> 64) + low(a1 * b0) + low(a0 * b1);
    let upper = ((a1 * b0) >> 64) + ((a0 * b1) >> 64) + low(a1 * b1) + (middle >> 64);
    let top = ((a1 * b1) >> 64) + (upper >> 64);
    let mut limbs = [low(a0 * b0), low(middle), low(upper), low(top)];
    let (mut left, mut cut) = (scale, 0);
    loop {
        let fits = limbs[2] == 0 && limbs[3] == 0 && digits_of(limbs[1] << 64 | limbs[0]) <= MAX_DIGITS;
        if fits && left <= MAX_DIGITS {
            break;
        }
        left = left.checked_sub(1).ok_or_else(out_of_range)?;
        cut = 0;
        for limb in limbs.iter_mut().rev() {
            let here = cut << 64 | *limb;
            (*limb, cut) = (here / 10, here % 10);
        }
    }
    Ok(((limbs[1] << 64 | limbs[0]) + u128::from(cut >= 5), left as u8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn dec(text: &str) -> Decimal {
        Decimal::parse(text).unwrap()
    }

    fn text(number: Decimal) -> String {
        let mut out = String::new();
        number.write(&mut out);
        out
    }

    #[test]
    fn digits_come_back_as_they_were_written() {
        for same in ["0", "1.50", "-0.001", "18446744073709551615", "1234567890123456789012345678901234567"] {
            assert_eq!(text(dec(same)), same);
        }
        assert_eq!(text(dec("1.5e3")), "1500");
        assert_eq!(text(dec("15e-3")), "0.015");
        for wrong in ["", "-", ".", "1e", "1x", "1e400", "12345678901234567890123456789012345678"] {
            assert!(Decimal::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn scales_are_those_of_postgresql() {
        assert_eq!(text(dec("1.5").add(dec("2.25")).unwrap()), "3.75");
        assert_eq!(text(dec("1.50").mul(dec("2.0")).unwrap()), "3.000");
        assert_eq!(text(dec("10").div(dec("3")).unwrap()), "3.3333333333333333");
        assert_eq!(text(dec("1").div(dec("3")).unwrap()), "0.33333333333333333333");
        assert_eq!(text(dec("100000").div(dec("7")).unwrap()), "14285.714285714286");
        assert_eq!(text(dec("-5.5").rem(dec("2")).unwrap()), "-1.5");
    }

    #[test]
    fn halves_go_away_from_zero() {
        assert_eq!(text(dec("2.5").round(0).unwrap()), "3");
        assert_eq!(text(dec("-2.5").round(0).unwrap()), "-3");
        assert_eq!(text(dec("1250").round(-2).unwrap()), "1300");
        assert_eq!(text(dec("-1.29").trunc(1).unwrap()), "-1.2");
        assert_eq!((text(dec("-1.5").floor()), text(dec("-1.5").ceil())), ("-2".into(), "-1".into()));
    }

    #[test]
    fn what_has_no_place_loses_digits_after_the_point_or_is_out_of_range() {
        let long = dec("1.234567890123456789012345678901234567");
        let product = text(long.mul(long).unwrap());
        assert!(product.starts_with("1.5241578753238836750495351562") && product.len() <= 38, "{product}");
        assert!(dec("1234567890123456789012345678901234567").mul(dec("10")).is_err());
        assert!(dec("9999999999999999999999999999999999999").add(dec("1")).is_err());
    }

    #[test]
    fn a_double_keeps_its_fifteen_digits() {
        assert_eq!(text(Decimal::from_f64(0.1 + 0.2).unwrap()), "0.3");
        assert_eq!(text(Decimal::from_f64(-1e20).unwrap()), "-100000000000000000000");
        assert!(Decimal::from_f64(1e300).is_none() && Decimal::from_f64(f64::NAN).is_none());
        assert_eq!(Decimal::from_f64(1e-300).unwrap().signum(), 0);
    }

    fn any_decimal() -> impl Strategy<Value = Decimal> {
        (-(10i128.pow(36))..10i128.pow(36), 0u32..33, 0u8..37)
            .prop_map(|(digits, cut, scale)| Decimal { digits: digits / pow10(cut), scale })
    }

    proptest! {
        #[test]
        fn no_operation_panics(a in any_decimal(), b in any_decimal(), n in -50i64..50) {
            for result in [a.add(b), a.sub(b), a.mul(b), a.div(b), a.rem(b), a.round(n), a.trunc(n)].into_iter().flatten() {
                prop_assert!(digits_of(result.digits.unsigned_abs()) <= MAX_DIGITS);
            }
            prop_assert_eq!(a.compare(b), b.compare(a).reverse());
            prop_assert_eq!(text(Decimal::parse(&text(a)).unwrap()), text(a));
        }

        #[test]
        fn arithmetic_agrees_with_integers(a in -1_000_000_000_000i64..1_000_000_000_000, b in -1_000_000i64..1_000_000) {
            let (x, y) = (Decimal::from_int(a), Decimal::from_int(b));
            prop_assert_eq!(x.add(y).unwrap().to_i64(), Some(a + b));
            prop_assert_eq!(x.mul(y).unwrap().to_i64(), Some(a * b));
            prop_assert_eq!(x.compare(y), a.cmp(&b));
            if b != 0 {
                prop_assert_eq!(x.rem(y).unwrap().to_i64(), Some(a % b));
                prop_assert_eq!(x.div(y).unwrap().trunc(0).unwrap().to_i64(), Some(a / b));
            }
        }
    }
}
