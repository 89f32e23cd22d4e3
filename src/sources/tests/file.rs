//! The `file` source against files that do what files do.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::backoff::Rng;
use crate::config::model::{FileSource, SourceKind};
use crate::hub::{PartState, counters};
use crate::name::Name;
use crate::pipeline::RulePlan;
use crate::record::{Flags, Record};
use crate::rules::filter::{Condition, Needle};
use crate::rules::{Rule, RuleSpec};
use crate::sources::testing::{House, SharedDisk, block_on, disk, topic};
use crate::time::Span;
use crate::topic::TopicSet;

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn append(&self, name: &str, text: &str) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.at(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }
    fn source(&self, pattern: &str) -> FileSource {
        FileSource {
            topic: topic(),
            paths: vec![self.at(pattern).to_string_lossy().into_owned()],
            exclude: vec![],
            from_end: false,
            max_line: 64 * 1024,
            poll: Span::from_millis(10),
        }
    }
}

/// Runs a source on `disk` until it has `expect` records, then ends it as `kill -9` would; gives all records.
fn run_until(disk: &SharedDisk, source: FileSource, expect: usize) -> Vec<String> {
    block_on(async {
        let house = House::open(disk, vec![], u64::MAX);
        house.start(SourceKind::File(source));
        house.values_of("t", expect).await
    })
}

#[test]
fn lines_come_in_order_and_a_partial_one_waits_for_its_end() {
    let dir = Dir::new();
    dir.append("a.log", "one\ntwo\r\n\nthr");
    block_on(async {
        let house = House::open(&disk(), vec![], u64::MAX);
        house.start(SourceKind::File(dir.source("*.log")));
        assert_eq!(house.values_of("t", 3).await, ["one", "two", ""]);
        dir.append("a.log", "ee\nfour\n");
        assert_eq!(house.values_of("t", 5).await[3..], ["three", "four"]);
        let record = house.records("t").await.remove(0);
        assert_eq!(record.attrs.as_attrs().get("file.path"), Some(dir.at("a.log").as_os_str().as_encoded_bytes()));
        assert_eq!(house.counted(counters::RECEIVED), 5);
    });
}

#[test]
fn bytes_that_are_not_utf_8_stay_and_long_lines_are_cut_and_flagged() {
    let dir = Dir::new();
    fs::write(dir.at("a"), [b"caf\xe9\n".as_slice(), &[b'x'; 5000], b"\nafter\n"].concat()).unwrap();
    block_on(async {
        let house = House::open(&disk(), vec![], u64::MAX);
        house.start(SourceKind::File(FileSource { max_line: 1000, ..dir.source("a") }));
        house.values_of("t", 3).await;
        let records = house.records("t").await;
        assert_eq!(records[0].value, b"caf\xe9");
        assert_eq!((records[1].value.len(), records[1].flags.has(Flags::TRUNCATED)), (1000, true));
        assert_eq!((records[2].value.as_slice(), records[2].flags.has(Flags::TRUNCATED)), (&b"after"[..], false));
        assert_eq!(house.counted(counters::TRUNCATED), 1);
    });
}

#[test]
fn a_renamed_file_is_finished_before_its_successor_and_its_last_words_count() {
    let dir = Dir::new();
    dir.append("app.log", "old-1\n");
    block_on(async {
        let house = House::open(&disk(), vec![], u64::MAX);
        house.start(SourceKind::File(dir.source("app.log")));
        house.values_of("t", 1).await;
        let mut writer = OpenOptions::new().append(true).open(dir.at("app.log")).unwrap();
        fs::rename(dir.at("app.log"), dir.at("app.log.1")).unwrap();
        writer.write_all(b"old-2\nold-3 without an end").unwrap();
        dir.append("app.log", "new-1\n");
        let mut got = house.values_of("t", 4).await;
        let place = |got: &[String], line: &str| got.iter().position(|l| l == line).unwrap();
        assert!(place(&got, "old-2") < place(&got, "new-1"), "{got:?}");
        got.sort();
        assert_eq!(got, ["new-1", "old-1", "old-2", "old-3 without an end"]);
    });
}

