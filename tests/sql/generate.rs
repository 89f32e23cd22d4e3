//! Expressions at random from a seed: of the types that both sides have, valid for PostgreSQL, over a row of fields and
//! constants at the edges. The same text is asked of both.

pub struct Generator {
    state: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    Int,
    Numeric,
    Float,
    Text,
    Bool,
    Date,
    Timestamp,
    Timestamptz,
    Interval,
    Json,
}

pub const ALL: [Of; 10] = [
    Of::Int,
    Of::Numeric,
    Of::Float,
    Of::Text,
    Of::Bool,
    Of::Date,
    Of::Timestamp,
    Of::Timestamptz,
    Of::Interval,
    Of::Json,
];

/// One row: each field as SQL and as JSON; None is NULL, and missing in the JSON.
pub struct Row {
    pub sql: String,
    pub json: String,
}

const INTS: [&str; 14] = [
    "0",
    "1",
    "2",
    "3",
    "7",
    "10",
    "-1",
    "-5",
    "42",
    "1000000",
    "4611686018427387904",
    "9223372036854775807",
    "-9223372036854775808",
    "-17",
];
const NUMERICS: [&str; 12] =
    ["0.0", "1.5", "2.50", "-0.25", "3.14159", "100.0", "0.001", "-7.75", "12345.678", "0.5", "2.5", "99999.99999"];
const FLOATS: [&str; 14] = [
    "0",
    "1",
    "1.5",
    "-2.25",
    "0.1",
    "1e10",
    "1e-10",
    "123456.789",
    "-0.5",
    "2.5",
    "1e300",
    "1e-300",
    "3",
    "0.3333333333333333",
];
const TEXTS: [&str; 18] = [
    "",
    "a",
    "abc",
    "Boiler-7",
    "boiler-12",
    "hello world",
    "  padded ",
    "xyxxy",
    "Zürich",
    "naïve café",
    "a,b,,c",
    "12",
    " -3 ",
    "1.25",
    "2024-02-29",
    "100%_ok",
    "tab\tline",
    "ÄÖ",
];
const DATES: [&str; 6] = ["2024-02-29", "1970-01-01", "1999-12-31", "2026-07-31", "0001-01-01", "1900-03-01"];
const TIMES: [&str; 8] = [
    "2024-02-29 12:34:56.789",
    "1970-01-01 00:00:00",
    "1999-12-31 23:59:59.999999",
    "2026-07-31T13:45:00",
    "1969-07-20 20:17:40",
    "2024-12-30 00:00:00",
    "2000-01-01 00:00:00.000001",
    "9999-12-31 23:59:59",
];
const INTERVALS: [&str; 12] = [
    "1 day",
    "2 hours 30 minutes",
    "1 month",
    "-3 days",
    "1 year 2 months 3 days 04:05:06.5",
    "90 minutes",
    "0 s",
    "-1 mon +1 day",
    "1.5 days",
    "100 ms",
    "2 weeks",
    "-00:00:01.25",
];
const LIKES: [&str; 12] = ["%", "_", "boiler-%", "%o%", "a_c", "%-7", "", "100\\%%", "%é", "__%", "Z_rich", "%a%b%"];
const REGEXES: [&str; 10] =
    ["^boiler-[0-9]+$", "o", "[a-c]+", "(\\d+)", "^$", "l(o| )", "x+y", "[[:alpha:]]+", "^ *", "(b)(o)"];
const JSONS: [&str; 8] = [
    r#"{"a":1,"b":[10,20,{"c":"deep"}],"s":"text","n":null,"t":true}"#,
    r#"{"a":2.50,"b":[],"s":"","o":{"a":{"b":"x"}}}"#,
    r"[1,2.5,null,[3]]",
    r#""just text""#,
    "17",
    "{}",
    r#"{"a":9007199254740993,"s":"q\"uo\u00e9te"}"#,
    r#"[{"a":1},{"a":2}]"#,
];

/// A constant that can be made one that the planner cannot compute: see [`hidden`].
fn literal(text: &str) -> String {
    format!("\u{1}{text}\u{2}")
}

