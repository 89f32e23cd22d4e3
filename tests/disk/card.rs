//! A card: an image in a file, mounted by the loop driver, unmounted again whatever happens.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use super::node::{Node, config};

pub const MIB: u64 = 1024 * 1024;

pub struct Card {
    home: TempDir,
    /// Where the node of [`Card::node`] has its ring, within the card.
    data: &'static str,
}

/// What a program that administrators have came to.
pub fn administer(program: &str, args: &[&str]) -> Result<Output, String> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program).args(args).env("PATH", path).output();
    output.map_err(|error| format!("{program}: {error}"))
}

/// Runs such a program; what it said if it failed.
pub fn tool(program: &str, args: &[&str]) -> Result<(), String> {
    let output = administer(program, args)?;
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it failed").trim();
    output.status.success().then_some(()).ok_or_else(|| format!("{program}: {said}"))
}

/// Makes a file system in an image.
pub fn make(file_system: &str, image: &Path) -> Result<(), String> {
    let image = image.display().to_string();
    // On the older one nothing is kept back for root, which tests are.
    let options: &[&str] = if file_system == "ext2" { &["-q", "-m", "0", &image] } else { &["-q", &image] };
    tool(&format!("mkfs.{file_system}"), options)
}

impl Card {
    /// None, and said so, where it cannot be had.
    pub fn new(file_system: &str, mib: u64) -> Option<Card> {
        let home = tempfile::tempdir().unwrap();
        let image = home.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(mib * MIB).unwrap();
        let made = make(file_system, &image);
        match made.and_then(|()| Self::mounted(home, file_system, &image)) {
            Ok(card) => Some(card),
            Err(why) => {
                let what = if file_system == "ext4" { "loop mounts" } else { file_system };
                println!("{what}: not available here ({why})");
                None
            }
        }
    }

    /// An image that has a file system, mounted in a directory of its own.
    pub fn mounted(home: TempDir, file_system: &str, image: &Path) -> Result<Card, String> {
        let place = home.path().join("card");
        std::fs::create_dir(&place).unwrap();
        let (image, place) = (image.display().to_string(), place.display().to_string());
        tool("mount", &["-t", file_system, "-o", "loop", &image, &place])?;
        Ok(Card { home, data: "data" })
    }

    pub fn path(&self) -> PathBuf {
        self.home.path().join("card")
    }

    /// As it is, with the ring elsewhere on it.
    pub fn with_data(mut self, data: &'static str) -> Card {
        self.data = data;
        self
    }

    /// Where the node of [`Card::node`] has its ring.
    pub fn data(&self) -> PathBuf {
        self.path().join(self.data)
    }

    /// A node with its data on the card, and its socket elsewhere; it does not run yet.
    pub fn node(&self, ring: &str, rest: &str) -> Node {
        let data = format!("data_dir = \"{}\"\ncontrol = \"{{dir}}/control.sock\"", self.data().display());
        Node::new(
            &config("edge", rest)
                .replace("data_dir = \"{dir}/data\"", &data)
                .replace("max_bytes = \"64MiB\"", &format!("max_bytes = \"{ring}\"")),
        )
    }

    /// Mounts it anew with these options, `ro` or `rw`.
    pub fn remount(&self, how: &str) {
        tool("mount", &["-o", &format!("remount,{how}"), &self.path().display().to_string()]).unwrap();
    }

    /// Somebody else takes all that is left.
    pub fn fill(&self) {
        use std::io::Write as _;
        let mut file = std::fs::File::options().create(true).append(true).open(self.path().join("filler")).unwrap();
        for size in [64 * 1024, 4096, 512] {
            while file.write_all(&vec![0x55; size]).is_ok() {}
        }
        // What was only promised is taken now.
        let _ = file.sync_all();
    }

    /// Of which these bytes are left after all, and not a block more.
    pub fn leave(&self, bytes: u64) {
        let filler = std::fs::File::options().write(true).open(self.path().join("filler")).unwrap();
        let free = || {
            let fs = rustix::fs::statvfs(self.path()).unwrap();
            fs.f_bavail * fs.f_frsize
        };
        let mut len = filler.metadata().unwrap().len();
        while free() < bytes {
            len -= 512;
            filler.set_len(len).unwrap();
        }
        // The blocks that said where the others are come free in between.
        for n in 0.. {
            std::fs::write(self.path().join(format!("crumb-{n}")), "x").unwrap();
            if free() < bytes {
                return std::fs::remove_file(self.path().join(format!("crumb-{n}"))).unwrap();
            }
        }
    }

    /// And gives it back.
    pub fn free(&self) {
        std::fs::remove_file(self.path().join("filler")).unwrap();
    }
}

/// What the file system counts for the ring's files.
pub fn ring_bytes(data: &Path) -> u64 {
    let files = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap());
    let ring = files.filter(|file| {
        let name = file.file_name();
        name == "root" || name.to_string_lossy().starts_with("slot-")
    });
    ring.map(|file| file.metadata().map_or(0, |data| data.blocks() * 512)).sum()
}

impl Drop for Card {
    fn drop(&mut self) {
        let place = self.path().display().to_string();
        // The loop device lets go of the image with its mount.
        if tool("umount", &[&place]).is_err()
            && let Err(why) = tool("umount", &["-l", &place])
        {
            eprintln!("{place} stays mounted: {why}");
        }
    }
}
