//! Commands that cannot find their config, or cannot find or use their node.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

use crate::golden::golden;
use crate::stand::{BINARY, Node, Said, Site, open_to_all, unprivileged};

/// Runs `headwater WORDS...` as it stands.
fn bare(words: &[&str]) -> Said {
    Said::of(Command::new(BINARY).args(words), words)
}

#[test]
fn a_config_that_cannot_be_read_is_told_apart_from_a_wrong_one() {
    let site = Site::of("");
    let normal = site.normal();
    let dir = site.dir.path().to_str().unwrap().to_owned();
    let absent = site.path("absent.toml").to_str().unwrap().to_owned();
    let mut text = bare(&["check", "-c", &dir]).shown(&normal);
    text += &bare(&["run", "-c", &dir]).shown(&normal);
    text += &bare(&["check", "-c", &absent]).shown(&normal);
    text += &bare(&["run", "-c", &absent]).shown(&normal);
    std::fs::write(site.path("latin1.toml"), b"[node]\nid = \"\xfc\"\n").unwrap();
    text += &bare(&["check", "-c", site.path("latin1.toml").to_str().unwrap()]).shown(&normal);
    golden("config-unreadable", &text);
}

#[test]
fn a_config_of_another_user_says_whose_right_is_missing() {
    use std::os::unix::fs::PermissionsExt as _;
    let site = Site::of("");
    open_to_all(site.dir.path());
    std::fs::set_permissions(site.config(), std::fs::Permissions::from_mode(0o000)).unwrap();
    let config = site.config().to_str().unwrap().to_owned();
    let words = ["check", "-c", &config];
    let Some(mut command) = unprivileged(&words) else { return };
    golden("config-no-permission", &Said::of(&mut command, &words).shown(&site.normal()));
}

#[test]
fn a_node_that_does_not_run_is_said_with_how_to_start_or_name_it() {
    let site = Site::new("");
    let dir = site.path("data").to_str().unwrap().to_owned();
    let config = site.config().to_str().unwrap().to_owned();
    let normal = site.normal();
    let mut text = bare(&["status", "-c", &config]).shown(&normal);
    text += &bare(&["status", "--data-dir", &dir]).shown(&normal);
    text += &bare(&["status", "-c", &config, "--data-dir", &dir]).shown(&normal);
    text += &bare(&["status", "--check", "-c", &config]).shown(&normal);
    text += &bare(&["tail", "notes", "--data-dir", &dir]).shown(&normal);
    golden("no-node", &text);
}

#[test]
fn a_control_socket_without_permission_names_the_group() {
    let node = Site::new("").start();
    node.page_with(&["ring"]);
    for dir in [node.site.dir.path().to_owned(), node.site.path("data")] {
        open_to_all(&dir);
    }
    if !crate::stand::is_root() {
        eprintln!("not available here: a control socket of another user (the tests do not run as root)");
        return;
    }
    open_to_all(node.site.dir.path());
    let config = node.site.config().to_str().unwrap().to_owned();
    let words = ["status", "-c", &config];
    let Some(mut command) = unprivileged(&words) else { return };
    golden("control-no-permission", &Said::of(&mut command, &words).shown(&node.site.normal()));
}

/// A `tail` of a topic that is not there, until it is.
fn mistyped(node: &Node) -> String {
    let words = ["tail", "pumpe", "-n", "1"];
    let mut command = node.site.command(&words);
    let mut tail = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(tail.stderr.take().unwrap());
    let mut text = format!("$ headwater {}\n", words.join(" "));
    said.read_line(&mut text).unwrap();
    node.send("pumpe", "2");
    let done = tail.wait_with_output().unwrap();
    said.read_to_string(&mut text).unwrap();
    format!("{text}{}[exit code {}]\n", String::from_utf8_lossy(&done.stdout), done.status.code().unwrap_or(-1))
}

