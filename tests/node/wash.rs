//! An upstream where markers do not survive: a proxy before a node's SPU that takes them off every batch, as a cluster does that
//! rebuilds batches.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

const PRODUCE: u16 = 0;

/// Carries what connects to the port that it gives to `target`.
pub fn carry(target: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            // A node that is away: the client sees a closed connection.
            let _ = client.and_then(|client| pass(client, target));
        }
    });
    port
}

fn pass(client: TcpStream, target: u16) -> std::io::Result<()> {
    let server = TcpStream::connect(("127.0.0.1", target))?;
    let (mut back_from, mut back_to) = (server.try_clone()?, client.try_clone()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut back_from, &mut back_to);
        let _ = back_to.shutdown(Shutdown::Both);
    });
    std::thread::spawn(move || {
        let _ = requests(&client, &server);
        let _ = server.shutdown(Shutdown::Both);
        let _ = client.shutdown(Shutdown::Both);
    });
    Ok(())
}

fn requests(mut from: &TcpStream, mut to: &TcpStream) -> std::io::Result<()> {
    loop {
        let mut len = [0; 4];
        from.read_exact(&mut len)?;
        let mut frame = vec![0; u32::from_be_bytes(len) as usize];
        from.read_exact(&mut frame)?;
        if u16::from_be_bytes([frame[0], frame[1]]) == PRODUCE {
            wash(&mut frame);
        }
        to.write_all(&[&len[..], &frame].concat())?;
    }
}

/// Takes the marker off the one batch of a sink's request.
fn wash(frame: &mut [u8]) {
    let number = |at: usize| usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
    let client = 8 + 2 + number(8);
    assert_eq!(frame[client], 0, "a sink that goes by markers has no transactional id");
    // Isolation, timeout, one topic.
    let topic = client + 1 + 2 + 4 + 4;
    // One partition, its number, the bytes of its records.
    let batch = topic + 2 + number(topic) + 4 + 4 + 4;
    let batch = &mut frame[batch..];
    batch[43..57].fill(0xff);
    let len = i32::from_be_bytes(batch[8..12].try_into().unwrap()) as usize;
    let sum = crc32c::crc32c(&batch[21..12 + len]);
    batch[17..21].copy_from_slice(&sum.to_be_bytes());
}
