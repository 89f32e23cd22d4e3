//! The patterns that grok knows by name. The usual names with the usual meaning, written anew for an engine without
//! look-around: a name that elsewhere guards its edges does so here with `\b` only.

/// Sorted by name.
#[rustfmt::skip]
const PATTERNS: &[(&str, &str)] = &[
    ("BASE10NUM", r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"),
    ("BASE16NUM", r"[+-]?(?:0x)?[0-9A-Fa-f]+"),
    ("BOOL", r"(?i:true|false|yes|no|on|off)\b"),
    ("DATA", r".*?"),
    ("DATE", r"%{DATE_US}|%{DATE_EU}"),
    ("DATE_EU", r"%{MONTHDAY}[./-]%{MONTHNUM}[./-]%{YEAR}"),
    ("DATE_US", r"%{MONTHNUM}[/-]%{MONTHDAY}[/-]%{YEAR}"),
    ("DAY", r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*\b"),
    ("EMAILADDRESS", r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@%{HOSTNAME}"),
    ("GREEDYDATA", r".*"),
    ("GREEDYMULTILINE", r"(?s:.*)"),
    ("HOSTNAME", r"\b[0-9A-Za-z](?:[0-9A-Za-z-]{0,62})(?:\.[0-9A-Za-z][0-9A-Za-z-]{0,62})*\.?"),
    ("HOSTPORT", r"%{IPORHOST}:%{POSINT}"),
    ("HOUR", r"2[0-3]|[01]?[0-9]"),
    ("HTTPDATE", r"%{MONTHDAY}/%{MONTH}/%{YEAR}:%{TIME} [+-][0-9]{4}"),
    ("INT", r"[+-]?[0-9]+"),
    ("IP", r"%{IPV6}|%{IPV4}"),
    ("IPORHOST", r"%{IP}|%{HOSTNAME}"),
    ("IPV4", r"\b(?:(?:25[0-5]|2[0-4][0-9]|[01]?[0-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|[01]?[0-9]?[0-9])\b"),
    ("IPV6", r"(?:[0-9A-Fa-f]{0,4}:){2,7}(?:%{IPV4}|[0-9A-Fa-f]{0,4})(?:%[0-9A-Za-z]+)?"),
    ("ISO8601_TIMEZONE", r"Z|[+-]%{HOUR}(?::?%{MINUTE})?"),
    ("LOGLEVEL", r"(?i:trace|debug|info(?:rmation)?|notice|warn(?:ing)?|err(?:or)?|crit(?:ical)?|fatal|severe|alert|emerg(?:ency)?)\b"),
    ("MAC", r"(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}|(?:[0-9A-Fa-f]{4}\.){2}[0-9A-Fa-f]{4}"),
    ("MINUTE", r"[0-5][0-9]"),
    ("MONTH", r"\b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\b"),
    ("MONTHDAY", r"0[1-9]|[12][0-9]|3[01]|[1-9]"),
    ("MONTHNUM", r"1[0-2]|0?[1-9]"),
    ("NONNEGINT", r"\b[0-9]+\b"),
    ("NOTSPACE", r"\S+"),
    ("NUMBER", r"%{BASE10NUM}(?:[eE][+-]?[0-9]+)?"),
    ("PATH", r"%{UNIXPATH}|%{WINPATH}"),
    ("POSINT", r"\b[1-9][0-9]*\b"),
    ("PROG", r"[!-Z\\^-~]+"),
    ("QS", r"%{QUOTEDSTRING}"),
    ("QUOTEDSTRING", r#""(?:\\.|[^\\"])*"|'(?:\\.|[^\\'])*'"#),
    ("SECOND", r"(?:[0-5][0-9]|60)(?:[:.,][0-9]+)?"),
    ("SPACE", r"\s*"),
    ("SYSLOGPROG", r"%{PROG:program}(?:\[%{POSINT:pid}\])?"),
    ("SYSLOGTIMESTAMP", r"%{MONTH} +%{MONTHDAY} %{TIME}"),
    ("TIME", r"%{HOUR}:%{MINUTE}:%{SECOND}"),
    ("TIMESTAMP_ISO8601", r"%{YEAR}-%{MONTHNUM}-%{MONTHDAY}[T ]%{HOUR}:?%{MINUTE}(?::?%{SECOND})?(?:%{ISO8601_TIMEZONE})?"),
    ("UNIXPATH", r"/[^\s\x00]*"),
    ("URI", r"[A-Za-z][A-Za-z0-9+.-]*://(?:%{USER}(?::[^@\s]*)?@)?(?:%{URIHOST})?(?:%{URIPATHPARAM})?"),
    ("URIHOST", r"%{IPORHOST}(?::%{POSINT})?"),
    ("URIPARAM", r"\?[^\s#]*"),
    ("URIPATH", r"/[^\s?#]*"),
    ("URIPATHPARAM", r"%{URIPATH}(?:%{URIPARAM})?"),
    ("USER", r"[A-Za-z0-9._-]+"),
    ("USERNAME", r"[A-Za-z0-9._-]+"),
    ("UUID", r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}"),
    ("WINPATH", r"(?:[A-Za-z]:|\\\\)[^\s*?<>|]*"),
    ("WORD", r"\b\w+\b"),
    ("YEAR", r"[0-9]{4}|[0-9]{2}"),
];

pub fn find(name: &str) -> Option<&'static str> {
    let found = PATTERNS.binary_search_by(|(n, _)| n.cmp(&name)).ok()?;
    Some(PATTERNS[found].1)
}

pub fn names<'n>() -> impl Iterator<Item = &'n str> {
    PATTERNS.iter().map(|(n, _)| *n)
}