#[test]
fn a_removed_file_is_read_to_its_end() {
    let dir = Dir::new();
    dir.append("a.log", "one\n");
    block_on(async {
        let house = House::open(&disk(), vec![], u64::MAX);
        house.start(SourceKind::File(dir.source("*.log")));
        house.values_of("t", 1).await;
        let mut writer = OpenOptions::new().append(true).open(dir.at("a.log")).unwrap();
        fs::remove_file(dir.at("a.log")).unwrap();
        writer.write_all(b"two\n").unwrap();
        assert_eq!(house.values_of("t", 2).await, ["one", "two"]);
        house.until("the file is let go", || house.part().gauge("files") == Some(0)).await;
        assert!(matches!(house.state(), PartState::Warn { .. }), "{:?}", house.state());
    });
}

#[test]
fn a_file_emptied_in_place_begins_again() {
    let dir = Dir::new();
    dir.append("a.log", "one\ntwo\n");
    block_on(async {
        let house = House::open(&disk(), vec![], u64::MAX);
        house.start(SourceKind::File(dir.source("a.log")));
        house.values_of("t", 2).await;
        fs::write(dir.at("a.log"), "uno\n").unwrap();
        assert_eq!(house.values_of("t", 3).await[2], "uno");
        // Emptied and already longer than before: only the first bytes tell.
        fs::write(dir.at("a.log"), "eins\nzwei\ndrei\nvier\n").unwrap();
        assert_eq!(house.values_of("t", 7).await[3..], ["eins", "zwei", "drei", "vier"]);
    });
}

#[test]
fn a_file_that_appears_later_is_read_from_its_beginning_and_what_stood_at_first_from_its_end() {
    let dir = Dir::new();
    dir.append("old.log", "before\nhalf a li");
    let disk = disk();
    block_on(async {
        let house = House::open(&disk, vec![], u64::MAX);
        house.start(SourceKind::File(FileSource { from_end: true, ..dir.source("*.log") }));
        house.until("the source runs", || matches!(house.state(), PartState::Up { .. })).await;
        dir.append("old.log", "ne\nafter\n");
        dir.append("new.log", "first\n");
        let mut got = house.values_of("t", 2).await;
        got.sort();
        assert_eq!(got, ["after", "first"]);
    });
    dir.append("third.log", "while off\n");
    let got = run_until(&disk, FileSource { from_end: true, ..dir.source("*.log") }, 3);
    assert_eq!(got[2], "while off");
}

#[test]
fn a_restart_goes_on_where_the_durable_lines_end_also_in_a_file_renamed_meanwhile() {
    let dir = Dir::new();
    let disk = disk();
    dir.append("app.log", "1\n2\n");
    assert_eq!(run_until(&disk, dir.source("app.log"), 2), ["1", "2"]);
    dir.append("app.log", "3\n");
    fs::rename(dir.at("app.log"), dir.at("app.log.1")).unwrap();
    dir.append("app.log", "4\n");
    let mut got = run_until(&disk, dir.source("app.log"), 4);
    got.sort();
    assert_eq!(got, ["1", "2", "3", "4"]);
}

#[test]
fn a_file_renamed_while_the_node_is_off_is_finished_in_directories_that_a_glob_describes() {
    for pattern in ["*/app.log", "**/*.log"] {
        let dir = Dir::new();
        let disk = disk();
        fs::create_dir_all(dir.at("x")).unwrap();
        dir.append("x/app.log", "a1\na2\n");
        assert_eq!(run_until(&disk, dir.source(pattern), 2), ["a1", "a2"]);
        dir.append("x/app.log", "a3\n");
        fs::rename(dir.at("x/app.log"), dir.at("x/app.log.1")).unwrap();
        // Without a successor nothing that the glob names is left in that directory.
        assert_eq!(run_until(&disk, dir.source(pattern), 3), ["a1", "a2", "a3"], "{pattern}");
        dir.append("x/app.log", "b1\n");
        assert_eq!(run_until(&disk, dir.source(pattern), 4)[3..], ["b1"], "{pattern}");
    }
}

