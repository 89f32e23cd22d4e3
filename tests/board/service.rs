//! The unit under a live systemd: what it lets the node do, and what becomes of a node that hangs, ends or is told nonsense.

use super::machine::{Machine, Setup, fresh_card};

const DROP_INS: &str = "/etc/systemd/system/headwater.service.d";

fn restarts(machine: &Machine) -> u64 {
    machine.ok("systemctl show -P NRestarts headwater").parse().unwrap()
}

/// Has systemd take a drop-in, and the node start with it.
fn with(machine: &Machine, name: &str, lines: &str) {
    machine.ok(&format!(
        "printf '%b' '{lines}' >{DROP_INS}/{name}.conf && systemctl daemon-reload && systemctl restart headwater"
    ));
    machine.is_ready();
}

/// What others may write on the card is in the service's hands as little as the unit promises.
fn is_hardened(machine: &Machine) {
    let said = machine.ok("systemd-analyze security headwater --no-pager | tail -n 1");
    let score: f64 = said.split_whitespace().find_map(|word| word.parse().ok()).unwrap_or_else(|| panic!("{said}"));
    println!("systemd-analyze security: {score}");
    assert!(score <= 2.0, "{said}");
}

/// A node whose loop stands still is ended and begins anew; what it had is there.
fn a_hang_is_ended(machine: &Machine) {
    with(machine, "20-test", "[Service]\\nWatchdogSec=15s\\n");
    let before = restarts(machine);
    let offset: u64 = machine.send("notes", &["before the hang"])[0].parse().unwrap();
    machine.ok("systemctl kill -s STOP headwater");
    machine.eventually("the watchdog", || (restarts(machine) > before).then_some(()));
    machine.is_ready();
    assert_eq!(machine.end_of("notes"), offset + 1);
    assert_eq!(machine.status().ring.health, "good");
    println!("{}", machine.ok("journalctl -u headwater --no-pager -o cat | grep -i watchdog | tail -n 3"));
}

/// A node that is killed begins anew by itself.
fn an_end_is_not_the_end(machine: &Machine) {
    let before = restarts(machine);
    machine.ok("systemctl kill -s ABRT headwater");
    machine.eventually("a new start", || (restarts(machine) > before).then_some(()));
    machine.is_ready();
}

/// Trying an error of a config again and again mends nothing.
fn a_wrong_config_is_told_once(machine: &Machine) {
    machine.ok("echo 'nonsense = 1' >/etc/headwater/conf.d/99-wrong.toml");
    let reload = machine.ask("systemctl restart headwater");
    assert_ne!(reload.code, Some(0), "it does not start");
    machine.ok("sleep 8");
    assert_eq!(machine.ask("systemctl is-active headwater").out.trim(), "failed");
    let said = machine.journal();
    assert!(said.contains("99-wrong.toml") && said.contains("nonsense"), "{said}");
    machine.ok("rm /etc/headwater/conf.d/99-wrong.toml; systemctl restart headwater");
    machine.is_ready();
}

/// Root need not be writable.
fn root_may_be_read_only(machine: &Machine) {
    machine.ok("systemctl stop plant && mount -o remount,ro / && systemctl restart headwater");
    machine.is_ready();
    let end = machine.end_of("notes");
    assert_eq!(machine.send("notes", &["with root read-only"]), [end.to_string()]);
    let status = machine.status();
    assert!(!status.ring.in_memory, "{:?}", status.ring);
    machine.ok("mount -o remount,rw / && systemctl start plant");
}

/// Without its partition the node writes nothing to root, where nobody would look for it: it keeps what comes in memory, and
/// takes the ring on the disk when that is mounted.
fn a_data_partition_that_comes_late_is_taken(machine: &Machine) {
    let (id, end) = (machine.status().ring.id, machine.end_of("notes"));
    machine.ok(
        "systemctl stop headwater && umount /var/lib/headwater && systemctl mask --runtime var-lib-headwater.mount && \
         systemctl start headwater",
    );
    machine.is_ready();
    assert!(machine.status().ring.in_memory);
    assert_eq!(machine.ok("ls -A /var/lib/headwater"), "", "nothing lies where the partition belongs");
    machine.send("notes", &["kept in memory"]);
    machine.ok("systemctl unmask --runtime var-lib-headwater.mount && systemctl start var-lib-headwater.mount");
    machine.eventually("the disk to be taken", || (!machine.status().ring.in_memory).then_some(()));
    assert_eq!(machine.status().ring.id, id, "the ring that was there");
    machine.eventually("what was in memory", || (machine.end_of("notes") == end + 1).then_some(()));
}