#[test]
fn a_topic_that_cannot_be_is_told_before_anything_is_sent() {
    let node = Site::new("").start();
    node.page_with(&["ring"]);
    let long = "a".repeat(80);
    let normal = node.site.normal().with(long.clone(), "a... (80 letters)");
    let mut text = String::new();
    for words in [["send", "Pump"], ["send", "pump+"], ["send", "headwater-status"], ["send", &long], ["tail", "Pump"]]
    {
        text += &node.site.says(&words).shown(&normal);
    }
    node.send("pump", "1");
    text += &normal.apply(&mistyped(&node));
    text += &node.site.says(&["sink", "pause", "hq"]).shown(&normal);
    golden("topic-names", &text);
}

#[test]
fn init_writes_what_check_takes_and_replaces_nothing() {
    let site = Site::of("");
    let normal = site.normal();
    let file = site.path("site.toml").to_str().unwrap().to_owned();
    let mut text = bare(&["init", &file, "--upstream", "http://sc.example:9003"]).shown(&normal);
    text += &bare(&["init", &file, "--upstream", "sc.example"]).shown(&normal);
    text += &bare(&["init", &file]).shown(&normal);
    text += &bare(&["init", site.path("nowhere/site.toml").to_str().unwrap()]).shown(&normal);
    assert_eq!(bare(&["check", "-c", &file]).code, 0);
    golden("init", &text);
}

#[test]
fn what_this_user_lacks_for_a_config_is_warned_of_with_what_to_do() {
    use std::os::unix::fs::PermissionsExt as _;
    let site = Site::new(
        "[sources.log]\ntype = \"file\"\ntopic = \"log\"\npaths = [\"app.log\"]\n\
         [sources.net]\ntype = \"syslog\"\ntopic = \"log\"\nlisten = [\"udp://127.0.0.1:514\"]\n\
         [sources.mast]\ntype = \"exec\"\ntopic = \"m\"\ncommand = [\"reader\", \"/dev/ttyNONE\"]\n\
         [sinks.out]\ntype = \"stdout\"\ntopics = [\"*\"]\n",
    );
    open_to_all(site.dir.path());
    std::fs::create_dir(site.path("data")).unwrap();
    std::fs::write(site.path("app.log"), "").unwrap();
    std::fs::set_permissions(site.path("app.log"), std::fs::Permissions::from_mode(0o000)).unwrap();
    std::fs::set_permissions(site.path("data"), std::fs::Permissions::from_mode(0o555)).unwrap();
    let config = site.config().to_str().unwrap().to_owned();
    let words = ["check", "-c", &config];
    let Some(mut command) = unprivileged(&words) else { return };
    let low = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    if low.trim().parse().is_ok_and(|low: u16| low <= 514) {
        println!("not available here: ports that are not for everyone");
        return;
    }
    golden("check-lacks", &Said::of(&mut command, &words).shown(&site.normal()));
}

#[test]
fn a_node_is_retired_only_if_it_is_meant_and_has_sent_everything() {
    let site = Site::new("");
    let normal = site.normal();
    let mut text = site.says(&["retire"]).shown(&normal);
    text += &site.says(&["retire", "--node", "site-8"]).shown(&normal);
    text += &site.says(&["retire", "--node", "site-7"]).shown(&normal);
    let site = Site::new("[sinks.out]\ntype = \"file\"\ntopics = [\"*\"]\npath = \"out\"\n");
    text += &site.says(&["retire", "--node", "site-7"]).shown(&site.normal());
    golden("retire", &text);
}

#[test]
fn the_device_commands_say_what_is_wrong_with_a_config() {
    let site = Site::of("[node]\nidd = \"a\"\n");
    let normal = site.normal();
    let mut text = site.says(&["unit"]).shown(&normal);
    text += &site.says(&["retire", "--yes"]).shown(&normal);
    let absent = site.path("absent.toml").to_str().unwrap().to_owned();
    text += &bare(&["unit", "-c", &absent]).shown(&normal);
    text += &bare(&["retire", "-c", &absent]).shown(&normal);
    golden("device-config", &text);
}
