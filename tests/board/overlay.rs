//! A root that forgets at each power-off, under an overlay in memory as raspi-config makes one: what is collected does not.

use super::machine::{Machine, Setup, fresh_card};
use super::node::free_port;
use super::update::Desk;

/// The first process puts root under an overlay and goes on as systemd.
const INIT: &str = "#!/bin/sh
mount -t proc proc /proc && modprobe overlay && umount /proc
mount -t tmpfs tmpfs /mnt && mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
cd /mnt/root && mkdir -p mnt/lower && pivot_root . mnt/lower && exec chroot . /sbin/init
";

#[test]
fn under_a_root_that_forgets_nothing_that_was_collected_is_forgotten() {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let card = fresh_card(dir.path());
    // What is made once is made before the overlay is switched on.
    let machine = Machine::start(&card, &Setup::default());
    machine.is_ready();
    assert_eq!(machine.send("notes", &["before"]), ["0"]);
    machine.ok(&format!("cat >/usr/local/lib/overlay <<'END'\n{INIT}END\nchmod 755 /usr/local/lib/overlay"));
    let ring = machine.status().ring.id;
    machine.shut_down();

    let desk = Desk { port: free_port() };
    let under = Setup { init: Some("/usr/local/lib/overlay"), ssh: Some(desk.port), ..Setup::default() };
    let boot = |number: u32| {
        let machine = Machine::start(&card, &under);
        machine.is_ready();
        assert_eq!(machine.ok("findmnt -no FSTYPE /"), "overlay");
        machine.eventually("the disk", || (!machine.status().ring.in_memory).then_some(()));
        let status = machine.status();
        assert_eq!((&status.ring.id, status.ring.health.as_str()), (&ring, "good"));
        assert_eq!(machine.send("notes", &["and on"]), [number.to_string()]);
        assert_eq!(machine.ask("test -e /etc/written-under-the-overlay").code, Some(1), "root forgets");
        machine.ok("touch /etc/written-under-the-overlay");
        machine
    };
    boot(1).power_off();
    let machine = boot(2);
    println!("{}", machine.ask("headwater doctor | grep -A 3 'file system'").out);
    // A program that would be gone at the next boot is not begun with.
    machine.link(true);
    let (code, said) = desk.offer(20, "good");
    assert_eq!(code, Some(1));
    assert!(said.contains("is on overlay, which forgets at a reboot"), "{said}");
    machine.shut_down();
}
