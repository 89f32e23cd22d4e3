//! A node in memory with its endpoint, on a thread of its own; and a plain client that knows frames and nothing else.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Once, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use headwater::config::EndpointConfig;
use headwater::endpoint::{Bound, Patience};
use headwater::hub::{Board, Hub};
use headwater::lane::DEFAULT_LANES;
use headwater::name::Name;
use headwater::pipeline::{Pipeline, Plan};
use headwater::ring::{LaneOptions, MemDisk, Options, Ring, execute};
use headwater::time::{BootTime, Now, Span, WallTime};

/// How long an answer may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(20);

static PANICS: AtomicUsize = AtomicUsize::new(0);
static HOOK: Once = Once::new();

pub struct Server {
    pub sc: SocketAddr,
    pub spu: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

pub fn config(max_connections: usize) -> EndpointConfig {
    let any = "127.0.0.1:0".parse().expect("an address");
    EndpointConfig {
        sc_listen: any,
        spu_listen: any,
        advertise: None,
        insecure: false,
        max_connections,
        tls: None,
        allow: Vec::new(),
    }
}

/// No rules, the default lanes.
pub fn plan() -> Plan {
    let lanes = DEFAULT_LANES.iter().map(|name| Name::new(name).expect("a name")).collect();
    Plan { node: "n1".into(), lanes, default_lane: 1, ..Plan::default() }
}

/// A hub over a ring in memory, its disk driven by a task.
fn hub(plan: Plan, bytes: u64) -> Hub {
    let mut disk = MemDisk::new(bytes);
    let options = Options {
        max_bytes: bytes,
        lanes: plan.lanes.iter().map(|name| LaneOptions { name: name.clone(), reserve: 0 }).collect(),
        linger: Span::from_millis(50),
        binding: [1; 16],
        boot_id: [2; 16],
        seed: 3,
        keys: Default::default(),
        formats: Default::default(),
    };
    let (ring, report) = Ring::recover(&mut disk, options).expect("memory does not fail");
    let start = Instant::now();
    let now = move || {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let boot = BootTime(Span::from(start.elapsed()).as_micros());
        Now { boot, wall: WallTime(Span::from(wall).as_micros()), trusted: true }
    };
    let (hub, _) = Hub::new(Pipeline::new(ring, report, true, plan), Box::new(now), Rc::new(Board::default()));
    let driven = hub.clone();
    tokio::task::spawn_local(async move {
        loop {
            while let Some(command) = driven.poll() {
                driven.complete(execute(command, &mut disk));
            }
            let wait = driven.next_timeout().map_or(Span::from_secs(60), |at| at - driven.now().boot);
            tokio::select! {
                () = driven.kicked() => {}
                () = tokio::time::sleep(wait.to_std()) => {}
            }
        }
    });
    hub
}

impl Server {
    pub fn start() -> Self {
        Self::with(config(64), plan)
    }

    pub fn with(config: EndpointConfig, plan: impl FnOnce() -> Plan + Send + 'static) -> Self {
        Self::waiting(config, plan, Patience::default())
    }

    /// With another patience than a node has.
    pub fn waiting(config: EndpointConfig, plan: impl FnOnce() -> Plan + Send + 'static, patience: Patience) -> Self {
        Self::sized(config, plan, patience, 64 << 20)
    }

    /// With the smallest ring, which evicts soon.
    pub fn small() -> Self {
        Self::sized(config(64), plan, Patience::default(), 4 << 20)
    }

    fn sized(
        config: EndpointConfig,
        plan: impl FnOnce() -> Plan + Send + 'static,
        patience: Patience,
        bytes: u64,
    ) -> Self {
        count_panics();
        let (send, receive) = mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let body = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            tokio::task::LocalSet::new().block_on(&runtime, async {
                let hub = hub(plan(), bytes);
                let mut bound = Bound::bind(&config).await.expect("a free port");
                bound.patience = patience;
                send.send((bound.sc_addr(), bound.spu_addr())).expect("the test waits");
                let serve = bound.serve(hub.store());
                tokio::select! {
                    () = serve => {}
                    _ = stopped => hub.stop(),
                }
            });
        };
        let thread = std::thread::Builder::new().name("server".into()).spawn(body).expect("a thread");
        let (sc, spu) = receive.recv().expect("a server that listens");
        Self { sc, spu, stop: Some(stop), thread: Some(thread) }
    }

    /// A topic, made as a client makes it.
    pub fn create_topic(&self, name: &str, partitions: u32) {
        let mut inner = string(name);
        inner.extend([0, 0, 1]);
        inner.extend(partitions.to_be_bytes());
        inner.extend([0, 0, 0, 1, 0, 0, 0, 4, 0, 0]);
        let mut body = string("Topic");
        body.extend((inner.len() as u32).to_be_bytes());
        body.extend(inner);
        let mut client = Client::connect(self.sc);
        client.request(1001, 19, 1, &body);
        let mut expected = string(name);
        expected.extend([0, 0, 0]);
        assert_eq!(client.answer(1), expected);
    }

