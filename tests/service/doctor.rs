//! `headwater doctor` and `headwater unit` beside real nodes, upstreams and files.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::node::{BINARY, Node, config, free_port, headwater};

/// A made-up device that is well.
fn device(node: &Node) -> String {
    let root = node.path("device");
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("proc/self/mounts", "/dev/mmcblk0p3 / ext4 rw,noatime 0 0\n");
    write("sys/fs/ext4/mmcblk0p3/errors_count", "0\n");
    write("proc/meminfo", "MemTotal: 443080 kB\nMemAvailable: 300000 kB\n");
    write("sys/devices/platform/soc/soc:firmware/get_throttled", "0\n");
    write("proc/net/route", "Iface\tDestination\neth0\t00000000\n");
    write("sys/class/net/eth0/carrier", "1\n");
    root.display().to_string()
}

/// Its findings, and its exit code.
fn doctor(node: &Node, more: &[&str]) -> (Vec<Value>, i32) {
    let (root, config) = (device(node), node.config_path());
    let done = headwater(&[&["doctor", "-c", &config, "--root", &root, "--json"], more].concat(), "");
    (serde_json::from_str(&done.out).unwrap_or_else(|e| panic!("{e}: {}{}", done.out, done.err)), done.code.unwrap())
}

fn of<'a>(findings: &'a [Value], name: &str, words: &str) -> &'a Value {
    let is = |f: &&Value| f["name"] == name && f["what"].as_str().unwrap().contains(words);
    findings.iter().find(is).unwrap_or_else(|| panic!("no {name}: {words} in {findings:#?}"))
}

fn sink(port: u16) -> String {
    format!(
        "[sinks.hq]\ntype = \"fluvio\"\nendpoint = [\"127.0.0.1:{port}\"]\ntopics = [\"*\"]\nconnect_timeout = \"2s\"\n"
    )
}

#[test]
fn a_device_that_is_well_has_no_problem_and_one_whose_upstream_is_away_has_that_one() {
    let (sc, spu) = (free_port(), free_port());
    let up = Node::started(&format!("[endpoint]\nsc_listen = \"127.0.0.1:{sc}\"\nspu_listen = \"127.0.0.1:{spu}\"\n"));
    let mut edge = Node::new(&config("edge", &sink(sc)));
    edge.start();
    edge.send("notes", &["a"]);
    edge.run(&["drain"]).ok();
    let (findings, code) = doctor(&edge, &[]);
    assert_eq!(of(&findings, "upstream", &format!("hq: the SC at 127.0.0.1:{sc} answers"))["verdict"], "ok");
    assert_eq!(of(&findings, "power", "no undervoltage")["verdict"], "ok");
    assert_eq!(of(&findings, "link", "eth0 is up")["verdict"], "ok");
    assert!(matches!(of(&findings, "disk", "a sync takes")["verdict"].as_str(), Some("ok" | "warning")));
    of(&findings, "node", "HEADWATER");
    let ill: Vec<_> = findings.iter().filter(|f| f["verdict"] == "problem").collect();
    assert_eq!(code, i32::from(!ill.is_empty()), "{ill:#?}");
    assert!(ill.iter().all(|f| f["name"] != "upstream" && f["name"] != "disk" && f["name"] != "config"), "{ill:#?}");
    assert_eq!(
        std::fs::read_dir(edge.data())
            .unwrap()
            .flatten()
            .filter(|e| { e.file_name().to_string_lossy().contains("doctor") })
            .count(),
        0
    );
    drop(up);
    let (findings, code) = doctor(&edge, &[]);
    let upstream = of(&findings, "upstream", "nothing listens there");
    assert_eq!((upstream["verdict"].as_str(), code), (Some("problem"), 1), "{upstream}");
    assert!(!upstream["advice"].as_str().unwrap().is_empty());
    edge.stop();
}

#[test]
fn a_config_that_is_wrong_is_one_problem_among_what_can_still_be_said() {
    let node = Node::new("[node]\nid = \"edge\"\nnonsense = 1\n");
    let (findings, code) = doctor(&node, &[]);
    assert_eq!((of(&findings, "config", "nonsense")["verdict"].as_str(), code), (Some("problem"), 1));
    of(&findings, "power", "no undervoltage");
}

/// Everything in a bundle, one text.
fn unpacked(path: &Path, into: &Path) -> (Vec<String>, String) {
    std::fs::create_dir_all(into).unwrap();
    let done = Command::new("tar").arg("-xzf").arg(path).current_dir(into).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let mut names: Vec<_> =
        std::fs::read_dir(into).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let text = names.iter().map(|name| std::fs::read_to_string(into.join(name)).unwrap()).collect();
    (names, text)
}

