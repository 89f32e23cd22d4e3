//! A new program over SSH, under a live systemd: `scripts/update.sh`, with what it puts on the device.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::machine::{Machine, Setup, fresh_card, home};
use super::node::free_port;

/// The desk, and the board it updates.
pub struct Desk {
    pub port: u16,
}

impl Desk {
    /// `update.sh` with the board's own user, who may `sudo`; a trial takes this many seconds.
    fn update(&self, watch: u32, what: &[&str]) -> Command {
        let ssh = format!(
            "ssh -F none -i {} -p {} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
            home().join("key").display(),
            self.port
        );
        let mut update = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/update.sh"));
        update.args(["tech@127.0.0.1", "--ssh", &ssh, "--watch", &watch.to_string()]).args(what);
        update.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        update
    }

    /// Has this done; gives its exit code and what it said.
    fn done(&self, watch: u32, what: &[&str]) -> (Option<i32>, String) {
        ended(self.update(watch, what).spawn().unwrap())
    }

    /// Has a program of test-board.sh put there; its exit code and what it said.
    pub fn offer(&self, watch: u32, name: &str) -> (Option<i32>, String) {
        self.done(watch, &["--binary", &program(name).display().to_string()])
    }
}

fn ended(desk: Child) -> (Option<i32>, String) {
    let output = desk.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    println!("{said}");
    (output.status.code(), said)
}

/// One of the programs that test-board.sh made.
fn program(name: &str) -> PathBuf {
    home().join("programs").join(name)
}

fn hash(program: &PathBuf) -> String {
    let sum = Command::new("sha256sum").arg(program).output().unwrap();
    String::from_utf8(sum.stdout).unwrap()[..64].to_owned()
}

/// That program is in its place and runs, well, and nothing of an update is left.
fn has(machine: &Machine, name: &str) {
    machine.is_ready();
    machine.eventually("the update to be over", || {
        let unit = "test ! -e /etc/systemd/system/headwater-update.service";
        (machine.ask(unit).code == Some(0)).then_some(())
    });
    let program = hash(&program(name));
    assert_eq!(machine.ok("sha256sum </usr/bin/headwater")[..64], program, "it has {name}");
    let runs = "sha256sum </proc/$(systemctl show -P MainPID headwater)/exe";
    assert_eq!(machine.ok(runs)[..64], program, "{name} runs");
    let left = machine.ok("ls /usr/bin/headwater.* /var/lib/headwater/update-on-trial 2>/dev/null; true");
    assert!(left.is_empty() || left == "/usr/bin/headwater.old", "{left}");
    assert_eq!(machine.ok("systemctl --failed --no-legend --plain"), "", "units that failed");
    let status = machine.status();
    assert!(!status.ring.on_trial && status.ring.health == "good" && !status.ring.in_memory, "{:?}", status.ring);
}

/// A line more is stored, behind those that were.
fn goes_on(machine: &Machine, lines: &mut u64) {
    assert_eq!(machine.send("notes", &["and on"]), [lines.to_string()]);
    *lines += 1;
}

fn boots(machine: &Machine) {
    machine.link(true);
    machine.is_ready();
}

#[test]
fn an_update_over_ssh_stays_when_it_is_good_and_is_taken_back_when_it_is_not() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let card = fresh_card(dir.path());
    let desk = Desk { port: free_port() };
    let setup = Setup { ssh: Some(desk.port), ..Setup::default() };
    let machine = Machine::start(&card, &setup);
    boots(&machine);
    let mut lines = 0;
    goes_on(&machine, &mut lines);
    // What a bad program of these tests is in all else.
    machine.ok("cp /usr/bin/headwater /usr/local/lib/headwater-behind");

    let (code, said) = desk.offer(20, "crash");
    assert_eq!(code, Some(3));
    assert!(
        said.contains("started again (code=killed, status=6/ABRT)") && said.contains("the last words of a program"),
        "{said}"
    );
    has(&machine, "flashed");
    goes_on(&machine, &mut lines);
    let (code, said) = desk.offer(60, "late");
    assert_eq!(code, Some(3));
    assert!(said.contains("started again (code=killed, status=14/ALRM)"), "{said}");
    has(&machine, "flashed");
    goes_on(&machine, &mut lines);

    // Root that is read-only is so again.
    machine.ok("systemctl stop plant && mount -o remount,ro /");
    let (code, said) = desk.offer(20, "good");
    assert_eq!(code, Some(0), "{said}");
    has(&machine, "good");
    machine.eventually("root to be read-only", || {
        (machine.ask("findmnt -no OPTIONS / | grep -q '^ro'").code == Some(0)).then_some(())
    });
    machine.ok("mount -o remount,rw / && systemctl start plant");
    goes_on(&machine, &mut lines);

    // The power goes in the middle of a trial; the device goes on by itself, and the desk hears of it.
    let waits = desk.update(60, &["--rollback"]).spawn().unwrap();
    machine.eventually("the trial", || {
        let on_trial = machine.ask("headwater status --json | grep -q '\"on_trial\": true'").code == Some(0);
        on_trial.then_some(())
    });
    goes_on(&machine, &mut lines);
    machine.power_off();
    let machine = Machine::start(&card, &setup);
    boots(&machine);
    let (code, said) = ended(waits);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the device was restarted"), "{said}");
    has(&machine, "flashed");
    goes_on(&machine, &mut lines);
    machine.shut_down();
}
