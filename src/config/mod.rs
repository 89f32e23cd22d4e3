//! Configuration: raw TOML in, a checked [`Config`] or every error at once out.
//!
//! One file and `conf.d/*.toml` beside it, merged ([`raw`]); a [`reader::Reader`] per table that hands out checked values and
//! remembers what was asked for, so that every other key is an error with its nearest neighbour; one function per kind of
//! table (`parts`, `sources`, `sinks`, `rules`) that says each key, its bounds and its default once; and what only the whole
//! shows ([`cross`]). The settings that were read, with origin, are what `check --print` shows and what the table of defaults
//! is tested against: there is no second list of keys.
//!
//! Secrets are read here, so a started node holds them and a reload reads them again.

pub mod cases;
pub mod changes;
mod cross;
mod endpoint;
mod keys;
mod links;
pub mod model;
mod order;
mod own_output;
mod parts;
mod print;
mod raw;
mod reader;
mod rules;
mod sinks;
mod sources;
pub mod starter;
mod tls;
pub mod units;
mod values;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use changes::{Changes, changes};
pub use keys::key_in;
pub use model::*;
pub use print::print;

pub use own_output::{GLOB_OPTIONS, MAX_GLOB_NAMES};
pub use parts::usual_lane;
use raw::{At, Table};
pub use reader::Named;
use reader::{Reader, Scope, Setting};

/// The file that commands use when none is named.
pub const DEFAULT_PATH: &str = "/etc/headwater/headwater.toml";
/// Where a node keeps its data unless its config says otherwise, and its control socket in there.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/headwater";
pub const CONTROL_NAME: &str = "control.sock";
/// Config files together, and any one file that a value is read from.
const MAX_BYTES: u64 = 1024 * 1024;
const MAX_FILES: usize = 64;

/// One thing that is wrong: where, what, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub file: PathBuf,
    /// 0: the file as a whole.
    pub line: u32,
    /// The key's path, e.g. `sinks.hq.endpoint`; empty for a syntax error.
    pub key: String,
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for ConfigError {}

/// Looks up an environment variable.
pub type Env = Box<dyn Fn(&str) -> Option<String>>;

/// What the config can refer to beside its files; tests bring their own.
pub struct Surroundings {
    pub env: Env,
    /// `$CREDENTIALS_DIRECTORY`, which systemd gives to the service.
    pub credentials: Option<PathBuf>,
    pub host_name: String,
    /// Only looking: credentials that only the service can see are a warning.
    pub checking: bool,
}

impl Surroundings {
    /// Those of this process.
    pub fn real(checking: bool) -> Self {
        let env = |name: &str| std::env::var(name).ok();
        let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { credentials: env("CREDENTIALS_DIRECTORY").map(PathBuf::from), env: Box::new(env), host_name, checking }
    }
}

/// Everything that can be said about a config.
pub struct Examined {
    pub config: Result<Config, Vec<ConfigError>>,
    /// As in [`Config::warnings`]; here also when there is no config.
    pub warnings: Vec<String>,
    /// Files and credentials that it names.
    pub named: BTreeSet<Named>,
    settings: Vec<Setting>,
    files: Vec<PathBuf>,
}

/// Reads and checks the config at `path`.
pub fn load(path: &Path) -> Result<Config, Vec<ConfigError>> {
    examine(path, &Surroundings::real(false)).config
}

/// As [`load`], with everything that can be said about it.
pub fn examine(path: &Path, around: &Surroundings) -> Examined {
    let report = Report::default();
    let (root, hash) = gather(path, &report);
    let scope = Scope::new(&report, around);
    let config = root.and_then(|root| checked(&root, hash, &scope));
    let warnings: Vec<String> = report.warnings.take().iter().map(ToString::to_string).collect();
    let mut errors = report.errors.take();
    errors.sort_by_key(|e| (report.files.borrow().iter().position(|f| *f == e.file), e.line));
    let config = match config {
        Some(config) if errors.is_empty() => Ok(Config { warnings: warnings.clone(), ..config }),
        _ => Err(errors),
    };
    Examined {
        config,
        warnings,
        named: scope.named.take(),
        settings: scope.settings.take(),
        files: report.files.take(),
    }
}

/// `HOST:PORT` of an SC, the port filled in where it is the usual one.
pub fn upstream_address(text: &str) -> Result<String, String> {
    parts::host_port(text, Some(9003))
}

