//! What each format makes of its text, and where the result goes.

use super::csv::Csv;
use super::key_value::KeyValue;
use super::members::Type;
use super::nmea::Nmea;
use super::*;
use proptest::prelude::*;

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

fn run_bytes(options: Options, value: &[u8]) -> Result<(Answer, String), String> {
    let (mut object, mut out) = (b"left".to_vec(), b"over".to_vec());
    let made = Parse::new(options).unwrap().rewrite(&RecordRef::of(value), &mut object, &mut out);
    made.map(|made| (made, String::from_utf8(out).unwrap())).map_err(|e| e.to_string())
}

fn run(options: Options, value: &str) -> Result<String, String> {
    let (made, out) = run_bytes(options, value.as_bytes())?;
    assert_eq!(made, Answer::Value);
    assert!(serde_json::from_str::<serde_json::Value>(&out).is_ok(), "{out}");
    Ok(out)
}

fn of(format: Format, value: &str) -> Result<String, String> {
    run(Options::of(format), value)
}

fn typed(format: Format, columns: &[(&str, Type)]) -> Options {
    let columns = columns.iter().map(|(n, t)| ((*n).to_owned(), *t)).collect();
    let types = Types { columns, others: Type::Text, missing: vec!["NAN".into()] };
    Options { types, ..Options::of(format) }
}

fn logfmt() -> Format {
    Format::KeyValue(KeyValue::default())
}

fn csv(columns: &[&str]) -> Format {
    let columns = columns.iter().map(|c| (*c).to_owned()).collect();
    Format::Csv(Csv { columns, delimiter: b',', drop_header: true })
}

#[test]
fn key_value_pairs_are_text_unless_a_type_is_asked_for() {
    let line = r#"level=info  msg="link \"up\"" rtt=012.50 id=18446744073709551615 empty= gone=NAN"#;
    assert_eq!(
        of(logfmt(), line).unwrap(),
        r#"{"level":"info","msg":"link \"up\"","rtt":"012.50","id":"18446744073709551615","empty":"","gone":"NAN"}"#
    );
    let kinds = [("rtt", Type::Float), ("id", Type::Int), ("empty", Type::Int), ("gone", Type::Float)];
    assert_eq!(
        run(typed(logfmt(), &kinds), line).unwrap(),
        r#"{"level":"info","msg":"link \"up\"","rtt":12.50,"id":18446744073709551615}"#
    );
    assert_eq!(run(typed(logfmt(), &[("a", Type::Int)]), "a=x"), Err("field `a` is not an integer".into()));
}

