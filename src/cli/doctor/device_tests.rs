//! Devices that are made up of directories.

use super::*;

/// A tree with these files.
fn device(files: &[(&str, &str)]) -> (tempfile::TempDir, Device) {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let device = Device::new(dir.path());
    (dir, device)
}

/// Of the disk `name`, whose second partition is 179:2.
fn storage(name: &str, files: &[(&str, &str)]) -> Finding {
    let at = format!("sys/devices/host/{name}");
    let files: Vec<_> = files.iter().map(|(path, text)| (format!("{at}/device/{path}"), *text)).collect();
    let mut all: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    let partition = format!("{at}/{name}p2/partition");
    all.push((&partition, "2\n"));
    let (dir, device) = device(&all);
    std::fs::create_dir_all(dir.path().join("sys/dev/block")).unwrap();
    let link = dir.path().join("sys/dev/block/179:2");
    std::os::unix::fs::symlink(format!("../../devices/host/{name}/{name}p2"), link).unwrap();
    device.storage(Some((179, 2))).remove(0)
}

fn is(finding: &Finding, verdict: Verdict, words: &str) {
    assert_eq!(finding.verdict, verdict, "{finding:?}");
    assert!(finding.what.contains(words), "{words}: {finding:?}");
    // Whatever is wrong comes with what to do.
    assert!(!matches!(verdict, Verdict::Warning | Verdict::Problem) || !finding.advice.is_empty(), "{finding:?}");
}

#[test]
fn an_emmc_says_how_worn_it_is() {
    let worn = |life: &str, spare: &str| {
        storage("mmcblk0", &[("type", "MMC\n"), ("life_time", life), ("pre_eol_info", spare)])
    };
    is(&worn("0x01 0x01\n", "0x01\n"), Verdict::Ok, "mmcblk0 (eMMC) has used 0 to 10 % of its life");
    is(&worn("0x02 0x08\n", "0x01\n"), Verdict::Ok, "70 to 80 %");
    is(&worn("0x09 0x01\n", "0x01\n"), Verdict::Warning, "80 to 90 %");
    is(&worn("0x0b 0x01\n", "0x01\n"), Verdict::Problem, "beyond the life");
    is(&worn("0x02 0x02\n", "0x02\n"), Verdict::Warning, "four fifths of its spare blocks");
    is(&worn("0x02 0x02\n", "0x03\n"), Verdict::Problem, "spare blocks are almost gone");
    // What is not defined is not said.
    is(&worn("0x00 0x00\n", "0x00\n"), Verdict::Unknown, "does not say");
    is(&worn("0x00 0x00\n", "0x03\n"), Verdict::Problem, "used up most of its spare blocks");
    is(&worn("rubbish\n", ""), Verdict::Unknown, "does not say");
}

#[test]
fn what_does_not_report_its_wear_is_unknown_and_not_guessed() {
    let card = storage("mmcblk0", &[("type", "SD\n"), ("name", "SC32G\n"), ("date", "08/2023\n")]);
    is(&card, Verdict::Unknown, "mmcblk0 is an SD card (SC32G, made 08/2023), which does not report its wear");
    is(&storage("nvme0n1", &[("model", "WD 1 \n")]), Verdict::Unknown, "nvme0n1 (WD 1) does not report");
    is(&storage("vda", &[]), Verdict::Unknown, "vda does not report");
    let (_dir, device) = device(&[]);
    is(&device.storage(Some((0, 33)))[0], Verdict::Unknown, "on no disk of its own");
    is(&device.storage(None)[0], Verdict::Unknown, "no data directory");
}

fn file_system(mounts: &str, files: &[(&str, &str)]) -> Vec<Finding> {
    let all: Vec<_> = files.iter().copied().chain([("proc/self/mounts", mounts)]).collect();
    let (_dir, device) = device(&all);
    device.file_system(Path::new("/var/lib/headwater"))
}

#[test]
fn a_file_system_that_is_read_only_or_has_met_errors_is_a_problem() {
    let errors = |n| [("sys/fs/ext4/mmcblk0p3/errors_count", n)];
    let rw = "/dev/mmcblk0p2 / ext4 ro 0 0\n/dev/mmcblk0p3 /var/lib/headwater ext4 rw,noatime 0 0\n";
    is(&file_system(rw, &errors("0\n"))[0], Verdict::Ok, "no errors noted");
    is(&file_system(rw, &errors("3\n"))[0], Verdict::Problem, "noted 3 errors");
    is(&file_system(rw, &[])[0], Verdict::Unknown, "does not count its errors");
    let ro = rw.replace("rw,noatime", "noatime,ro");
    is(&file_system(&ro, &[])[0], Verdict::Problem, "mounted read-only");
    let both = file_system(&ro, &errors("1\n"));
    assert_eq!(both.len(), 2, "{both:?}");
    is(&file_system("overlay / overlay rw 0 0\n", &[])[0], Verdict::Problem, "a reboot may lose all of it");
    is(&file_system("", &[])[0], Verdict::Unknown, "cannot be read");
    // What was mounted last is on top.
    let twice = format!("{rw}tmpfs /var/lib/headwater tmpfs rw 0 0\n");
    is(&file_system(&twice, &[])[0], Verdict::Problem, "tmpfs");
}