/// A Fluvio sink to the SC at `address`, with the defaults of every other setting.
pub fn plain_fluvio(address: &str) -> Result<FluvioSink, String> {
    let report = Report::default();
    let around = Surroundings::real(true);
    let text = format!("[sinks.plain]\ntype = \"fluvio\"\ntopics = [\"*\"]\nendpoint = [{}]\n", raw::quote(address));
    let root = raw::parse(0, &text, &report);
    let scope = Scope::new(&report, &around);
    let sinks = root.map(|root| sinks::sinks(&Reader::root(&scope, &root), &BTreeMap::new(), &[])).unwrap_or_default();
    match (sinks.into_iter().next().map(|sink| sink.kind), report.errors.take().into_iter().next()) {
        (_, Some(error)) => Err(error.message),
        (Some(SinkKind::Fluvio(sink)), None) => Ok(sink),
        _ => Err(format!("`{address}` is no address of an SC")),
    }
}

/// The hash of the config as it is on disk now (see [`Config::hash`]); None when it cannot be read.
pub fn hash_on_disk(path: &Path) -> Option<String> {
    let report = Report::default();
    let (_, hash) = gather(path, &report);
    let unreadable = report.errors.borrow().iter().any(|e| e.line == 0);
    (!unreadable).then_some(hash)
}

/// Where a running node can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaysIn {
    /// The control socket.
    pub control: PathBuf,
    /// Where its status can be read, also when the control socket has no place because the data directory has none.
    pub http: Option<SocketAddr>,
    /// The syntax error that these ways were read around.
    pub broken: Option<Broken>,
}

/// A config of which not everything could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    pub error: ConfigError,
    /// Whether what could be read names the data directory or the socket. Else the ways are those of a default, and
    /// another node may be behind them.
    pub named: bool,
}

/// The ways into the node of the config at `path`. Nothing else of the config need be right, or readable to who asks.
pub fn ways_in(path: &Path, around: &Surroundings) -> Result<WaysIn, ConfigError> {
    let report = Report::default();
    let (root, _) = gather(path, &report);
    let scope = Scope::new(&report, around);
    let errors = report.errors.take();
    let (root, broken) = match (root, errors.into_iter().next()) {
        (Some(root), _) => (root, None),
        // A file that is not there, or of no use.
        (None, Some(error)) if error.line == 0 && error.file == path => return Err(error),
        (None, Some(error)) => {
            // Who broke a running node's config needs its commands all the more.
            let root = gather_around_errors(path);
            let named = parts::names_its_place(&root);
            (root, Some(Broken { error, named }))
        }
        (None, None) => {
            return Err(ConfigError { file: path.into(), line: 0, key: String::new(), message: "no config".into() });
        }
    };
    let root = Reader::root(&scope, &root);
    root.forgive();
    Ok(WaysIn { control: parts::control_path(&root), http: parts::http(&root).map(|http| http.listen), broken })
}

/// What can be read of the files, of which some have errors.
fn gather_around_errors(path: &Path) -> Table {
    let report = Report::default();
    let mut root = Table::default();
    for (index, file) in files(path, &report).iter().enumerate() {
        if let Ok(text) = read_bounded(file) {
            let table = raw::parse_around_errors(u16::try_from(index).unwrap_or(u16::MAX), &text);
            raw::merge(&mut root, table, "", &report);
        }
    }
    root
}

fn checked(root: &Table, hash: String, scope: &Scope<'_>) -> Option<Config> {
    let root = Reader::root(scope, root);
    let node = parts::node(&root);
    let ring = parts::ring(&root);
    let topics = parts::topics(&root, ring.as_ref().map_or(&[], |ring| &ring.lanes));
    let sources = sources::sources(&root, node.as_ref());
    let (rules, rule_specs) = rules::rules(&root);
    let links = links::links(&root, ring.as_ref().map_or(&[], |ring| &ring.lanes));
    let sinks = sinks::sinks(&root, &rule_specs, ring.as_ref().map_or(&[], |ring| &ring.lanes));
    let endpoint = endpoint::endpoint(&root);
    let http = parts::http(&root);
    drop(root);
    let files = scope.report.files.borrow().clone();
    let (node, ring) = (node?, ring?);
    let config =
        Config { hash, files, node, ring, topics, sources, rules, links, sinks, endpoint, http, warnings: Vec::new() };
    cross::check(&config, scope);
    Some(config)
}

/// What is found while reading: all of it, not the first.
#[derive(Default)]
pub(crate) struct Report {
    files: RefCell<Vec<PathBuf>>,
    errors: RefCell<Vec<ConfigError>>,
    warnings: RefCell<Vec<ConfigError>>,
}

impl Report {
    fn entry(&self, at: At, key: &str, message: String) -> ConfigError {
        let file = self.files.borrow().get(usize::from(at.file)).cloned().unwrap_or_default();
        ConfigError { file, line: at.line, key: key.to_owned(), message }
    }

