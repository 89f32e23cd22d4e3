//! The functions a query can call: their names, what they take and what they give.
//!
//! Of several with one name the first that takes the arguments is the one. Numbers are widened as PostgreSQL does
//! (bigint, numeric, double precision); nothing is cast to text by itself.

use super::value::{EvalError, Kind, Result, Type, Value};

/// What a parameter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Text,
    Int,
    Numeric,
    Float,
    /// Numeric stays numeric, integers become doubles.
    Fraction,
    Number,
    Bool,
    Json,
    /// Timestamp or timestamptz; a date becomes one.
    Moment,
    Interval,
    Anything,
}

impl Class {
    fn of(code: u8) -> Class {
        match code {
            b't' => Class::Text,
            b'i' => Class::Int,
            b'd' => Class::Numeric,
            b'f' => Class::Float,
            b'm' => Class::Fraction,
            b'n' => Class::Number,
            b'b' => Class::Bool,
            b'j' => Class::Json,
            b's' => Class::Moment,
            b'v' => Class::Interval,
            _ => Class::Anything,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Class::Text => "text",
            Class::Int => "an integer",
            Class::Numeric | Class::Fraction | Class::Number | Class::Float => "a number",
            Class::Bool => "a boolean",
            Class::Json => "JSON",
            Class::Moment => "a timestamp",
            Class::Interval => "an interval",
            Class::Anything => "a value",
        }
    }

    /// The type that an argument of type `from` has within the function; None if it is not taken.
    pub fn takes(self, from: Type) -> Option<Type> {
        use Type::{Any, Date, Float, Int, Numeric, Timestamp, Timestamptz, Unknown};
        if self == Class::Anything {
            return Some(if from == Unknown { Type::Text } else { from });
        }
        Some(match (self, from) {
            (_, Any) => Any,
            (Class::Text, Unknown | Type::Text) => Type::Text,
            (Class::Int, Unknown | Int) => Int,
            (Class::Numeric, Unknown | Int | Numeric) => Numeric,
            (Class::Float, Unknown | Int | Numeric | Float) | (Class::Fraction, Unknown | Int | Float) => Float,
            (Class::Fraction, Numeric) => Numeric,
            (Class::Number, Unknown) => Float,
            (Class::Number, Int | Numeric | Float) => from,
            (Class::Bool, Unknown | Type::Bool) => Type::Bool,
            (Class::Json, Unknown | Type::Json) => Type::Json,
            (Class::Moment, Timestamp | Timestamptz) => from,
            (Class::Moment, Date) => Timestamptz,
            (Class::Interval, Unknown | Type::Interval) => Type::Interval,
            _ => return None,
        })
    }

    /// What a value of a field becomes within `function`.
    pub fn admit<'a>(self, value: Value<'a>, function: &'static str) -> Result<Value<'a>> {
        Ok(match (self, value) {
            (_, Value::Null) => Value::Null,
            (Class::Numeric, Value::Int(n)) => Value::Numeric(super::decimal::Decimal::from_int(n)),
            (Class::Float | Class::Fraction, Value::Int(n)) => Value::Float(n as f64),
            (Class::Float, Value::Numeric(n)) => Value::Float(n.to_f64()),
            (Class::Moment, Value::Date(d)) => Value::Timestamptz(i64::from(d) * super::datetime::DAY),
            (class, value) => {
                if class.takes(value.type_of()).is_none() {
                    let what = format!("`{function}` takes {}, this is {}", class.name(), value.type_of().name());
                    return Err(EvalError::new(Kind::WrongType, what));
                }
                value
            }
        })
    }
}

macro_rules! functions {
    ($($name:literal $variant:ident $parameters:literal $result:literal),* $(,)?) => {
        /// Name, which it is, parameters by [`Class::of`] (`?`: the rest may be left out, `*`: the last repeats), result by
        /// [`Signature::result`].
        const TABLE: &[(&str, Function, &str, u8)] = &[$(($name, Function::$variant, $parameters, $result)),*];
    };
}

