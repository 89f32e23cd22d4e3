//! From a log file into the ring: 1,000,000 lines of 110 bytes, a quarter of which pass a `contains` filter. CPU seconds
//! (user + system) of the real node from its start to the last line durable, against a bare loop that reads the same file,
//! splits lines, searches, and compresses, checksums and writes what passes.

use std::io::{BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use super::support::{Node, Outcome, cpu_of, own_cpu, paired};

const LINES: u64 = 1_000_000;

fn make(path: &Path) -> std::io::Result<()> {
    let mut out = BufWriter::new(std::fs::File::create(path)?);
    for n in 0..LINES {
        let level = if n % 4 == 0 { "ALARM" } else { "debug" };
        let mut line = format!(
            "2026-11-24T04:05:06Z boiler-{:02} {level} line {n} pressure {} kPa ",
            n % 40,
            n.wrapping_mul(2_654_435_761) % 9973
        );
        while line.len() < 109 {
            line.push('.');
        }
        writeln!(out, "{line}")?;
    }
    out.flush()
}

fn node(dir: &Path, log: &Path) -> Result<f64, Box<dyn std::error::Error>> {
    let config = format!(
        "[ring]\nmax_bytes = \"256MiB\"\nkeep_free = \"0B\"\n[http]\nlisten = \"off\"\n\
         [sources.log]\ntype = \"file\"\npaths = [\"{}\"]\ntopic = \"log\"\n\
         [[rules]]\nname = \"alarms\"\ntopics = [\"log\"]\nuses = \"filter\"\nwith = {{ contains = \"ALARM\" }}\n",
        log.display()
    );
    let node = Node::start(dir, &config)?;
    node.until_end("log", LINES / 4, Duration::from_secs(120))?;
    Ok(cpu_of(node.pid())?)
}

fn bare(log: &Path, out: &Path) -> Result<f64, Box<dyn std::error::Error>> {
    let start = own_cpu();
    let mut file = std::fs::File::open(log)?;
    let out = std::fs::File::create(out)?;
    let finder = memchr::memmem::Finder::new(b"ALARM");
    let mut zstd = zstd::bulk::Compressor::new(1)?;
    let (mut block, mut kept) = (vec![0u8; 128 * 1024], Vec::with_capacity(128 * 1024));
    let (mut stored, mut at, mut have) = (vec![0u8; 128 * 1024], 0u64, 0);
    loop {
        let n = file.read(&mut block[have..])?;
        have += n;
        let mut from = 0;
        for end in memchr::memchr_iter(b'\n', &block[..have]) {
            let line = &block[from..end];
            from = end + 1;
            if finder.find(line).is_some() {
                kept.extend_from_slice(line);
            }
        }
        block.copy_within(from..have, 0);
        have -= from;
        if kept.len() >= 64 * 1024 || n == 0 {
            let len = zstd.compress_to_buffer(&kept, &mut stored[..])?;
            std::hint::black_box(crc32c::crc32c(&stored[..len]));
            out.write_all_at(&stored[..len], at)?;
            rustix::fs::fdatasync(&out)?;
            at += len as u64;
            kept.clear();
        }
        if n == 0 {
            return Ok(own_cpu() - start);
        }
    }
}

pub fn run() -> Outcome {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let log = dir.path().join("app.log");
    make(&log)?;
    let mut round = 0;
    let (node, limit) = paired(
        5,
        || {
            round += 1;
            node(&dir.path().join(format!("node-{round}")), &log)
        },
        || bare(&log, &dir.path().join("bare")),
    )?;
    println!(
        "{LINES} lines of 110 bytes, a quarter kept: node {node:.2} CPU s (its start included), bare loop {limit:.2} CPU s; ratio {:.2}",
        limit / node
    );
    Ok(())
}