/// A file that only the group `adm` may read is read once the drop-in is there that `headwater unit` prints.
fn what_a_config_needs_is_printed_as_a_drop_in(machine: &Machine) {
    machine.ok(
        "install -m 640 -o root -g adm /dev/null /var/log/secret.log; echo 'a line for administrators' >>/var/log/secret.log\n\
         printf '[sources.secret]\\ntype = \"file\"\\npaths = [\"/var/log/secret.log\"]\\ntopic = \"secret\"\\n' >/etc/headwater/conf.d/50-secret.toml",
    );
    let checked = machine.ask("headwater check");
    println!("{}", checked.out);
    let unit = machine.ok(&format!("headwater unit | tee {DROP_INS}/30-config.conf"));
    assert!(unit.contains("adm"), "{unit}");
    machine.ok("systemctl daemon-reload && systemctl restart headwater");
    machine.is_ready();
    machine.eventually("the line", || (machine.end_of("secret") == 1).then_some(()));
}

/// The machine's own watchdog is held by systemd.
fn the_hardware_watchdog_is_fed(machine: &Machine) {
    assert_eq!(machine.ok("systemctl show -P RuntimeWatchdogUSec"), "15s");
    machine.eventually("the watchdog to be held", || {
        (machine.ask("cat /sys/class/watchdog/watchdog0/state").out.trim() == "active").then_some(())
    });
}

/// The package, in place of what flash.sh put there: it starts nothing that nobody looked at, has what ran run on when it is
/// upgraded, and takes its unit with it; what was collected stays.
fn a_package_comes_is_upgraded_and_goes(machine: &Machine) {
    let program = "sha256sum </usr/bin/headwater";
    let flashed = machine.ok(program);
    machine.ok(&format!(
        "systemctl disable --now headwater; rm -r {DROP_INS} /etc/systemd/system/headwater.service /usr/bin/headwater\n\
         dpkg -i /boot/firmware/headwater.deb"
    ));
    assert_eq!(machine.ok(program), flashed, "the package has the same program");
    assert_eq!(machine.ask("systemctl is-active headwater").out.trim(), "inactive");
    machine.ok("systemctl enable --now headwater");
    machine.is_ready();
    let end = machine.end_of("notes");
    let pid = machine.ok("systemctl show -P MainPID headwater");
    machine.ok("dpkg -i /boot/firmware/headwater.deb");
    machine.is_ready();
    assert_ne!(machine.ok("systemctl show -P MainPID headwater"), pid, "what ran runs on, as the new one");
    assert_eq!(machine.end_of("notes"), end);
    machine.ok("dpkg -r headwater");
    assert_eq!(machine.ask("systemctl is-active headwater").out.trim(), "inactive");
    machine
        .ok("test ! -e /usr/bin/headwater && test -e /var/lib/headwater/root && test -e /etc/headwater/headwater.toml");
}

#[test]
fn systemd_keeps_a_node_that_hangs_ends_or_is_told_nonsense() {
    let dir = tempfile::tempdir().unwrap();
    let card = fresh_card(dir.path());
    let machine = Machine::start(&card, &Setup::default());
    machine.is_ready();
    is_hardened(&machine);
    println!("{}", machine.ask("headwater doctor").out);
    the_hardware_watchdog_is_fed(&machine);
    an_end_is_not_the_end(&machine);
    a_hang_is_ended(&machine);
    a_wrong_config_is_told_once(&machine);
    root_may_be_read_only(&machine);
    a_data_partition_that_comes_late_is_taken(&machine);
    what_a_config_needs_is_printed_as_a_drop_in(&machine);
    a_package_comes_is_upgraded_and_goes(&machine);
    let failed = machine.ok("systemctl --failed --no-legend --plain");
    assert_eq!(failed, "", "units that failed");
    machine.shut_down();
}

#[test]
fn a_kernel_that_hangs_is_reset() {
    let dir = tempfile::tempdir().unwrap();
    let card = fresh_card(dir.path());
    let machine = Machine::start(&card, &Setup::default());
    machine.is_ready();
    the_hardware_watchdog_is_fed(&machine);
    machine.hangs();
    machine.resets();
}