#[test]
fn a_bundle_has_what_support_needs_and_no_secret_and_no_record() {
    const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const SECRETS: [&str; 4] = [KEY, "hunter2-of-the-broker", "pepper-in-the-environment", "a-salt-as-a-credential"];
    let mut node = Node::new(
        &config(
            "edge",
            "[sources.broker]\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:1\"\nusername = \"u\"\n\
         password = { file = \"password\" }\nsubscribe = [{ filter = \"a\", topic = \"a\" }]\n\
         [sources.other]\ntype = \"mqtt\"\nurl = \"mqtt://127.0.0.1:1\"\nusername = \"v\"\nclient_id = \"v\"\n\
         password = { env = \"PEPPER\" }\nsubscribe = [{ filter = \"a\", topic = \"a\" }]\n\
         [[rules]]\nname = \"h\"\ntopics = [\"a\"]\nuses = \"hash\"\n\
         with = { key = true, secret = { credential = \"salt\" } }\n",
        )
        .replace("[ring]\n", "[ring]\nencryption = { file = \"ring.key\" }\n"),
    );
    std::fs::write(node.path("ring.key"), format!("{KEY}\n")).unwrap();
    // One that the page shows by accident, as a name.
    std::fs::write(node.path("password"), format!("{}\n", SECRETS[1])).unwrap();
    std::fs::create_dir(node.path("credentials")).unwrap();
    std::fs::write(node.path("credentials/salt"), SECRETS[3]).unwrap();
    let env =
        [format!("PEPPER={}", SECRETS[2]), format!("CREDENTIALS_DIRECTORY={}", node.path("credentials").display())];
    node.spawn_under(&["env", &env[0], &env[1]]);
    super::node::eventually("an answer", || node.answers().then_some(()));
    node.send("notes", &["the-text-of-a-record"]);
    // A secret that somebody also wrote where it does not belong.
    node.send(SECRETS[1], &["x"]);
    let bundle = node.path("support.tar.gz");
    let command = |more: &[&str]| {
        let mut command = Command::new("env");
        command.args(&env).args([BINARY, "doctor", "-c", &node.config_path(), "--bundle"]).arg(&bundle).args(more);
        command.output().unwrap()
    };
    let done = command(&[]);
    let err = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(err.contains("look at it before you send it on"), "{err}{}", String::from_utf8_lossy(&done.stdout));
    let (names, text) = unpacked(&bundle, &node.path("unpacked"));
    let wanted = [
        "config.toml",
        "doctor.json",
        "doctor.txt",
        "journal.txt",
        "ring.txt",
        "status.txt",
        "system.txt",
        "version.txt",
    ];
    assert_eq!(names, wanted);
    for words in ["password = { file", "notes", "/proc/version", "headwater ", "== /proc/self/mounts"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
    assert!(text.contains("***"), "what stood where it does not belong is taken out");
    assert!(!text.contains("the-text-of-a-record"));
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&bundle).unwrap().permissions().mode() & 0o777, 0o600);
    // Nothing that is there is written over.
    let again = command(&[]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("cannot make"), "{again:?}");
    node.stop();
}

#[test]
fn a_drop_in_is_what_systemd_takes_for_one() {
    let node = Node::new(&config(
        "edge",
        "[sources.net]\ntype = \"syslog\"\ntopic = \"log\"\nlisten = [\"udp://0.0.0.0:514\"]\n\
         [sources.log]\ntype = \"file\"\ntopic = \"f\"\npaths = [\"/var/log/*.log\"]\n\
         [sources.mast]\ntype = \"exec\"\ntopic = \"m\"\ncommand = [\"/usr/bin/reader\", \"/dev/ttyUSB0\"]\n",
    ));
    let text = node.run(&["unit"]).ok();
    for line in ["AmbientCapabilities=CAP_NET_BIND_SERVICE", "SupplementaryGroups=adm", "DeviceAllow=char-ttyUSB rw"] {
        assert!(text.lines().any(|l| l == line), "{line}: {text}");
    }
    // The same for tools.
    let lines: Vec<Value> = serde_json::from_str(&node.run(&["unit", "--json"]).ok()).unwrap();
    let settings = text.lines().filter(|line| line.contains('=') && !line.starts_with('#'));
    let from_json = lines.iter().map(|l| format!("{}={}", l["key"].as_str().unwrap(), l["value"].as_str().unwrap()));
    assert!(settings.map(String::from).eq(from_json), "{lines:?}");
    // The unit with it, as one that systemd reads.
    let dir = node.path("units");
    std::fs::create_dir_all(dir.join("headwater.service.d")).unwrap();
    let unit = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/service/headwater.service"));
    let unit = unit.unwrap().replace("/usr/bin/headwater", BINARY);
    std::fs::write(dir.join("headwater.service"), unit).unwrap();
    std::fs::write(dir.join("headwater.service.d/config.conf"), text.replace("/usr/bin/headwater", BINARY)).unwrap();
    match Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(dir.join("headwater.service")).output() {
        Err(error) => println!("systemd-analyze: not available here ({error})"),
        Ok(done) => {
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            assert!(done.status.success() && !said.contains("headwater.service"), "{said}");
        }
    }
}