#[test]
fn another_file_on_the_inode_of_one_that_left_is_not_read() {
    let dir = Dir::new();
    let disk = disk();
    dir.append("app.log", "one\n");
    run_until(&disk, dir.source("app.log"), 1);
    fs::rename(dir.at("app.log"), dir.at("other")).unwrap();
    fs::write(dir.at("other"), "of no concern\n").unwrap();
    dir.append("app.log", "two\n");
    block_on(async {
        let house = House::open(&disk, vec![], u64::MAX);
        house.start(SourceKind::File(dir.source("app.log")));
        assert_eq!(house.values_of("t", 2).await, ["one", "two"]);
        assert_eq!(house.part().gauge("files"), Some(1));
    });
}

#[test]
fn checkpoints_of_files_that_vanished_are_dropped() {
    let dir = Dir::new();
    let disk = disk();
    for name in ["a.log", "b.log"] {
        dir.append(name, "x\n");
    }
    run_until(&disk, dir.source("*.log"), 2);
    fs::remove_file(dir.at("a.log")).unwrap();
    block_on(async {
        let house = House::open(&disk, vec![], u64::MAX);
        house.start(SourceKind::File(dir.source("*.log")));
        house.until("the source runs", || matches!(house.state(), PartState::Up { .. })).await;
        let owner = house.hub.with_pipeline(|p| p.ring().owners(crate::ring::OwnerKind::Source).remove(0));
        let entries = house.hub.with_pipeline(|p| p.ring().states(&owner).len());
        assert_eq!(entries, 2, "one file and the mark that the source has run");
    });
}

#[test]
fn files_of_a_directory_that_is_absent_at_first_go_on_where_they_were_when_it_appears() {
    let dir = Dir::new();
    let disk = disk();
    fs::create_dir(dir.at("mount")).unwrap();
    dir.append("mount/a.log", "one\n");
    run_until(&disk, dir.source("mount/*.log"), 1);
    fs::rename(dir.at("mount"), dir.at("elsewhere")).unwrap();
    for start in 0..2 {
        block_on(async {
            let house = House::open(&disk, vec![], u64::MAX);
            house.start(SourceKind::File(dir.source("mount/*.log")));
            house.until("it says that it waits", || matches!(house.state(), PartState::Warn { .. })).await;
            if start == 0 {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                return;
            }
            fs::rename(dir.at("elsewhere"), dir.at("mount")).unwrap();
            dir.append("mount/a.log", "two\n");
            assert_eq!(house.values_of("t", 2).await, ["one", "two"]);
        });
    }
}

/// Follows more files than are kept open; the last one, `139.log`, is not.
async fn following_many(dir: &Dir) -> House {
    let house = House::open(&disk(), vec![], u64::MAX);
    for n in 0..140 {
        dir.append(&format!("{n:03}.log"), "x\n");
    }
    house.start(SourceKind::File(dir.source("*.log")));
    house.values_of("t", 140).await;
    house
}

#[test]
fn a_file_that_is_renamed_while_it_is_not_open_is_found_and_finished() {
    let dir = Dir::new();
    block_on(async {
        let house = following_many(&dir).await;
        fs::rename(dir.at("139.log"), dir.at("139.log.1")).unwrap();
        dir.append("139.log.1", "last words\nand no end");
        assert_eq!(house.values_of("t", 142).await[140..], ["last words", "and no end"]);
        house.until("the file is let go", || house.part().gauge("files") == Some(139)).await;
        assert_eq!(house.counted("vanished"), 0);
    });
}

