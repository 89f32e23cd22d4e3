//! What the benches share: medians, CPU time of this process and of others, a node of their own.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use headwater::cli::client::{self, Client};
use headwater::lane::LaneId;
use headwater::name::Name;
use headwater::ops::Status;
use headwater::ops::control::protocol::{Ack, Answer, Ask, Line, SinkVerb, encode};
use headwater::record::RecordRef;
use headwater::ring::{Disk, Keys, LaneOptions, Options, Ring};
use headwater::time::Span;
use headwater::topic::{TopicName, TopicPart};

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
pub type Outcome = Result<()>;

/// A status costs its node some work too: it is asked for no more often than this.
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// User and system seconds of this process.
pub fn own_cpu() -> f64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    t.tv_sec as f64 + t.tv_nsec as f64 / 1e9
}

/// User and system seconds of another process, in steps of a clock tick (10 ms).
pub fn cpu_of(pid: u32) -> std::io::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks: f64 = [11, 12].iter().filter_map(|&i| fields.get(i)?.parse::<f64>().ok()).sum();
    Ok(ticks / rustix::param::clock_ticks_per_second() as f64)
}

/// The most memory that a process had resident, in MiB, since its start or since [`forget_peak`].
pub fn peak_of(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

/// Peaks of that process count from here.
pub fn forget_peak(pid: u32) -> std::io::Result<()> {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5")
}

/// Of rows of figures the medians, figure by figure.
pub fn medians<const N: usize>(rows: &[[f64; N]]) -> [f64; N] {
    std::array::from_fn(|i| median(rows.iter().map(|row| row[i]).collect()))
}

/// Runs both in turn `n` times and gives the medians.
pub fn paired(
    n: usize,
    mut thing: impl FnMut() -> Result<f64>,
    mut bare: impl FnMut() -> Result<f64>,
) -> Result<(f64, f64)> {
    let ((thing, _), (bare, _)) = paired_by(n, |_| Ok((thing()?, 0.0)), |_| Ok((bare()?, 0.0)))?;
    Ok((thing, bare))
}

/// As `paired`, of two figures each; both are told the round.
pub fn paired_by(
    n: usize,
    mut thing: impl FnMut(usize) -> Result<(f64, f64)>,
    mut bare: impl FnMut(usize) -> Result<(f64, f64)>,
) -> Result<((f64, f64), (f64, f64))> {
    let (mut things, mut bares) = (Vec::new(), Vec::new());
    for round in 0..n {
        things.push(thing(round)?);
        bares.push(bare(round)?);
    }
    let medians = |figures: Vec<(f64, f64)>| {
        let (first, second) = figures.into_iter().unzip();
        (median(first), median(second))
    };
    Ok((medians(things), medians(bares)))
}

/// Of a ring with one lane.
pub fn options(max_bytes: u64) -> Result<Options> {
    Ok(Options {
        max_bytes,
        lanes: vec![LaneOptions { name: Name::new("normal")?, reserve: 0 }],
        linger: Span::from_secs(1),
        binding: [0; 16],
        boot_id: [0; 16],
        seed: 1,
        keys: Keys::default(),
        formats: Default::default(),
    })
}

/// A ring with one lane and one topic.
pub fn new_ring(disk: &mut dyn Disk, max_bytes: u64) -> Result<(Ring, TopicPart)> {
    new_ring_with(disk, max_bytes, Keys::default())
}

/// The same, written and read with these keys.
pub fn new_ring_with(disk: &mut dyn Disk, max_bytes: u64, keys: Keys) -> Result<(Ring, TopicPart)> {
    let (mut ring, _) = Ring::recover(disk, Options { keys, ..options(max_bytes)? })?;
    let topic = ring.open_topic(&TopicName::new("t")?, LaneId(0), 1)?;
    Ok((ring, TopicPart { topic, partition: 0 }))
}

/// JSON events of 100 bytes, as a gateway's sensors would send them.
pub fn events(count: usize) -> Vec<Vec<u8>> {
    let event = |n: usize| {
        let (id, value) = (n % 40, n.wrapping_mul(2_654_435_761) % 100_000);
        let mut text = format!(
            "{{\"device\":\"boiler-{id:02}\",\"n\":{n},\"celsius\":{}.{},\"state\":\"running\"",
            value / 100,
            value % 100
        );
        while text.len() < 99 {
            text.push(' ');
        }
        text.push('}');
        text.into_bytes()
    };
    (0..count).map(event).collect()
}

/// JSON events of 200 bytes, of which half have more than 30 degrees.
pub fn json_events() -> Vec<Vec<u8>> {
    let event = |n: usize| {
        let celsius = if n.is_multiple_of(2) { 20.0 } else { 40.0 } + (n % 97) as f64 / 10.0;
        let mut text = format!(
            "{{\"ts\":{},\"site\":\"north-{}\",\"device\":\"boiler-{}\",\"celsius\":{celsius:.1},\"bar\":1.{:02},\
             \"state\":\"running\",\"seq\":{n},\"note\":\"",
            1_700_000_000_000u64 + n as u64 * 250,
            n % 7,
            n % 40,
            n % 100,
        );
        while text.len() < 198 {
            text.push('x');
        }
        text.push_str("\"}");
        text.into_bytes()
    };
    (0..512).map(event).collect()
}

/// Records of one measurement by [`each`].
pub const RECORDS: usize = 400_000;

/// CPU nanoseconds of a record, and how many passed. Records are there before: making them is a source's work.
pub fn each(events: &[Vec<u8>], mut passes: impl FnMut(&RecordRef<'_>) -> bool) -> (f64, usize) {
    let records: Vec<_> = events.iter().map(|event| RecordRef::of(event)).collect();
    let before = own_cpu();
    let passed = (0..RECORDS).filter(|n| passes(black_box(&records[n % records.len()]))).count();
    ((own_cpu() - before) * 1e9 / RECORDS as f64, passed)
}

/// A running node, ended when dropped.
pub struct Node {
    child: Child,
    control: PathBuf,
    runtime: tokio::runtime::Runtime,
}

impl Node {
    /// The binary of this build, with `config` in `dir`; the config's data directory is `dir/data`.
    pub fn start(dir: &Path, config: &str) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let file = dir.join("headwater.toml");
        std::fs::write(
            &file,
            format!("[node]\nid = \"bench\"\ndata_dir = \"{}\"\n{config}", dir.join("data").display()),
        )?;
        let child = Command::new(env!("CARGO_BIN_EXE_headwater"))
            .args(["run", "-c"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.join("log"))?)
            .spawn()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let node = Self { child, control: dir.join("data/control.sock"), runtime };
        node.until(Duration::from_secs(20), |_| true)?;
        Ok(node)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn status(&self) -> Result<Status> {
        Ok(self.runtime.block_on(client::status(&self.control))?)
    }

    /// One past the newest durable record of a topic's first partition.
    pub fn end_of(&self, topic: &str) -> Result<u64> {
        let status = self.status()?;
        let found = status.topics.iter().find(|t| t.name == topic).and_then(|t| Some(t.partitions.first()?.end));
        Ok(found.unwrap_or(0))
    }

    /// Waits until so many records of a topic are durable.
    pub fn until_end(&self, topic: &str, end: u64, most: Duration) -> Result<Duration> {
        let started = Instant::now();
        loop {
            let have = self.end_of(topic)?;
            if have >= end {
                return Ok(started.elapsed());
            }
            if started.elapsed() > most {
                return Err(format!("{have} of {end} records of `{topic}` within {most:?}").into());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// `headwater sink VERB NAME`.
    pub fn order(&self, sink: &str, verb: SinkVerb) -> Outcome {
        self.ask(&Ask::Sink { verb, name: sink.into() }, false)
    }

    /// Makes a topic, as `headwater send` does before its first line.
    pub fn create(&self, topic: &str) -> Outcome {
        self.ask(&Ask::Send { topic: topic.into(), ack: Ack::Durable, notes: false }, true)
    }

    fn ask(&self, ask: &Ask, ends: bool) -> Outcome {
        let answer: anyhow::Result<Answer> = self.runtime.block_on(async {
            let mut client = Client::connect(&self.control).await?;
            client.ask(ask).await?;
            if ends {
                client.write(&encode(&Line::End)).await?;
            }
            client.answer().await
        });
        answer?;
        Ok(())
    }

    /// Waits until the status is as wanted; gives how long that took.
    pub fn until(&self, most: Duration, mut met: impl FnMut(&Status) -> bool) -> Result<Duration> {
        let started = Instant::now();
        while started.elapsed() < most {
            if self.status().is_ok_and(|status| met(&status)) {
                return Ok(started.elapsed());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Err(format!("not within {most:?}").into())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The bench is over: nothing of it is kept.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