/// The expression as it is meant.
pub fn plain(expression: &str) -> String {
    expression.replace(['\u{1}', '\u{2}'], "")
}

/// The expression with its constants behind a function that PostgreSQL does not look through: what it does not come to,
/// it does not compute.
pub fn hidden(expression: &str) -> String {
    expression.replace('\u{1}', "pg_temp.hide(").replace('\u{2}', ")")
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

impl Generator {
    pub fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
    }

    /// xorshift64*
    fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub fn row(&mut self) -> Row {
        let fields = [
            ("i", "bigint", self.pick(&INTS).to_owned(), false),
            ("k", "bigint", (self.below(2000) as i64 - 1000).to_string(), false),
            ("n", "numeric", self.pick(&NUMERICS).to_owned(), false),
            ("t", "text", self.pick(&TEXTS).to_owned(), true),
            ("u", "text", self.pick(&TEXTS).to_owned(), true),
            ("b", "boolean", self.pick(&["true", "false"]).to_owned(), false),
            ("j", "json", self.pick(&JSONS).to_owned(), false),
        ];
        let (mut sql, mut json) = (Vec::new(), Vec::new());
        for (name, of, value, text) in fields {
            let missing = self.below(6) == 0;
            if missing {
                sql.push(format!("CAST(NULL AS {of}) AS {name}"));
            } else {
                sql.push(format!("CAST({} AS {of}) AS {name}", quoted(&value)));
                let value = if text { serde_json::to_string(&value).unwrap() } else { value };
                json.push(format!("\"{name}\":{value}"));
            }
        }
        Row { sql: format!("SELECT {}", sql.join(", ")), json: format!("{{{}}}", json.join(",")) }
    }

    pub fn expression(&mut self, of: Of, depth: usize) -> String {
        if depth == 0 || self.below(8) == 0 {
            return self.leaf(of);
        }
        // What every type has.
        if self.below(8) == 0 {
            return self.choice(of, depth - 1);
        }
        match of {
            Of::Int => self.int(depth - 1),
            Of::Numeric => self.numeric(depth - 1),
            Of::Float => self.float(depth - 1),
            Of::Text => self.text(depth - 1),
            Of::Bool => self.boolean(depth - 1),
            Of::Date => self.date(depth - 1),
            Of::Timestamp => self.timestamp(depth - 1),
            Of::Timestamptz => self.timestamptz(depth - 1),
            Of::Interval => self.interval(depth - 1),
            Of::Json => self.json(depth - 1),
        }
    }

    fn leaf(&mut self, of: Of) -> String {
        match of {
            Of::Int => match self.below(3) {
                0 => self.pick(&["i", "k"]).to_owned(),
                1 => format!("CAST({} AS bigint)", literal(self.pick(&INTS))),
                _ => format!("({})::int8", literal(&(self.below(20) as i64 - 5).to_string())),
            },
            Of::Numeric => match self.below(3) {
                0 => "n".to_owned(),
                _ => format!("({})", literal(self.pick(&NUMERICS))),
            },
            Of::Float => format!("{}::double precision", literal(&quoted(self.pick(&FLOATS)))),
            Of::Text => match self.below(3) {
                0 => self.pick(&["t", "u"]).to_owned(),
                1 => format!("{}::text", literal(&quoted(self.pick(&TEXTS)))),
                _ => format!("CAST({} AS text)", literal(&quoted(self.pick(&TEXTS)))),
            },
            Of::Bool => self.pick(&["b", "true", "false", "NULL::boolean", "b"]).to_owned(),
            Of::Date => format!("date '{}'", self.pick(&DATES)),
            Of::Timestamp => format!("timestamp '{}'", self.pick(&TIMES)),
            Of::Timestamptz => {
                format!("timestamptz '{}{}'", self.pick(&TIMES), self.pick(&["", "+00", "Z", "+02", "-05:30"]))
            }
            Of::Interval => format!("interval '{}'", self.pick(&INTERVALS)),
            Of::Json => self.pick(&["CAST(j AS json)", "j::json", "j->'b'", "j->'o'", "j->0", "j#>'{b,2}'"]).to_owned(),
        }
    }

    fn choice(&mut self, of: Of, depth: usize) -> String {
        let (a, b) = (self.expression(of, depth), self.expression(of, depth));
        let json = of == Of::Json;
        match self.below(if json { 3 } else { 6 }) {
            0 => format!("CASE WHEN {} THEN {a} ELSE {b} END", self.expression(Of::Bool, depth)),
            1 => format!("coalesce({a}, {b})"),
            2 => format!(
                "CASE WHEN {} THEN {a} WHEN {} THEN {b} END",
                self.boolean(depth),
                self.expression(Of::Bool, depth)
            ),
            3 => format!("nullif({a}, {b})"),
            4 => format!("{}({a}, {b}, {})", self.pick(&["greatest", "least"]), self.expression(of, depth)),
            _ => {
                let other = self.pick(&[Of::Int, Of::Text]);
                let (x, y) = (self.expression(other, depth), self.expression(other, depth));
                format!("CASE {x} WHEN {y} THEN {a} ELSE {b} END")
            }
        }
    }

    fn int(&mut self, depth: usize) -> String {
        let a = self.expression(Of::Int, depth);
        let b = self.expression(Of::Int, depth);
        match self.below(18) {
            0 => format!("({a} + {b})"),
            1 => format!("({a} - {b})"),
            2 => format!("({a} * {b})"),
            3 => format!("({a} / {b})"),
            4 => format!("({a} % {b})"),
            5 => format!("(- {a})"),
            6 => format!("abs({a})"),
            7 => format!("length({})::bigint", self.expression(Of::Text, depth)),
            8 => format!("strpos({}, {})::bigint", self.expression(Of::Text, depth), self.leaf(Of::Text)),
            9 => format!("CAST({} AS bigint)", self.expression(Of::Text, depth)),
            10 => format!("CAST({} AS bigint)", self.expression(Of::Numeric, depth)),
            11 => format!("CAST({} AS bigint)", self.expression(Of::Float, depth)),
            12 => format!("({} - {})::bigint", self.expression(Of::Date, depth), self.leaf(Of::Date)),
            13 => format!("mod({a}, {b})"),
            14 => format!("position({} in {})::int8", self.leaf(Of::Text), self.leaf(Of::Text)),
            15 => format!("octet_length({})::bigint", self.expression(Of::Text, depth)),
            16 => format!("json_array_length({})::bigint", self.expression(Of::Json, depth)),
            _ => format!("CAST({a} AS {})::bigint", self.pick(&["integer", "smallint", "int4"])),
        }
    }

    /// A numeric without products below it, so that digits stay few.
    fn short(&mut self) -> String {
        if self.below(3) == 0 { self.leaf(Of::Int) } else { self.leaf(Of::Numeric) }
    }

    fn numeric(&mut self, depth: usize) -> String {
        let a = self.expression(Of::Numeric, depth);
        match self.below(16) {
            0 => format!("({a} + {})", self.expression(Of::Numeric, depth)),
            1 => format!("({a} - {})", self.expression(Of::Int, depth)),
            2 => format!("({} * {})", self.leaf(Of::Numeric), self.short()),
            3 => format!("({} / {})", self.leaf(Of::Numeric), self.short()),
            4 => format!("({} % {})", self.leaf(Of::Numeric), self.short()),
            5 => format!("(-{a})"),
            6 => format!("abs({a})"),
            7 => format!("round({a}, {})", self.below(6) as i64 - 2),
            8 => format!("trunc({a}, {})", self.below(6) as i64 - 2),
            9 => format!("{}({a})", self.pick(&["ceil", "floor", "round", "trunc", "sign", "ceiling"])),
            10 => format!("CAST({} AS numeric)", self.expression(Of::Int, depth)),
            11 => format!(
                "CAST({} AS numeric)",
                literal(self.pick(&["t", "u", "'1.250'", "' 7 '", "'1e3'", "'x'", "'-.5'"]))
            ),
            12 => format!(
                "CAST({} AS numeric)",
                literal(self.pick(&["'1.5'::float8", "'0.1'::float8", "'1e10'::float8", "'123456.789'::float8"]))
            ),
            13 => {
                let part = self.pick(&[
                    "year",
                    "month",
                    "day",
                    "hour",
                    "minute",
                    "second",
                    "epoch",
                    "milliseconds",
                    "quarter",
                    "century",
                ]);
                let of = self.pick(&[Of::Timestamp, Of::Timestamptz, Of::Interval]);
                format!("extract({part} FROM {})", self.expression(of, depth))
            }
            14 => {
                let part =
                    self.pick(&["year", "month", "day", "dow", "isodow", "doy", "week", "isoyear", "epoch", "decade"]);
                format!("extract({part} FROM {})", self.expression(Of::Date, depth))
            }
            _ => format!("CAST({a} AS numeric({}))", self.pick(&["6,2", "4", "10,4"])),
        }
    }

    fn float(&mut self, depth: usize) -> String {
        let a = self.expression(Of::Float, depth);
        match self.below(14) {
            0 => format!("({a} + {})", self.expression(Of::Float, depth)),
            1 => format!("({a} - {})", self.expression(Of::Numeric, depth)),
            2 => format!("({a} * {})", self.expression(Of::Int, depth)),
            3 => format!("({a} / {})", self.expression(Of::Float, depth)),
            4 => format!("({a} ^ {})", self.leaf(Of::Float)),
            5 => format!("(- {a})"),
            6 | 7 => {
                let name = self.pick(&[
                    "sqrt", "exp", "ln", "log", "sin", "cos", "tan", "atan", "asin", "acos", "degrees", "radians",
                ]);
                format!("{name}({a})")
            }
            8 => format!("{}({a})", self.pick(&["ceil", "floor", "round", "trunc", "sign", "abs"])),
            9 => format!("CAST({} AS double precision)", self.expression(Of::Int, depth)),
            10 => format!("CAST({} AS float8)", self.expression(Of::Numeric, depth)),
            11 => {
                format!("CAST({} AS float8)", literal(self.pick(&["t", "u", "'1e400'", "' 2.5'", "'1e-400'", "'-0'"])))
            }
            12 => format!(
                "{}({})",
                self.pick(&["round", "ceil", "floor", "trunc", "sign"]),
                self.expression(Of::Int, depth)
            ),
            _ => format!(
                "date_part('{}', {})",
                self.pick(&["epoch", "second", "hour", "doy"]),
                self.expression(Of::Timestamp, depth)
            ),
        }
    }

    fn small(&mut self) -> i64 {
        self.below(9) as i64 - 3
    }

    fn text(&mut self, depth: usize) -> String {
        let a = self.expression(Of::Text, depth);
        let b = self.leaf(Of::Text);
        match self.below(30) {
            0 => format!("({a} || {b})"),
            1 => format!("({a} || {})", {
                let of = self.pick(&[Of::Int, Of::Numeric, Of::Bool]);
                self.expression(of, depth)
            }),
            2 => format!("{}({a})", self.pick(&["lower", "upper", "initcap", "reverse"])),
            3 => format!("substring({a} FROM {} FOR {})", self.small(), self.small()),
            4 => format!("substr({a}, {})", self.small()),
            5 => format!("{}({a}, {})", self.pick(&["left", "right"]), self.small()),
            6 => format!("{}({a}, {b})", self.pick(&["btrim", "ltrim", "rtrim"])),
            7 => format!("trim({} FROM {a})", self.pick(&["LEADING", "TRAILING", "BOTH", "BOTH ' a'", "LEADING 'xb'"])),
            8 => format!("replace({a}, {b}, {})", self.leaf(Of::Text)),
            9 => format!("split_part({a}, {}, {})", self.pick(&["','", "'-'", "''", "'o'"]), self.small()),
            10 => format!("{}({a}, {}, {b})", self.pick(&["lpad", "rpad"]), self.small() * 3),
            11 => format!("{}({a}, {})", self.pick(&["lpad", "rpad"]), self.small() * 3),
            12 => format!("repeat({a}, {})", self.small()),
            13 => format!("translate({a}, 'abo-', 'XY')"),
            14 => {
                format!("concat({a}, {}, {}, NULL)", self.expression(Of::Int, depth), self.expression(Of::Bool, depth))
            }
            15 => format!("concat_ws({b}, {a}, {}, {})", self.expression(Of::Numeric, depth), self.leaf(Of::Text)),
            16 | 17 => {
                let of = self.pick(&ALL);
                format!("CAST({} AS text)", self.expression(of, depth))
            }
            18 => format!("to_hex({})", self.leaf(Of::Int)),
            19 => format!("encode(convert_to({a}, 'UTF8'), '{}')", self.pick(&["hex", "base64"])),
            20 => format!("to_char({}, '{}')", self.expression(Of::Timestamp, depth), self.pick(&TO_CHARS)),
            21 => format!("to_char({}, '{}')", self.expression(Of::Timestamptz, depth), self.pick(&TO_CHARS)),
            22 => {
                format!("regexp_replace({a}, '{}', '{}')", self.pick(&REGEXES), self.pick(&["<\\&>", "", "-", "\\\\"]))
            }
            23 => format!(
                "regexp_replace({a}, '{}', '{}', '{}')",
                self.pick(&["[aeiou]", "[^a-z]", "o+"]),
                self.pick(&["_", "<\\&>"]),
                self.pick(&["g", "gi", "i"])
            ),
            24 => format!("substring({a} FROM '{}')", self.pick(&REGEXES)),
            25 => format!("(regexp_match({a}, '{}'))[1]", self.pick(&REGEXES)),
            26 => format!(
                "({} ->> {})",
                self.expression(Of::Json, depth),
                self.pick(&["'a'", "'s'", "'n'", "0", "-1", "'t'", "'zz'"])
            ),
            27 => format!(
                "({} #>> '{{{}}}')",
                self.expression(Of::Json, depth),
                self.pick(&["b,0", "b,2,c", "o,a,b", "a", "", "0,a", "-1"])
            ),
            28 => format!("json_typeof({})", self.expression(Of::Json, depth)),
            _ => format!("CAST({a} AS varchar({}))", self.below(5) + 1),
        }
    }

    /// Two of one type, or two numbers.
    fn pair(&mut self, depth: usize) -> (String, String) {
        if self.below(4) == 0 {
            let number = self.pick(&[Of::Int, Of::Numeric, Of::Float]);
            let other = self.pick(&[Of::Int, Of::Numeric, Of::Float]);
            return (self.expression(number, depth), self.expression(other, depth));
        }
        if self.below(8) == 0 {
            // A quoted text takes the other's type.
            let of = self.pick(&[Of::Int, Of::Numeric, Of::Text, Of::Timestamp, Of::Float]);
            let unknown = quoted(match of {
                Of::Int => self.pick(&["5", " -3 ", "0"]),
                Of::Text => self.pick(&["abc", "5", ""]),
                Of::Timestamp => self.pick(&["2024-01-01", "1970-01-01 00:00:01"]),
                _ => self.pick(&["5", "1.5", "-3e1"]),
            });
            return (self.expression(of, depth), unknown);
        }
        // JSON, the last one, is not compared.
        let of = self.pick(&ALL[..ALL.len() - 1]);
        (self.expression(of, depth), self.expression(of, depth))
    }

    fn boolean(&mut self, depth: usize) -> String {
        let (a, b) = self.pair(depth);
        match self.below(14) {
            0..=2 => format!("({a} {} {b})", self.pick(&["=", "<>", "<", "<=", ">", ">=", "!="])),
            3 => format!("({a} IS {}DISTINCT FROM {b})", self.pick(&["", "NOT "])),
            4 => format!(
                "({} {} {})",
                self.expression(Of::Bool, depth),
                self.pick(&["AND", "OR"]),
                self.expression(Of::Bool, depth)
            ),
            5 => format!("(NOT {})", self.expression(Of::Bool, depth)),
            6 => format!("({a} IS {}NULL)", self.pick(&["", "NOT "])),
            7 => format!(
                "({} IS {})",
                self.expression(Of::Bool, depth),
                self.pick(&["TRUE", "NOT TRUE", "FALSE", "NOT FALSE", "UNKNOWN", "NOT UNKNOWN"])
            ),
            8 => format!("({a} {}IN ({b}, {a}, {b}))", self.pick(&["", "NOT "])),
            9 => format!("({a} {}BETWEEN {}{b} AND {a})", self.pick(&["", "NOT "]), self.pick(&["", "SYMMETRIC "])),
            10 => {
                let text = self.expression(Of::Text, depth);
                format!(
                    "({text} {}{} '{}')",
                    self.pick(&["", "NOT "]),
                    self.pick(&["LIKE", "ILIKE"]),
                    self.pick(&LIKES)
                )
            }
            11 => format!(
                "({} {} '{}')",
                self.expression(Of::Text, depth),
                self.pick(&["~", "~*", "!~", "!~*"]),
                self.pick(&REGEXES)
            ),
            12 => format!("starts_with({}, {})", self.expression(Of::Text, depth), self.leaf(Of::Text)),
            _ => format!("CAST({} AS boolean)", literal(self.pick(&["'yes'", "'off'", "'t'", "'x'", "' TRUE '", "t"]))),
        }
    }

    fn date(&mut self, depth: usize) -> String {
        let a = self.expression(Of::Date, depth);
        match self.below(6) {
            0 => format!("({a} + {})", self.below(2000) as i64 - 1000),
            1 => format!("({a} - {})", self.below(100)),
            2 => format!("CAST({} AS date)", self.expression(Of::Timestamp, depth)),
            3 => {
                format!(
                    "CAST({} AS date)",
                    literal(self.pick(&["t", "u", "'2024-02-30'", "'2024-12-31 23:00'", "'1999-1-8'"]))
                )
            }
            4 => format!("CAST({} AS date)", self.expression(Of::Timestamptz, depth)),
            _ => {
                let (year, month, day) = (self.below(3000), self.below(14), self.below(33));
                format!("make_date({}, {}, {})", year, literal(&month.to_string()), literal(&day.to_string()))
            }
        }
    }

    fn timestamp(&mut self, depth: usize) -> String {
        let a = self.expression(Of::Timestamp, depth);
        match self.below(9) {
            0 => format!("({a} + {})", self.expression(Of::Interval, depth)),
            1 => format!("({a} - {})", self.expression(Of::Interval, depth)),
            2 => format!("({} + {a})", self.leaf(Of::Interval)),
            3 => format!("date_trunc('{}', {a})", self.pick(&UNITS)),
            4 => format!(
                "CAST({} AS timestamp)",
                literal(self.pick(&[
                    "t",
                    "'2024-02-29T25:00'",
                    "'2024-01-01 10:11:12.1234567+05'",
                    "'epoch'",
                    "'2024-06-30 24:00'"
                ]))
            ),
            5 => format!("({} AT TIME ZONE {})", self.expression(Of::Timestamptz, depth), self.pick(&ZONES)),
            6 => format!("CAST({} AS timestamp)", self.expression(Of::Date, depth)),
            7 => format!(
                "date_bin(CAST({} AS interval), {a}, timestamp '2001-01-01')",
                literal(self.pick(&["'15 minutes'", "'1 day'", "'7 seconds'", "'1 month'", "'-1 s'"]))
            ),
            _ => format!(
                "({} {} {})",
                self.expression(Of::Date, depth),
                self.pick(&["+", "-"]),
                self.expression(Of::Interval, depth)
            ),
        }
    }

    fn timestamptz(&mut self, depth: usize) -> String {
        let a = self.expression(Of::Timestamptz, depth);
        match self.below(7) {
            0 => format!("({a} + {})", self.expression(Of::Interval, depth)),
            1 => format!("({a} - {})", self.expression(Of::Interval, depth)),
            2 => format!("date_trunc('{}', {a})", self.pick(&UNITS)),
            3 => format!("to_timestamp({})", self.pick(&["0", "1722433500.25", "-1.5", "253402300800", "1e12", "k"])),
            4 => format!("({} AT TIME ZONE {})", self.expression(Of::Timestamp, depth), self.pick(&ZONES)),
            5 => format!("CAST({} AS timestamptz)", self.expression(Of::Timestamp, depth)),
            _ => format!(
                "CAST({} AS timestamp with time zone)",
                literal(self.pick(&["t", "'2024-03-31 02:30:00+01:00'", "'1970-01-01T00:00:00Z'", "'2024-02-29'"]))
            ),
        }
    }

    fn interval(&mut self, depth: usize) -> String {
        let a = self.expression(Of::Interval, depth);
        match self.below(8) {
            0 => format!("({a} + {})", self.expression(Of::Interval, depth)),
            1 => format!("({a} - {})", self.expression(Of::Interval, depth)),
            2 => format!("({a} * {})", self.pick(&["2", "0.5", "-1.25", "1.1", "k"])),
            3 => format!("({a} / {})", literal(self.pick(&["2", "0.5", "3", "7.0", "0"]))),
            4 => format!("(- {a})"),
            5 => format!("({} - {})", self.expression(Of::Timestamp, depth), self.leaf(Of::Timestamp)),
            6 => format!(
                "CAST({} AS interval)",
                literal(self.pick(&["'1 day ago'", "'5 minutes'", "'x'", "'1 mon 2 d 3 h'", "'10'", "'3 04:05:06'"]))
            ),
            _ => format!(
                "interval '{}' {}",
                self.below(90),
                self.pick(&["minute", "hour", "day", "second", "month", "year"])
            ),
        }
    }

    fn json(&mut self, depth: usize) -> String {
        let a = self.expression(Of::Json, depth);
        match self.below(7) {
            0 | 1 => format!("({a} -> {})", self.pick(&["'a'", "'b'", "'o'", "'n'", "0", "1", "-1", "'zz'"])),
            2 => format!("({a} #> '{{{}}}')", self.pick(&["b", "b,2", "o,a", "0", "b,-1", "zz,1"])),
            3 => format!("json_extract_path({a}, {})", self.pick(&["'b', '1'", "'o', 'a'", "'a'"])),
            4 => format!("to_json({})", self.expression(Of::Text, depth)),
            5 => {
                let of = self.pick(&[Of::Int, Of::Numeric, Of::Bool, Of::Timestamp, Of::Timestamptz, Of::Date]);
                format!("to_json({})", self.expression(of, depth))
            }
            _ => format!(
                "CAST({} AS json)",
                literal(self.pick(&["'[1, 2]'", "'{\"a\": \"b\"}'", "'nope'", "'3'", "btrim(t)"]))
            ),
        }
    }
}

const TO_CHARS: [&str; 8] = [
    "YYYY-MM-DD HH24:MI:SS.MS",
    "DD.MM.YY",
    "FMDD Mon YYYY",
    "Day, DD Month",
    "HH12:MI AM",
    "IYYY-\"W\"IW-ID",
    "US DDD Q",
    "\"at\" HH:MI:SS pm D",
];
const UNITS: [&str; 12] = [
    "microseconds",
    "milliseconds",
    "second",
    "minute",
    "hour",
    "day",
    "week",
    "month",
    "quarter",
    "year",
    "decade",
    "century",
];
const ZONES: [&str; 9] = [
    "'UTC'",
    "'+02'",
    "'-05:30'",
    "INTERVAL '+02:00'",
    "'GMT'",
    "'Europe/Berlin'",
    "'America/New_York'",
    "'Asia/Kolkata'",
    "'Australia/Lord_Howe'",
];
