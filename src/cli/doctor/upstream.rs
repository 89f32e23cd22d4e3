//! Whether the upstreams are there, as the sinks would meet them: name, connection, handshake, certificate, SC.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Finding, Verdict, fine, found};
use crate::cli::client;
use crate::config::{Config, FluvioSink, SinkKind};
use crate::node::clock::Clock;
use crate::sinks::fluvio::{Keeper, Line, visit};

/// What one upstream may take, whatever its timeouts are.
const PATIENCE: Duration = Duration::from_secs(20);

/// One or two for each Fluvio sink.
pub fn findings(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    for sink in &config.sinks {
        let SinkKind::Fluvio(fluvio) = &sink.kind else { continue };
        let link = fluvio.link.as_ref().and_then(|name| config.links.iter().find(|link| link.name == *name));
        let interface = link.and_then(|link| link.interface.clone());
        let asked = client::block_on(async { Ok(ask(fluvio, interface).await) });
        let name = sink.name.as_str();
        findings.extend(asked.unwrap_or_default().into_iter().map(|mut finding| {
            finding.what = format!("{name}: {}", finding.what);
            finding
        }));
    }
    findings
}

async fn ask(sink: &FluvioSink, interface: Option<String>) -> Vec<Finding> {
    let tls = sink.tls.as_ref().map(Keeper::new);
    let now = Clock::default().now();
    if let Some(tls) = &tls {
        tls.note_clock(now.trusted);
    }
    let line = Line { interface, tls: tls.clone(), ..Line::default() };
    // Nothing is wanted, so nothing is made.
    let met = tokio::time::timeout(PATIENCE, visit(sink, &line, &BTreeSet::new())).await;
    let advice = "records are kept meanwhile, and sent once it answers";
    let mut findings = vec![match met {
        Ok(Ok(meta)) => fine("upstream", format!("the SC at {} answers", meta.sc)),
        Ok(Err(trouble)) => found(Verdict::Problem, "upstream", trouble.to_string(), advice),
        Err(_) => {
            let what = format!("{} does not answer within {} s", sink.endpoint.join(", "), PATIENCE.as_secs());
            found(Verdict::Problem, "upstream", what, advice)
        }
    }];
    if let Some(warning) = tls.as_ref().and_then(|tls| tls.warning(now)) {
        findings.push(found(
            Verdict::Warning,
            "certificate",
            warning,
            "renew it in time; new files are taken by themselves",
        ));
    } else if let Some(until) = tls.and_then(|tls| tls.ends()[1].1) {
        let until = crate::ops::human::wall(crate::time::WallTime(i64::try_from(until).unwrap_or(0) * 1_000_000));
        findings.push(fine("certificate", format!("the upstream's is valid until {until}")));
    }
    findings
}