    pub fn delete_topic(&self, name: &str) {
        let inner = [string(name), vec![0]].concat();
        let body = [string("Topic"), (inner.len() as u32).to_be_bytes().to_vec(), inner].concat();
        let mut client = Client::connect(self.sc);
        client.request(1002, 19, 1, &body);
        assert_eq!(client.answer(1)[2 + name.len()..][..2], [0, 0]);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        let joined = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(matches!(joined, Some(Ok(()))), "the server's thread panicked");
        }
    }
}

/// A task that panics is caught by its runtime, and would go unnoticed.
fn count_panics() {
    HOOK.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().name() == Some("server") {
                PANICS.fetch_add(1, Ordering::SeqCst);
            }
            hook(info);
        }));
    });
}

pub fn panics() -> usize {
    PANICS.load(Ordering::SeqCst)
}

pub fn string(text: &str) -> Vec<u8> {
    let mut out = (text.len() as u16).to_be_bytes().to_vec();
    out.extend_from_slice(text.as_bytes());
    out
}

/// A request with its length.
pub fn framed(key: u16, version: i16, correlation: i32, body: &[u8]) -> Vec<u8> {
    let head = [&key.to_be_bytes()[..], &version.to_be_bytes(), &correlation.to_be_bytes(), &string("test")].concat();
    let len = (head.len() + body.len()) as u32;
    [&len.to_be_bytes()[..], &head, body].concat()
}

/// Bytes both ways, perhaps over TLS.
pub trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// Frames out, frames in.
pub struct Client {
    stream: Box<dyn Stream>,
    /// The same connection, for its options.
    socket: TcpStream,
    /// Answers that came before they were asked for.
    early: VecDeque<Vec<u8>>,
}

impl Client {
    pub fn connect(to: SocketAddr) -> Self {
        Self::over(to, |socket| Box::new(socket))
    }

    /// With something between the frames and the socket.
    pub fn over(to: SocketAddr, wrap: impl FnOnce(TcpStream) -> Box<dyn Stream>) -> Self {
        let socket = TcpStream::connect(to).expect("a server");
        socket.set_nodelay(true).expect("an option");
        let stream = wrap(socket.try_clone().expect("another handle"));
        Self { stream, socket, early: VecDeque::new() }
    }

    pub fn send(&mut self, frame: &[u8]) {
        let mut bytes = (frame.len() as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(frame);
        self.stream.write_all(&bytes).expect("an open connection");
    }

    pub fn send_raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub fn request(&mut self, key: u16, version: i16, correlation: i32, body: &[u8]) {
        self.send_raw(&framed(key, version, correlation, body)).expect("an open connection");
    }

    /// Nothing is to be read: little fits in between, and what the node does not take is soon given up.
    pub fn take_nothing(&mut self) {
        rustix::net::sockopt::set_socket_recv_buffer_size(&self.socket, 4096).expect("an option");
        self.socket.set_write_timeout(Some(Duration::from_secs(2))).expect("an option");
    }

    /// Whether the node stops taking this request before it has been sent so often, while nothing is read.
    pub fn is_held_back(&mut self, key: u16, body: &[u8], times: usize) -> bool {
        self.take_nothing();
        let many = framed(key, 25, 1, body).repeat(1024);
        (0..times.div_ceil(1024)).any(|_| self.send_raw(&many).is_err())
    }

    /// The next answer to this request, without its correlation id.
    pub fn answer(&mut self, correlation: i32) -> Vec<u8> {
        self.answer_within(correlation, PATIENCE).unwrap_or_else(|| panic!("no answer to {correlation}"))
    }

    pub fn answer_within(&mut self, correlation: i32, patience: Duration) -> Option<Vec<u8>> {
        let is_it = |frame: &Vec<u8>| frame[..4] == correlation.to_be_bytes();
        let found = self.early.iter().position(is_it).and_then(|i| self.early.remove(i));
        if let Some(frame) = found {
            return Some(frame[4..].to_vec());
        }
        loop {
            let frame = self.frame(patience)?;
            if is_it(&frame) {
                return Some(frame[4..].to_vec());
            }
            self.early.push_back(frame);
        }
    }

    /// The next frame; None when the time is up or the server closed the connection.
    pub fn frame(&mut self, patience: Duration) -> Option<Vec<u8>> {
        self.socket.set_read_timeout(Some(patience)).expect("an option");
        let mut len = [0; 4];
        self.stream.read_exact(&mut len).ok()?;
        let mut frame = vec![0; u32::from_be_bytes(len) as usize];
        self.socket.set_read_timeout(Some(PATIENCE)).expect("an option");
        self.stream.read_exact(&mut frame).expect("the rest of a frame");
        Some(frame)
    }

    /// As `frame`; also None when the connection ends in the middle of one.
    pub fn whole_frame(&mut self) -> Option<Vec<u8>> {
        self.socket.set_read_timeout(Some(PATIENCE)).expect("an option");
        let mut len = [0; 4];
        self.stream.read_exact(&mut len).ok()?;
        let mut frame = vec![0; u32::from_be_bytes(len) as usize];
        self.stream.read_exact(&mut frame).ok()?;
        Some(frame)
    }

    /// Whether the server has closed the connection.
    pub fn is_closed(&mut self) -> bool {
        self.socket.set_read_timeout(Some(PATIENCE)).expect("an option");
        let mut byte = [0];
        !matches!(self.stream.read(&mut byte), Ok(1..))
    }
}
