//! `exec` with real programs, and `host` on the machine the test runs on.

use crate::config::model::{ExecSource, HostPart, HostSource, SourceKind};
use crate::hub::PartState;
use crate::record::Flags;
use crate::sources::testing::{House, block_on, disk, topic};
use crate::time::Span;

fn sh(script: &str, every: Option<Span>) -> SourceKind {
    let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    SourceKind::Exec(ExecSource { topic: topic(), command, every, max_line: 100 })
}

#[test]
fn lines_of_a_program_are_taken_and_its_end_is_an_error_with_its_last_words() {
    block_on(async {
        let house = House::open(&disk(), vec![], u64::MAX);
        let task = house.start(sh("echo one; printf '%0200d\\n' 7; echo why >&2; printf last; exit 3", None));
        let error = task.await.unwrap().unwrap_err().to_string();
        assert_eq!(error, "`/bin/sh` ended (exit status: 3): why; it is started again");
        let got = house.values_of("t", 3).await;
        assert_eq!((got[0].as_str(), got[1].len(), got[2].as_str()), ("one", 100, "last"));
        assert!(house.records("t").await[1].flags.has(Flags::TRUNCATED));
        assert_eq!(house.counted("stderr_lines"), 1);
    });
}

#[test]
fn a_program_that_is_not_there_is_named_with_what_to_do() {
    block_on(async {
        let house = House::open(&disk(), vec![], u64::MAX);
        let command = vec!["/no/such/program".to_owned()];
        let source = ExecSource { topic: topic(), command, every: None, max_line: 100 };
        let error = house.start(SourceKind::Exec(source)).await.unwrap().unwrap_err().to_string();
        assert_eq!(error, "start /no/such/program: there is no such program: write its full path, or install it");
    });
}

#[test]
fn a_program_runs_again_every_so_often_and_a_failed_run_is_a_warning() {
    block_on(async {
        let house = House::open(&disk(), vec![], u64::MAX);
        house.start(sh("echo tick; exit 1", Some(Span::from_millis(5))));
        assert_eq!(house.values_of("t", 3).await[..3], ["tick", "tick", "tick"]);
        house.until("the failure is shown", || matches!(house.state(), PartState::Warn { .. })).await;
        assert!(house.counted("failed_runs") >= 2);
    });
}

#[test]
fn runs_left_out_because_one_takes_too_long_are_counted_and_shown() {
    block_on(async {
        let house = House::open(&disk(), vec![], u64::MAX);
        house.start(sh("echo tick; sleep 0.05", Some(Span::from_secs(1000))));
        house.until("a run", || house.counted("runs") == 1).await;
        assert_eq!(house.counted("left_out_runs"), 0);
        house.start(sh("echo tick; sleep 0.05", Some(Span::from_millis(10))));
        house
            .until("the warning", || house.counted("left_out_runs") >= 4 && house.state().what().contains("left out"))
            .await;
    });
}

#[test]
fn when_the_source_stops_the_program_and_its_children_end() {
    block_on(async {
        let house = House::open(&disk(), vec![], u64::MAX);
        let task = house.start(sh("sleep 1000 & echo $!; wait", None));
        let pid = house.values_of("t", 1).await.remove(0);
        house.stop();
        task.await.unwrap().unwrap();
        let alive = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // Gone, or dead and not yet reaped by whoever inherited it.
            !stat.is_empty() && !stat.contains(") Z ")
        };
        house.until("the child ends", || !alive()).await;
    });
}

#[test]
fn the_host_is_sampled_in_compact_json() {
    block_on(async {
        let house = House::open(&disk(), vec![], u64::MAX);
        house.start(SourceKind::Host(HostSource {
            topic: topic(),
            every: Span::from_millis(5),
            collect: vec![HostPart::Cpu, HostPart::Memory, HostPart::Uptime],
            proc_root: "/proc".into(),
            sys_root: "/sys".into(),
        }));
        let got = house.values_of("t", 2).await;
        let sample: serde_json::Value = serde_json::from_str(&got[1]).unwrap();
        assert!(sample["memory"]["total"].as_u64().unwrap() > 0 && sample["uptime"].as_f64().unwrap() > 0.0);
        assert!(!got[1].contains(": "), "compact: {}", got[1]);
    });
}