#[test]
fn a_weak_supply_is_a_problem_while_it_is_and_a_warning_afterwards() {
    let of = |files: &[(&str, &str)]| {
        let (_dir, device) = device(files);
        device.power()
    };
    let throttled = |bits| of(&[("sys/devices/platform/soc/soc:firmware/get_throttled", bits)]);
    is(&throttled("0\n"), Verdict::Ok, "no undervoltage and no throttling");
    is(&throttled("0x50005\n"), Verdict::Problem, "too weak now");
    is(&throttled("50000\n"), Verdict::Warning, "too weak at times");
    is(&throttled("40004\n"), Verdict::Warning, "slowed down now");
    is(&throttled("80000\n"), Verdict::Warning, "slowed down at times");
    let volt = |alarm| {
        of(&[
            ("sys/class/hwmon/hwmon0/name", "cpu_thermal\n"),
            ("sys/class/hwmon/hwmon1/name", "rpi_volt\n"),
            ("sys/class/hwmon/hwmon1/in0_lcrit_alarm", alarm),
        ])
    };
    is(&volt("0\n"), Verdict::Ok, "no undervoltage now");
    is(&volt("1\n"), Verdict::Problem, "too weak");
    is(&of(&[]), Verdict::Unknown, "does not report undervoltage");
}

#[test]
fn heat_is_judged_by_the_warmest_sensor() {
    let at = |first, second| {
        let (_dir, device) = device(&[
            ("sys/class/thermal/thermal_zone0/temp", first),
            ("sys/class/thermal/thermal_zone1/temp", second),
        ]);
        device.temperature()
    };
    is(&at("41000\n", "52600\n"), Verdict::Ok, "52 degrees");
    is(&at("76000\n", "52600\n"), Verdict::Warning, "76 degrees");
    is(&at("41000\n", "84000\n"), Verdict::Problem, "84 degrees");
    is(&at("rubbish\n", "\n"), Verdict::Unknown, "no sensor");
}

#[test]
fn little_memory_is_a_warning() {
    let of = |text| {
        let (_dir, device) = device(&[("proc/meminfo", text)]);
        device.memory()
    };
    is(&of("MemTotal: 443080 kB\nMemAvailable:  300000 kB\n"), Verdict::Ok, "293 MiB of 433 MiB available");
    is(&of("MemTotal: 443080 kB\nMemAvailable:  20000 kB\n"), Verdict::Warning, "available");
    is(&of("MemTotal: 443080 kB\n"), Verdict::Unknown, "cannot be read");
}

#[test]
fn a_clock_that_is_not_synchronised_is_a_warning_whatever_it_shows() {
    let (_dir, with) = device(&[("sys/class/rtc/rtc0/name", "rtc\n")]);
    let (_other, without) = device(&[]);
    is(&with.clock(true), Verdict::Ok, "there is a real-time clock");
    is(&without.clock(true), Verdict::Ok, "without a real-time clock");
    is(&with.clock(false), Verdict::Warning, "which may be off");
    is(&without.clock(false), Verdict::Warning, "the time is unknown");
}

const ROUTES: &str = "Iface\tDestination\tGateway\neth0\t0000A8C0\t00000000\nwwan0\t00000000\t0100A8C0\n";

#[test]
fn the_way_out_and_the_interfaces_of_links_are_looked_at_once_each() {
    let links = |files: &[(&str, &str)], named: &[&str]| {
        let (_dir, device) = device(files);
        device.links(&named.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    };
    let up = [
        ("proc/net/route", ROUTES),
        ("sys/class/net/wwan0/operstate", "unknown\n"),
        ("sys/class/net/wwan0/carrier", "1\n"),
    ];
    for named in [&[][..], &["wwan0"]] {
        let found = links(&up, named);
        assert_eq!(found.len(), 1, "{found:?}");
        is(&found[0], Verdict::Ok, "wwan0 is up");
    }
    let out = links(&[("proc/net/route", ROUTES), ("sys/class/net/wwan0/carrier", "0\n")], &["ppp0"]);
    is(&out[0], Verdict::Problem, "no interface ppp0");
    is(&out[1], Verdict::Warning, "wwan0 has no carrier");
    let zero = "0".repeat(32);
    let v6 = format!("{zero} 00 {zero} 00 {zero} ffffffff 1 0 00200200 lo\n{zero} 00 {zero} 00 fe80 400 1 0 3 eth1\n");
    let found = links(&[("proc/net/ipv6_route", &v6), ("sys/class/net/eth1/operstate", "up\n")], &[]);
    is(&found[0], Verdict::Ok, "eth1 is up");
    is(&links(&[], &[])[0], Verdict::Warning, "no default route");
    is(&links(&[("sys/class/net/eth0/operstate", "down\n")], &["eth0"])[0], Verdict::Warning, "eth0 is down");
}

#[test]
fn the_machines_watchdog_is_on_or_off_or_unknown() {
    let of = |files: &[(&str, &str)]| {
        let (_dir, device) = device(files);
        device.watchdog()
    };
    let at = "sys/class/watchdog/watchdog0/state";
    is(&of(&[(at, "active\n"), ("sys/class/watchdog/watchdog0/timeout", "15\n")]), Verdict::Ok, "is on, 15 s");
    is(&of(&[(at, "inactive\n")]), Verdict::Warning, "is inactive");
    is(&of(&[]), Verdict::Unknown, "no hardware watchdog");
}