/// What is called. Several names can mean one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    Lower,
    Upper,
    Initcap,
    Length,
    Bytes,
    Substring,
    Left,
    Right,
    Strpos,
    Trim,
    TrimLeft,
    TrimRight,
    Replace,
    Translate,
    SplitPart,
    PadLeft,
    PadRight,
    Repeat,
    Reverse,
    StartsWith,
    Concat,
    ConcatWith,
    Ascii,
    Chr,
    ToHex,
    Encode,
    Decode,
    Abs,
    Ceil,
    Floor,
    Round,
    RoundTo,
    Trunc,
    TruncTo,
    Sign,
    Div,
    Sqrt,
    Cbrt,
    Exp,
    Ln,
    Log,
    LogBase,
    Power,
    Pi,
    Degrees,
    Radians,
    Sin,
    Cos,
    Tan,
    Cot,
    Asin,
    Acos,
    Atan,
    Atan2,
    ToTimestamp,
    DateBin,
    ToChar,
    MakeDate,
    JsonType,
    JsonLength,
    JsonFind,
    JsonFindText,
    JsonObject,
    JsonArray,
    ToJson,
    JsonPath,
    Coalesce,
    NullIf,
    Greatest,
    Least,
    Arrow,
    ArrowText,
    Path,
    PathText,
    Label,
    Attribute,
}

functions! {
    "lower" Lower "t" b't', "upper" Upper "t" b't', "initcap" Initcap "t" b't',
    "length" Length "t" b'i', "char_length" Length "t" b'i', "character_length" Length "t" b'i', "octet_length" Bytes "t" b'i',
    "substring" Substring "ti?i" b't', "substr" Substring "ti?i" b't', "left" Left "ti" b't', "right" Right "ti" b't',
    "strpos" Strpos "tt" b'i', "btrim" Trim "t?t" b't', "ltrim" TrimLeft "t?t" b't', "rtrim" TrimRight "t?t" b't',
    "replace" Replace "ttt" b't', "translate" Translate "ttt" b't', "split_part" SplitPart "tti" b't',
    "lpad" PadLeft "ti?t" b't', "rpad" PadRight "ti?t" b't', "repeat" Repeat "ti" b't', "reverse" Reverse "t" b't',
    "starts_with" StartsWith "tt" b'b', "concat" Concat "a*" b't', "concat_ws" ConcatWith "ta*" b't',
    "ascii" Ascii "t" b'i', "chr" Chr "i" b't', "to_hex" ToHex "i" b't', "encode" Encode "tt" b't', "decode" Decode "tt" b't',
    "abs" Abs "n" b'1', "ceil" Ceil "m" b'1', "ceiling" Ceil "m" b'1', "floor" Floor "m" b'1', "round" Round "m" b'1',
    "round" RoundTo "di" b'd', "trunc" Trunc "m" b'1', "trunc" TruncTo "di" b'd', "sign" Sign "m" b'1', "div" Div "dd" b'd',
    "sqrt" Sqrt "f" b'f', "cbrt" Cbrt "f" b'f', "exp" Exp "f" b'f', "ln" Ln "f" b'f', "log" Log "f" b'f', "log10" Log "f" b'f',
    "log" LogBase "ff" b'f', "power" Power "ff" b'f', "pow" Power "ff" b'f', "pi" Pi "" b'f',
    "degrees" Degrees "f" b'f', "radians" Radians "f" b'f', "sin" Sin "f" b'f', "cos" Cos "f" b'f', "tan" Tan "f" b'f',
    "cot" Cot "f" b'f', "asin" Asin "f" b'f', "acos" Acos "f" b'f', "atan" Atan "f" b'f', "atan2" Atan2 "ff" b'f',
    "to_timestamp" ToTimestamp "f" b'Z', "date_bin" DateBin "vss" b'2', "to_char" ToChar "st" b't', "make_date" MakeDate "iii" b'D',
    "jsonb_typeof" JsonType "j" b't', "json_typeof" JsonType "j" b't',
    "jsonb_array_length" JsonLength "j" b'i', "json_array_length" JsonLength "j" b'i',
    "jsonb_extract_path" JsonFind "jt*" b'j', "json_extract_path" JsonFind "jt*" b'j',
    "jsonb_extract_path_text" JsonFindText "jt*" b't', "json_extract_path_text" JsonFindText "jt*" b't',
    "jsonb_path_query_first" JsonPath "jt" b'j', "to_jsonb" ToJson "a" b'j', "to_json" ToJson "a" b'j',
    "jsonb_build_object" JsonObject "a*" b'j', "json_build_object" JsonObject "a*" b'j',
    "jsonb_build_array" JsonArray "a*" b'j', "json_build_array" JsonArray "a*" b'j',
    "label" Label "t" b't', "attribute" Attribute "t" b't',
}

