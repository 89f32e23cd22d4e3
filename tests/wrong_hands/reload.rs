//! `headwater reload`: what it answers, what it leaves alone, and that it did what it says.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::golden::golden;
use crate::stand::{Node, Site, free_port, status};

const SOURCE: &str = "[sources.app]\ntype = \"file\"\ntopic = \"log\"\npaths = [\"app.log\"]\n";

fn head(data_dir: &str, more: &str) -> String {
    format!("[node]\nid = \"site-7\"\ndata_dir = \"{data_dir}\"\nheartbeat = \"off\"\n{more}")
}

fn sink(topics: &str) -> String {
    format!("[sinks.copy]\ntype = \"file\"\npath = \"copy.log\"\ntopics = [\"{topics}\"]\n")
}

fn write(node: &Node, config: &str) {
    std::fs::write(node.site.config(), config).unwrap();
}

fn http_get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

#[test]
fn a_reload_changes_what_it_says_while_the_node_runs() {
    let port = free_port();
    let off = "[http]\nlisten = \"off\"\n";
    let ring = "[ring]\nmax_bytes = \"16MiB\"\nkeep_free = \"0B\"\n";
    let node = Site::of(&head("data", &format!("{off}{ring}{}", sink("notes")))).start();
    node.page_with(&["copy up"]);
    std::fs::write(node.site.path("app.log"), "one\n").unwrap();

    let on = format!("[http]\nlisten = \"127.0.0.1:{port}\"\n");
    let ring = "[ring]\nmax_bytes = \"8MiB\"\nkeep_free = \"1MiB\"\nlinger = \"50ms\"\n";
    let labels = "labels = { kind = \"pump\" }\nlog = \"info\"\n";
    write(&node, &head("elsewhere", &format!("{labels}{on}{ring}{SOURCE}{}", sink("log"))));
    let normal = node.site.normal().port(port, "9004");
    let mut text = node.site.says_beside(&["reload"], "data").shown(&normal);
    let page = node.page_beside("data", &["reading", "of 8 MiB", "copy up"]);
    text += &status(&page, &normal);
    // What waits for a restart still does, and the rest is done.
    text += &node.site.says_beside(&["reload"], "data").shown(&normal);
    golden("reload", &text);
    assert!(http_get(port, "/readyz").unwrap().contains("200 OK"));
    let copied = || std::fs::read_to_string(node.site.path("copy.log")).unwrap_or_default();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while copied() != "one\n" {
        assert!(std::time::Instant::now() < end, "{}", copied());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // And back: the port is let go of.
    write(&node, &head("data", &format!("{off}{}", sink("log"))));
    let text = node.site.says(&["reload"]);
    assert_eq!(text.code, 0);
    assert!(http_get(port, "/readyz").is_none());
    assert!(!node.page_with(&["copy up"]).contains("app"));
}

#[test]
fn a_bad_file_leaves_the_old_config_running() {
    let node = Site::new(SOURCE).start();
    node.page_with(&["app"]);
    write(
        &node,
        &head("data", "[ring]\nmax_bytes = 256\n[sources.app]\ntype = \"fyle\"\n[sinks.Hq]\ntype = \"stdout\"\n"),
    );
    let normal = node.site.normal();
    let mut text = node.site.says(&["reload"]).shown(&normal);
    text += &status(&node.page_with(&["app", "config"]), &normal);
    golden("reload-rejected", &text);

    write(
        &node,
        &head(
            "data",
            &format!("[http]\nlisten = \"off\"\n[ring]\nmax_bytes = \"16MiB\"\nkeep_free = \"0B\"\n{SOURCE}"),
        ),
    );
    assert_eq!(node.site.says(&["reload"]).code, 0);
    let page = node.page_with(&["app"]);
    assert!(!page.contains("rejected") && !page.contains("files changed"), "{page}");
}