#[test]
fn a_file_that_is_removed_while_it_is_not_open_is_counted() {
    let dir = Dir::new();
    block_on(async {
        let house = following_many(&dir).await;
        fs::remove_file(dir.at("139.log")).unwrap();
        house.until("the file is counted", || house.counted("vanished") == 1).await;
        house.until("the file is let go", || house.part().gauge("files") == Some(139)).await;
    });
}

#[test]
fn a_file_that_may_not_be_read_is_named_and_the_others_go_on() {
    let dir = Dir::new();
    dir.append("a.log", "one\n");
    // A name that exists and cannot be opened for reading, even by root: a dangling link is no file, a loop is no path.
    std::os::unix::fs::symlink(dir.at("loop.log"), dir.at("loop.log")).unwrap();
    assert_eq!(run_until(&disk(), dir.source("*.log"), 1), ["one"]);
}

#[test]
fn after_a_crash_at_any_write_no_line_is_lost_or_repeated() {
    for seed in 0..25 {
        let mut rng = Rng::new(seed);
        let dir = Dir::new();
        let disk = disk();
        let mut expect: Vec<String> = Vec::new();
        for _crash in 0..4 {
            let text: Vec<String> = (0..3000)
                .map(|n| format!("{seed}-{}-{}", expect.len() + n, "x".repeat(rng.below(90) as usize)))
                .collect();
            expect.extend(text.iter().cloned());
            dir.append("app.log", &format!("{}\n", text.join("\n")));
            if rng.below(3) == 0 {
                // Rotated while the node is off; what was not read is behind another name.
                let _ = fs::remove_file(dir.at("app.log.1"));
                if run_until(&disk, dir.source("app.log"), expect.len()).len() == expect.len() {
                    fs::rename(dir.at("app.log"), dir.at("app.log.1")).unwrap();
                }
                continue;
            }
            block_on(async {
                let house = House::open(&disk, vec![], 1 + rng.below(12));
                house.start(SourceKind::File(dir.source("app.log")));
                let durable = || house.hub.store().topic("t").map_or(0, |t| t.partitions[0].durable_end);
                let all = expect.len() as u64;
                house.until("the crash, or all lines", || house.disk_is_dead() || durable() >= all).await;
            });
        }
        if !Path::new(&dir.at("app.log")).exists() {
            dir.append("app.log", "");
        }
        let got = run_until(&disk, dir.source("app.log"), expect.len());
        assert_eq!(got.len(), expect.len(), "seed {seed}");
        assert!(got == expect, "seed {seed}: the lines differ");
    }
}

#[test]
fn lines_that_the_rules_drop_are_passed_for_good() {
    let dir = Dir::new();
    let disk = disk();
    dir.append("a.log", "keep 1\ndrop 1\nkeep 2\n");
    let rule = || RulePlan {
        topics: TopicSet { include: vec!["*".into()], exclude: vec![] },
        into: None,
        rule: Rule::new(Name::new("keep").unwrap(), RuleSpec::Filter(Condition::Contains(Needle::new(b"keep")))),
    };
    for _start in 0..2 {
        block_on(async {
            let house = House::open(&disk, vec![rule()], u64::MAX);
            house.start(SourceKind::File(dir.source("*.log")));
            assert_eq!(house.values_of("t", 2).await, ["keep 1", "keep 2"]);
        });
    }
}

#[test]
fn a_source_that_is_stopped_ends() {
    let dir = Dir::new();
    block_on(async {
        let house = House::open(&disk(), vec![], u64::MAX);
        let task = house.start(SourceKind::File(dir.source("*.log")));
        house.until("it says that it waits", || matches!(house.state(), PartState::Warn { .. })).await;
        house.stop();
        task.await.unwrap().unwrap();
    });
}

/// Lines of which each is another, of 40 bytes with its end.
fn numbered(lines: std::ops::Range<usize>) -> String {
    lines.map(|n| format!("line {n:08} {}\n", "x".repeat(25))).collect()
}