/// Functions that the check handles by itself: what they take or give is a matter of their own.
pub const SPECIAL: [&str; 14] = [
    "coalesce",
    "nullif",
    "greatest",
    "least",
    "extract",
    "date_part",
    "date_trunc",
    "timezone",
    "mod",
    "regexp_replace",
    "regexp_match",
    "regexp_substr",
    "regexp_like",
    "regexp_count",
];

pub const AGGREGATES: [&str; 16] = [
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "bool_and",
    "bool_or",
    "every",
    "string_agg",
    "array_agg",
    "jsonb_agg",
    "stddev",
    "variance",
    "first_value",
    "row_number",
    "lag",
];

pub struct Signature {
    pub name: &'static str,
    pub function: Function,
    parameters: &'static str,
    result: u8,
}

impl Signature {
    /// All of one name.
    pub fn named(name: &str) -> impl Iterator<Item = Signature> {
        let found = TABLE.iter().filter(move |(known, ..)| *known == name);
        found.map(|&(name, function, parameters, result)| Signature { name, function, parameters, result })
    }

    pub fn names() -> impl Iterator<Item = &'static str> {
        TABLE.iter().map(|(name, ..)| *name)
    }

    /// Of the argument `n` of `count`; None when there are too many or too few.
    pub fn class(&self, n: usize, count: usize) -> Option<Class> {
        let codes = self.parameters.as_bytes();
        let repeats = codes.last() == Some(&b'*');
        let plain: Vec<u8> = codes.iter().copied().filter(|c| !matches!(c, b'?' | b'*')).collect();
        let least = codes.iter().position(|c| *c == b'?').unwrap_or(plain.len() - usize::from(repeats));
        if count < least || (count > plain.len() && !repeats) {
            return None;
        }
        plain.get(n).or(plain.last()).map(|code| Class::of(*code))
    }

    pub fn takes_count(&self, count: usize) -> bool {
        count == 0 && self.parameters.is_empty() || self.class(0, count).is_some()
    }

    /// What it gives, of arguments of these types.
    pub fn result(&self, arguments: &[Type]) -> Type {
        match self.result {
            b't' => Type::Text,
            b'i' => Type::Int,
            b'd' => Type::Numeric,
            b'f' => Type::Float,
            b'b' => Type::Bool,
            b'j' => Type::Json,
            b'D' => Type::Date,
            b'Z' => Type::Timestamptz,
            b'2' => arguments.get(1).copied().unwrap_or(Type::Any),
            _ => arguments.first().copied().unwrap_or(Type::Any),
        }
    }
}

impl Function {
    /// Whether NULL as an argument is not at once the result.
    pub fn takes_null(self) -> bool {
        use Function::{Coalesce, Concat, ConcatWith, Greatest, JsonArray, JsonObject, Least, NullIf};
        matches!(self, Coalesce | Concat | ConcatWith | Greatest | JsonArray | JsonObject | Least | NullIf)
    }
}