    fn error(&self, at: At, key: &str, message: impl Into<String>) {
        let error = self.entry(at, key, message.into());
        let mut errors = self.errors.borrow_mut();
        // One place that is read in two ways is still one error.
        if !errors.contains(&error) {
            errors.push(error);
        }
    }

    fn warn(&self, at: At, key: &str, message: impl Into<String>) {
        let warning = self.entry(at, key, message.into());
        self.warnings.borrow_mut().push(warning);
    }

    /// `file:line`.
    fn place(&self, at: At) -> String {
        let file = self.files.borrow().get(usize::from(at.file)).cloned().unwrap_or_default();
        format!("{}:{}", file.display(), at.line)
    }
}

/// Reads and merges all files. No table when one could not be read or parsed; the hash is of what could be read.
fn gather(path: &Path, report: &Report) -> (Option<Table>, String) {
    let mut hasher = twox_hash::XxHash3_64::new();
    let mut root = Table::default();
    let mut whole = true;
    for file in files(path, report) {
        let index = report.files.borrow().len();
        report.files.borrow_mut().push(file.clone());
        let at = At { file: u16::try_from(index).unwrap_or(u16::MAX), line: 0 };
        let text = match read_bounded(&file) {
            Ok(text) => text,
            Err(why) => {
                report.error(at, "", format!("{why}{}", why.hint()));
                whole = false;
                continue;
            }
        };
        hasher.write(&(text.len() as u64).to_le_bytes());
        hasher.write(text.as_bytes());
        match raw::parse(at.file, &text, report) {
            Some(table) => raw::merge(&mut root, table, "", report),
            None => whole = false,
        }
    }
    use std::hash::Hasher as _;
    (whole.then_some(root), format!("{:016x}", hasher.finish()))
}

fn files(path: &Path, report: &Report) -> Vec<PathBuf> {
    let mut files = vec![path.to_owned()];
    let directory = path.parent().unwrap_or(Path::new("")).join("conf.d");
    let wrong = |what: String| {
        report.files.borrow_mut().push(directory.clone());
        report.error(At::default(), "", what);
        report.files.borrow_mut().clear();
    };
    let list = || {
        let entries = std::fs::read_dir(&directory)?;
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>()
    };
    let listed = loop {
        match list() {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            listed => break listed,
        }
    };
    match listed {
        Ok(paths) => {
            files.extend(paths.into_iter().filter(|p| p.extension().is_some_and(|e| e == "toml")));
            files[1..].sort();
        }
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {}
        // A part of the configuration may stand there: to go on without it would be another one.
        Err(e) => wrong(format!("cannot be read: {e}")),
    }
    if files.len() > MAX_FILES {
        files.truncate(MAX_FILES);
        wrong(format!("more than {MAX_FILES} files"));
    }
    files
}

/// Why a text file is of no use.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("no such file")]
    Absent,
    #[error("is a directory")]
    Directory,
    #[error("no permission to read it")]
    Forbidden,
    #[error("is not UTF-8 text")]
    NotText,
    #[error("is larger than {MAX_BYTES} bytes")]
    TooLarge,
    #[error("{0}")]
    Other(std::io::Error),
}

impl Unread {
    /// What to do when it is a config.
    fn hint(&self) -> &'static str {
        match self {
            Self::Absent => "; name another with `-c FILE`, or write one to begin with: `headwater init FILE`",
            Self::Directory => "; name the file in it, like `-c DIRECTORY/headwater.toml`",
            Self::Forbidden => "; be root or the node's user, or let this user read it",
            Self::NotText => "; save it as UTF-8",
            Self::TooLarge | Self::Other(_) => "",
        }
    }
}

/// Reads a text file, refusing what cannot be a config or a secret.
fn read_bounded(path: &Path) -> Result<String, Unread> {
    use std::io::ErrorKind;
    let why = |e: std::io::Error| match e.kind() {
        ErrorKind::NotFound => Unread::Absent,
        ErrorKind::IsADirectory => Unread::Directory,
        ErrorKind::PermissionDenied => Unread::Forbidden,
        ErrorKind::InvalidData => Unread::NotText,
        _ => Unread::Other(e),
    };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(why)?;
    std::io::Read::read_to_string(&mut std::io::Read::take(file, MAX_BYTES + 1), &mut text).map_err(why)?;
    if text.len() as u64 > MAX_BYTES { Err(Unread::TooLarge) } else { Ok(text) }
}

#[cfg(test)]
mod tests;