/// Waits for a line and gives all records, in order.
async fn records_up_to(house: &House, last: &str) -> Vec<Record> {
    let begin = Instant::now();
    loop {
        let records = house.records("t").await;
        if records.last().is_some_and(|record| record.value.ends_with(last.as_bytes())) {
            return records;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "{last} did not come; the source says {:?}", house.part());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A file of 4,000 lines that was read to its end in boot 2, and what a power cut left of it: its first 3,000 lines and a
/// half, and so many zeros; then its writer went on.
fn cut_back(zeros: usize, appended: usize) -> (Dir, SharedDisk) {
    let (dir, disk) = (Dir::new(), disk());
    dir.append("app.log", &numbered(0..4000));
    run_until(&disk, dir.source("app.log"), 4000);
    let file = OpenOptions::new().write(true).open(dir.at("app.log")).unwrap();
    file.set_len(3000 * 40 + 20).unwrap();
    file.set_len(3000 * 40 + 20 + zeros as u64).unwrap();
    dir.append("app.log", &numbered(4000..4000 + appended));
    (dir, disk)
}

#[test]
fn what_a_power_cut_left_of_a_file_is_gone_on_with_and_what_comes_twice_is_flagged_and_told() {
    // Shorter than what was read, longer, and with zeros in the place of lost lines: more than the longest line has.
    for (zeros, appended) in [(0, 10), (0, 2000), (70_000, 10)] {
        let (dir, disk) = cut_back(zeros, appended);
        let last = numbered(3999 + appended..4000 + appended);
        block_on(async {
            let house = House::open_in_boot(3, &disk, vec![], u64::MAX);
            house.start(SourceKind::File(dir.source("app.log")));
            let records = records_up_to(&house, last.trim_end()).await;
            let (before, after) = records.split_at(4000);
            let again = after.iter().filter(|record| record.flags.has(Flags::REDELIVERED)).count();
            let lines: Vec<_> = after.iter().map(|record| String::from_utf8_lossy(&record.value)).collect();
            let repeats =
                before.iter().filter(|record| lines.contains(&String::from_utf8_lossy(&record.value))).count();
            // 1,000 lines were lost, a group has 819.
            assert!(repeats <= 1000, "{repeats} lines twice");
            let doubled = |record: &Record| before.iter().any(|old| old.value == record.value);
            assert!(after.iter().all(|record| !doubled(record) || record.flags.has(Flags::REDELIVERED)));
            for line in numbered(4000..4000 + appended).lines() {
                assert_eq!(lines.iter().filter(|got| got.ends_with(line)).count(), 1, "{line}");
            }
            assert_eq!((house.counted(counters::REDELIVERED), house.counted("cut_back")), (again as u64, 1));
            assert_eq!(house.counted("zero_bytes"), zeros as u64);
            let PartState::Up { what } = house.state() else { panic!("{:?}", house.state()) };
            assert!(what.contains("after a power cut") && what.contains("app.log"), "{what}");
        });
        // The boot is known by now: nothing comes a third time.
        let count = block_on(async { House::open(&disk, vec![], u64::MAX).values("t").await.len() });
        dir.append("app.log", "the last\n");
        block_on(async {
            let house = House::open_in_boot(3, &disk, vec![], u64::MAX);
            house.start(SourceKind::File(dir.source("app.log")));
            assert_eq!(house.values_of("t", count + 1).await[count..], ["the last"]);
            assert_eq!(house.counted("cut_back"), 0);
        });
    }
}

#[test]
fn a_file_that_is_whole_after_a_boot_goes_on_and_nothing_is_flagged() {
    let (dir, disk) = (Dir::new(), disk());
    dir.append("app.log", &numbered(0..4000));
    run_until(&disk, dir.source("app.log"), 4000);
    dir.append("app.log", &numbered(4000..4010));
    for boot in 3..6 {
        block_on(async {
            let house = House::open_in_boot(boot, &disk, vec![], u64::MAX);
            house.start(SourceKind::File(dir.source("app.log")));
            let records = records_up_to(&house, numbered(4009..4010).trim_end()).await;
            assert_eq!(records.len(), 4010);
            assert!(records.iter().all(|record| !record.flags.has(Flags::REDELIVERED)));
            assert_eq!((house.counted("cut_back"), house.counted(counters::REDELIVERED)), (0, 0));
        });
    }
}

#[test]
fn a_file_that_is_shorter_in_the_same_boot_was_emptied_and_begins_again() {
    let (dir, disk) = cut_back(0, 10);
    let got = run_until(&disk, dir.source("app.log"), 4000 + 3010);
    assert_eq!(got[4000..7000], got[..3000]);
    block_on(async {
        let house = House::open(&disk, vec![], u64::MAX);
        let records = house.records("t").await;
        assert!(records.iter().all(|record| !record.flags.has(Flags::REDELIVERED)));
    });
}

#[test]
fn a_file_renamed_before_the_power_went_is_still_found_and_finished() {
    let (dir, disk) = cut_back(0, 10);
    fs::rename(dir.at("app.log"), dir.at("app.log.1")).unwrap();
    dir.append("app.log", "another\n");
    block_on(async {
        let house = House::open_in_boot(3, &disk, vec![], u64::MAX);
        house.start(SourceKind::File(dir.source("app.log")));
        let records = records_up_to(&house, "another").await;
        let last = numbered(4009..4010);
        assert!(records.iter().any(|record| record.value == last.trim_end().as_bytes()));
        assert!(records.len() <= 4000 + 1000 + 11, "{} records", records.len());
    });
}

#[test]
fn what_is_left_to_read_again_stays_flagged_over_a_crash() {
    let (dir, disk) = cut_back(0, 2000);
    let last = numbered(5999..6000);
    for writes in [1, 2, 3, u64::MAX] {
        block_on(async {
            let house = House::open_in_boot(3, &disk, vec![], writes);
            house.start(SourceKind::File(dir.source("app.log")));
            if writes < u64::MAX {
                let through = || house.counted(counters::RECEIVED) > 0 && house.part().gauge("files") == Some(1);
                house.until("the crash, or lines", || house.disk_is_dead() || through()).await;
                return;
            }
            let mut seen = std::collections::HashSet::new();
            for record in &records_up_to(&house, last.trim_end()).await {
                let first = seen.insert(record.value.clone());
                assert!(first || record.flags.has(Flags::REDELIVERED), "{}", String::from_utf8_lossy(&record.value));
            }
            assert_eq!(seen.len(), 6000);
        });
    }
}

#[test]
fn zeros_of_a_power_cut_are_passed_over_in_a_file_that_was_never_read_and_are_a_line_without_one() {
    let (dir, disk) = (Dir::new(), disk());
    dir.append("a.log", "one\n");
    run_until(&disk, dir.source("*.log"), 1);
    // More than the longest line: without care, the line behind them is the rest of one that is cut.
    let zeros = "\0".repeat(70_000);
    dir.append("b.log", &format!("{zeros}behind\n"));
    block_on(async {
        let house = House::open_in_boot(3, &disk, vec![], u64::MAX);
        house.start(SourceKind::File(dir.source("*.log")));
        assert_eq!(house.values_of("t", 2).await, ["one", "behind"]);
        assert_eq!((house.counted("zero_bytes"), house.counted("cut_back")), (70_000, 0));
        dir.append("b.log", "and on\n");
        house.values_of("t", 3).await;
    });
    dir.append("c.log", &format!("{zeros}behind\nlast\n"));
    block_on(async {
        let house = House::open_in_boot(3, &disk, vec![], u64::MAX);
        house.start(SourceKind::File(dir.source("*.log")));
        let got = house.values_of("t", 5).await;
        assert_eq!(got[2..], ["and on", &zeros[..64 * 1024], "last"]);
        assert_eq!((house.counted("zero_bytes"), house.counted(counters::TRUNCATED)), (0, 1));
    });
}
