//! A real PostgreSQL of the test's own: in a directory of its own, on a Unix socket only, ended by its process id.
//!
//! It refuses to run as root; then it runs as `nobody`. One `psql` asks everything, each expression through a function that
//! catches what it raises, so that an error is an answer like any other.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub struct Postgres {
    directory: tempfile::TempDir,
    binaries: PathBuf,
    server: Child,
}

const MISSING: &str = "PostgreSQL is not here: the differential test needs initdb, postgres and psql (Debian: apt-get install \
                       postgresql; scripts/test.sh installs it)";

/// The newest installed server.
fn binaries() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|e| e.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found: Vec<PathBuf> = versions.collect();
    found.sort();
    found.reverse();
    found.extend(std::env::split_paths(&path));
    found.into_iter().find(|d| d.join("initdb").is_file() && d.join("postgres").is_file()).expect(MISSING)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// `nobody`, in the group of the same number, as Debian has it.
const NOBODY: u32 = 65534;

fn as_nobody(command: &mut Command) -> &mut Command {
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

impl Postgres {
    pub fn start() -> Self {
        let binaries = binaries();
        // Short, because a socket's path is; and readable by whom it runs as.
        let directory = tempfile::Builder::new().prefix("hw-pg").tempdir_in("/tmp").unwrap();
        if is_root() {
            std::os::unix::fs::chown(directory.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let data = directory.path().join("data");
        let mut initdb = Command::new(binaries.join("initdb"));
        initdb
            .args(["--no-sync", "--auth=trust", "--username=hw", "--encoding=UTF8", "--locale=C.UTF-8", "-D"])
            .arg(&data);
        let made = as_nobody(&mut initdb).current_dir(directory.path()).output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let log = File::create(directory.path().join("log")).unwrap();
        let mut postgres = Command::new(binaries.join("postgres"));
        postgres.arg("-D").arg(&data).arg("-k").arg(directory.path());
        postgres.args(["-h", "", "-F", "-c", "timezone=UTC", "-c", "max_connections=4", "-c", "shared_buffers=8MB"]);
        postgres.current_dir(directory.path()).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let server = as_nobody(&mut postgres).spawn().unwrap();
        let started = Self { directory, binaries, server };
        started.wait();
        started
    }

    fn psql(&self) -> Command {
        let beside = self.binaries.join("psql");
        let mut psql = Command::new(if beside.is_file() { beside } else { "psql".into() });
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "hw", "-d", "postgres", "-h"]);
        psql.arg(self.directory.path()).current_dir(self.directory.path()).env("PGTZ", "UTC");
        psql
    }

    fn wait(&self) {
        for _ in 0..600 {
            let answered = self.psql().args(["-c", "SELECT 1"]).output().expect(MISSING);
            if answered.status.success() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        panic!("PostgreSQL does not answer:\n{log}");
    }

    /// The version that answers.
    pub fn version(&self) -> String {
        let out = self.psql().args(["-c", "SHOW server_version"]).output().unwrap();
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }

    /// Each of the queries, which give one text: that text, NULL, or the SQLSTATE of what it raised.
    pub fn ask(&self, queries: &[String]) -> Vec<Result<Option<String>, String>> {
        let mut batch = String::from(
            r"CREATE OR REPLACE FUNCTION pg_temp.ask(query text) RETURNS text LANGUAGE plpgsql AS $body$
            DECLARE answer text;
            BEGIN
                EXECUTE query INTO answer;
                IF answer IS NULL THEN RETURN 'null'; END IF;
                RETURN 'text ' || encode(convert_to(answer, 'UTF8'), 'hex');
            EXCEPTION WHEN OTHERS THEN RETURN 'error ' || SQLSTATE || ' ' || translate(SQLERRM, E'\n', ' ');
            END $body$;
            CREATE OR REPLACE FUNCTION pg_temp.hide(a text) RETURNS text VOLATILE LANGUAGE plpgsql AS 'BEGIN RETURN a; END';
            CREATE OR REPLACE FUNCTION pg_temp.hide(a integer) RETURNS integer VOLATILE LANGUAGE plpgsql AS 'BEGIN RETURN a; END';
            CREATE OR REPLACE FUNCTION pg_temp.hide(a bigint) RETURNS bigint VOLATILE LANGUAGE plpgsql AS 'BEGIN RETURN a; END';
            CREATE OR REPLACE FUNCTION pg_temp.hide(a numeric) RETURNS numeric VOLATILE LANGUAGE plpgsql AS 'BEGIN RETURN a; END';
            ",
        );
        for query in queries {
            assert!(!query.contains("$query$"));
            batch.push_str(&format!("SELECT pg_temp.ask($query${query}$query$);\n"));
        }
        let file = self.directory.path().join("batch.sql");
        fs::write(&file, batch).unwrap();
        let out = self.psql().arg("-f").arg(&file).output().unwrap();
        assert!(out.status.success(), "psql: {}", String::from_utf8_lossy(&out.stderr));
        let lines = String::from_utf8(out.stdout).unwrap();
        let answers: Vec<_> = lines.lines().filter(|line| !line.is_empty()).map(answer).collect();
        assert_eq!(answers.len(), queries.len(), "an answer for each query");
        answers
    }
}

fn answer(line: &str) -> Result<Option<String>, String> {
    if line == "null" {
        return Ok(None);
    }
    if let Some(hex) = line.strip_prefix("text") {
        let hex: Vec<u32> = hex.trim().chars().map(|c| c.to_digit(16).unwrap()).collect();
        let bytes = hex.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect();
        return Ok(Some(String::from_utf8(bytes).unwrap()));
    }
    Err(line.strip_prefix("error ").unwrap_or_else(|| panic!("psql said {line:?}")).to_owned())
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.server);
        // A fast shutdown; its own children end with it.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        let _ = self.server.wait();
    }
}