#[test]
fn words_without_a_value_are_true_only_where_flags_are_wanted() {
    assert_eq!(of(logfmt(), "a=1 dry"), Err("field `dry` has no value".into()));
    let flags = Format::KeyValue(KeyValue { flags: true, ..KeyValue::default() });
    assert_eq!(of(flags, "dry a=1 wet").unwrap(), r#"{"dry":true,"a":"1","wet":true}"#);
}

#[test]
fn other_separators_stand_between_pairs() {
    let format = Format::KeyValue(KeyValue { equals: b':', between: b';', flags: false });
    assert_eq!(of(format, "t: 4 C ; p :\"a;b\";").unwrap(), r#"{"t":"4 C","p":"a;b"}"#);
}

#[test]
fn broken_pairs_fail() {
    for bad in ["", "  ", "=1", "a=\"x", "a=\"x\"y", "a=1 a=2"] {
        assert!(of(logfmt(), bad).is_err(), "{bad}");
    }
    let same = KeyValue { between: b'=', ..KeyValue::default() };
    assert!(Parse::new(Options::of(Format::KeyValue(same))).is_err());
}

#[test]
fn csv_cells_get_the_names_and_types_of_their_columns() {
    let format = csv(&["t", "", "n", "v"]);
    assert_eq!(of(format.clone(), "a,x,\"1,\"\"2\"\"\",\r\n").unwrap(), r#"{"t":"a","n":"1,\"2\"","v":""}"#);
    let options = typed(format.clone(), &[("n", Type::Int), ("v", Type::Float)]);
    assert_eq!(run(options.clone(), "a,x,007,NAN").unwrap(), r#"{"t":"a","n":7}"#);
    assert_eq!(run(options, "a,x,,1.50").unwrap(), r#"{"t":"a","v":1.50}"#);
    assert_eq!(of(format.clone(), "a,x,1"), Err("fewer cells than columns".into()));
    assert_eq!(of(format, "a,x,1,2,3"), Err("more cells than columns".into()));
}

#[test]
fn the_head_of_a_csv_file_goes_no_further() {
    let (made, _) = run_bytes(Options::of(csv(&["t", "v"])), b"t,\"v\"\r\n").unwrap();
    assert_eq!(made, Answer::Drop);
    let inside = Options { field: Some(path("line")), ..Options::of(csv(&["t", "v"])) };
    assert_eq!(run_bytes(inside, br#"{"line":"t,v"}"#).unwrap().0, Answer::Drop);
}

#[test]
fn columns_named_twice_are_refused() {
    assert!(Parse::new(Options::of(csv(&["a", "a"]))).is_err());
    assert!(Parse::new(Options::of(csv(&[]))).is_err());
    assert!(Parse::new(Options::of(csv(&["a", "", ""]))).is_ok());
}

/// The example of Apache's "Log Files" chapter.
#[test]
fn access_logs_are_read_in_common_and_combined_form() {
    let common = r#"127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326"#;
    let parsed = r#"{"client":"127.0.0.1","user":"frank","time":"2000-10-10T13:55:36-07:00","method":"GET","path":"/apache_pb.gif","protocol":"HTTP/1.0","status":200,"bytes":2326"#;
    assert_eq!(of(Format::Access, common).unwrap(), format!("{parsed}}}"));
    let combined = format!(r#"{common} "-" "Mozilla/4.08 [en] \"x\" \x41\\""#);
    assert_eq!(of(Format::Access, &combined).unwrap(), format!(r#"{parsed},"agent":"Mozilla/4.08 [en] \"x\" A\\"}}"#));
    let main = format!(r#"{combined} "10.0.0.1""#);
    assert!(of(Format::Access, &main).unwrap().ends_with(r#","forwarded_for":"10.0.0.1"}"#));
}

#[test]
fn an_odd_request_stays_whole_and_a_dash_is_missing() {
    let line = r#"::1 - - [29/Feb/2024:00:00:00 +0000] "\x16\x03" 400 -"#;
    assert_eq!(
        of(Format::Access, line).unwrap(),
        r#"{"client":"::1","time":"2024-02-29T00:00:00+00:00","request":"\u0016\u0003","status":400}"#
    );
    for bad in [
        "",
        "a b c",
        "a - - [x] \"GET / HTTP/1.1\" 200 1",
        "a - - [10/Oct/2000:13:55:36 -0700] \"GET",
        "a - - [10/Oct/2000:13:55:36 -0700] \"-\" 2x 1",
    ] {
        assert!(of(Format::Access, bad).is_err(), "{bad}");
    }
}

#[test]
fn an_access_log_of_a_day_that_does_not_exist_is_refused() {
    let of_day = |day: &str| of(Format::Access, &format!("a - - [{day}:00:00:00 +0000] \"GET / HTTP/1.1\" 200 1"));
    for day in ["31/Jan/2026", "29/Feb/2024", "29/Feb/2000"] {
        assert!(of_day(day).is_ok(), "{day}");
    }
    for day in ["31/Feb/2026", "29/Feb/2026", "29/Feb/1900", "31/Apr/2026", "00/Jan/2026", "32/Jan/2026"] {
        assert!(of_day(day).unwrap_err().to_string().contains("does not exist"), "{day}");
    }
}

#[test]
fn several_lines_of_influx_are_called_what_they_are_and_a_text_may_have_several() {
    for lines in [
        "m f=1\nm f=2",
        "m f=1 123\nm f=2 124",
        "m,a=b f=t\nm,a=c f=f",
        "m f=\"x\"\nm f=\"y\"",
        "m f=1i\r\nm f=2i",
        "# said\nm f=1",
        "m\nm f=1",
    ] {
        assert!(of(Format::Influx, lines).unwrap_err().to_string().contains("more than one line"), "{lines}");
    }
    assert!(of(Format::Influx, "m f=1 123\n").is_ok());
    assert!(of(Format::Influx, "m f=\"a \\\" \nb\"").is_ok());
    let failed = of(Format::Influx, "m f=\"a\nb\" x").unwrap_err().to_string();
    assert!(!failed.contains("line"), "{failed}");
}

#[test]
fn syslog_of_rfc_5424_gives_header_data_and_message() {
    let line = "<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 \
                [exampleSDID@32473 iut=\"3\" ip=\"a\" ip=\"b\"][x@1 y=\"z\"] \u{feff}An event";
    assert_eq!(
        of(Format::Syslog, line).unwrap(),
        r#"{"facility":"local4","severity":"notice","time":"2003-10-11T22:14:15.003+00:00","host":"mymachine.example.com","app":"evntslog","msgid":"ID47","data":{"exampleSDID@32473":{"iut":"3","ip":["a","b"]},"x@1":{"y":"z"}},"message":"An event"}"#
    );
}

#[test]
fn syslog_of_rfc_3164_has_no_year_and_so_its_time_stays_text() {
    assert_eq!(
        of(Format::Syslog, "<34>Oct 11 22:14:15 mymachine su[42]: 'su root' failed\n").unwrap(),
        r#"{"facility":"auth","severity":"crit","time_text":"Oct 11 22:14:15","host":"mymachine","app":"su","pid":"42","message":"'su root' failed"}"#
    );
    assert!(of(Format::Syslog, "no priority").is_err());
}

fn nmea(body: &str) -> String {
    format!("${body}*{:02X}\r\n", body.bytes().fold(0, |sum, b| sum ^ b))
}

#[test]
fn nmea_positions_are_decimal_degrees() {
    let gga = "$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47";
    assert_eq!(
        of(Format::Nmea(Nmea::default()), gga).unwrap(),
        r#"{"talker":"GP","sentence":"GGA","time":"12:35:19","latitude":48.1173,"longitude":11.516667,"quality":1,"satellites":8,"hdop":0.9,"altitude_m":545.4,"geoid_m":46.9}"#
    );
    let rmc = "$GPRMC,123519,A,4807.038,N,01131.000,W,022.4,084.4,230394,003.1,W*78";
    assert_eq!(
        of(Format::Nmea(Nmea::default()), rmc).unwrap(),
        r#"{"talker":"GP","sentence":"RMC","time":"12:35:19","status":"A","latitude":48.1173,"longitude":-11.516667,"speed_knots":22.4,"course":84.4,"date":"1994-03-23","variation":-3.1}"#
    );
}

#[test]
fn nmea_sentences_of_the_bridge_and_the_mast_have_their_fields_by_name() {
    let parse = |body: &str| of(Format::Nmea(Nmea::default()), &nmea(body)).unwrap();
    assert_eq!(
        parse("GPVTG,054.7,T,034.4,M,005.5,N,010.2,K"),
        r#"{"talker":"GP","sentence":"VTG","course_true":54.7,"course_magnetic":34.4,"speed_knots":5.5,"speed_kmh":10.2}"#
    );
    assert_eq!(
        parse("WIMWV,214.8,R,0.1,K,A"),
        r#"{"talker":"WI","sentence":"MWV","wind_angle":214.8,"reference":"R","wind_speed":0.1,"wind_unit":"K","status":"A"}"#
    );
    assert_eq!(
        parse("WIXDR,C,19.5,C,AIR,P,1.01325,B,BARO"),
        r#"{"talker":"WI","sentence":"XDR","transducers":[{"type":"C","value":19.5,"unit":"C","id":"AIR"},{"type":"P","value":1.01325,"unit":"B","id":"BARO"}]}"#
    );
    assert_eq!(
        parse("GPGSA,A,3,04,05,,09,12,,,24,,,,,2.5,1.3,2.1"),
        r#"{"talker":"GP","sentence":"GSA","selection":"A","fix":3,"prns":["04","05","09","12","24"],"pdop":2.5,"hdop":1.3,"vdop":2.1}"#
    );
    assert_eq!(
        parse("SDDPT,3.6,0.0,,x"),
        r#"{"talker":"SD","sentence":"DPT","depth_m":3.6,"offset_m":0.0,"more":["x"]}"#
    );
    assert_eq!(parse("PGRMZ,246,f,3"), r#"{"talker":"P","sentence":"GRMZ","fields":["246","f","3"]}"#);
    assert_eq!(parse("AIABC"), r#"{"talker":"AI","sentence":"ABC","fields":[]}"#);
}

#[test]
fn nmea_checksums_must_be_right_where_they_stand() {
    let strict = |text: &str| of(Format::Nmea(Nmea::default()), text);
    assert_eq!(strict("$GPHDT,274.07,T*02"), Err("wrong checksum".into()));
    assert_eq!(strict("$GPHDT,274.07,T"), Err("no checksum".into()));
    let lax = Format::Nmea(Nmea { without_checksum: true });
    assert!(of(lax.clone(), "$GPHDT,274.07,T").is_ok());
    assert_eq!(of(lax, "$GPHDT,274.07,T*02"), Err("wrong checksum".into()));
    for bad in ["", "$", "$*00", "GPHDT", "$GPHDT,274.07,T*0", "$GPHDT,274.07,T*+3"] {
        assert!(strict(bad).is_err(), "{bad}");
    }
    assert!(strict(&nmea("GPHDT,274.07,M")).unwrap_err().contains("unit"));
    assert!(strict(&nmea("GPGLL,4860.0,N,01131.0,E")).unwrap_err().contains("latitude"));
}

/// The examples of the reference.
#[test]
fn line_protocol_keeps_types_and_digits() {
    let line = r#"my\ Measurement,tag\,1=a\=b,t2=\x fl=1.0,i=-9223372036854775808i,u=18446744073709551615u,s="a \"b\" \\ c,d e",b=T 1556813561098000000"#;
    assert_eq!(
        of(Format::Influx, line).unwrap(),
        r#"{"measurement":"my Measurement","tags":{"tag,1":"a=b","t2":"\\x"},"fields":{"fl":1.0,"i":-9223372036854775808,"u":18446744073709551615,"s":"a \"b\" \\ c,d e","b":true},"timestamp":1556813561098000000}"#
    );
    assert_eq!(of(Format::Influx, "m f=1e3").unwrap(), r#"{"measurement":"m","fields":{"f":1e3}}"#);
    for bad in [
        "",
        "m",
        "m,t f=1",
        "m,t= f=1",
        "m f",
        "m f=",
        "m f=1 x",
        "m f=\"a",
        "m f=1i2",
        "m f=9223372036854775808i",
        "m f=-1u",
        "m f=NaN",
        "# c",
        "m f=1 1\nm f=2 2",
        "m f=1,f=2",
        "m,a=1,a=2 f=1",
        ",t=1 f=1",
        "m f=\"a\"b",
    ] {
        assert!(of(Format::Influx, bad).is_err(), "{bad}");
    }
}

#[test]
fn json_passes_through_unless_it_is_none() {
    let pass = |text: &str| run_bytes(Options::of(Format::Json), text.as_bytes());
    assert_eq!(pass(" {\"a\": 1}\n").unwrap().0, Answer::Pass);
    for bad in ["", "{", "{\"a\":1}x", "[1]", "7", "{\"a\":\"\u{1}\"}", "{\"a\":\"b\nc\"}"] {
        assert!(pass(bad).is_err(), "{bad}");
    }
    assert!(run_bytes(Options::of(Format::Json), b"{\"a\":\"\xff\"}").is_err());
    let into = Options { into: Some(path("a.b")), ..Options::of(Format::Json) };
    assert_eq!(run(into, " [1, 2] ").unwrap(), r#"{"a":{"b":[1, 2]}}"#);
}

#[test]
fn a_field_that_holds_json_text_is_merged_or_set() {
    let value = r#"{"n":1,"log":"{\"m\":\"x\\ny\", \"k\":2}","z":3 } "#;
    let merged = Options { field: Some(path("log")), ..Options::of(Format::Json) };
    assert_eq!(run(merged.clone(), value).unwrap(), r#"{"n":1,"z":3 ,"m":"x\ny", "k":2}"#);
    let in_place = Options { into: Some(path("log")), ..merged.clone() };
    assert_eq!(run(in_place, value).unwrap(), r#"{"n":1,"log":{"m":"x\ny", "k":2},"z":3 } "#);
    let kept = Options { keep: Some("log".into()), ..merged.clone() };
    let beside = r#"{"n":1,"z":3 ,"m":"x\ny", "k":2,"log":"{\"m\":\"x\\ny\", \"k\":2}"}"#;
    assert_eq!(run(kept, value).unwrap(), beside);
    let taken = r#"{"k":1,"log":"{\"\\u006b\":2}"}"#;
    assert_eq!(run(merged.clone(), taken), Err("field `k` is there already: set `into`".into()));
    assert_eq!(run(merged.clone(), "{}"), Err("field `log` is missing".into()));
    assert_eq!(run(merged.clone(), r#"{"log":null}"#), Err("field `log` is not text".into()));
    assert_eq!(run(merged, r#"{"log":"{}"}"#).unwrap(), "{}");
}

#[test]
fn the_original_text_is_kept_beside_what_was_parsed() {
    let keep = Options { keep: Some("raw".into()), ..Options::of(logfmt()) };
    assert_eq!(run(keep.clone(), "a=1").unwrap(), r#"{"a":"1","raw":"a=1"}"#);
    assert_eq!(run(keep.clone(), "raw=1"), Err("field `raw` comes twice".into()));
    let field = Options { field: Some(path("l.m")), into: Some(path("l.p")), ..keep };
    assert_eq!(run(field, r#"{"l":{"m":"a=1"}}"#).unwrap(), r#"{"l":{"p":{"a":"1","raw":"a=1"}}}"#);
}

#[test]
fn options_that_cannot_stand_together_are_refused() {
    assert_eq!(Parse::new(typed(Format::Influx, &[("a", Type::Int)])), Err(ParseError::Types));
    let inside = Options { field: Some(path("a")), into: Some(path("a.b")), ..Options::of(logfmt()) };
    assert!(matches!(Parse::new(inside), Err(ParseError::Paths(PlanError::Twice(_)))));
    assert_eq!(Parse::new(Options { keep: Some(String::new()), ..Options::of(logfmt()) }), Err(ParseError::Keep));
}

#[test]
fn more_fields_than_the_limit_fail_rather_than_grow() {
    let line: String = (0..300).map(|i| format!("k{i}=1 ")).collect();
    assert_eq!(of(logfmt(), &line), Err("more than 256 fields".into()));
}

fn formats() -> Vec<Format> {
    let flags = Format::KeyValue(KeyValue { flags: true, ..KeyValue::default() });
    let semicolons = Format::KeyValue(KeyValue { equals: b':', between: b';', flags: true });
    let lax = Format::Nmea(Nmea { without_checksum: true });
    vec![
        logfmt(),
        flags,
        semicolons,
        csv(&["a", "b"]),
        Format::Access,
        Format::Syslog,
        lax,
        Format::Influx,
        Format::Json,
    ]
}

/// Bytes that look like the formats' own more often than chance would.
fn near_misses() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        "a",
        "=",
        "\"",
        "\\",
        ",",
        " ",
        "1",
        "-",
        "[",
        "]",
        "<34>",
        "<34>1 ",
        "Oct 11 22:14:15 ",
        "$GPGGA,",
        "$WIXDR,",
        "*",
        "4807.038",
        "N",
        "10/Oct/2000:13:55:36 -0700",
        "GET / HTTP/1.1",
        "1i",
        "\n",
        "{",
        "}",
        ":",
        ";",
        "2003-10-11T22:14:15.003Z",
        "\u{e9}",
        "\\x",
        ".",
        "e",
        "+",
        "[a@1 b=\"c\"]",
        "$GPRMC,123519,A,",
        "000000",
        "99999999999999999999",
    ]);
    let bytes = prop::collection::vec(any::<u8>(), 0..3);
    prop::collection::vec(prop_oneof![9 => pieces.prop_map(|p| p.as_bytes().to_vec()), 1 => bytes], 0..14)
        .prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_comes_gives_json_or_a_reason(bytes in near_misses()) {
        for format in formats() {
            for keep in [None, Some("kept".to_owned())] {
                let options = Options { keep, ..Options::of(format.clone()) };
                let (mut object, mut out) = (Vec::new(), Vec::new());
                let made = Parse::new(options).unwrap().rewrite(&RecordRef::of(&bytes), &mut object, &mut out);
                if made == Ok(Answer::Value) {
                    let parsed = serde_json::from_slice::<serde_json::Value>(&out);
                    prop_assert!(parsed.is_ok_and(|v| v.is_object()), "{}", String::from_utf8_lossy(&out));
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn pairs_that_a_writer_wrote_are_read_back(pairs in prop::collection::btree_map("[a-z]{1,4}", "[ -~\u{e9}\n]{0,8}", 1..6)) {
        let quote = |v: &String| serde_json::to_string(v).unwrap();
        let line = pairs.iter().map(|(k, v)| format!("{k}={}", quote(v))).collect::<Vec<_>>().join(" ");
        let parsed: std::collections::BTreeMap<String, String> =
            serde_json::from_str(&of(logfmt(), &line).unwrap()).unwrap();
        prop_assert_eq!(parsed, pairs);
    }

    #[test]
    fn points_that_a_writer_wrote_are_read_back(
        tags in prop::collection::btree_map("[a-z ,=]{1,4}", "[a-z ,=\u{e9}]{1,6}", 0..4),
        text in "[ -~\u{e9}]{0,8}", int: i64, unsigned: u64, time: i64,
    ) {
        let escape = |t: &str| t.replace(',', "\\,").replace('=', "\\=").replace(' ', "\\ ");
        let tags_text: String = tags.iter().map(|(k, v)| format!(",{}={}", escape(k), escape(v))).collect();
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        let line = format!("m{tags_text} s=\"{quoted}\",i={int}i,u={unsigned}u {time}");
        let parsed: serde_json::Value = serde_json::from_str(&of(Format::Influx, &line).unwrap()).unwrap();
        let expected = serde_json::json!({"s": text, "i": int, "u": unsigned});
        prop_assert_eq!(&parsed["fields"], &expected);
        prop_assert_eq!(&parsed["timestamp"], &serde_json::json!(time));
        if !tags.is_empty() {
            prop_assert_eq!(&parsed["tags"], &serde_json::json!(tags));
        }
    }
}
