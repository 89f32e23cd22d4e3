//! Recorded traffic of a real cluster, for the tests of the wire code.

/// One recorded connection.
#[derive(Clone, Copy, Debug)]
pub enum Capture {
    FetchHeaderWalk,
    FetchOneShot,
    ProduceNone,
    TopicCreate,
    ConsumeFrom95,
    ProduceScWatch,
}

fn text(capture: Capture) -> &'static str {
    match capture {
        Capture::FetchHeaderWalk => include_str!("../../../tests/data/captures/fetch-header-walk.spu.1.jsonl"),
        Capture::FetchOneShot => include_str!("../../../tests/data/captures/fetch-one-shot.spu.18.jsonl"),
        Capture::ProduceNone => include_str!("../../../tests/data/captures/produce-none.spu.1.jsonl"),
        Capture::TopicCreate => include_str!("../../../tests/data/captures/topic-create.sc.3.jsonl"),
        Capture::ConsumeFrom95 => include_str!("../../../tests/data/captures/consume-from-95.spu.8.jsonl"),
        Capture::ProduceScWatch => include_str!("../../../tests/data/captures/produce-none.sc.9.jsonl"),
    }
}

/// The frames that the client and the server sent, without their lengths.
pub fn frames(capture: Capture) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let (mut client, mut server) = (Vec::new(), Vec::new());
    for line in text(capture).lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let bytes = line["hex"].as_str().unwrap().as_bytes();
        let side = if line["dir"] == "c" { &mut client } else { &mut server };
        side.extend(bytes.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()));
    }
    (split(&client), split(&server))
}

fn split(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk::<4>() {
        let (frame, rest) = rest.split_at(i32::from_be_bytes(*len) as usize);
        frames.push(frame.to_vec());
        bytes = rest;
    }
    frames
}
