//! `[endpoint]`: where the node listens for Fluvio clients, its TLS, and what its clients may do.

use std::net::SocketAddr;

use super::model::{Allow, EndpointConfig, ServerTls};
use super::parts::{address, host_port, max_connections};
use super::reader::Reader;
use crate::limits::{MAX_ALLOWED, MAX_CLIENT_NAME};
use crate::topic::TopicName;

pub fn endpoint(root: &Reader<'_>) -> Option<EndpointConfig> {
    let r = root.opt_section("endpoint")?;
    let insecure = r.flag("insecure", false);
    let tls = tls(&r);
    let listen = |key, default: &str| {
        let address = r.text(key, "address", default, address);
        if let Some(address) = address
            && !insecure
        {
            open_to_others(&r, key, address, tls.as_ref());
        }
        address
    };
    let sc_listen = listen("sc_listen", "127.0.0.1:9003");
    let spu_listen = listen("spu_listen", "127.0.0.1:9010");
    let advertise = r.opt_text("advertise", "host:port", |s| host_port(s, None));
    let max_connections = max_connections(&r);
    let allow = allow(&r, tls.as_ref());
    let (sc_listen, spu_listen) = (sc_listen?, spu_listen?);
    Some(EndpointConfig { sc_listen, spu_listen, advertise, insecure, max_connections, tls, allow })
}

/// What is said of an address that others reach.
fn open_to_others(r: &Reader<'_>, key: &str, address: SocketAddr, tls: Option<&ServerTls>) {
    if address.ip().is_loopback() {
        return;
    }
    match tls {
        Some(tls) if tls.client_ca.is_some() => {}
        Some(_) => r.warn(
            key,
            "clients prove nothing: anyone who reaches this address can read and write what `allow` gives to `*`; set \
             `tls.client_ca`",
        ),
        // Where the table is there and wrong, that is said already.
        None if r.has("tls") => {}
        None => r.wrong(
            key,
            "anyone who reaches this address could read and write: set `tls = { cert = \"...\", key = { file = \"...\" }, \
             client_ca = \"...\" }`, listen on 127.0.0.1, or say `insecure = true`",
        ),
    }
}

/// Files are read when the endpoint begins to listen and when they change: one that is missing is shown and waited for.
fn tls(parent: &Reader<'_>) -> Option<ServerTls> {
    let r = parent.opt_section("tls")?;
    let cert = r.need_path("cert");
    let key = r.need_secret_place("key");
    let client_ca = r.opt_path("client_ca");
    let require_client_cert = r.flag("require_client_cert", true);
    if client_ca.is_none() {
        if r.has("require_client_cert") && require_client_cert {
            r.wrong(
                "require_client_cert",
                "`client_ca` is missing: the authority that signs the clients' certificates",
            );
        }
        r.idle();
    }
    for (key, path) in [("cert", &cert), ("client_ca", &client_ca)] {
        if let Some(path) = path.as_ref().filter(|path| !path.exists()) {
            r.warn(key, format!("there is no {} now: the endpoint stays down until there is", path.display()));
        }
    }
    Some(ServerTls { cert: cert?, key: key?, client_ca, require_client_cert })
}

fn allow(r: &Reader<'_>, tls: Option<&ServerTls>) -> Vec<Allow> {
    // What a table that is wrong was to say is not known.
    let has_names = tls.map_or(r.has("tls"), |tls| tls.client_ca.is_some());
    let topics = |text: &str, _| {
        let plain = text.replace('*', "x");
        TopicName::new(&plain)
            .map(|_| text.to_owned())
            .map_err(|e| if plain == text { e.to_string() } else { format!("`{text}` matches no topic's name: {e}") })
    };
    let each = |r: &Reader<'_>| {
        let who = r.need_list("who", "list of names", |text, _| match text {
            "" => Err("an empty name".to_owned()),
            text if text.len() > MAX_CLIENT_NAME => Err(format!("a name has at most {MAX_CLIENT_NAME} bytes")),
            "*" => Ok(text.to_owned()),
            text if text.contains('*') => Err(format!("`{text}`: write whole names, or \"*\" for everyone")),
            text => Ok(text.to_owned()),
        });
        if !has_names && who.iter().any(|who| who != "*") {
            r.wrong("who", "clients have no names: their certificates have, with `endpoint.tls.client_ca`");
        }
        Allow {
            who,
            produce: r.list("produce", "list of topics", topics),
            consume: r.list("consume", "list of topics", topics),
            admin: r.flag("admin", false),
        }
    };
    r.tables("allow", MAX_ALLOWED).iter().map(each).collect()
}
